"""How pooled vectors and tokens share in a score: constants that come with an encoder."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

# As heavy as this, the pooled vector counts alone: what n tokens add is below float32's last digit.
ALONE = 1e9


@dataclass(frozen=True)
class Mix:
    """What the pooled cosine counts beside the MaxSim of a text's tokens, each of which counts 1.

    How much the patches of a picture are alike is the length of their mean, its unity
    (``TokenTable.unity``): 1 if all are one vector. Where they are alike the pooled vector tells
    what there is, and was trained to; where they differ there are several things, between which it
    lies. Two questions follow. Do the pictures that a text's tokens find show one thing each?
    Then all are weighed by ``alike``. If enough of them show several things, a picture's own
    unity decides; its weights then lie close together, because MaxSim is higher than a cosine: of
    two pictures weighed far apart the one with more MaxSim would be ahead whatever it shows.

    Libraries keep these numbers. What one from before a number was there leaves out is the default.

    Attributes:
        alike: weight where the pictures found show one thing each.
        unlike: weight of a picture of several things, where enough of those found show several.
        low, high: unities, ``low`` below ``high``. Up to ``low`` a picture is one of several
            things, from ``high`` on one of one; between, the share of MaxSim changes in a straight
            line.
        louder: how many times ``unlike`` the weight is of a picture of one thing among those.
        several: below this unity a picture found counts as one of several things.
        few, many: of the pictures found, the share with several things up to which ``alike``
            holds, and from which on it does not; between, in a straight line. ``few`` below
            ``many``.
    """

    alike: float
    unlike: float
    low: float = 0.0
    high: float = 1.0
    louder: float = 1.0
    several: float = 0.68
    few: float = 0.08
    many: float = 0.12

    def __post_init__(self) -> None:
        numbers = dataclasses.astuple(self)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError(f"a mix is of finite numbers from 0 on, got {numbers}")
        for below, above in (("low", "high"), ("few", "many")):
            first, second = getattr(self, below), getattr(self, above)
            if not first < second:
                raise ValueError(f"{below} must be below {above}, got {first} and {second}")

    def shares(self, count: int, unity: np.ndarray, *, found: np.ndarray) -> np.ndarray:
        """How much of each picture's score is MaxSim, from 0 to 1: (n,) float32.

        Args:
            count: tokens of the text, 1 or more.
            unity: (n,), of the pictures to be scored.
            found: (m,), the unities of those that the tokens find; m of 1 or more.
        """
        alike, unlike, one = (
            count / (count + weight)
            for weight in (self.alike, self.unlike, self.unlike * self.louder)
        )
        opened = _between(float((found < self.several).mean()), self.few, self.many)
        own = unlike + (one - unlike) * _between(unity, self.low, self.high)
        return np.asarray(alike + (own - alike) * opened, np.float32)


def _between(value: float | np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to ``low``, 1 from ``high`` on, a straight line between."""
    return np.clip((np.asarray(value) - low) / (high - low), 0.0, 1.0)


# For what is trained by MaxSim alone: its pooled vector only chooses the candidates.
TOKENS_ALONE = Mix(alike=0.0, unlike=0.0)

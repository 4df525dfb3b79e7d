"""How pooled vectors and tokens share in a score: constants that come with an encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

# As heavy as this, the pooled vector counts alone: what n tokens add is below float32's last digit.
ALONE = 1e9


@dataclass(frozen=True)
class Mix:
    """What the pooled cosine counts beside the MaxSim of a text's tokens, each of which counts 1.

    It depends on the pictures that the tokens find. Where the patches of each look alike, the
    pooled vector tells what there is, and was trained to; where they differ there are several
    things, between which it lies. How much they are alike is the length of their mean
    (``TokenTable.unity``): 1 if all are one vector. One weight holds for all pictures that a text
    is compared with, because MaxSim is higher than a cosine: of two pictures weighed differently
    the one with more MaxSim would be ahead whatever it shows.

    Attributes:
        alike: weight where the pictures found have a mean unity of ``high`` or more.
        unlike: weight where it is ``low`` or less. Between the two the share of MaxSim in the score
            changes in a straight line.
        low, high: unities, ``low`` below ``high``.
    """

    alike: float
    unlike: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.alike, self.unlike, self.low, self.high)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError(f"a mix is of finite numbers from 0 on, got {numbers}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")

    def share(self, count: int, unity: float) -> float:
        """How much of a score is MaxSim, from 0 to 1.

        Args:
            count: tokens of the text, 1 or more.
            unity: mean of the pictures found.
        """
        place = min(max((unity - self.low) / (self.high - self.low), 0.0), 1.0)
        alike, unlike = (count / (count + weight) for weight in (self.alike, self.unlike))
        return unlike + (alike - unlike) * place


# For what is trained by MaxSim alone: its pooled vector only chooses the candidates.
TOKENS_ALONE = Mix(alike=0.0, unlike=0.0)

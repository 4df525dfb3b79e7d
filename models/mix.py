"""How pooled vectors and tokens share in a score: constants that come with an encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Mix:
    """What the pooled cosine counts beside the MaxSim of a text's tokens, each of which counts 1.

    It depends on the picture. Where all patches look alike, the pooled vector tells what there is,
    and was trained to; where they differ there are several things, between which it lies. How much
    they are alike is the length of their mean (``TokenTable.unity``): 1 if all are one vector.

    Attributes:
        alike: weight from a unity of ``high`` on.
        unlike: weight up to a unity of ``low``. Between the two it changes by the same factor for
            the same step.
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
        if self.alike != self.unlike and not min(self.alike, self.unlike) > 0:
            raise ValueError(f"weights that differ must be above 0, got {numbers[:2]}")


# For what is trained by MaxSim alone: its pooled vector only chooses the candidates.
TOKENS_ALONE = Mix(alike=0.0, unlike=0.0)

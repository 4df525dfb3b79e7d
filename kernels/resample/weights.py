"""The weights of a separable resampling filter, as Pillow computes them.

Source: Pillow's documentation of its filters; P. Heckbert, "zoom" (1989): the kernel is stretched
by the factor of reduction, cut at the picture's edges and normalised there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

Filter = Literal["bilinear", "bicubic"]

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
ONE = 1 << 22  # a weight of 1, as the integers of resample.cpp
_GROUP = 4  # a multiple of this many taps, as resample.cpp takes them


@dataclass(frozen=True, eq=False)
class Weights:
    """One direction of a resampling: ``n`` outputs, each a sum of ``T`` weighted inputs.

    Attributes:
        weights: (n, T) int32, of 22 fractional bits; 0 beyond ``counts``.
        starts: (n,) int64, the input of the first weight.
        counts: (n,) int64, at least 1.
    """

    weights: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


@lru_cache(maxsize=512)
def weights(inputs: int, outputs: int, filter_: Filter, first: int, last: int) -> Weights:
    """The weights of outputs ``first`` to ``last - 1`` of ``outputs``.

    Args:
        inputs, outputs: length of the picture before and after, in pixels.
    """
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    support = _SUPPORT[filter_] * stretch
    center = (np.arange(first, last) + 0.5) * scale
    # Truncation is meant, of what may be below 0.
    starts = np.maximum((center - support + 0.5).astype(np.int64), 0)
    counts = np.minimum((center + support + 0.5).astype(np.int64), inputs) - starts
    taps = -(-int(counts.max()) // _GROUP) * _GROUP
    place = np.arange(taps)
    shape = _SHAPES[filter_](((place + starts[:, None]) - center[:, None] + 0.5) * (1.0 / stretch))
    shape[place >= counts[:, None]] = 0.0
    # One by one, in order: the last bits of the sums are Pillow's.
    total = np.add.accumulate(shape, axis=1)[:, -1:]
    shape = np.divide(shape, total, out=shape, where=total != 0)
    fixed = np.trunc(shape * ONE + np.copysign(0.5, shape)).astype(np.int32)
    return Weights(np.ascontiguousarray(fixed), starts, counts)


def goes_down_first(width: int, height: int, new_width: int, new_height: int) -> bool:
    """Whether Pillow, from version 13 on, scales the rows of a picture before its columns."""
    return height > new_height and height - new_height > 2 * (width - new_width)


def _bilinear(x: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.maximum(1.0 - np.abs(x), 0.0)
    return values


def _bicubic(x: np.ndarray) -> np.ndarray:
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    values: np.ndarray = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    return values


_SHAPES = {"bilinear": _bilinear, "bicubic": _bicubic}

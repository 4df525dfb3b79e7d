"""What every search of an index refuses, in one wording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from maxsight.index.array_types import Floats, Mask


def checked_queries(
    queries: npt.ArrayLike, dim: int, k: int, *, allowed: Mask | None, rows: int
) -> Floats:
    """``queries`` as contiguous float32.

    Raises:
        ValueError: a shape that does not fit, a number that is not finite, ``k`` below 1.
    """
    found = np.ascontiguousarray(queries, dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != dim:
        raise ValueError(f"queries must be (Q, {dim}), got {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("queries must be finite")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if allowed is not None and (allowed.shape != (rows,) or allowed.dtype != np.bool_):
        raise ValueError(f"allowed must be ({rows},) bool, got {allowed.shape} {allowed.dtype}")
    return found

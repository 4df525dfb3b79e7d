"""The arrays that the index hands around, by name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
# As vectors are stored.
Halves = npt.NDArray[np.float16]
# Numbers of rows, of documents or of units; also offsets into what is packed.
Rows = npt.NDArray[np.int64]
# A bit a row: whether it may be returned.
Mask = npt.NDArray[np.bool_]


def chosen_rows(mask: Mask | None, count: int) -> Rows:
    """The rows that a mask chooses, rising; all ``count`` of them where there is none."""
    return np.arange(count) if mask is None else np.flatnonzero(mask)

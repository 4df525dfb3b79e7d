"""The best of some scores in NumPy's arrays, as :mod:`maxsight.kernels.ordering` of tensors."""

from __future__ import annotations

import numpy as np

from maxsight.kernels.array_types import FloatArray, IntArray


def best(scores: FloatArray, rows: IntArray, k: int) -> tuple[FloatArray, IntArray]:
    """The ``k`` largest scores (n,) or, of each line, (Q, n), and their rows, ties by lower row."""
    order = np.lexsort((rows, -scores), axis=-1)[..., :k]
    if scores.ndim == 1:
        return scores[order], rows[order]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

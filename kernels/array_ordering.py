"""The best of some scores in NumPy's arrays, as :mod:`maxsight.kernels.ordering` of tensors."""

from __future__ import annotations

import numpy as np

from maxsight.kernels.array_types import FloatArray, IntArray

# Up to so many times k, sorting all takes no longer than looking for the best first.
_FEW = 16


def best(scores: FloatArray, rows: IntArray, k: int) -> tuple[FloatArray, IntArray]:
    """The ``k`` largest scores (n,) or, of each line, (Q, n), and their rows, ties by lower row."""
    if scores.ndim == 2 and scores.shape[1] > _FEW * k:
        return _best_of_many(scores, rows, k)
    order = np.lexsort((rows, -scores), axis=-1)[..., :k]
    if scores.ndim == 1:
        return scores[order], rows[order]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _best_of_many(scores: FloatArray, rows: IntArray, k: int) -> tuple[FloatArray, IntArray]:
    """The same, by a sort of those alone that reach the k-th score."""
    limits = np.partition(scores, -k, axis=1)[:, -k, None]
    line, column = np.nonzero(scores >= limits)
    order = np.lexsort((rows[line, column], -scores[line, column], line))
    line, column = line[order], column[order]
    first = np.searchsorted(line, np.arange(len(scores)))
    chosen = column[first[:, None] + np.arange(k)]
    return np.take_along_axis(scores, chosen, 1), np.take_along_axis(rows, chosen, 1)

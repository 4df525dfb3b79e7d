"""Similarity search on NumPy's arrays: compiled, or NumPy. Needs no torch."""

from __future__ import annotations

import numpy as np

from maxsight.kernels import array_ordering, native
from maxsight.kernels.array_types import (
    BoolArray,
    FloatArray,
    HalfArray,
    Int8Array,
    IntArray,
)
from maxsight.kernels.halves import unpack

# Rows multiplied at once, 16 MiB in float32 at D = 512.
_ROWS = 8192


def topk(
    queries: FloatArray,
    database: Int8Array | HalfArray,
    k: int,
    *,
    allowed: BoolArray | None,
    scale: FloatArray | None,
    threads: int,
) -> tuple[FloatArray, IntArray]:
    """See ``topk`` in __init__.py."""
    if native.is_compiled():
        return native.topk_rows(queries, database, scale, k, allowed=allowed, threads=threads)
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(database), _ROWS):
        part = slice(start, start + _ROWS)
        products = queries @ _widened(database[part]).T
        if scale is not None:
            products *= scale[part]
        own = np.broadcast_to(np.arange(start, start + products.shape[1]), products.shape)
        if allowed is not None:
            products = np.where(allowed[part], products, -np.inf)
            own = np.where(allowed[part], own, -1)
        together = np.concatenate([scores, products], axis=1)
        scores, rows = array_ordering.best(together, np.concatenate([rows, own], axis=1), k)
    return scores, rows


def rescore(
    queries: FloatArray,
    database: Int8Array,
    candidates: IntArray,
    k: int,
    *,
    scale: FloatArray,
    threads: int,
) -> tuple[FloatArray, IntArray]:
    """See ``rescore`` in __init__.py."""
    if native.is_compiled():
        return native.rescore_rows(queries, database, scale, candidates, k, threads=threads)
    scores = np.full(candidates.shape, -np.inf, dtype=np.float32)
    there = (candidates >= 0) & (candidates < len(database))
    for query, rows, inside, line in zip(queries, candidates, there, scores):
        line[inside] = database[rows[inside]].astype(np.float32) @ query
        line[inside] *= scale[rows[inside]]
    return array_ordering.best(scores, np.where(there, candidates, -1), k)


def _widened(rows: Int8Array | HalfArray) -> FloatArray:
    is_half = rows.dtype == np.float16
    return unpack(rows.view(np.float16)) if is_half else rows.astype(np.float32)

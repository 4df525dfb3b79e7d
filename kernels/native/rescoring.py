"""The scoring of a shortlist in int8, on NumPy's arrays: a search that needs no torch uses it."""

from __future__ import annotations

import itertools

import numpy as np

from maxsight.kernels.array_types import FloatArray, Int8Array, IntArray
from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import INT8, Matrix, Scan

# Fewer pairs than this a thread are not worth a thread.
_THREAD_PAIRS = 4096


def rescore_rows(
    queries: FloatArray,
    codes: Int8Array,
    scale: FloatArray,
    candidates: IntArray,
    k: int,
    *,
    threads: int = 1,
) -> tuple[FloatArray, IntArray]:
    """See ``similarity.rescore``.

    Matrix are called from memory ahead of their turn, and first multiplied in int16: the product in
    float32 is taken of those only that may be among the best.

    Raises:
        BackendError: the library is not there.
        ValueError: shapes that do not fit.
    """
    (count, width), (rows, dim) = candidates.shape, codes.shape
    if queries.shape != (count, dim) or scale.shape != (rows,) or k < 1:
        raise ValueError(
            f"queries {queries.shape}, codes {codes.shape}, scale {scale.shape}, candidates "
            f"{candidates.shape} and k = {k} do not fit together"
        )
    k = min(k, width)
    scores, found = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
    if not scores.size:
        return scores, found
    lines = lines_of(queries)
    # Kept by name: the tasks hold addresses only.
    codes = np.ascontiguousarray(codes, np.int8)
    scale = np.ascontiguousarray(scale, np.float32)
    candidates = np.ascontiguousarray(candidates, np.int64)
    shared = Matrix(data=codes.ctypes.data, scale=scale.ctypes.data, kind=INT8, dim=dim)
    parts = max(1, min(threads, count, count * width // _THREAD_PAIRS))
    tasks = [
        Scan(
            rows=shared,
            last=rows,
            queries=lines[first:].ctypes.data,
            count=last - first,
            stride=lines.shape[1],
            candidates=candidates[first:].ctypes.data,
            width=width,
            k=k,
            scores=scores[first:].ctypes.data,
            indices=found[first:].ctypes.data,
        )
        for first, last in itertools.pairwise(count * part // parts for part in range(parts + 1))
    ]
    binding.run(binding.library().maxsight_scan, tasks)
    return scores, found


def lines_of(queries: FloatArray) -> FloatArray:
    """Queries with zeros up to a multiple of two vectors of numbers."""
    whole = 2 * binding.library().maxsight_lanes(binding.engine())
    count, dim = queries.shape
    if dim % whole == 0:
        return np.ascontiguousarray(queries, np.float32)
    lines = np.zeros((count, -(-dim // whole) * whole), np.float32)
    lines[:, :dim] = queries
    return lines

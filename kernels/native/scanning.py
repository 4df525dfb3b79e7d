"""The best of all rows, on NumPy's arrays: a search that needs no torch uses it."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.kernels.array_types import BoolArray, FloatArray, HalfArray, Int8Array, IntArray
from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    Matrix,
    Packing,
    Scan,
)
from maxsight.kernels.native.rescoring import lines_of

_KINDS = {np.dtype(np.int8): INT8, np.dtype(np.float16): FLOAT16}
# Up to this many queries a scan takes rows as they lie: making panels of them would take longer.
FEW_QUERIES = 8
# From this many on, an int8 screen repays rounding the rows to int8.
_INT8_QUERIES = 48
# Numbers of a product in a word of packed queries.
_IN_A_WORD = {INT8: 4, BFLOAT16: 2, FLOAT32: 1}
# More queries are scanned in several passes, which bounds the memory of their packed form.
MOST_QUERIES = 4096


def topk_rows(
    queries: FloatArray,
    rows: Int8Array | HalfArray,
    scale: FloatArray | None,
    k: int,
    *,
    allowed: BoolArray | None = None,
    threads: int = 1,
) -> tuple[FloatArray, IntArray]:
    """The ``k`` rows of largest product with each query, as ``similarity.topk`` finds them.

    Args:
        queries: (Q, D), finite.
        rows: (N, D) int8 or float16. scale: (N,), what a row is multiplied by; None: 1.
        k: at least 1.
        allowed: (N,), which rows may be returned; None: all.
        threads: share the queries.

    Returns:
        ``(scores, rows)``, each (Q, min(k, N)), best first, equal scores by lower row; -inf and -1
        where fewer are allowed.

    Raises:
        BackendError: the library is not there.
        ValueError: shapes or a dtype that do not fit.
    """
    count, (held, dim) = len(queries), rows.shape
    if (
        queries.shape != (count, dim)
        or rows.dtype not in _KINDS
        or (scale is not None and scale.shape != (held,))
        or (allowed is not None and allowed.shape != (held,))
        or k < 1
    ):
        raise ValueError(
            f"queries {queries.shape}, rows {rows.dtype} {rows.shape}, scale "
            f"{scale if scale is None else scale.shape}, allowed "
            f"{allowed if allowed is None else allowed.shape} and k = {k} do not fit together"
        )
    k = min(k, held)
    scores, found = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
    if not scores.size:
        return scores, found
    lines = lines_of(queries)
    row_kind = _KINDS[rows.dtype]
    # Kept by name: the tasks hold addresses only.
    held_rows: npt.NDArray[Any] = np.ascontiguousarray(rows)
    scale = None if scale is None else np.ascontiguousarray(scale, np.float32)
    bits = None if allowed is None else np.packbits(allowed, bitorder="little")
    shared = Matrix(
        data=held_rows.ctypes.data,
        scale=None if scale is None else scale.ctypes.data,
        allowed=None if bits is None else bits.ctypes.data,
        kind=row_kind,
        dim=dim,
    )
    kind = screen_kind(row_kind, count)
    parts = max(1, min(threads, count), -(-count // MOST_QUERIES))
    tasks, kept = [], []
    for first, last in itertools.pairwise(count * part // parts for part in range(parts + 1)):
        task = Scan(
            rows=shared,
            last=held,
            queries=lines[first:].ctypes.data,
            count=last - first,
            stride=lines.shape[1],
            kind=kind,
            k=k,
            scores=scores[first:].ctypes.data,
            indices=found[first:].ctypes.data,
        )
        if last - first > FEW_QUERIES:
            kept.append(_pack(task, np.ascontiguousarray(queries[first:last], np.float32)))
        tasks.append(task)
    for start in range(0, len(tasks), threads):
        binding.run(binding.library().maxsight_scan, tasks[start : start + threads])
    return scores, found


def screen_kind(row_kind: int, queries: int) -> int:
    """The kind of product that a scan of rows screens with."""
    library, engine = binding.library(), binding.engine()
    int8: int = library.maxsight_product_kind(engine, INT8)
    if row_kind == INT8 or (int8 == INT8 and queries >= _INT8_QUERIES):
        return int8
    bfloat16: int = library.maxsight_product_kind(engine, BFLOAT16)
    return bfloat16


def _pack(task: Scan, queries: FloatArray) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Hand a task its queries in the layout of the tiles; what is returned must outlive it."""
    library, engine = binding.library(), binding.engine()
    count, dim = queries.shape
    lanes = library.maxsight_lanes(engine)
    padded = -(-count // lanes) * lanes
    packed = np.empty(padded * -(-dim // _IN_A_WORD[task.kind]) * 4, np.uint8)
    bounds = np.empty((3, padded), np.float32)
    packing = Packing(
        source=queries.ctypes.data,
        kind=task.kind,
        count=count,
        dim=dim,
        packed=packed.ctypes.data,
    )
    packing.scale, packing.error, packing.norm = (bound.ctypes.data for bound in bounds)
    library.maxsight_pack(engine, ctypes.byref(packing))
    if packing.count < 0:
        raise MemoryError(f"no memory to pack queries {queries.shape}")
    task.packed = packed.ctypes.data
    task.query_scale, task.query_error, task.query_norm = (bound.ctypes.data for bound in bounds)
    return packed, bounds

"""The best of all int8 rows, on NumPy's arrays: a search that needs no torch uses it."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import numpy.typing as npt

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Packing, Rows, Scan
from maxsight.kernels.native.rescoring import INT8, Floats, Numbers, lines_of

# Up to this many queries a scan takes rows as they lie: making panels of them would take longer.
_FEW_QUERIES = 8
# Numbers of a product in a word of packed queries: int8, bfloat16, float32.
_IN_A_WORD = {3: 4, 1: 2, 0: 1}
# More queries are scanned in several passes, which bounds the memory of their packed form.
_MOST_QUERIES = 4096


def topk_rows(
    queries: Floats, codes: npt.NDArray[np.int8], scale: Floats, k: int, *, threads: int = 1
) -> tuple[Floats, Numbers]:
    """The ``k`` rows of largest product with each query, as ``similarity.topk`` finds them.

    Args:
        queries: (Q, D), finite.
        codes: (N, D). scale: (N,), what a row's codes are multiplied by.
        k: at least 1.
        threads: share the queries.

    Returns:
        ``(scores, rows)``, each (Q, min(k, N)), best first, equal scores by lower row.

    Raises:
        BackendError: the library is not there.
        ValueError: shapes that do not fit.
    """
    rows, dim = codes.shape
    count = len(queries)
    if queries.shape != (count, dim) or scale.shape != (rows,) or k < 1:
        raise ValueError(
            f"queries {queries.shape}, codes {codes.shape}, scale {scale.shape} and k = {k} do not "
            "fit together"
        )
    k = min(k, rows)
    scores, found = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
    if not scores.size:
        return scores, found
    lines = lines_of(queries)
    # Kept by name: the tasks hold addresses only.
    codes = np.ascontiguousarray(codes, np.int8)
    scale = np.ascontiguousarray(scale, np.float32)
    shared = Rows(data=codes.ctypes.data, scale=scale.ctypes.data, kind=INT8, dim=dim)
    kind = binding.library().maxsight_product_kind(binding.engine(), INT8)
    parts = max(1, min(threads, count), -(-count // _MOST_QUERIES))
    tasks, kept = [], []
    for first, last in itertools.pairwise(count * part // parts for part in range(parts + 1)):
        task = Scan(
            rows=shared,
            last=rows,
            queries=lines[first:].ctypes.data,
            count=last - first,
            stride=lines.shape[1],
            kind=kind,
            k=k,
            scores=scores[first:].ctypes.data,
            indices=found[first:].ctypes.data,
        )
        if last - first > _FEW_QUERIES:
            kept.append(_pack(task, np.ascontiguousarray(queries[first:last], np.float32)))
        tasks.append(task)
    for start in range(0, len(tasks), threads):
        binding.run(binding.library().maxsight_scan, tasks[start : start + threads])
    return scores, found


def _pack(task: Scan, queries: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
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

"""Scans of a database for the best rows of each query, on tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from maxsight.kernels import ordering
from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import FLOAT32, Scan
from maxsight.kernels.native.scanning import FEW_QUERIES, MOST_QUERIES, screen_kind
from maxsight.kernels.native.tensors import KINDS, THREAD_ROWS, check, matrix_of, pack


def topk(
    queries: Tensor, rows: Tensor, k: int, *, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The ``k`` rows of largest product with each query, exactly.

    Many queries are screened in bfloat16 or int8, few over int8 rows in int16: a pair of query and
    row whose rounded product lies below the k-th best found so far, by more than the measured
    rounding errors allow, is passed over; any other is scored in float32. Scores depend on the pair
    alone.

    Args:
        queries: (Q, D) float32 contiguous.
        rows: (N, D) float32, float16, bfloat16 or int8, contiguous.
        k: at least 1.
        allowed: bitmap (ceil(N / 8),) or (Q, ceil(N / 8)).
        scale: (N,) float32.

    Returns:
        ``(scores, indices)``: (Q, min(k, N)) float32 and int64, best first, ties by lower index;
        -inf and -1 where too few rows are allowed.

    Raises:
        BackendError: the library is not there.
        ValueError: shapes that do not fit.
    """
    _check(queries, rows, allowed, scale)
    k = min(k, len(rows))
    if len(queries) > MOST_QUERIES:
        return _in_passes(queries, rows, k, allowed, scale)
    scores, indices = _nothing_yet(len(queries), k)
    if k == 0:
        return scores, indices
    tasks, kept = scans(queries, rows, allowed, scale)
    parts = [(scores, indices)]
    if len(tasks) > 1:
        parts = [_nothing_yet(len(queries), k) for _ in tasks]
    for task, (its_scores, its_indices) in zip(tasks, parts):
        task.k = k
        task.scores, task.indices = its_scores.data_ptr(), its_indices.data_ptr()
    binding.run(binding.library().maxsight_scan, tasks)
    del kept
    if len(tasks) == 1:
        return scores, indices
    found, places = (torch.cat(pieces, dim=1) for pieces in zip(*parts))
    # Earlier tasks hold lower rows.
    found, places = ordering.first(found, places, k)
    return found.contiguous(), places


def _check(queries: Tensor, rows: Tensor, allowed: Tensor | None, scale: Tensor | None) -> None:
    """Compiled code trusts shapes."""
    (count, dim), held = queries.shape, len(rows)
    if rows.dtype not in KINDS:
        raise ValueError(f"rows must be float32, float16, bfloat16 or int8, got {rows.dtype}")
    check("rows", rows, rows.dtype, (held, dim))
    if not rows.is_contiguous():
        raise ValueError(f"rows must be contiguous, got strides {rows.stride()}")
    if scale is not None:
        check("scale", scale, torch.float32, (held,))
    if allowed is not None:
        width = -(-held // 8)
        shape = (width,) if allowed.ndim == 1 else (count, width)
        check("allowed", allowed, torch.uint8, shape)


def _nothing_yet(queries: int, k: int) -> tuple[Tensor, Tensor]:
    return torch.empty(queries, k), torch.empty(queries, k, dtype=torch.int64)


def _in_passes(
    queries: Tensor, rows: Tensor, k: int, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """:func:`topk` of more queries than one pass takes."""
    parts = []
    for start in range(0, len(queries), MOST_QUERIES):
        part = slice(start, start + MOST_QUERIES)
        inside = allowed if allowed is None or allowed.ndim == 1 else allowed[part]
        parts.append(topk(queries[part], rows, k, allowed=inside, scale=scale))
    scores, indices = zip(*parts)
    return torch.cat(scores), torch.cat(indices)


def scans(
    queries: Tensor, rows: Tensor, allowed: Tensor | None, scale: Tensor | None
) -> tuple[list[Scan], list[Tensor]]:
    """A task a thread, and the tensors that must outlive them."""
    count, dim = queries.shape
    row_kind = KINDS[rows.dtype]
    exact = _lines(queries)
    kept = [rows, exact]
    packed = None
    kind = screen_kind(row_kind, count)
    bounds: tuple[Tensor, ...] = ()
    if count > FEW_QUERIES:
        packed, *rest = pack(queries.float().contiguous(), FLOAT32, kind, bounds=True)
        bounds = tuple(rest)
        kept += [packed, *bounds]
    shared = matrix_of(rows, row_kind, dim, allowed, scale, kept)
    tasks = []
    for first, last in _cuts(len(rows), len(rows)):
        task = Scan(
            rows=shared,
            first=first,
            last=last,
            queries=exact.data_ptr(),
            count=count,
            stride=exact.shape[1],
            kind=kind,
        )
        if packed is not None:
            task.packed = packed.data_ptr()
            task.query_scale, task.query_error, task.query_norm = (
                bound.data_ptr() for bound in bounds
            )
        tasks.append(task)
    return tasks, kept


def _lines(queries: Tensor) -> Tensor:
    """Queries as float32, zeros up to a multiple of two vectors of numbers."""
    whole = 2 * binding.library().maxsight_lanes(binding.engine())
    count, dim = queries.shape
    if dim % whole == 0:
        return queries.float().contiguous()
    exact = torch.zeros(count, -(-dim // whole) * whole)
    exact[:, :dim] = queries
    return exact


def _cuts(count: int, work: int) -> Iterator[tuple[int, int]]:
    """Equal shares of ``count``, one a thread, for as many threads as ``work`` rows are worth."""
    threads = max(1, min(torch.get_num_threads(), count, work // THREAD_ROWS))
    return itertools.pairwise(count * place // threads for place in range(threads + 1))

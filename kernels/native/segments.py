"""Products of rows with queries, of which only the maximum of each segment of rows is kept."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Segments
from maxsight.kernels.native.tensors import (
    KINDS,
    THREAD_ROWS,
    check,
    check_offsets,
    pack,
    pointer,
    rows_of,
)


def segment_max(
    rows: Tensor,
    offsets: Tensor,
    queries: Tensor,
    *,
    row_scale: Tensor | None = None,
    allowed: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """The largest product of each query with a row of each segment.

    Memory beyond inputs and answer: the queries once more, and 0.3 MiB a thread.

    Args:
        rows: (N, d) float32, bfloat16 or int8, contiguous, on the CPU.
        offsets: (S + 1,) int64; segment s holds rows ``offsets[s]:offsets[s + 1]``.
        queries: (Q, d) of the same dtype.
        row_scale: (N,) float32, what the products of a row are multiplied by; None: 1.
        allowed: bitmap over the rows, (ceil(N / 8),) uint8; a forbidden row does not count.
        segments: int64, the segments to compute, in the order of the answer; None: all.

    Returns:
        (S, Q) float32, or (len(segments), Q); -inf where a segment has no row that counts.

    Raises:
        BackendError: the library is not there (:func:`available`).
        ValueError: dtypes or shapes that do not fit.
    """
    if allowed is not None:
        check("allowed", allowed, torch.uint8, (-(-rows.shape[0] // 8),))
    task = Segments()
    kept: list[Tensor] = []
    return _reduce(
        task, kept, rows, offsets, queries, row_scale, allowed, segments, queries.shape[0]
    )


def segment_max_sum(
    rows: Tensor,
    offsets: Tensor,
    queries: Tensor,
    query_offsets: Tensor,
    *,
    query_weight: Tensor | None = None,
    row_scale: Tensor | None = None,
    row_sums: Tensor | None = None,
    rise: float = 0.0,
    segments: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """The maxima of :func:`segment_max`, summed over the queries of each group: MaxSim.

    Args:
        query_offsets: (B + 1,) int64; group b holds queries
            ``query_offsets[b]:query_offsets[b + 1]``.
        query_weight: (Q,) float32, what a query's maximum is multiplied by; None: 1.
        row_sums: (N,) int32, the sum of each row's int8 numbers, where it is known.
        rise: for int8 rows, with a scale that is not negative: to a product of int8 numbers
            ``rise * scale`` is added, rounded up to a whole number, before it is scaled.
        places: (Q, S) int32 or a part of its columns, written: which row of the segment, counted
            from its first, gave the maximum, the first of equals; -1 in an empty segment.
        rows, offsets, queries, row_scale, segments: as in :func:`segment_max`.

    Returns:
        (S, B) float32, or (len(segments), B); -inf for an empty segment, but 0 for an empty group.

    Raises:
        BackendError, ValueError: as :func:`segment_max`.
    """
    check_offsets("query_offsets", query_offsets, queries.shape[0])
    groups = query_offsets.shape[0] - 1
    task = Segments(groups=groups)
    kept: list[Tensor] = []
    task.group_offsets = pointer(query_offsets, kept)
    if query_weight is not None:
        check("query_weight", query_weight, torch.float32, (queries.shape[0],))
        task.weight = pointer(query_weight, kept)
    if (rise or row_sums is not None) and (rows.dtype != torch.int8 or row_scale is None):
        raise ValueError(f"a rise or row_sums need int8 rows with row_scale, got {rows.dtype}")
    task.rows.rise = rise
    if row_sums is not None:
        check("row_sums", row_sums, torch.int32, (rows.shape[0],))
        task.rows.sums = pointer(row_sums, kept)
    if places is not None:
        count = offsets.shape[0] - 1 if segments is None else len(segments)
        check("places", places, torch.int32, (queries.shape[0], count))
        if places.numel() and places.stride(1) != 1:
            raise ValueError(f"places must have adjacent columns, got strides {places.stride()}")
        task.places, task.places_stride = places.data_ptr(), places.stride(0)
    return _reduce(task, kept, rows, offsets, queries, row_scale, None, segments, groups)


def _reduce(
    task: Segments,
    kept: list[Tensor],
    rows: Tensor,
    offsets: Tensor,
    queries: Tensor,
    row_scale: Tensor | None,
    allowed: Tensor | None,
    segments: Tensor | None,
    width: int,
) -> Tensor:
    """The output (S, width) of a task that lacks nothing but what both functions have."""
    if rows.dtype not in (torch.float32, torch.bfloat16, torch.int8) or rows.ndim != 2:
        raise ValueError(
            f"rows must be (N, d) float32, bfloat16 or int8, got {rows.dtype} {tuple(rows.shape)}"
        )
    check("queries", queries, rows.dtype, (queries.shape[0], rows.shape[1]))
    check_offsets("offsets", offsets, rows.shape[0])
    if row_scale is not None:
        check("row_scale", row_scale, torch.float32, (rows.shape[0],))
    edges = offsets.numpy()
    lengths = edges[1:] - edges[:-1]
    if segments is not None:
        check("segments", segments, torch.int64, (len(segments),))
        chosen = segments.numpy()
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(lengths)):
            raise ValueError(
                f"segments must lie in 0..{len(lengths) - 1}, got {chosen.min()}..{chosen.max()}"
            )
        lengths = lengths[chosen]
    output = torch.empty(len(lengths), width)
    if output.numel() == 0 and (not task.places or len(lengths) == 0):
        return output
    kind = KINDS[rows.dtype]
    kept.append(queries := queries.contiguous())
    task.kind = binding.library().maxsight_product_kind(binding.engine(), kind)
    kept.append(pack(queries, kind, task.kind, bounds=False)[0])
    task.packed = kept[-1].data_ptr()
    sums, rise = task.rows.sums, task.rows.rise
    kept.append(rows := rows.contiguous())
    task.rows = rows_of(rows, kind, rows.shape[1], allowed, row_scale, kept)
    task.rows.sums, task.rows.rise = sums, rise
    task.offsets, task.segments = pointer(offsets, kept), pointer(segments, kept)
    task.queries = queries.shape[0]
    task.output = output.data_ptr()
    tasks = []
    for first, last in _shares(lengths):
        tasks.append(Segments.from_buffer_copy(task))
        tasks[-1].first, tasks[-1].last = first, last
    binding.run(binding.library().maxsight_reduce, tasks)
    return output


def _shares(lengths: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[tuple[int, int]]:
    """Runs of segments of about equally many rows, one a thread."""
    ends = lengths.cumsum()
    threads = max(1, min(torch.get_num_threads(), int(ends[-1]) // THREAD_ROWS))
    targets = [int(ends[-1]) * place // threads for place in range(1, threads)]
    edges = [0, *np.searchsorted(ends, targets).tolist(), len(lengths)]
    return [(first, last) for first, last in itertools.pairwise(edges) if first < last]

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
    matrix_of,
    pack,
    pointer,
)


def segment_max_sum(
    rows: Tensor,
    offsets: Tensor,
    queries: Tensor,
    query_offsets: Tensor,
    *,
    query_weight: Tensor | None = None,
    row_scale: Tensor | None = None,
    segments: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """The largest product of each query with a row of each segment, summed over groups: MaxSim.

    Memory beyond inputs and answer: the queries once more, and 0.3 MiB a thread.

    Args:
        rows: (N, d) float32, bfloat16 or int8, contiguous, on the CPU.
        offsets: (S + 1,) int64; segment s holds rows ``offsets[s]:offsets[s + 1]``.
        queries: (Q, d) of the same dtype.
        query_offsets: (B + 1,) int64; group b holds queries
            ``query_offsets[b]:query_offsets[b + 1]``.
        query_weight: (Q,) float32, what a query's maximum is multiplied by; None: 1.
        row_scale: (N,) float32, what the products of a row are multiplied by; None: 1.
        segments: int64, the segments to compute, in the order of the answer; None: all.
        places: (Q, S) int32 or a part of its columns, written: which row of the segment, counted
            from its first, gave the maximum, the first of equals; -1 in an empty segment.

    Returns:
        (S, B) float32, or (len(segments), B); -inf for an empty segment, but 0 for an empty group.

    Raises:
        BackendError: the library is not there (:func:`available`).
        ValueError: dtypes or shapes that do not fit.
    """
    if rows.dtype not in (torch.float32, torch.bfloat16, torch.int8) or rows.ndim != 2:
        raise ValueError(
            f"rows must be (N, d) float32, bfloat16 or int8, got {rows.dtype} {tuple(rows.shape)}"
        )
    check("queries", queries, rows.dtype, (queries.shape[0], rows.shape[1]))
    check_offsets("query_offsets", query_offsets, queries.shape[0])
    check_offsets("offsets", offsets, rows.shape[0])
    if query_weight is not None:
        check("query_weight", query_weight, torch.float32, (queries.shape[0],))
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
    if places is not None:
        check("places", places, torch.int32, (queries.shape[0], len(lengths)))
        if places.numel() and places.stride(1) != 1:
            raise ValueError(f"places must have adjacent columns, got strides {places.stride()}")
    groups = query_offsets.shape[0] - 1
    output = torch.empty(len(lengths), groups)
    if output.numel() == 0 and (places is None or len(lengths) == 0):
        return output
    # Kept by name: the tasks hold addresses only.
    queries, rows = queries.contiguous(), rows.contiguous()
    kind = KINDS[rows.dtype]
    product = binding.library().maxsight_product_kind(binding.engine(), kind)
    packed = pack(queries, kind, product, bounds=False)[0]
    kept: list[Tensor] = []
    task = Segments(
        rows=matrix_of(rows, kind, rows.shape[1], None, row_scale, kept),
        offsets=pointer(offsets, kept),
        segments=pointer(segments, kept),
        packed=packed.data_ptr(),
        kind=product,
        queries=queries.shape[0],
        group_offsets=pointer(query_offsets, kept),
        groups=groups,
        weight=pointer(query_weight, kept),
        output=output.data_ptr(),
        places=None if places is None else places.data_ptr(),
        places_stride=0 if places is None else places.stride(0),
    )
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

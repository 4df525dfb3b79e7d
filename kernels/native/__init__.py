"""Compiled arithmetic for the CPU, shared by similarity search and late interaction.

``segment_max`` and ``segment_max_sum`` multiply packed rows with queries and keep only the maximum
of each segment; ``topk`` and ``above`` scan a database, ``rescore`` scores some of its rows. The
C++ beside this file is compiled for several instruction sets at installation; the best one of the
machine is taken at the first call.
Where it could not be compiled, :func:`available` is None and every other function raises.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Segments
from maxsight.kernels.native.search import above, rescore, topk
from maxsight.kernels.native.tensors import KINDS, THREAD_ROWS, pack, pointer, rows_of

__all__ = ["above", "available", "rescore", "segment_max", "segment_max_sum", "topk"]


def available() -> str | None:
    """The instruction set in use (``avx512_bf16``, ``avx512_vnni``, ``avx2`` or ``portable``).

    None where the library was not compiled: installing without a C++ compiler leaves it out.
    """
    engine = binding.engine()
    if engine is None:
        return None
    name: bytes = binding.library().maxsight_name(engine)
    return name.decode()


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
    count = len(offsets) - 1 if segments is None else len(segments)
    output = torch.empty(count, len(queries))
    return _reduce(rows, offsets, queries, row_scale, allowed, segments, None, None, output)


def segment_max_sum(
    rows: Tensor,
    offsets: Tensor,
    queries: Tensor,
    query_offsets: Tensor,
    *,
    query_weight: Tensor | None = None,
    row_scale: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """The maxima of :func:`segment_max`, summed over the queries of each group: MaxSim.

    Args:
        query_offsets: (B + 1,) int64; group b holds queries
            ``query_offsets[b]:query_offsets[b + 1]``.
        query_weight: (Q,) float32, what a query's maximum is multiplied by; None: 1.
        rows, offsets, queries, row_scale, segments: as in :func:`segment_max`.

    Returns:
        (S, B) float32, or (len(segments), B); 0 for an empty segment or an empty group.

    Raises:
        BackendError, ValueError: as :func:`segment_max`.
    """
    _check("query_offsets", query_offsets, torch.int64, (len(query_offsets),))
    if query_weight is not None:
        _check("query_weight", query_weight, torch.float32, (len(queries),))
        query_weight = query_weight.contiguous()
    count = len(offsets) - 1 if segments is None else len(segments)
    output = torch.empty(count, len(query_offsets) - 1)
    groups = query_offsets.contiguous()
    return _reduce(rows, offsets, queries, row_scale, None, segments, groups, query_weight, output)


def _reduce(
    rows: Tensor,
    offsets: Tensor,
    queries: Tensor,
    row_scale: Tensor | None,
    allowed: Tensor | None,
    segments: Tensor | None,
    groups: Tensor | None,
    weight: Tensor | None,
    output: Tensor,
) -> Tensor:
    if rows.dtype not in (torch.float32, torch.bfloat16, torch.int8) or rows.ndim != 2:
        raise ValueError(
            f"rows must be (N, d) float32, bfloat16 or int8, got {rows.dtype} {tuple(rows.shape)}"
        )
    _check("queries", queries, rows.dtype, (len(queries), rows.shape[1]))
    _check("offsets", offsets, torch.int64, (len(offsets),))
    if row_scale is not None:
        _check("row_scale", row_scale, torch.float32, (len(rows),))
    if allowed is not None:
        _check("allowed", allowed, torch.uint8, (-(-len(rows) // 8),))
    if segments is not None:
        _check("segments", segments, torch.int64, (len(segments),))
        _check_range("segments", segments, 0, len(offsets) - 2)
    _check_offsets("offsets", offsets, len(rows))
    if groups is not None:
        _check_offsets("query_offsets", groups, len(queries))
    if output.numel() == 0:
        return output
    kept = [rows.contiguous(), offsets.contiguous(), queries.contiguous()]
    kind = binding.library().maxsight_product_kind(binding.engine(), KINDS[rows.dtype])
    packed = pack(kept[2], KINDS[rows.dtype], kind, bounds=False)[0]
    starts = offsets[:-1] if segments is None else offsets[:-1][segments]
    ends = offsets[1:] if segments is None else offsets[1:][segments]
    tasks = []
    for first, last in _shares(ends - starts):
        tasks.append(
            Segments(
                rows=rows_of(kept[0], KINDS[rows.dtype], rows.shape[1], allowed, row_scale, kept),
                offsets=kept[1].data_ptr(),
                segments=pointer(segments, kept),
                first=first,
                last=last,
                packed=packed.data_ptr(),
                kind=kind,
                queries=len(queries),
                group_offsets=pointer(groups, kept),
                groups=0 if groups is None else len(groups) - 1,
                weight=pointer(weight, kept),
                output=output.data_ptr(),
            )
        )
    binding.run(binding.library().maxsight_reduce, tasks)
    return output


def _check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or tensor.device.type != "cpu":
        raise ValueError(
            f"{name} must be {dtype} {shape} on the CPU, got {tensor.dtype} "
            f"{tuple(tensor.shape)} on {tensor.device}"
        )


def _check_offsets(name: str, offsets: Tensor, rows: int) -> None:
    """What lies outside would be read all the same: the compiled code trusts its arguments."""
    _check_range(name, offsets, 0, rows)
    if len(offsets) == 0 or bool((offsets[1:] < offsets[:-1]).any()):
        raise ValueError(f"{name} must start with one number and never fall, got {offsets}")


def _check_range(name: str, numbers: Tensor, least: int, most: int) -> None:
    if len(numbers) and (int(numbers.min()) < least or int(numbers.max()) > most):
        raise ValueError(
            f"{name} must lie in {least}..{most}, got {int(numbers.min())}..{int(numbers.max())}"
        )


def _shares(lengths: Tensor) -> list[tuple[int, int]]:
    """Runs of segments of about equally many rows, one a thread."""
    ends = lengths.cumsum(0)
    total = int(ends[-1])
    threads = max(1, min(torch.get_num_threads(), total // THREAD_ROWS))
    targets = torch.tensor([total * place // threads for place in range(1, threads)])
    cuts = torch.searchsorted(ends, targets).tolist() if threads > 1 else []
    edges = [0, *cuts, len(lengths)]
    return [(first, last) for first, last in itertools.pairwise(edges) if first < last]

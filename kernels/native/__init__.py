"""Compiled arithmetic for the CPU, shared by similarity search and late interaction.

``segment_max`` and ``segment_max_sum`` multiply packed rows with queries and keep only the maximum
of each segment; ``topk`` and ``above`` scan a database. The C++ beside this file is compiled for
several instruction sets at installation; the best one of the machine is taken at the first call.
Where it could not be compiled, :func:`available` is None and every other function raises.
"""

from __future__ import annotations

import ctypes
import itertools

import torch
from torch import Tensor

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Packing, Rows, Scan, Segments

_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.int8: 3}
_BFLOAT16, _INT8, _SIGN = 1, 3, 4
# Hit of task.h as int64 words: query, row, and the score in the first half of the last.
_HIT_WORDS = 3
# Up to this many queries a scan reads rows slower than it multiplies them exactly.
_FEW_QUERIES = 4
# From this many on, an int8 screen repays rounding the rows to int8.
_INT8_QUERIES = 48
# More queries are scanned in several passes, which bounds the memory of their packed form.
_MOST_QUERIES = 4096
# Fewer rows than this a thread are not worth a thread.
_THREAD_ROWS = 2048


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


def topk(
    queries: Tensor, rows: Tensor, k: int, *, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The ``k`` rows of largest product with each query, exactly.

    Many queries are screened in bfloat16 or int8: a pair of query and row whose rounded product
    lies below the k-th best found so far, by more than the measured norms of the rounding errors
    allow, is passed over; any other is scored in float32. Scores depend on the pair alone.

    Args:
        queries: (Q, D) float32 contiguous; int8 where rows are signs.
        rows: (N, D) float32, float16, bfloat16 or int8, contiguous; or (N, ceil(D / 8))
            uint8 signs.
        k: at least 1.
        allowed: bitmap (ceil(N / 8),) or (Q, ceil(N / 8)).
        scale: (N,) float32.

    Returns:
        ``(scores, indices)``: (Q, min(k, N)) float32 and int64, best first, ties by lower index;
        -inf and -1 where too few rows are allowed.

    Raises:
        BackendError: the library is not there.
    """
    k = min(k, len(rows))
    scores = torch.empty(len(queries), k)
    indices = torch.empty(len(queries), k, dtype=torch.int64)
    if k == 0:
        return scores, indices
    for start in range(0, len(queries), _MOST_QUERIES):
        part = slice(start, start + _MOST_QUERIES)
        inside = allowed if allowed is None or allowed.ndim == 1 else allowed[part]
        tasks, kept = _scans(queries[part], rows, inside, scale)
        count = len(queries[part])
        found = torch.empty(len(tasks), count, k)
        places = torch.empty(len(tasks), count, k, dtype=torch.int64)
        for task, its_scores, its_places in zip(tasks, found, places):
            task.k = k
            task.scores, task.indices = its_scores.data_ptr(), its_places.data_ptr()
        binding.run(binding.library().maxsight_scan, tasks)
        del kept
        if len(tasks) == 1:
            scores[part], indices[part] = found[0], places[0]
            continue
        # A stable sort: earlier tasks hold lower rows.
        order = found.transpose(0, 1).flatten(1).sort(dim=1, descending=True, stable=True)
        scores[part] = order.values[:, :k]
        indices[part] = places.transpose(0, 1).flatten(1).gather(1, order.indices[:, :k])
    return scores, indices


def above(
    queries: Tensor,
    rows: Tensor,
    threshold: Tensor,
    *,
    allowed: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs whose product is at least the query's threshold, exactly; see :func:`topk`.

    Args:
        threshold: (Q,) float32.

    Returns:
        ``(scores, indices, queries)``: (H,) float32, int64 and int64, in no useful order.

    Raises:
        BackendError: the library is not there.
    """
    pieces = [torch.empty(0, _HIT_WORDS, dtype=torch.int64)]
    threshold = threshold.contiguous()
    for start in range(0, len(queries), _MOST_QUERIES):
        part = slice(start, start + _MOST_QUERIES)
        inside = allowed if allowed is None or allowed.ndim == 1 else allowed[part]
        tasks, kept = _scans(queries[part], rows, inside, scale)
        for task in tasks:
            task.threshold = threshold[part].data_ptr()
        try:
            binding.run(binding.library().maxsight_scan, tasks)
            for task in tasks:
                if task.hit_count:
                    words = (ctypes.c_int64 * (task.hit_count * _HIT_WORDS)).from_address(task.hits)
                    hits = torch.frombuffer(words, dtype=torch.int64).view(-1, _HIT_WORDS).clone()
                    hits[:, 0] += start
                    pieces.append(hits)
        finally:
            del kept
            for task in tasks:
                binding.library().maxsight_free(task.hits)
    hits = torch.cat(pieces)
    scores = hits.view(torch.float32)[:, 2 * _HIT_WORDS - 2]
    return scores.contiguous(), hits[:, 1].contiguous(), hits[:, 0].contiguous()


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
    kind = binding.library().maxsight_product_kind(binding.engine(), _KINDS[rows.dtype])
    packed = _pack(kept[2], _KINDS[rows.dtype], kind, bounds=False)[0]
    starts = offsets[:-1] if segments is None else offsets[:-1][segments]
    ends = offsets[1:] if segments is None else offsets[1:][segments]
    tasks = []
    for first, last in _shares(ends - starts):
        tasks.append(
            Segments(
                rows=_rows(kept[0], _KINDS[rows.dtype], rows.shape[1], allowed, row_scale, kept),
                offsets=kept[1].data_ptr(),
                segments=_pointer(segments, kept),
                first=first,
                last=last,
                packed=packed.data_ptr(),
                kind=kind,
                queries=len(queries),
                group_offsets=_pointer(groups, kept),
                groups=0 if groups is None else len(groups) - 1,
                weight=_pointer(weight, kept),
                output=output.data_ptr(),
            )
        )
    binding.run(binding.library().maxsight_reduce, tasks)
    return output


def _scans(
    queries: Tensor, rows: Tensor, allowed: Tensor | None, scale: Tensor | None
) -> tuple[list[Scan], list[Tensor]]:
    """A task a thread, and the tensors that must outlive them."""
    count, dim = queries.shape
    signs = rows.dtype == torch.uint8
    row_kind = _SIGN if signs else _KINDS[rows.dtype]
    lanes = binding.library().maxsight_lanes(binding.engine())
    exact = torch.zeros(count, -(-dim // (2 * lanes)) * 2 * lanes)
    exact[:, :dim] = queries
    kept = [rows, exact]
    packed = None
    kind = _screen(row_kind, count)
    bounds: tuple[Tensor, ...] = ()
    if count > _FEW_QUERIES or signs:
        source = _INT8 if signs and kind == _INT8 else 0
        packed, *rest = _pack(
            queries.contiguous() if source else queries.float().contiguous(),
            source,
            kind,
            bounds=True,
        )
        bounds = tuple(rest)
        kept += [packed, *bounds]
    shared = _rows(rows, row_kind, dim, allowed, scale, kept)
    tasks = []
    threads = max(1, min(torch.get_num_threads(), len(rows) // _THREAD_ROWS))
    edges = [len(rows) * place // threads for place in range(threads + 1)]
    for first, last in itertools.pairwise(edges):
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


def _screen(row_kind: int, queries: int) -> int:
    """The kind of product that a scan screens with."""
    library, engine = binding.library(), binding.engine()
    int8: int = library.maxsight_product_kind(engine, _INT8)
    if row_kind in (_INT8, _SIGN) or (int8 == _INT8 and queries >= _INT8_QUERIES):
        return int8
    bfloat16: int = library.maxsight_product_kind(engine, _BFLOAT16)
    return bfloat16


def _pack(queries: Tensor, source: int, kind: int, *, bounds: bool) -> list[Tensor]:
    """Queries in the layout of the tiles, and where asked for their scales, errors and norms."""
    count, dim = queries.shape
    lanes = binding.library().maxsight_lanes(binding.engine())
    padded = -(-count // lanes) * lanes
    numbers = {_INT8: 4, _BFLOAT16: 2}.get(kind, 1)
    pieces = [torch.empty(padded * -(-dim // numbers) * 4, dtype=torch.uint8)]
    if bounds:
        pieces += [torch.empty(padded) for _ in range(3)]
    task = Packing(
        source=queries.data_ptr(),
        source_kind=source,
        kind=kind,
        count=count,
        dim=dim,
        packed=pieces[0].data_ptr(),
    )
    if bounds:
        task.scale, task.error, task.norm = (piece.data_ptr() for piece in pieces[1:])
    binding.library().maxsight_pack(binding.engine(), ctypes.byref(task))
    if task.count < 0:
        raise MemoryError(f"no memory to pack queries {tuple(queries.shape)}")
    return pieces


def _rows(
    rows: Tensor,
    kind: int,
    dim: int,
    allowed: Tensor | None,
    scale: Tensor | None,
    kept: list[Tensor],
) -> Rows:
    return Rows(
        data=rows.data_ptr(),
        scale=_pointer(scale, kept),
        allowed=_pointer(allowed, kept),
        allowed_stride=0 if allowed is None or allowed.ndim == 1 else allowed.shape[1],
        kind=kind,
        dim=dim,
    )


def _pointer(tensor: Tensor | None, kept: list[Tensor]) -> int | None:
    if tensor is None:
        return None
    kept.append(tensor.contiguous())
    return kept[-1].data_ptr()


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
    threads = max(1, min(torch.get_num_threads(), total // _THREAD_ROWS))
    targets = torch.tensor([total * place // threads for place in range(1, threads)])
    cuts = torch.searchsorted(ends, targets).tolist() if threads > 1 else []
    edges = [0, *cuts, len(lengths)]
    return [(first, last) for first, last in itertools.pairwise(edges) if first < last]

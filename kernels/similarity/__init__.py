"""Similarity search: which rows of a database are nearest to each query.

``topk`` asks for a number of rows, ``above`` for all that score at least a threshold. Both are
exact, filter while they search, and never hold a (Q, N) matrix of scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxsight.kernels import bitmap
from maxsight.kernels.dispatch import room_of
from maxsight.kernels.operator import operator

__all__ = ["Rounded", "above", "topk"]

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Rows whose norms are taken at once.
_NORM_ROWS = 8192


@dataclass(frozen=True)
class Rounded:
    """A database in one or two bytes a number, and the vectors that its shortlist is scored with.

    A search finds the best ``shortlist * k`` rows of the codes, exactly, and scores these with the
    vectors: scores are exact, but a row that rounding put outside the shortlist is missed. It reads
    half or a quarter of float32's bytes, which is what one query at a time takes.

    Attributes:
        codes: (N, D) int8, float16 or bfloat16.
        vectors: (N, D) floating point tensor; it may be memory-mapped.
        scale: (N,) float32, what a row of codes is multiplied by; None: 1.
        shortlist: rows scored with the vectors for each row asked for, at least 1.
    """

    codes: Tensor
    vectors: Tensor
    scale: Tensor | None = None
    shortlist: int = 4

    @staticmethod
    def of(vectors: Tensor, dtype: torch.dtype = torch.int8, *, shortlist: int = 4) -> Rounded:
        """Round vectors (N, D) to ``dtype``; to int8 on a scale a row.

        Example:
            >>> Rounded.of(torch.tensor([[1.0, -0.5]])).codes
            tensor([[127, -64]], dtype=torch.int8)
        """
        codes = _empty(vectors.shape, dtype, vectors.device)
        if dtype != torch.int8:
            return Rounded(codes.copy_(vectors), vectors, shortlist=shortlist)
        scale = torch.empty(len(vectors), device=vectors.device)
        for start in range(0, len(vectors), _NORM_ROWS):
            rows = slice(start, start + _NORM_ROWS)
            part = vectors[rows].float()
            scale[rows] = part.abs().amax(dim=1).clamp_min(1e-30) / 127
            codes[rows] = (part / scale[rows, None]).round().to(dtype)
        return Rounded(codes, vectors, scale, shortlist)


def topk(
    queries: Tensor,
    database: Tensor | Rounded,
    k: int,
    *,
    allowed: Tensor | None = None,
    scale: Tensor | None = None,
    normalize: bool = False,
    largest: bool = True,
) -> tuple[Tensor, Tensor]:
    """The ``k`` database rows of largest inner product with each query.

    Exact for a tensor: the answer is that of scoring every allowed row. Products are summed in
    float32 (float64 if either input is), whatever lower precision the search is screened in; the
    CPU's own room gives a pair of query and row the same score whatever else is asked for with it.

    Memory beyond the inputs and the (Q, k) answer: on a CPU Q * D * 5 bytes, for at most 4,096
    queries at a time, 12 * Q * k bytes a thread and 1 MiB a thread, and where rows lie in tight
    clusters 8 * Q * D more a thread; on a GPU 4 * Q bytes a block of database rows, at most 32 MiB
    at a time.

    Args:
        queries: (Q, D) floating point tensor, finite.
        database: (N, D) on the same device: float32, float16, bfloat16 or float64, which may differ
            from the queries' dtype; or int8 with one ``scale`` a row; or :class:`Rounded`,
            whose answers may miss a row.
        k: at least 1.
        allowed: rows that may be returned: (N,) or, a row a query, (Q, N) bool, or a bitmap of
            either (``kernels.bitmap``).
        scale: (N,) float32, what a row's numbers are multiplied by; None: 1.
        normalize: divide queries and rows by their L2 norm (the cosine). It reads the database once
            more: who searches often stores normalised rows.
        largest: False returns the rows of smallest product instead, smallest first.

    Returns:
        ``(scores, indices)``: (Q, k') float32 and (Q, k') int64, best first, equal scores by lower
        index. ``k' = min(k, N)``; a query with fewer allowed rows ends in score ``-inf`` (``inf``
        where ``largest`` is False) and index ``-1``.

    Raises:
        ValueError: shapes or dtypes that do not fit, ``k`` below 1.
        BackendError: tensors on several devices, or not where ``MAXSIGHT_KERNELS`` computes.

    Example:
        >>> database = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> topk(torch.tensor([[1.0, 0.0]]), database, 2)[1].tolist()
        [[0, 2]]
    """
    vectors = database if isinstance(database, Tensor) else database.vectors
    _check(queries, vectors, scale)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    allowed = bitmap.checked(allowed, rows=len(vectors), queries=len(queries))
    queries, scale = _scaled(queries, vectors, scale, normalize)
    queries = queries if largest else -queries
    if isinstance(database, Tensor):
        scores, indices = _topk(queries, database.contiguous(), k, allowed, scale)
    else:
        codes, factor = _codes_of(database)
        if scale is not None:
            factor = scale if factor is None else factor * scale
        wide = k * database.shortlist
        scores, indices = _shortlist_topk(queries, codes, vectors, wide, k, allowed, factor, scale)
    return (scores, indices) if largest else (-scores, indices)


def above(
    queries: Tensor,
    database: Tensor,
    threshold: float | Tensor,
    *,
    allowed: Tensor | None = None,
    scale: Tensor | None = None,
    normalize: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every database row whose inner product with a query is at least a threshold.

    Args:
        threshold: one for all queries, or (Q,) a query.
        queries, database, allowed, scale, normalize: as in :func:`topk`, without ``Rounded``.

    Returns:
        ``(scores, indices, offsets)``: (H,) float32, (H,) int64 and (Q + 1,) int64: query i has the
        hits ``offsets[i]:offsets[i + 1]``, best first, equal scores by lower index.

    Raises:
        ValueError, BackendError: as in :func:`topk`.

    Example:
        >>> database = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> scores, indices, offsets = above(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), database, 0.5)
        >>> indices.tolist(), offsets.tolist()
        ([0, 2, 1, 2], [0, 2, 4])
    """
    _check(queries, database, scale)
    limits = torch.as_tensor(threshold, dtype=torch.float32, device=queries.device)
    if tuple(limits.shape) not in {(), (len(queries),)}:
        raise ValueError(
            f"threshold must be a number or ({len(queries)},), got {tuple(limits.shape)}"
        )
    allowed = bitmap.checked(allowed, rows=len(database), queries=len(queries))
    queries, scale = _scaled(queries, database, scale, normalize)
    limits = limits.expand(len(queries)).contiguous()
    return _above(queries, database.contiguous(), limits, allowed, scale)  # type: ignore[no-any-return]


def _empty(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory to be read from end to end many times."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    # NumPy asks Linux for huge pages, torch does not: rows are read up to a quarter faster.
    memory = torch.from_numpy(np.empty((shape.numel() + 1) * dtype.itemsize, dtype=np.uint8))
    return memory.view(dtype)[:-1].view(shape)


def _check(queries: Tensor, database: Tensor, scale: Tensor | None) -> None:
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"queries (Q, D) and database (N, D) must share D, got {tuple(queries.shape)} and "
            f"{tuple(database.shape)}"
        )
    if queries.dtype not in _FLOATS or database.dtype not in (*_FLOATS, torch.int8):
        raise ValueError(
            "queries must be floating point and the database floating point or int8, got "
            f"{queries.dtype} and {database.dtype}"
        )
    if scale is not None and (
        tuple(scale.shape) != (len(database),) or not scale.is_floating_point()
    ):
        raise ValueError(
            f"scale must be ({len(database)},) floating point, got {scale.dtype} "
            f"{tuple(scale.shape)}"
        )


def _codes_of(database: Rounded) -> tuple[Tensor, Tensor | None]:
    """What a shortlist is found with, and the factor of every row of it."""
    if database.shortlist < 1:
        raise ValueError(f"shortlist must be at least 1, got {database.shortlist}")
    rows, dim = database.vectors.shape
    _expect("codes", database.codes, (torch.int8, torch.float16, torch.bfloat16), (rows, dim))
    if database.scale is not None:
        _expect("scale", database.scale, (torch.float32,), (rows,))
    return database.codes.contiguous(), database.scale


def _expect(
    name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...], shape: tuple[int, ...]
) -> None:
    if tensor.dtype not in dtypes or tuple(tensor.shape) != shape:
        raise ValueError(
            f"{name} must be {' or '.join(map(str, dtypes))} {shape}, got {tensor.dtype} "
            f"{tuple(tensor.shape)}"
        )


def _scaled(
    queries: Tensor, database: Tensor, scale: Tensor | None, normalize: bool
) -> tuple[Tensor, Tensor | None]:
    """Contiguous queries and the factor of every row, so that a room knows of no norms."""
    double = torch.float64 in (queries.dtype, database.dtype)
    dtype = torch.float64 if double else torch.float32
    queries = queries.to(dtype).contiguous()
    if not normalize:
        return queries, None if scale is None else scale.to(dtype).contiguous()
    norms = torch.empty(len(database), dtype=dtype, device=database.device)
    for start in range(0, len(database), _NORM_ROWS):
        rows = slice(start, start + _NORM_ROWS)
        norms[rows] = torch.linalg.vector_norm(database[rows].to(dtype), dim=1)
    inverse = norms.clamp_min(1e-12).reciprocal()
    # What is normalised keeps only the sign of its scale.
    inverse = inverse if scale is None else inverse * scale.sign()
    return torch.nn.functional.normalize(queries, dim=1), inverse


@operator("maxsight::similarity_topk")
def _topk(
    queries: Tensor, database: Tensor, k: int, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    room = room_of("similarity", queries, database, allowed, scale)
    return room.topk(queries, database, k, allowed=allowed, scale=scale)  # type: ignore[no-any-return]


@_topk.register_fake
def _(
    queries: Tensor, database: Tensor, k: int, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], min(k, database.shape[0]))
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(
        shape, dtype=torch.int64
    )


@operator("maxsight::similarity_above")
def _above(
    queries: Tensor,
    database: Tensor,
    threshold: Tensor,
    allowed: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    room = room_of("similarity", queries, database, allowed, scale)
    return room.above(queries, database, threshold, allowed=allowed, scale=scale)  # type: ignore[no-any-return]


@_above.register_fake
def _(
    queries: Tensor,
    database: Tensor,
    threshold: Tensor,
    allowed: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    hits = torch.library.get_ctx().new_dynamic_size()
    return (
        queries.new_empty(hits, dtype=torch.float32),
        queries.new_empty(hits, dtype=torch.int64),
        queries.new_empty(queries.shape[0] + 1, dtype=torch.int64),
    )


@operator("maxsight::similarity_shortlist_topk")
def _shortlist_topk(
    queries: Tensor,
    codes: Tensor,
    vectors: Tensor,
    wide: int,
    k: int,
    allowed: Tensor | None,
    factor: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    room = room_of("similarity", queries, codes, vectors, allowed, factor, scale)
    found = room.topk(queries, codes, wide, allowed=allowed, scale=factor)
    return room.rescore(queries, vectors, found[1], k, scale=scale)  # type: ignore[no-any-return]


@_shortlist_topk.register_fake
def _(
    queries: Tensor,
    codes: Tensor,
    vectors: Tensor,
    wide: int,
    k: int,
    allowed: Tensor | None,
    factor: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], min(k, codes.shape[0]))
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(
        shape, dtype=torch.int64
    )

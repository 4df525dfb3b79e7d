"""Late interaction over coded tokens, on NumPy's arrays: a search that needs no torch uses it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Coded, Interaction, Pairs

# Fewer pairs of a document and a query than this a thread are not worth a thread.
_THREAD_PAIRS = 2048

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
_Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class CodedTokens:
    """Tokens of N documents, each a centroid and what it lies beside it.

    Where ``bits`` is 8 a token is ``scale * data``, else ``clip(centroids[ids] + levels[codes],
    -127, 127)``; without a scale, divided by its norm. Arrays are C-contiguous; they may be
    memory-mapped. Ids and offsets are looked at once, here: compiled code follows them anywhere.

    Attributes:
        ids: (T,) uint8 or uint16, each below K; of 8 bits also (0,), for :func:`score_pairs` alone.
        centroids: (K, d) int8.
        data: (T, d * bits / 8) uint8. Codes of 2 and 4 bits stand with the first in the lowest
            bits; of 5 bits the lower four of all d first, and then the fifth of all.
        bits: 8, 5, 4 or 2.
        levels: (2 ** bits,) int8; None where ``bits`` is 8.
        scale: (T,) float32, or None.
        offsets: (N + 1,) int64, which never fall and lie in 0..T.

    Raises:
        ValueError: shapes or dtypes that do not fit, an id of no centroid, offsets beyond the data.
    """

    ids: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    centroids: npt.NDArray[np.int8]
    data: npt.NDArray[np.uint8]
    bits: int
    levels: npt.NDArray[np.int8] | None
    scale: Floats | None
    offsets: Numbers

    def __post_init__(self) -> None:
        count = len(self.data)
        shapes: dict[str, tuple[_Array, tuple[type[np.generic], ...], tuple[int, ...]]] = {
            "ids": (self.ids, (np.uint8, np.uint16), (len(self.ids),)),
            "centroids": (self.centroids, (np.int8,), (len(self.centroids), self.dim)),
            "data": (self.data, (np.uint8,), (count, self.dim * self.bits // 8)),
            "offsets": (self.offsets, (np.int64,), (max(1, len(self.offsets)),)),
        }
        if self.levels is not None:
            shapes["levels"] = (self.levels, (np.int8,), (2**self.bits,))
        if self.scale is not None:
            shapes["scale"] = (self.scale, (np.float32,), (count,))
        for name, (array, dtypes, shape) in shapes.items():
            if array.dtype not in dtypes or array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(
                    f"{name} must be {shape} {' or '.join(kind.__name__ for kind in dtypes)}, "
                    f"contiguous, got {array.shape} {array.dtype}"
                )
        whole = self.bits == 8
        if self.bits not in (8, 5, 4, 2) or self.dim % 8 or whole != (self.levels is None):
            raise ValueError(
                f"tokens of 8 bits without levels, or of 5, 4 or 2 with, and of a multiple of 8 "
                f"dimensions are needed, got {self.bits} bits and {self.dim} dimensions"
            )
        if (whole and self.scale is None) or len(self.ids) not in (count, 0 if whole else count):
            raise ValueError(
                f"{count} tokens of {self.bits} bits have {len(self.ids)} ids and "
                f"{0 if self.scale is None else len(self.scale)} scales"
            )
        most = int(self.ids.max(initial=0))
        if len(self.ids) and most >= len(self.centroids):
            raise ValueError(f"a token has centroid {most} of {len(self.centroids)}")
        first, last = int(self.offsets[0]), int(self.offsets[-1])
        if first < 0 or last > count or (self.offsets[1:] < self.offsets[:-1]).any():
            raise ValueError(f"offsets must never fall and lie in 0..{count}, got {self.offsets}")

    @property
    def documents(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """d, a multiple of 8."""
        return int(self.centroids.shape[1])

    def _struct(self) -> Coded:
        return Coded(
            ids=self.ids.ctypes.data,
            id_bytes=self.ids.itemsize,
            centroids=self.centroids.ctypes.data,
            centroid_count=len(self.centroids),
            data=self.data.ctypes.data,
            bits=self.bits,
            levels=None if self.levels is None else self.levels.ctypes.data,
            scale=None if self.scale is None else self.scale.ctypes.data,
            offsets=self.offsets.ctypes.data,
            documents=self.documents,
            dim=self.dim,
        )


def interact(
    queries: Floats,
    query_offsets: Numbers,
    tokens: CodedTokens,
    keep: int,
    *,
    rows: Numbers | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    threads: int = 1,
) -> Numbers:
    """The documents of highest MaxSim when each of their tokens is taken for its centroid.

    Similarities with centroids are rounded to 255 levels a query.

    Args:
        queries: (sum L, d), finite; query b has ``query_offsets[b]:query_offsets[b + 1]``.
        keep: at least 1.
        rows: (B, C), the documents that take part, ascending, -1 where there is none; None: all.
        allowed: (N,) or (B, N), which documents may be returned; None: all.

    Returns:
        (B, keep) documents in rising order, -1 behind them where there are fewer.

    Raises:
        BackendError: the library is not there.
        ValueError: shapes that do not fit, rows that there are not, ``keep`` below 1.
    """
    queries, query_offsets = _checked(queries, query_offsets, tokens)
    count, documents = len(query_offsets) - 1, tokens.documents
    if keep < 1 or len(tokens.ids) != len(tokens.data):
        raise ValueError(f"keep = {keep} of {len(tokens.data)} tokens with {len(tokens.ids)} ids")
    kept = np.empty((count, keep), np.int64)
    if rows is not None:
        rows = np.ascontiguousarray(rows, np.int64)
        if rows.ndim != 2 or len(rows) != count or int(rows.max(initial=-1)) >= documents:
            raise ValueError(f"rows {rows.shape} must be ({count}, C) and below {documents}")
    if allowed is not None:
        allowed = np.ascontiguousarray(allowed, np.bool_)
        if allowed.shape not in {(documents,), (count, documents)}:
            raise ValueError(
                f"allowed must be ({documents},) or ({count}, {documents}), got {allowed.shape}"
            )
    listed = tokens.documents if rows is None else rows.shape[1]
    coded = tokens._struct()
    tasks = [
        Interaction(
            coded=coded,
            queries=queries.ctypes.data,
            query_offsets=query_offsets.ctypes.data,
            first=first,
            last=last,
            allowed=None if allowed is None else allowed.ctypes.data,
            allowed_stride=0 if allowed is None or allowed.ndim == 1 else allowed.shape[1],
            rows=None if rows is None else rows.ctypes.data,
            width=listed,
            keep=keep,
            kept=kept.ctypes.data,
        )
        for first, last in _shares(count, count * listed // 8, threads)
    ]
    binding.run(binding.library().maxsight_interact, tasks)
    return kept


def score_pairs(
    queries: Floats,
    query_offsets: Numbers,
    tokens: CodedTokens,
    pairs: tuple[Numbers, Numbers],
    *,
    fine: bool,
    threads: int = 1,
) -> Floats:
    """MaxSim of some queries with some documents.

    Args:
        queries, query_offsets: as for :func:`interact`.
        pairs: (P,) each, the queries' and the documents' numbers; the documents' never fall, and
            those that several queries want are read once.
        fine: round the queries' tokens to 15 bits and a sign, not to 7.

    Returns:
        (P,); -inf for an empty document, but 0 for an empty query.

    Raises:
        BackendError: the library is not there.
        ValueError: shapes that do not fit, pairs that there are not.
    """
    numbers, documents = (np.ascontiguousarray(side, np.int64) for side in pairs)
    queries, query_offsets = _checked(queries, query_offsets, tokens)
    if numbers.ndim != 1 or numbers.shape != documents.shape:
        raise ValueError(f"pairs must be two of (P,), got {numbers.shape} and {documents.shape}")
    sides = ("query", numbers, len(query_offsets) - 1), ("document", documents, tokens.documents)
    for side, given, limit in sides:
        if len(given) and not (given.min() >= 0 and given.max() < limit):
            raise ValueError(f"a pair names {side} {given.min()}..{given.max()} of {limit}")
    if (documents[1:] < documents[:-1]).any():
        raise ValueError("the documents of pairs must never fall")
    scores = np.empty(len(documents), np.float32)
    coded = tokens._struct()
    tasks = [
        Pairs(
            coded=coded,
            queries=queries.ctypes.data,
            query_offsets=query_offsets.ctypes.data,
            groups=len(query_offsets) - 1,
            pair_queries=numbers.ctypes.data,
            pair_documents=documents.ctypes.data,
            first=first,
            last=last,
            fine=fine,
            scores=scores.ctypes.data,
        )
        for first, last in _shares(len(documents), len(documents), threads)
    ]
    binding.run(binding.library().maxsight_score_pairs, tasks)
    return scores


def _checked(
    queries: Floats, query_offsets: Numbers, tokens: CodedTokens
) -> tuple[Floats, Numbers]:
    if queries.ndim != 2 or queries.shape[1] != tokens.dim or tokens.dim % 8:
        raise ValueError(
            f"queries {queries.shape} must have the documents' {tokens.dim} dimensions, a "
            "multiple of 8"
        )
    if (
        query_offsets.ndim != 1
        or len(query_offsets) == 0
        or query_offsets[0] != 0
        or query_offsets[-1] != len(queries)
        or (query_offsets[1:] < query_offsets[:-1]).any()
    ):
        raise ValueError(f"query offsets must rise from 0 to {len(queries)}, got {query_offsets}")
    return np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(query_offsets, np.int64)


def _shares(count: int, work: int, threads: int) -> list[tuple[int, int]]:
    """Equal shares of ``count``, one a thread, for as many threads as the work is worth."""
    parts = max(1, min(threads, count, work // _THREAD_PAIRS))
    edges = [count * part // parts for part in range(parts + 1)]
    return [(first, last) for first, last in itertools.pairwise(edges) if first < last]

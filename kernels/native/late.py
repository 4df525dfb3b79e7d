"""Late interaction over coded tokens, on NumPy's arrays: a search that needs no torch uses it."""

from __future__ import annotations

import itertools

import numpy as np

from maxsight.kernels.array_types import BoolArray, FloatArray, IntArray
from maxsight.kernels.coded_tokens import CodedTokens
from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Coded, Interaction, Pairs

# Fewer pairs of a document and a query than this a thread are not worth a thread.
_THREAD_PAIRS = 2048


def interact(
    queries: FloatArray,
    query_offsets: IntArray,
    tokens: CodedTokens,
    keep: int,
    *,
    rows: IntArray | None = None,
    allowed: BoolArray | None = None,
    threads: int = 1,
) -> IntArray:
    """See ``maxsim.interact``.

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
    coded = _struct(tokens)
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
    queries: FloatArray,
    query_offsets: IntArray,
    tokens: CodedTokens,
    pairs: IntArray,
    *,
    fine: bool,
    threads: int = 1,
) -> FloatArray:
    """See ``maxsim.score_pairs``: (P,); -inf for an empty document, but 0 for an empty query.

    Raises:
        BackendError: the library is not there.
        ValueError: shapes that do not fit, pairs that there are not.
    """
    queries, query_offsets = _checked(queries, query_offsets, tokens)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs must be (P, 2), got {pairs.shape}")
    numbers, documents = (np.ascontiguousarray(side, np.int64) for side in pairs.T)
    sides = ("query", numbers, len(query_offsets) - 1), ("document", documents, tokens.documents)
    for side, given, limit in sides:
        if len(given) and not (given.min() >= 0 and given.max() < limit):
            raise ValueError(f"a pair names {side} {given.min()}..{given.max()} of {limit}")
    if (documents[1:] < documents[:-1]).any():
        raise ValueError("the documents of pairs must never fall")
    scores = np.empty(len(documents), np.float32)
    coded = _struct(tokens)
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
    queries: FloatArray, query_offsets: IntArray, tokens: CodedTokens
) -> tuple[FloatArray, IntArray]:
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


def _struct(tokens: CodedTokens) -> Coded:
    return Coded(
        ids=tokens.ids.ctypes.data,
        id_bytes=tokens.ids.itemsize,
        centroids=tokens.centroids.ctypes.data,
        centroid_count=len(tokens.centroids),
        data=tokens.data.ctypes.data,
        bits=tokens.bits,
        levels=None if tokens.levels is None else tokens.levels.ctypes.data,
        scale=None if tokens.scale is None else tokens.scale.ctypes.data,
        offsets=tokens.offsets.ctypes.data,
        documents=tokens.documents,
        dim=tokens.dim,
    )

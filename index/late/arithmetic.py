"""Centroid interaction and MaxSim over coded tokens: compiled, or NumPy where nothing is."""

from __future__ import annotations

import logging
from functools import cache

import numpy as np

from maxsight import machine
from maxsight.index.array_types import Floats, Mask, Rows
from maxsight.index.late.codec import Codebook
from maxsight.kernels import native
from maxsight.kernels.native import CodedTokens

_log = logging.getLogger("maxsight.index")


def interact(
    queries: Floats,
    query_offsets: Rows,
    tokens: CodedTokens,
    keep: int,
    *,
    rows: Rows | None = None,
    allowed: Mask | None = None,
) -> Rows:
    """As ``kernels.native.interact``: the best documents by their tokens' centroids, (B, keep)."""
    if _is_compiled():
        return native.interact(
            queries,
            query_offsets,
            tokens,
            keep,
            rows=rows,
            allowed=allowed,
            threads=machine.threads(),
        )
    kept = np.full((len(query_offsets) - 1, keep), -1, np.int64)
    for query in range(len(kept)):
        own = queries[query_offsets[query] : query_offsets[query + 1]]
        table = own @ tokens.centroids.T.astype(np.float32)
        listed = np.arange(tokens.documents) if rows is None else rows[query][rows[query] >= 0]
        if allowed is not None:
            listed = listed[(allowed if allowed.ndim == 1 else allowed[query])[listed]]
        scores = np.zeros(len(listed), np.float32)
        for place, row in enumerate(listed):
            ids = tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]]
            if len(own):
                scores[place] = table[:, ids].max(axis=1, initial=-np.inf).sum()
        best = np.sort(listed[np.argsort(-scores, kind="stable")[:keep]])
        kept[query, : len(best)] = best
    return kept


def score_pairs(
    queries: Floats,
    query_offsets: Rows,
    tokens: CodedTokens,
    pairs: tuple[Rows, Rows],
    *,
    fine: bool,
) -> Floats:
    """As ``kernels.native.score_pairs``: MaxSim (P,) of queries and documents, documents rising."""
    if _is_compiled():
        return native.score_pairs(
            queries, query_offsets, tokens, pairs, fine=fine, threads=machine.threads()
        )
    scores = np.zeros(len(pairs[0]), np.float32)
    seen, vectors = -1, np.empty((0, tokens.dim), np.float32)
    for place, (query, row) in enumerate(zip(*pairs)):
        if row != seen:
            seen, vectors = row, decoded(tokens, row)
        own = queries[query_offsets[query] : query_offsets[query + 1]]
        if len(own):
            scores[place] = (own @ vectors.T).max(axis=1, initial=-np.inf).sum()
    return scores


def decoded(tokens: CodedTokens, row: int) -> Floats:
    """The tokens (L, d) of one document."""
    own = slice(int(tokens.offsets[row]), int(tokens.offsets[row + 1]))
    if tokens.scale is not None:
        numbers = tokens.data[own].view(np.int8).astype(np.float32)
        vectors: Floats = numbers * tokens.scale[own, None]
        return vectors
    assert tokens.levels is not None
    book = Codebook(tokens.bits, 1.0, tokens.centroids, tokens.levels)
    return book.decode(tokens.ids[own], tokens.data[own])


@cache
def _is_compiled() -> bool:
    if native.available() is None:
        _log.warning("searching tokens without compiled code, hundreds of times as slowly")
        return False
    return True

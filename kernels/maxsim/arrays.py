"""MaxSim on NumPy's arrays, of stored tokens: compiled, or NumPy. Needs no torch."""

from __future__ import annotations

import numpy as np

from maxsight.kernels import array_ordering, native
from maxsight.kernels.array_types import BoolArray, FloatArray, IntArray
from maxsight.kernels.coded_tokens import CodedTokens


def interact(
    queries: FloatArray,
    query_offsets: IntArray,
    documents: CodedTokens,
    keep: int,
    *,
    rows: IntArray | None,
    allowed: BoolArray | None,
    threads: int,
) -> IntArray:
    """See ``interact`` in __init__.py."""
    if native.is_compiled():
        return native.interact(
            queries,
            query_offsets,
            documents,
            keep,
            rows=rows,
            allowed=allowed,
            threads=threads,
        )
    kept = np.full((len(query_offsets) - 1, keep), -1, np.int64)
    for query in range(len(kept)):
        own = queries[query_offsets[query] : query_offsets[query + 1]]
        table = own @ documents.centroids.T.astype(np.float32)
        listed = np.arange(documents.documents) if rows is None else rows[query][rows[query] >= 0]
        if allowed is not None:
            listed = listed[(allowed if allowed.ndim == 1 else allowed[query])[listed]]
        scores = np.zeros(len(listed), np.float32)
        for place, row in enumerate(listed):
            ids = documents.ids[documents.offsets[row] : documents.offsets[row + 1]]
            if len(own):
                scores[place] = table[:, ids].max(axis=1, initial=-np.inf).sum()
        best = np.sort(array_ordering.best(scores, listed, keep)[1])
        kept[query, : len(best)] = best
    return kept


def score_pairs(
    queries: FloatArray,
    query_offsets: IntArray,
    documents: CodedTokens,
    *,
    pairs: IntArray,
    fine: bool,
    threads: int,
) -> FloatArray:
    """See ``score_pairs`` in __init__.py."""
    if native.is_compiled():
        return native.score_pairs(
            queries, query_offsets, documents, pairs, fine=fine, threads=threads
        )
    scores = np.zeros(len(pairs), np.float32)
    seen, vectors = -1, np.empty((0, documents.dim), np.float32)
    for place, (query, row) in enumerate(pairs):
        if row != seen:
            own = slice(int(documents.offsets[row]), int(documents.offsets[row + 1]))
            seen, vectors = row, documents.decoded(own)
        asked = queries[query_offsets[query] : query_offsets[query + 1]]
        if len(asked):
            scores[place] = (asked @ vectors.T).max(axis=1, initial=-np.inf).sum()
    return scores

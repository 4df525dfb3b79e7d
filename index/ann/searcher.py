"""Search by an index, with the scores of the stored vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maxsight.index.ann.contract import Effort, VectorIndex, VectorSource
from maxsight.index.array_types import Floats, Mask, Rows
from maxsight.index.exact.arguments import checked_queries
from maxsight.index.exact.disk import merge_best
from maxsight.index.exact.memory import ExactIndex, inner
from maxsight.kernels import array_ordering

# Where a filter lets no more rows through, they are all read and scored. (An index with int8 rows
# has a limit of its own, and scores by these.)
BRUTE_ROWS = 5_000
# Of working memory, where the caller does not say.
_BUDGET = 128 * 2**20


def search(
    index: VectorIndex,
    source: VectorSource,
    queries: Floats,
    k: int,
    *,
    allowed: Mask | None = None,
    effort: Effort | None = None,
    budget: int | None = None,
    brute_rows: int = BRUTE_ROWS,
) -> list[tuple[Rows, Floats]]:
    """The ``k`` best rows of each query among those that the index proposes.

    Scores are the same bits as :meth:`maxsight.index.exact.memory.ExactIndex.search` gives them. A
    row may be missed; one that is not allowed is never returned, and where ``k`` rows are allowed,
    so many are found.

    Args:
        index: over the rows of ``source``.
        source: the stored vectors, read once for all queries that fit into the budget together.
        queries: (Q, D).
        allowed: (N,) bool; None means all.
        effort: instead of the index's own.
        budget: bytes of working memory beside the answer; 128 MiB unless given.
        brute_rows: if no more are allowed, all of them are scored and none is missed.

    Returns:
        For each query ``(rows, scores)``, best first, equal scores by lower row; fewer than ``k``
        only where fewer are allowed.

    Raises:
        ValueError: a shape that does not fit, a number that is not finite, ``k`` below 1, a source
            of another length.
    """
    if len(source) != len(index):
        raise ValueError(f"the index holds {len(index)} rows and the source {len(source)}")
    queries = checked_queries(queries, index.dim, k, allowed=allowed, rows=len(index))
    budget = _BUDGET if budget is None else budget
    if allowed is not None and allowed.all():
        allowed = None
    available = len(index) if allowed is None else int(np.count_nonzero(allowed))
    k = min(k, available)
    if not k:
        return [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
    if allowed is not None and available <= brute_rows and not index.is_ranked:
        return _search_rows(source, np.flatnonzero(allowed), queries, k, budget)
    effort = effort or index.effort
    fetch = k + max(8, k // 2) if index.is_ranked else max(k, effort.shortlist)
    results: list[tuple[Rows, Floats]] = [None] * len(queries)  # type: ignore[list-item]
    waiting = np.arange(len(queries))
    while len(waiting):
        _, rows = index.search(
            queries[waiting], fetch, allowed=allowed, effort=effort, budget=budget
        )
        for query, best in zip(waiting, _rank(source, queries[waiting], rows, k, budget)):
            results[query] = best
        waiting = np.array([query for query in waiting if len(results[query][0]) < k], np.int64)
        if not 0 < effort.probes < len(index):
            break
        effort = replace(effort, probes=min(4 * effort.probes, len(index)))
    if len(waiting):
        rows = np.arange(len(index)) if allowed is None else np.flatnonzero(allowed)
        found = _search_rows(source, rows, queries[waiting], k, budget)
        for query, best in zip(waiting, found, strict=True):
            results[query] = best
    return results


def _rank(
    source: VectorSource, queries: Floats, rows: Rows, k: int, budget: int
) -> list[tuple[Rows, Floats]]:
    """The ``k`` best of each query's own rows (Q, C); -1 is none."""
    results = []
    step = max(1, budget // (rows.shape[1] * (4 * queries.shape[1] + 32)))
    for start in range(0, len(queries), step):
        wanted = np.unique(rows[start : start + step])
        wanted = wanted[wanted >= 0]
        vectors = source.take(wanted)
        for query, own in zip(queries[start : start + step], rows[start : start + step]):
            own = own[own >= 0]
            scores = inner(vectors[np.searchsorted(wanted, own)], query)
            best, chosen = array_ordering.best(scores, own, k)
            results.append((chosen, best))
    return results


def _search_rows(
    source: VectorSource, rows: Rows, queries: Floats, k: int, budget: int
) -> list[tuple[Rows, Floats]]:
    """The ``k`` best of some rows, none missed."""
    dim = queries.shape[1]
    # As they are read, in FAISS's blocks, and unpacked.
    step = max(1, budget // (8 * dim))
    results: list[tuple[Rows, Floats]] = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        exact = ExactIndex(dim).extended([source.take(part)])
        found = [(part[near], scores) for near, scores in exact.search(queries, k)]
        results = [merge_best([*pair], k) for pair in zip(results, found)] if results else found
    return results

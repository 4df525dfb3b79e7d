"""Search: propose rows, score them, group them by file. Terms go in, ranked files come out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from maxsight.pipelines.search.propose import candidates
from maxsight.pipelines.search.score import score_rows

if TYPE_CHECKING:
    from maxsight.index.records import Kind, UnitHit
    from maxsight.index.snapshot import Snapshot
    from maxsight.pipelines.query.encoder import QueryEncoder
    from maxsight.pipelines.query.language import Query


@dataclass(frozen=True)
class Hit:
    """One file found. ``start`` and ``end`` (seconds) name a film's best moment."""

    rank: int
    path: str
    kind: Kind
    score: float
    start: float | None
    end: float | None
    item_id: int


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, and where the time went (milliseconds by stage)."""

    hits: list[Hit]
    timing_ms: dict[str, float] = field(default_factory=dict)


def search(snapshot: Snapshot, query: Query, encoder: QueryEncoder) -> SearchResult:
    """Find the files nearest to a query; see :func:`search_many`."""
    return search_many(snapshot, [query], encoder)[0]


def search_many(
    snapshot: Snapshot, queries: Sequence[Query], encoder: QueryEncoder
) -> list[SearchResult]:
    """Find the files nearest to each query.

    Texts are encoded together, and queries that look for as many files behind the same filter are
    searched together. The answers are those of one query after the other, to the last bit where the
    texts were encoded before: an encoder's sums differ by a rounding in batches of other sizes.

    Args:
        snapshot: the library to look through.
        queries: what to look for.
        encoder: of the library.

    Returns:
        In the order of the queries; the times are those of all together.

    Raises:
        UsageError: a vector of the wrong width, a filter that is not SQL, ``rerank`` on in a
            library without tokens, a reference picture that cannot be read.
    """
    clock = _Clock()
    encoded = encoder.encode_many(snapshot, [(query.terms, query.rerank) for query in queries])
    clock.lap("encode")
    by_filter: dict[tuple[str | None, frozenset[Kind] | None, tuple[int, ...]], list[int]] = {}
    for number, (query, own) in enumerate(zip(queries, encoded, strict=True)):
        left_out = () if query.include_references else own.references
        by_filter.setdefault((query.where, query.kinds, left_out), []).append(number)
    best: dict[int, list[UnitHit]] = {}
    for (where, kinds, left_out), numbers in by_filter.items():
        allowed = snapshot.allowed(where=where, kinds=kinds, without_items=left_out)
        clock.lap("filter")
        by_k: dict[int, list[int]] = {}
        for number in numbers:
            if encoded[number].late is None:
                by_k.setdefault(queries[number].k, []).append(number)
        for k, alike in by_k.items():
            vectors = np.array([encoded[number].vector for number in alike])
            best |= zip(alike, snapshot.search_files(vectors, k, allowed=allowed), strict=True)
            clock.lap("search")
        for number in numbers:
            late, vector, k = encoded[number].late, encoded[number].vector, queries[number].k
            if late is not None:
                rows = candidates(snapshot, late, vector, k, allowed)
                clock.lap("search")
                best[number] = snapshot.best_of_each(rows, score_rows(snapshot, late, rows), k)
                clock.lap("rerank")
    return [SearchResult(_ranked(best[number]), clock.laps) for number in range(len(queries))]


def _ranked(units: Sequence[UnitHit]) -> list[Hit]:
    return [
        Hit(rank, unit.path, unit.kind, unit.score, unit.start, unit.end, unit.item_id)
        for rank, unit in enumerate(units, start=1)
    ]


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(self.laps.get(name, 0.0) + 1000 * (now - self._last), 3)
        self._last = now

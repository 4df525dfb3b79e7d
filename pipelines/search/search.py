"""Search: propose rows, score them, group them by file. Terms go in, ranked files come out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from maxsight.pipelines.search.propose import candidates
from maxsight.pipelines.search.score import score_rows

if TYPE_CHECKING:
    from maxsight.index.records import Kind
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


def search(
    snapshot: Snapshot,
    query: Query,
    encoder: QueryEncoder,
) -> SearchResult:
    """Find the files nearest to a query.

    Args:
        snapshot: the library to look through.
        query: what to look for.
        encoder: of the library.

    Raises:
        UsageError: a vector of the wrong width, a filter that is not SQL, ``rerank`` on in a
            library without tokens, a reference picture that cannot be read.
    """
    clock = _Clock()
    encoded = encoder.encode(snapshot, query.terms, rerank=query.rerank)
    clock.lap("encode")
    left_out = () if query.include_references else encoded.references
    allowed = snapshot.allowed(where=query.where, kinds=query.kinds, without_items=left_out)
    clock.lap("filter")
    if encoded.late is None:
        best = snapshot.search_files(encoded.vector, query.k, allowed=allowed)
        clock.lap("search")
    else:
        rows = candidates(snapshot, encoded.late, encoded.vector, query.k, allowed)
        clock.lap("search")
        scores = score_rows(snapshot, encoded.late, rows)
        best = snapshot.best_of_each(rows, scores, query.k)
        clock.lap("rerank")
    hits = [
        Hit(rank, unit.path, unit.kind, unit.score, unit.start, unit.end, unit.item_id)
        for rank, unit in enumerate(best, start=1)
    ]
    return SearchResult(hits, clock.laps)


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(1000 * (now - self._last), 3)
        self._last = now

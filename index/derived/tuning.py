"""How well an index finds what is nearest, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maxsight.index.ann.contract import Effort, Floats, Rows

# What recall is measured on: enough that 95 % is known to about one point.
QUERIES = 200
DEPTH = 10


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries of one kind, and what is nearest to them.

    Attributes:
        queries: (Q, D) float32.
        truth: (Q, k) int64 rows by exact search; -1 where there are fewer.
    """

    queries: Floats
    truth: Rows


@dataclass(frozen=True)
class OperatingPoint:
    """What one effort gives.

    Attributes:
        effort: of the index.
        recall: kind of queries -> share of the true ``DEPTH`` that was found.
        queries_per_second: of processor time, over all kinds, in one batch.
    """

    effort: Effort
    recall: Mapping[str, float]
    queries_per_second: float

    @property
    def worst(self) -> float:
        """Recall of the kind that does worst."""
        return min(self.recall.values())


Search = Callable[[Floats, Effort], list[Rows]]


def sweep(
    search: Search,
    efforts: Sequence[Effort],
    asked: Mapping[str, Asked],
    *,
    enough: float = 0.999,
    progress: Callable[[int, int], None] | None = None,
) -> list[OperatingPoint]:
    """Try efforts, cheapest first, until one finds enough.

    Args:
        search: gives the ``DEPTH`` best rows of each query at an effort.
        asked: kind -> queries with their truth.
        enough: recall on every kind of query at which to stop.
        progress: called with how many efforts are tried, and how many there are.
    """
    points: list[OperatingPoint] = []
    for done, effort in enumerate(efforts):
        if progress is not None:
            progress(done, len(efforts))
        points.append(_measure(search, effort, asked))
        if points[-1].worst >= enough:
            break
    if progress is not None:
        progress(len(efforts), len(efforts))
    return points


def _measure(search: Search, effort: Effort, asked: Mapping[str, Asked]) -> OperatingPoint:
    recall = {}
    seconds = 0.0
    for kind, questions in asked.items():
        start = time.process_time()
        found = search(questions.queries, effort)
        seconds += time.process_time() - start
        recall[kind] = recall_of(found, questions.truth)
    count = sum(len(questions.queries) for questions in asked.values())
    return OperatingPoint(effort, recall, count / max(seconds, 1e-9))


def recall_of(found: list[Rows], truth: Rows) -> float:
    """Share of the true rows that were found; 1 where there are none."""
    wanted = int(np.count_nonzero(truth >= 0))
    hits = sum(int(np.isin(true[true >= 0], rows).sum()) for rows, true in zip(found, truth))
    return hits / wanted if wanted else 1.0


def choose(points: list[OperatingPoint], recall: float) -> OperatingPoint:
    """The fastest that reaches ``recall`` on every kind of query; the best where none does."""
    enough = [point for point in points if point.worst >= recall]
    if enough:
        return max(enough, key=lambda point: point.queries_per_second)
    return max(points, key=lambda point: (point.worst, point.queries_per_second))

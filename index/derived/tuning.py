"""How well an index finds what is nearest, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from maxsight.index.ann.contract import Effort
from maxsight.index.array_types import Floats, Rows

# What recall is measured on: enough that 95 % is known to about one point, two errors wide.
QUERIES = 400
DEPTH = 10
# Recall at which nothing more is worth trying.
ENOUGH = 0.999


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
        margin: kind -> two standard errors of its recall.
    """

    effort: Effort
    recall: Mapping[str, float]
    queries_per_second: float
    margin: Mapping[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """Recall of the kind that does worst."""
        return min(self.recall.values())

    @property
    def surely(self) -> float:
        """What other queries of that kind are likely to find, too.

        The cheapest effort that just reaches a recall on some queries mostly misses it on others.
        """
        return min(recall - self.margin.get(kind, 0.0) for kind, recall in self.recall.items())


Search = Callable[[Floats, Effort], list[Rows]]


def sweep(
    search: Search,
    efforts: Sequence[Effort],
    asked: Mapping[str, Asked],
    *,
    enough: float = ENOUGH,
    progress: Callable[[int, int], None] | None = None,
) -> list[OperatingPoint]:
    """Try efforts, cheapest first, until one finds enough.

    Args:
        search: gives the ``DEPTH`` best rows of each query at an effort.
        asked: kind -> queries with their truth.
        enough: recall, with its margin to spare, on every kind of query at which to stop.
        progress: called with how many efforts are tried, and how many there are.
    """
    points: list[OperatingPoint] = []
    for done, effort in enumerate(efforts):
        if progress is not None:
            progress(done, len(efforts))
        points.append(_measure(search, effort, asked))
        if points[-1].surely >= enough:
            break
    if progress is not None:
        progress(len(efforts), len(efforts))
    return points


def _measure(search: Search, effort: Effort, asked: Mapping[str, Asked]) -> OperatingPoint:
    recall, margin = {}, {}
    seconds = 0.0
    for kind, questions in asked.items():
        start = time.process_time()
        found = search(questions.queries, effort)
        seconds += time.process_time() - start
        recall[kind], margin[kind] = recall_of(found, questions.truth)
    count = sum(len(questions.queries) for questions in asked.values())
    return OperatingPoint(effort, recall, count / max(seconds, 1e-9), margin)


def recall_of(found: list[Rows], truth: Rows) -> tuple[float, float]:
    """Share of the true rows that were found, and two standard errors of it.

    1 and 0 where there are no true rows.
    """
    wanted = np.count_nonzero(truth >= 0, axis=1)
    hits = np.array([np.isin(true[true >= 0], rows).sum() for rows, true in zip(found, truth)])
    if not wanted.any():
        return 1.0, 0.0
    recall = hits.sum() / wanted.sum()
    # Of a ratio of sums, to first order.
    off = (hits - recall * wanted) / wanted.mean()
    return float(recall), float(2 * off.std() / len(off) ** 0.5)


def choose(points: list[OperatingPoint], recall: float) -> OperatingPoint:
    """The fastest that surely reaches ``recall`` on every kind of query; the best if none does."""
    enough = [point for point in points if point.surely >= recall]
    if enough:
        return max(enough, key=lambda point: point.queries_per_second)
    return max(points, key=lambda point: (point.surely, point.queries_per_second))

"""How well an index finds what is nearest, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from maxsight.index.ann.contract import Effort
from maxsight.index.array_types import Floats, Rows
from maxsight.index.building.progress import OnProgress, silent

# What recall is measured on: enough that 95 % is known to about one point, two errors wide.
QUERIES = 400
DEPTH = 10
# Recall at which nothing more is worth trying.
ENOUGH = 0.999
# Share of queries at or beside a stored vector that find it first. Recall of the ten best does not
# see the one that matters most.
FIRST = 0.999
# Queries of each kind that this is measured on: of fewer, one that is missed says too little.
NEAR = 3_000
# So many at a time: an effort that misses many is soon known.
_NEAR_PART = 500


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries of one kind, and what is nearest to them.

    Attributes:
        queries: (Q, D) float32.
        truth: (Q, k) int64 rows by exact search; -1 where there are fewer.
    """

    queries: Floats
    truth: Rows


@dataclass(frozen=True, eq=False)
class Near:
    """Queries at or beside stored vectors.

    Attributes:
        queries: (n, D) float32.
        scores: (n,) float32, of each with its own vector: the first answer has this or more.
    """

    queries: Floats
    scores: Floats


@dataclass(frozen=True)
class Questions:
    """What an index is measured by.

    Attributes:
        chosen_by: kind -> queries that settings are compared on.
        held: the same kinds, other queries: what is told of the chosen one. On those that it was
            chosen by it looks better than it is.
        near: kind -> queries that must find their own vector first.
    """

    chosen_by: Mapping[str, Asked]
    held: Mapping[str, Asked]
    near: Mapping[str, Near]


@dataclass(frozen=True)
class OperatingPoint:
    """What one effort gives.

    Attributes:
        effort: of the index.
        recall: kind of queries -> share of the true ``DEPTH`` that was found.
        queries_per_second: of processor time, over all kinds, in one batch.
        margin: kind -> two standard errors of its recall.
        first: kind of :class:`Near` -> share that found their own vector first; empty where this
            was not measured.
    """

    effort: Effort
    recall: Mapping[str, float]
    queries_per_second: float
    margin: Mapping[str, float] = field(default_factory=dict)
    first: Mapping[str, float] = field(default_factory=dict)

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

    def reaches(self, recall: float) -> bool:
        """Whether it has ``recall``, and what should be first is."""
        return self.worst >= recall and min(self.first.values(), default=1.0) >= FIRST


Search = Callable[[Floats, Effort], list[Rows]]
# Rows and scores of the ``DEPTH`` best, best first.
Answers = Callable[[Floats, Effort], list[tuple[Rows, Floats]]]


def settle(
    answers: Answers,
    efforts: Sequence[Effort],
    questions: Questions,
    *,
    recall: float,
    enough: float,
    progress: OnProgress = silent,
) -> tuple[list[OperatingPoint], OperatingPoint]:
    """Try efforts, cheapest first, and take the fastest that surely finds enough.

    It finds ``recall`` on the queries that efforts are compared on and on others, and ``FIRST`` of
    the queries beside stored vectors find these first, each with two standard errors to spare.
    Where no effort does all of that, it is the fastest that finds ``recall`` twice, else the best.

    Args:
        enough: recall at which no costlier effort is tried.
        progress: as in :func:`sweep`.

    Returns:
        What was tried, and the chosen one, measured by queries that it was not chosen by.
    """

    def search(queries: Floats, effort: Effort) -> list[Rows]:
        return [rows for rows, _ in answers(queries, effort)]

    points: list[OperatingPoint] = []
    # Efforts that miss what should be first, and the first point that lacks nothing else.
    blind: list[Effort] = []
    second: OperatingPoint | None = None
    tried: set[Effort] = set()
    while len(points) < len(efforts):
        rest = efforts[len(points) :]
        points += sweep(search, rest, questions.chosen_by, enough=enough, progress=progress)
        enough = recall
        good = [point for point in points if point.surely >= recall]
        for point in sorted(good, key=lambda point: -point.queries_per_second):
            own = point.effort
            if own in tried:
                continue
            tried.add(own)
            if any(own.probes <= b.probes and own.shortlist <= b.shortlist for b in blind):
                continue
            told = _held(search, point, questions)
            if told.surely < recall:
                continue
            if _finds_first(answers, own, questions.near):
                return _told(points, _first(answers, told, questions.near))
            blind.append(own)
            second = second or told
    best = second or _held(search, choose(points, recall), questions)
    return _told(points, _first(answers, best, questions.near))


def _told(
    points: list[OperatingPoint], chosen: OperatingPoint
) -> tuple[list[OperatingPoint], OperatingPoint]:
    """The points, the chosen one as it was measured last."""
    return [chosen if point.effort == chosen.effort else point for point in points], chosen


def _held(search: Search, point: OperatingPoint, questions: Questions) -> OperatingPoint:
    """The point as other queries find it."""
    other = _measure(search, point.effort, questions.held)
    return replace(point, recall=other.recall, margin=other.margin)


def _first(answers: Answers, point: OperatingPoint, near: Mapping[str, Near]) -> OperatingPoint:
    shares = {
        kind: float(_is_first(answers, point.effort, asked).mean()) for kind, asked in near.items()
    }
    return replace(point, first=shares)


def _finds_first(answers: Answers, effort: Effort, near: Mapping[str, Near]) -> bool:
    """Whether an effort surely finds what should be first; left off when it cannot."""
    for asked in near.values():
        count, missed = len(asked.queries), 0
        for start in range(0, count, _NEAR_PART):
            part = slice(start, start + _NEAR_PART)
            some = Near(asked.queries[part], asked.scores[part])
            missed += int(np.count_nonzero(~_is_first(answers, effort, some)))
            share = missed / count
            if share + 2 * (share * (1 - share) / count) ** 0.5 > 1 - FIRST + 1e-9:
                return False
    return True


def _is_first(answers: Answers, effort: Effort, asked: Near) -> npt.NDArray[np.bool_]:
    """Whether each query's first answer is as good as its own vector: that, or a copy of it."""
    found = answers(asked.queries, effort)
    return np.array(
        [len(scores) > 0 and scores[0] >= own for (_, scores), own in zip(found, asked.scores)],
        bool,
    )


def sweep(
    search: Search,
    efforts: Sequence[Effort],
    asked: Mapping[str, Asked],
    *,
    enough: float = ENOUGH,
    progress: OnProgress = silent,
) -> list[OperatingPoint]:
    """Try efforts, cheapest first, until one finds enough.

    Args:
        search: gives the ``DEPTH`` best rows of each query at an effort.
        asked: kind -> queries with their truth.
        enough: recall, with its margin to spare, on every kind of query at which to stop.
        progress: called with ``measure``, how many efforts are tried, and how many there are.
    """
    points: list[OperatingPoint] = []
    for done, effort in enumerate(efforts):
        progress("measure", done, len(efforts))
        points.append(_measure(search, effort, asked))
        if points[-1].surely >= enough:
            break
    progress("measure", len(efforts), len(efforts))
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

"""Moments: the spans of films that answer a query, over a whole library.

Each film is a row of sampled frames with a score each. A moment is a run of frames that scores high
inside and lower around, begins and ends where the picture changes, and does not change much within:

    value = inside - 1/4 around + change at its ends - greatest change inside

Scores count in standard deviations over the library, so that the first half means the same with
every encoder and every query; changes of the picture are between 0 and 1. Runs of all lengths are
tried (every one up to 16 frames, then in steps of a fifth, refined afterwards), by prefix sums in
O(frames x lengths). Of runs that overlap the best stays: moments of one film never share a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from maxsight.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maxsight.index.snapshot import Snapshot

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

# A run counts as if it held this many frames more, of the film's mean score: one lucky frame does
# not beat four good ones.
_PRIOR_FRAMES = 2
# Share of the surroundings' score taken off. They are as long as the run on each side, at least
# this many frames; beyond the film's ends lies the library's mean.
_CONTRAST = 0.25
_LEAST_AROUND = 2
# A change is large against the film's mean change and this much cosine distance: below it
# differences are the encoder's noise over a still picture.
_STILL = 0.02
# What the picture's structure, change at the ends less change inside, can add to a value at most.
_MOST_STRUCTURE = 1.0

_EVERY_LENGTH_TO = 16
_LENGTH_STEP = 1.2


@dataclass(frozen=True, eq=False)
class FilmScores:
    """One film as a query sees it.

    Attributes:
        item_id, path: of the film.
        spans: (U, 2) float64 [start, end) of its frames in seconds, in order.
        scores: (U,) float32 of the query with each frame.
    """

    item_id: int
    path: str
    spans: Floats
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Moment:
    """A span of a film that answers the query.

    Attributes:
        rank: from 1.
        start, end: in seconds. A change seen between two sampled frames is put halfway.
        peak: when its best frame is shown, in seconds: the picture to show for it.
        score: how far it stands out, in standard deviations of the library's frames, give or take
            one for how sharply the film cuts around it.
    """

    rank: int
    path: str
    item_id: int
    start: float
    end: float
    peak: float
    score: float


def search_moments(
    snapshot: Snapshot, vector: NDArray[np.float32], *, k: int = 5, path: str | None = None
) -> list[Moment]:
    """The best moments of a library's films.

    Args:
        vector: (D,) the query.
        k: how many at most.
        path: only in this film.

    Raises:
        UsageError: no film is stored under ``path``, or ``k`` is below 1.
    """
    films = [film for film in snapshot.films() if path is None or film.path == path]
    if path is not None and not films:
        raise UsageError(
            f"{path} is not a film of this library; index it first, or leave the path away"
        )
    scored = [
        FilmScores(film.item_id, film.path, film.spans, snapshot.scores(vector, film.rows))
        for film in films
    ]
    return find_moments(scored, k=k, vectors=lambda number: snapshot.vectors(films[number].rows))


def find_moments(
    films: Sequence[FilmScores],
    *,
    k: int = 5,
    vectors: Callable[[int], NDArray[np.float32]] | None = None,
    min_s: float = 0.0,
    max_s: float = float("inf"),
) -> list[Moment]:
    """The best moments of some films, best first.

    Adding a constant to all scores or multiplying them by a positive number changes nothing.

    Args:
        films: in any order, which decides between equals.
        k: how many moments at most, over all films.
        vectors: gives the (U, D) unit vectors of the frames of a film, by its place in ``films``,
            in which cuts are seen; asked only for films that can be among the best. None: the
            scores decide alone.
        min_s, max_s: seconds a moment lasts at least and at most.

    Raises:
        UsageError: ``k`` is below 1.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, got {k}")
    numbers = [number for number, film in enumerate(films) if len(film.scores)]
    if not numbers:
        return []
    standing = _standing(np.concatenate([films[number].scores for number in numbers]))
    counts = np.array([len(films[number].scores) for number in numbers], dtype=np.int64)
    firsts = np.concatenate([[0], np.cumsum(counts)])
    promises = _promises(standing, firsts)
    found: list[tuple[float, int, Moment]] = []
    for place in np.argsort(-promises, kind="stable"):
        # Films come by what they could reach: once k moments are above that, no better one follows.
        if len(found) >= k and promises[place] <= sorted(value for value, _, _ in found)[-k]:
            break
        number = numbers[place]
        film = films[number]
        changes = None if vectors is None else _changes(vectors(number))
        reel = _Reel(standing[firsts[place] : firsts[place + 1]], changes=changes)
        edges = _edges(film.spans)
        for start, stop, value in _best_runs(reel, edges, k=k, min_s=min_s, max_s=max_s):
            best = start + int(np.argmax(film.scores[start:stop]))
            moment = Moment(
                rank=0,
                path=film.path,
                item_id=film.item_id,
                start=float(edges[start]),
                end=float(edges[stop]),
                peak=float(film.spans[best, 0]),
                score=value,
            )
            found.append((value, number, moment))
    found.sort(key=lambda entry: (-entry[0], entry[1], entry[2].start))
    return [replace(moment, rank=rank) for rank, (_, _, moment) in enumerate(found[:k], 1)]


class _Reel:
    """Films end to end, and the value of any run of frames within one of them.

    Args:
        standing: (N,) scores in standard deviations from the library's mean.
        firsts: (F + 1,) where each film begins, and the end; None: one film.
        changes: (N - 1,) in [0, 1], how much the picture changes between neighbours; of one film
            only. None: not known, and no part of the value.
    """

    def __init__(
        self,
        standing: Floats,
        *,
        firsts: Integers | None = None,
        changes: Floats | None = None,
    ) -> None:
        if firsts is None:
            firsts = np.array([0, len(standing)])
        counts = np.diff(firsts)
        self.size = len(standing)
        self.longest = int(counts.max())
        self._sums = np.concatenate([[0.0], np.cumsum(standing)])
        self._first = np.repeat(firsts[:-1], counts)
        self._last = np.repeat(firsts[1:], counts)
        self._mean = np.repeat(np.diff(self._sums[firsts]) / counts, counts)
        self._cuts: Floats | None = None
        self._greatest: list[Floats] = []
        if changes is not None:
            # A film surely begins at its beginning.
            self._cuts = np.concatenate([[1.0], changes, [1.0]])
            self._greatest = _running_maxima(changes)

    def starts(self, length: int) -> Integers:
        """Where a run of ``length`` frames can start without leaving its film."""
        starts = np.arange(self.size - length + 1)
        return starts[starts + length <= self._last[starts]]

    def values(self, starts: Integers, stops: Integers) -> Floats:
        """Values of the runs [start, stop), each within one film."""
        lengths = stops - starts
        inside = self._sums[stops] - self._sums[starts]
        inside = (inside + _PRIOR_FRAMES * self._mean[starts]) / (lengths + _PRIOR_FRAMES)
        reach = np.maximum(lengths, _LEAST_AROUND)
        before = np.maximum(starts - reach, self._first[starts])
        after = np.minimum(stops + reach, self._last[starts])
        # Frames that are missing beyond the film's ends count as the library's mean, which is 0.
        around = self._sums[starts] - self._sums[before] + self._sums[after] - self._sums[stops]
        values = inside - _CONTRAST * around / (2 * reach)
        if self._cuts is not None:
            values += (self._cuts[starts] + self._cuts[stops]) / 2
            values -= self._greatest_change(starts, stops)
        return values

    def _greatest_change(self, starts: Integers, stops: Integers) -> Floats:
        """The largest change between neighbours of each run, 0 for a run of one frame."""
        greatest = np.zeros(len(starts))
        levels = np.frexp(stops - starts - 1)[1] - 1  # floor(log2(number of changes))
        for level, maxima in enumerate(self._greatest):
            chosen = levels == level
            left, right = starts[chosen], stops[chosen] - 1 - (1 << level)
            greatest[chosen] = np.maximum(maxima[left], maxima[right])
        return greatest


def _standing(scores: NDArray[np.float32]) -> Floats:
    """Scores as standard deviations from their mean; all 0 where they are all the same."""
    scores = scores.astype(np.float64)
    finite = np.isfinite(scores)
    scores[~finite] = scores[finite].min() if finite.any() else 0.0
    deviation = scores.std()
    scores -= scores.mean()
    # Rounding leaves a constant with a deviation of some 1e-17 of it.
    return scores / deviation if deviation > 1e-12 else np.zeros_like(scores)


def _promises(standing: Floats, firsts: Integers) -> Floats:
    """(F,) the most a moment of each film can be worth, before its pictures are looked at."""
    reel = _Reel(standing, firsts=firsts)
    best = np.full(reel.size, -np.inf)
    for length in _lengths(reel.longest):
        starts = reel.starts(length)
        best[starts] = np.maximum(best[starts], reel.values(starts, starts + length))
    return np.maximum.reduceat(best, firsts[:-1]) + _MOST_STRUCTURE


def _best_runs(
    reel: _Reel, edges: Floats, *, k: int, min_s: float, max_s: float
) -> list[tuple[int, int, float]]:
    """(start, stop, value) of the best runs of one film that share no frame, best first."""
    lengths = _lengths(reel.longest)
    values = np.full((len(lengths), reel.size), -np.inf)
    for row, length in enumerate(lengths):
        starts = reel.starts(length)
        seconds = edges[starts + length] - edges[starts]
        allowed = starts[(seconds >= min_s) & (seconds <= max_s)]
        values[row, allowed] = reel.values(allowed, allowed + length)
    taken = np.zeros(reel.size, dtype=np.bool_)
    found: list[tuple[int, int, float]] = []
    while len(found) < k:
        row, start = np.unravel_index(np.argmax(values), values.shape)
        if not np.isfinite(values[row, start]):
            break
        found.append(
            _refined(reel, edges, taken, int(start), lengths[row], min_s=min_s, max_s=max_s)
        )
        start, stop, _ = found[-1]
        taken[start:stop] = True
        for row, length in enumerate(lengths):
            values[row, max(0, start - length + 1) : stop] = -np.inf
    return found


def _refined(
    reel: _Reel,
    edges: Floats,
    taken: NDArray[np.bool_],
    start: int,
    length: int,
    *,
    min_s: float,
    max_s: float,
) -> tuple[int, int, float]:
    """The best run whose ends lie no further from the given one's than the next length tried."""
    slack = 0 if length < _EVERY_LENGTH_TO else int(length * (_LENGTH_STEP - 1)) + 1
    near_starts = np.arange(max(0, start - slack), min(reel.size, start + slack + 1))
    stop = start + length
    near_stops = np.arange(max(1, stop - slack), min(reel.size, stop + slack) + 1)
    starts, stops = (grid.ravel() for grid in np.meshgrid(near_starts, near_stops))
    seconds = edges[stops] - edges[starts]
    used = np.concatenate([[0], np.cumsum(taken)])
    allowed = (
        (starts < stops) & (seconds >= min_s) & (seconds <= max_s) & (used[stops] == used[starts])
    )
    starts, stops = starts[allowed], stops[allowed]
    values = reel.values(starts, stops)
    best = int(np.argmax(values))
    return int(starts[best]), int(stops[best]), float(values[best])


def _changes(vectors: NDArray[np.float32]) -> Floats:
    """(U - 1,) in [0, 1): cosine distance of neighbours against the film's usual."""
    distances = 1.0 - np.einsum("ud,ud->u", vectors[1:], vectors[:-1]).astype(np.float64)
    distances = np.maximum(distances, 0.0)
    usual = distances.mean() if len(distances) else 0.0
    return distances / (distances + usual + _STILL)


def _edges(spans: Floats) -> Floats:
    """(U + 1,) seconds at which a run of frames begins or ends.

    A cut lies somewhere between the frame before it and the frame after it: halfway is half as far
    off as either. Where the frames lie further apart than usual, the earlier one stood still, and
    the cut comes within a usual gap of the later one.
    """
    gaps = np.diff(spans[:, 0])
    usual = np.median(gaps) if len(gaps) else 0.0
    inner = spans[1:, 0] - np.minimum(gaps, usual) / 2
    return np.concatenate([spans[:1, 0], inner, spans[-1:, 1]])


def _lengths(longest: int) -> list[int]:
    """The lengths of runs that are tried, in frames."""
    lengths = list(range(1, min(longest, _EVERY_LENGTH_TO) + 1))
    while lengths[-1] < longest:
        lengths.append(min(longest, int(lengths[-1] * _LENGTH_STEP) + 1))
    return lengths


def _running_maxima(values: Floats) -> list[Floats]:
    """Maxima of every 1, 2, 4, ... neighbouring values, by where they begin."""
    maxima = [values]
    while 2 * (1 << (len(maxima) - 1)) <= len(values):
        half = 1 << (len(maxima) - 1)
        maxima.append(np.maximum(maxima[-1][:-half], maxima[-1][half:]))
    return maxima

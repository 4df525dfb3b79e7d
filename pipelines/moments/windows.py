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

from maxsight.arguments import whole_number
from maxsight.errors import UsageError
from maxsight.pipelines.ingestion.choices import step_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maxsight.index.snapshot import Snapshot

    DoubleArray = NDArray[np.float64]
    Integers = NDArray[np.int64]

# A run counts as if it held this many frames more, of the film's mean score: one lucky frame does
# not beat four good ones.
_PRIOR_FRAMES = 2
# Share of the surroundings' score taken off. On each side they are as long as the run, within these
# bounds in frames; beyond the film's ends lies the library's mean.
_CONTRAST = 0.25
_LEAST_AROUND, _MOST_AROUND = 2, 32
# A change is large against the film's mean change and this much cosine distance: below it
# differences are the encoder's noise over a still picture.
_STILL = 0.02
# Scores that differ by less, as those of a still film, are taken to be the same: vectors
# are stored in half precision.
_NOISE = 1e-3
# What the picture's structure, change at the ends less change inside, can add to a value at most.
_MOST_STRUCTURE = 1.0

# The usual gap between frames is that of the part of a film that moves: the least gap but for this
# share. Of a film that is still but for less than that it is the gap that was asked for; but not
# one below this many seconds, where each frame of the film may have been taken. A gap of less than
# so many usual ones is a film's variable rate and no still. A frame stands for at most so many
# samples: what is longer was not sampled.
_MOVING = 0.1
_LEAST_STEP_S = 0.1
_STOOD = 2.5
_MOST_SAMPLES = 4096

_EVERY_LENGTH_TO = 16
_LENGTH_STEP = 1.2


@dataclass(frozen=True, eq=False)
class FilmScores:
    """One film as a query sees it.

    Attributes:
        item_id, path: of the film.
        spans: (U, 2) float64 [start, end) of its frames in seconds, in order.
        scores: (U,) float32 of the query with each frame.
        step: seconds between two samples, as it was asked for; None: not known.
    """

    item_id: int
    path: str
    spans: DoubleArray
    scores: NDArray[np.float32]
    step: float | None = None


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
        LibraryError: a compaction has since deleted the snapshot's files.
    """
    films = [film for film in snapshot.films() if path is None or film.path == path]
    if path is not None and not films:
        raise UsageError(
            f"{path} is not a film of this library; index it first, or leave the path away"
        )

    settings = snapshot.film_settings if films else {}

    def vectors(number: int) -> NDArray[np.float32]:
        rows = films[number].rows
        return snapshot.vectors(np.arange(rows.start, rows.stop))

    scored = [
        FilmScores(
            film.item_id,
            film.path,
            film.spans,
            snapshot.scores(vector, film.rows),
            step_of(settings[film.item_id]),
        )
        for film in films
    ]
    return find_moments(scored, k=k, vectors=vectors)


def find_moments(
    films: Sequence[FilmScores],
    *,
    k: int = 5,
    vectors: Callable[[int], NDArray[np.float32]] | None = None,
    min_s: float = 0.0,
    max_s: float = float("inf"),
) -> list[Moment]:
    """The best moments of some films, best first.

    Adding a constant to all scores changes nothing; what they are worth depends on how they are
    spread over all the films.

    Args:
        films: in any order, which decides between equals.
        k: how many moments at most, over all films.
        vectors: gives the (U, D) unit vectors of the frames of a film by its position in
            ``films``; cuts are seen in them. It is asked only for films that can be among the
            best. None: the scores decide alone.
        min_s, max_s: seconds a moment lasts at least and at most.

    Raises:
        UsageError: ``k`` is below 1.
    """
    whole_number(k, what="k")
    numbers = [number for number, film in enumerate(films) if len(film.scores)]
    if not numbers:
        return []
    counts = {number: _samples(films[number]) for number in numbers}
    standing = _standing([np.repeat(films[number].scores, counts[number]) for number in numbers])
    promises = _promises(standing)
    found: list[tuple[int, Moment]] = []
    for position in np.argsort(-promises, kind="stable"):
        # Films come by what they could reach: below k moments that are better, no other follows.
        if len(found) == k and promises[position] <= found[-1][1].score:
            break
        number = numbers[position]
        film = films[number]
        changes = None if vectors is None else _changes(vectors(number), counts[number])
        scores = _RunScores([standing[position]], changes=changes)
        spans = _sampled(film.spans, counts[number])
        edges = _edges(spans)
        for start, stop, value in _best_runs(scores, edges, k=k, min_s=min_s, max_s=max_s):
            best = start + int(np.argmax(standing[position][start:stop]))
            moment = Moment(
                rank=0,
                path=film.path,
                item_id=film.item_id,
                start=float(edges[start]),
                end=float(edges[stop]),
                peak=float(spans[best, 0]),
                score=value,
            )
            found.append((number, moment))
        found.sort(key=lambda entry: (-entry[1].score, entry[0], entry[1].start))
        del found[k:]
    return [replace(moment, rank=rank) for rank, (_, moment) in enumerate(found, 1)]


class _RunScores:
    """Films end to end, and the values of all runs of one length within them.

    Between films, before the first and after the last lies a gap that counts as frames of the
    library's mean: no run's surroundings reach into another film.

    Args:
        standing: of each film, (U,) scores in standard deviations from the library's mean.
        changes: (U - 1,) in [0, 1], how much the picture changes between neighbours; of a single
            film only. None: not known, and no part of the values.

    Attributes:
        firsts: (F,) where each film begins, counted from the first film's beginning.
        size: frames and inner gaps.
        longest: frames of the longest film.
    """

    def __init__(
        self, standing: Sequence[DoubleArray], *, changes: DoubleArray | None = None
    ) -> None:
        counts = np.array([len(scores) for scores in standing], dtype=np.int64)
        self.firsts = np.cumsum(counts + _MOST_AROUND) - counts - _MOST_AROUND
        self.size = int(self.firsts[-1] + counts[-1])
        self.longest = int(counts.max())
        padded = np.zeros(self.size + 2 * _MOST_AROUND)
        # Where the film of each frame ends; a frame of a gap belongs to a film that ended.
        self._last = np.zeros(self.size, dtype=np.int64)
        self._mean = np.zeros(self.size)
        for first, scores in zip(self.firsts.tolist(), standing, strict=True):
            film = slice(first, first + len(scores))
            padded[_MOST_AROUND + first :][: len(scores)] = scores
            self._last[film] = first + len(scores)
            self._mean[film] = scores.mean()
        self._sums = np.concatenate([[0.0], np.cumsum(padded)])
        # A film surely begins at its beginning and ends at its end.
        self._cuts = None if changes is None else np.concatenate([[1.0], changes, [1.0]])
        self._greatest = [] if changes is None else _running_maxima(changes)

    def values(self, length: int) -> DoubleArray:
        """(size - length + 1,) values of the runs of ``length`` frames, by where they start.

        Minus infinity where a run would leave its film.
        """
        count = self.size - length + 1
        reach = min(max(length, _LEAST_AROUND), _MOST_AROUND)

        def sums(offset: int) -> DoubleArray:
            return self._sums[_MOST_AROUND + offset :][:count]

        inside = sums(length) - sums(0)
        around = sums(0) - sums(-reach) + sums(length + reach) - sums(length)
        values: DoubleArray = inside + _PRIOR_FRAMES * self._mean[:count]
        values /= length + _PRIOR_FRAMES
        values -= _CONTRAST / (2 * reach) * around
        if self._cuts is not None:
            values += (self._cuts[:count] + self._cuts[length:]) / 2
            if length > 1:
                level = (length - 1).bit_length() - 1
                maxima = self._greatest[level]
                values -= np.maximum(maxima[:count], maxima[length - 1 - (1 << level) :][:count])
        values[self._last[:count] < np.arange(length, self.size + 1)] = -np.inf
        return values


def _standing(scores: Sequence[NDArray[np.float32]]) -> list[DoubleArray]:
    """Scores as standard deviations from their mean."""
    together = np.concatenate(scores).astype(np.float64)
    finite = np.isfinite(together)
    together[~finite] = together[finite].min() if finite.any() else 0.0
    together -= together.mean()
    together /= max(float(together.std()), _NOISE)
    return np.split(together, np.cumsum([len(part) for part in scores])[:-1])


def _promises(standing: Sequence[DoubleArray]) -> DoubleArray:
    """(F,) the most a moment of each film can be worth, before its pictures are looked at."""
    scores = _RunScores(standing)
    best = np.full(scores.size, -np.inf)
    for length in _lengths(scores.longest):
        values = scores.values(length)
        np.maximum(best[: len(values)], values, out=best[: len(values)])
    most: DoubleArray = np.maximum.reduceat(best, scores.firsts)
    return most + _MOST_STRUCTURE


def _best_runs(
    scores: _RunScores, edges: DoubleArray, *, k: int, min_s: float, max_s: float
) -> list[tuple[int, int, float]]:
    """(start, stop, value) of the best runs of one film that share no frame, best first."""
    lengths = _lengths(scores.longest)[::-1]  # of equal runs argmax takes the longest
    taken = np.zeros(scores.size, dtype=np.bool_)

    def allowed(length: int) -> DoubleArray:
        """Values of the runs that share no frame with those taken and last neither too long."""
        values = scores.values(length)
        seconds = edges[length:] - edges[:-length]
        used = np.concatenate([[0], np.cumsum(taken)])
        values[(used[length:] != used[:-length]) | (seconds < min_s) | (seconds > max_s)] = -np.inf
        return values

    values = np.full((len(lengths), scores.size), -np.inf)
    for row, length in enumerate(lengths):
        values[row, : scores.size - length + 1] = allowed(length)
    found: list[tuple[int, int, float]] = []
    while len(found) < k:
        row, start = divmod(int(np.argmax(values)), scores.size)
        value, length = float(values[row, start]), lengths[row]
        if value == -np.inf:
            break
        # The lengths that were left out, between the next longer and the next shorter one.
        longer = lengths[row - 1] if row else length
        shorter = lengths[row + 1] if row + 1 < len(lengths) else length
        low, high = max(0, start - (longer - shorter)), start + (longer - shorter) + 1
        for other in range(shorter + 1, longer) if longer - shorter > 2 else ():
            near = allowed(other)[low:high]
            if near.max(initial=-np.inf) > value:
                best = int(np.argmax(near))
                value, start, length = float(near[best]), low + best, other
        stop = start + length
        found.append((start, stop, value))
        taken[start:stop] = True
        for row, length in enumerate(lengths):
            values[row, max(0, start - length + 1) : stop] = -np.inf
    return found


def _samples(film: FilmScores) -> Integers:
    """(U,) how many frames each stands for: a still that was stored once counts as often as it was
    sampled, so that neither it nor what surrounds it weighs less than the same seconds of a film
    that moves.
    """
    gaps: DoubleArray = np.diff(film.spans[:, 0], append=film.spans[-1:, 1])
    usual = float(np.quantile(gaps[:-1], _MOVING)) if len(gaps) > 1 else 0.0
    if film.step is not None and usual > _STOOD * (step := max(film.step, _LEAST_STEP_S)):
        usual = step
    elif film.step is not None and usual < film.step / _STOOD:
        usual = film.step  # frames between two samples, each before a still
    counts = np.ones(len(gaps), np.int64)
    if usual > 0:
        ratio = np.minimum(gaps / usual, _MOST_SAMPLES)
        counts = np.where(ratio < _STOOD, 1, np.rint(ratio)).astype(np.int64)
    return counts


def _sampled(spans: DoubleArray, counts: Integers) -> DoubleArray:
    """(sum counts, 2): each span in as many equal parts."""
    if (counts == 1).all():
        return spans
    part = (spans[:, 1] - spans[:, 0]) / counts
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(spans[:, 0], counts) + number * np.repeat(part, counts)
    ends = np.append(starts[1:], spans[-1, 1])
    last = np.cumsum(counts) - 1
    ends[last] = spans[:, 1]
    return np.stack([starts, ends], axis=1)


def _changes(vectors: NDArray[np.float32], counts: Integers) -> DoubleArray:
    """(sum counts - 1,) in [0, 1): cosine distance of neighbours against the film's usual."""
    distances = np.zeros(int(counts.sum()) - 1)
    distances[np.cumsum(counts)[:-1] - 1] = 1.0 - np.einsum(
        "ud,ud->u", vectors[1:], vectors[:-1]
    ).astype(np.float64)
    distances = np.maximum(distances, 0.0)
    usual = distances.mean() if len(distances) else 0.0
    changes: DoubleArray = distances / (distances + usual + _STILL)
    return changes


def _edges(spans: DoubleArray) -> DoubleArray:
    """(U + 1,) seconds at which a run of frames begins or ends.

    A cut lies somewhere between the frame before it and the frame after it: halfway is half as far
    off as either. Where the frames lie further apart than usual, the earlier one stood still, and
    the cut comes within a usual gap of the later one.
    """
    gaps: DoubleArray = np.diff(spans[:, 0])
    usual = np.median(gaps) if len(gaps) else 0.0
    inner = spans[1:, 0] - np.minimum(gaps, usual) / 2
    return np.concatenate([spans[:1, 0], inner, spans[-1:, 1]])


def _lengths(longest: int) -> list[int]:
    """The lengths of runs that are tried, in frames."""
    lengths = list(range(1, min(longest, _EVERY_LENGTH_TO) + 1))
    while lengths[-1] < longest:
        lengths.append(min(longest, int(lengths[-1] * _LENGTH_STEP) + 1))
    return lengths


def _running_maxima(values: DoubleArray) -> list[DoubleArray]:
    """Maxima of every 1, 2, 4, ... neighbouring values, by where they begin."""
    maxima = [values]
    while 2 * (1 << (len(maxima) - 1)) <= len(values):
        half = 1 << (len(maxima) - 1)
        maxima.append(np.maximum(maxima[-1][:-half], maxima[-1][half:]))
    return maxima

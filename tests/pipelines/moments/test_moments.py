"""Moments against a plain reading of their definition, and on scores whose answer is known."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maxsight.errors import UsageError
from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store
from maxsight.pipelines.moments.windows import FilmScores, Moment, find_moments, search_moments

NOISE = 1e-3


def film(scores: Sequence[float] | np.ndarray, number: int = 0, *, step: float = 1.0) -> FilmScores:
    starts = np.arange(len(scores)) * step
    spans = np.stack([starts, starts + step], axis=1)
    return FilmScores(number, f"{number}.mp4", spans, np.asarray(scores, dtype=np.float32))


def shots(lengths: Sequence[int], *, jitter: float = 0.02, seed: int = 0) -> np.ndarray:
    """(sum lengths, 64) unit vectors: one direction a shot, slightly different frames."""
    draw = np.random.default_rng(seed)
    vectors = np.repeat(draw.normal(size=(len(lengths), 64)), lengths, axis=0)
    vectors += jitter * draw.normal(size=vectors.shape)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)


def by_definition(
    films: Sequence[FilmScores], vectors: Sequence[np.ndarray] | None
) -> list[dict[tuple[int, int], float]]:
    """The value of every run of every film, as the module's docstring defines it, by loops."""
    scores = np.concatenate([f.scores.astype(float) for f in films])
    values = []
    for number, f in enumerate(films):
        x = (f.scores.astype(float) - scores.mean()) / max(scores.std(), NOISE)
        size = len(x)
        change = np.zeros(size + 1)
        if vectors is not None:
            v = vectors[number].astype(float)
            distance = [max(0.0, 1 - float(v[i] @ v[i + 1])) for i in range(size - 1)]
            usual = float(np.mean(distance)) if distance else 0.0
            change = np.array([1.0, *[d / (d + usual + 0.02) for d in distance], 1.0])
        runs = {}
        for start, stop in itertools.combinations(range(size + 1), 2):
            length = stop - start
            inside = (x[start:stop].sum() + 2 * x.mean()) / (length + 2)
            reach = min(max(length, 2), 32)
            around = x[max(0, start - reach) : start].sum() + x[stop : stop + reach].sum()
            value = inside - 0.25 * around / (2 * reach)
            if vectors is not None:
                value += (change[start] + change[stop]) / 2
                value -= max(change[start + 1 : stop], default=0.0)
            runs[start, stop] = value
        values.append(runs)
    return values


scores_of_a_film = st.lists(st.floats(-0.5, 0.5, width=32), min_size=1, max_size=14)


@given(st.lists(scores_of_a_film, min_size=1, max_size=4), st.integers(1, 8), st.booleans())
@settings(deadline=None, max_examples=80)
def test_it_is_what_it_says(films_scores: list[list[float]], k: int, seen: bool) -> None:
    """Each moment is the best run left when it is taken, over all films; nothing better is left."""
    films = [film(scores, number) for number, scores in enumerate(films_scores)]
    vectors = [shots([1] * len(f.scores), seed=f.item_id) for f in films] if seen else None
    found = find_moments(films, k=k, vectors=None if vectors is None else vectors.__getitem__)
    left = by_definition(films, vectors)
    for moment in found:
        start, stop = math.ceil(moment.start), math.ceil(moment.end)
        assert left[moment.item_id][start, stop] == pytest.approx(moment.score, abs=1e-4)
        assert moment.score >= max(v for runs in left for v in runs.values()) - 1e-4
        left[moment.item_id] = {
            (a, b): v for (a, b), v in left[moment.item_id].items() if b <= start or a >= stop
        }
    assert len(found) == k or not any(left)


def test_long_runs_are_refined() -> None:
    """Lengths above 16 frames are tried in steps; the best one is found all the same."""
    draw = np.random.default_rng(1)
    for length in (17, 23, 41, 67, 100, 155):
        scores = draw.normal(0.1, 0.01, 700)
        scores[300 : 300 + length] += 0.2
        vectors = shots([300, length, 400 - length])
        (moment,) = find_moments([film(scores)], k=1, vectors=[vectors].__getitem__)
        assert (moment.start, moment.end) == (299.5, 299.5 + length)


def test_long_runs_are_worth_what_it_says() -> None:
    scores = np.random.default_rng(7).normal(0.1, 0.05, 160)
    scores[50:110] += 0.2
    vectors = shots([20, 30, 60, 10, 40])
    (moment,) = find_moments([film(scores)], k=1, vectors=[vectors].__getitem__)
    (runs,) = by_definition([film(scores)], [vectors])
    best = max(runs, key=lambda run: runs[run])
    assert (moment.start, moment.end) == (best[0] - 0.5, best[1] - 0.5)
    assert moment.score == pytest.approx(runs[best], abs=1e-4)
    assert best == (50, 110)


# The answer is known --------------------------------------------------------------------------


@given(
    st.integers(0, 60),
    st.integers(3, 20),
    st.integers(0, 40),
    st.floats(0.1, 0.5),
    st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=100)
def test_a_plateau_is_found_within_a_frame(
    before: int, length: int, after: int, height: float, seed: int
) -> None:
    assume(before + after >= length)
    draw = np.random.default_rng(seed)
    scores = draw.normal(0.2, 0.01, before + length + after)
    scores[before : before + length] += height
    vectors = shots([n for n in (before, length, after) if n], seed=seed)
    (seen, *_) = find_moments([film(scores)], k=1, vectors=lambda _: vectors)
    # Runs of more than 16 frames are tried in steps, so a frame that scores a little lower at an
    # end may be left out.
    near = 1 if length <= 16 else 2
    assert abs(seen.start - before) <= near
    assert abs(seen.end - (before + length)) <= near
    # The scores alone may lose some frames at the ends that score a little lower.
    (blind, *_) = find_moments([film(scores)], k=1)
    assert abs(blind.start - before) <= max(1, length / 3)
    assert abs(blind.end - (before + length)) <= max(1, length / 3)


def test_cuts_decide_where_scores_are_blurred() -> None:
    scores = np.full(60, 0.1)
    scores[20:30] = [0.14, 0.2, 0.3, 0.31, 0.3, 0.32, 0.3, 0.3, 0.21, 0.16]
    vectors = shots([20, 10, 30])
    (blurred, *_) = find_moments([film(scores)], k=1)
    (sharp, *_) = find_moments([film(scores)], k=1, vectors=lambda _: vectors)
    assert (sharp.start, sharp.end) == (19.5, 29.5)
    assert blurred.end - blurred.start < sharp.end - sharp.start


def test_several_matching_shots_are_several_moments() -> None:
    scores = np.full(100, 0.1)
    scores[10:20], scores[40:45], scores[80:90] = 0.4, 0.35, 0.38
    vectors = shots([10, 10, 20, 5, 35, 10, 10])
    found = find_moments([film(scores)], k=3, vectors=lambda _: vectors)
    assert [(round(m.start + 0.5), round(m.end + 0.5)) for m in found] == [
        (10, 20),
        (80, 90),
        (40, 45),
    ]


def test_the_best_film_comes_first() -> None:
    draw = np.random.default_rng(5)
    films = [film(draw.normal(0.1, 0.02, 50), number) for number in range(20)]
    films[13].scores[20:30] += 0.3
    films[4].scores[5:9] += 0.2
    found = find_moments(films, k=5)
    assert [moment.item_id for moment in found[:2]] == [13, 4]
    assert [moment.path for moment in found[:2]] == ["13.mp4", "4.mp4"]


def test_a_film_of_one_matching_shot_beats_none() -> None:
    """A film that matches from end to end has no surroundings of its own to stand out from."""
    films = [film(np.full(20, 0.1), number) for number in range(5)]
    films[3] = film(np.full(8, 0.4), 3)
    (moment, *_) = find_moments(films, k=2, vectors=lambda n: shots([len(films[n].scores)]))
    assert (moment.item_id, moment.start, moment.end) == (3, 0, 8)


def test_the_peak_is_the_best_frame() -> None:
    scores = [0.1, 0.1, 0.3, 0.35, 0.3, 0.1, 0.1]
    (moment,) = find_moments([film(scores, step=0.5)], k=1)
    assert moment.peak == 1.5
    assert moment.start <= moment.peak < moment.end


def test_a_change_lies_halfway_between_frames_but_close_after_a_still() -> None:
    spans = np.array([[0, 1], [1, 2], [2, 32], [32, 33], [33, 34], [34, 34.5]], dtype=float)
    scores = np.array([0.1, 0.1, 0.1, 0.4, 0.4, 0.4], dtype=np.float32)
    (moment,) = find_moments([FilmScores(0, "f", spans, scores)], k=1)
    assert (moment.start, moment.end) == (31.5, 34.5)
    scores = np.array([0.4, 0.4, 0.1, 0.1, 0.1, 0.1], dtype=np.float32)
    (moment,) = find_moments([FilmScores(0, "f", spans, scores)], k=1)
    assert (moment.start, moment.end) == (0, 1.5)


# What must always hold ------------------------------------------------------------------------


def assert_sound(found: Sequence[Moment], films: Sequence[FilmScores], k: int) -> None:
    assert len(found) <= k
    assert [moment.rank for moment in found] == list(range(1, len(found) + 1))
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    assert all(math.isfinite(v) for m in found for v in (m.start, m.end, m.peak, m.score))
    for moment in found:
        (own,) = [f for f in films if f.item_id == moment.item_id]
        assert own.spans[0, 0] <= moment.start < moment.end <= own.spans[-1, 1]
        assert moment.start <= moment.peak < moment.end
    for one, other in itertools.combinations(found, 2):
        if one.item_id == other.item_id:
            assert one.end <= other.start or other.end <= one.start


@given(
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=0, max_size=60), min_size=0, max_size=5),
    st.integers(1, 12),
)
@settings(deadline=None, max_examples=80)
def test_moments_are_sound(films_scores: list[list[float]], k: int) -> None:
    films = [film(scores, number) for number, scores in enumerate(films_scores)]
    found = find_moments(films, k=k, vectors=lambda n: shots([1] * len(films[n].scores)))
    assert_sound(found, films, k)
    if sum(len(scores) for scores in films_scores):
        assert found


@given(st.lists(scores_of_a_film, min_size=1, max_size=4), st.floats(-100, 100))
@settings(deadline=None, max_examples=50)
def test_a_constant_added_changes_nothing(films_scores: list[list[float]], shift: float) -> None:
    """Within what float32 scores can tell apart."""
    films = [film(np.round(scores, 2), number) for number, scores in enumerate(films_scores)]
    moved = [
        FilmScores(f.item_id, f.path, f.spans, (f.scores.astype(float) + shift))  # type: ignore[arg-type]
        for f in films
    ]
    one, other = find_moments(films, k=3), find_moments(moved, k=3)
    assert [m.score for m in one] == pytest.approx([m.score for m in other], abs=1e-3)


def test_the_order_of_films_does_not_matter() -> None:
    draw = np.random.default_rng(9)
    films = [film(draw.normal(0.1, 0.05, draw.integers(5, 80)), number) for number in range(30)]
    vectors = {f.item_id: shots([5] * (len(f.scores) // 5 + 1))[: len(f.scores)] for f in films}

    def moments(order: Sequence[FilmScores]) -> list[Moment]:
        return find_moments(order, k=10, vectors=lambda n: vectors[order[n].item_id])

    straight = moments(films)
    assert_sound(straight, films, 10)
    shuffled = moments([films[n] for n in draw.permutation(len(films))])
    assert [(m.item_id, m.start, m.end) for m in shuffled] == [
        (m.item_id, m.start, m.end) for m in straight
    ]


def test_films_are_looked_at_only_if_they_can_win() -> None:
    draw = np.random.default_rng(2)
    films = [film(draw.normal(0.1, 0.02, 40), number) for number in range(200)]
    for number in range(0, 200, 40):
        films[number].scores[10:20] += 0.3
    looked: list[int] = []

    def look(number: int) -> np.ndarray:
        looked.append(number)
        return shots([10, 10, 20])

    few = find_moments(films, k=5, vectors=look)
    assert len(looked) < 40
    everything = find_moments(films, k=100_000, vectors=look)
    assert_sound(everything, films, 100_000)
    assert few == everything[:5]


def test_lengths_are_honoured() -> None:
    draw = np.random.default_rng(4)
    films = [film(draw.normal(0.1, 0.05, 200), number, step=0.5) for number in range(3)]
    found = find_moments(films, k=20, min_s=4.0, max_s=9.0)
    assert found
    assert_sound(found, films, 20)
    assert all(4.0 <= moment.end - moment.start <= 9.0 for moment in found)
    assert find_moments(films, k=5, min_s=1000.0) == []


def test_films_without_anything_to_tell_apart() -> None:
    assert find_moments([], k=5) == []
    assert find_moments([film([])], k=5) == []
    (one,) = find_moments([film([0.3])], k=5)
    assert (one.start, one.end, one.peak) == (0, 1, 0)
    still = np.full(50, 0.3) + np.random.default_rng(0).normal(0, 1e-5, 50)
    (whole,) = find_moments([film(still)], k=1, vectors=lambda _: shots([50], jitter=1e-4))
    assert (whole.start, whole.end) == (0, 50)
    (whole,) = find_moments([film(np.zeros(50))], k=1)
    assert (whole.start, whole.end) == (0, 50)
    broken = film([0.1, float("nan"), 0.4, 0.4, float("-inf"), 0.1])
    assert_sound(find_moments([broken], k=3), [broken], 3)
    assert find_moments([broken], k=1)[0].peak in (2, 3)


def test_k_below_one() -> None:
    with pytest.raises(UsageError, match="k must be at least 1"):
        find_moments([film([0.1])], k=0)


# In a library ---------------------------------------------------------------------------------


def stored(path: str, vectors: np.ndarray) -> EncodedItem:
    starts = np.arange(len(vectors), dtype=np.float64)
    return EncodedItem(
        state=FileState(path, 1, 1),
        kind="video",
        content_hash=hashlib.sha256(path.encode()).hexdigest(),
        width=16,
        height=16,
        vectors=vectors,
        spans=np.stack([starts, starts + 1], axis=1),
        duration_s=float(len(vectors)),
    )


@pytest.fixture
def library(tmp_path: Path) -> Callable[[Sequence[EncodedItem]], Store]:
    def make(items: Sequence[EncodedItem]) -> Store:
        store = Store.create(tmp_path / "m", encoder_uri="none", fingerprint="f", dim=64)
        store.apply(Changes(added=items))
        return store

    return make


def test_a_shot_is_found_in_a_library(library: Callable[[Sequence[EncodedItem]], Store]) -> None:
    films = [shots([6, 9, 4, 12], seed=number) for number in range(12)]
    picture = EncodedItem(
        state=FileState("/p/0.jpg", 1, 1),
        kind="image",
        content_hash="0" * 64,
        width=16,
        height=16,
        vectors=films[7][10:11],
    )
    items = [stored(f"/f/{number}.mp4", vectors) for number, vectors in enumerate(films)]
    with library([picture, *items]) as store:
        snapshot = store.snapshot()
        found = search_moments(snapshot, films[7][10], k=4)
        assert (found[0].path, found[0].start, found[0].end) == ("/f/7.mp4", 5.5, 14.5)
        assert len(found) == 4
        inside = search_moments(snapshot, films[7][10], k=3, path="/f/2.mp4")
        assert {moment.path for moment in inside} == {"/f/2.mp4"}
        with pytest.raises(UsageError, match=r"/f/99\.mp4 is not a film of this library"):
            search_moments(snapshot, films[7][10], path="/f/99.mp4")
        with pytest.raises(UsageError, match="not a film"):
            search_moments(snapshot, films[7][10], path="/p/0.jpg")


def test_a_library_without_films(library: Callable[[Sequence[EncodedItem]], Store]) -> None:
    with library([]) as store:
        assert search_moments(store.snapshot(), shots([1])[0]) == []


@pytest.mark.parametrize(
    ("settings", "start", "end"),
    [("fps=1", 1999.5, 2001.5), ("fps=0.5 film_frames=99", 1999, 2001), (None, 1900, 2001)],
)
def test_a_film_that_is_nearly_all_still_is_cut_where_it_changes(
    settings: str | None,
    start: float,
    end: float,
    library: Callable[[Sequence[EncodedItem]], Store],
) -> None:
    """An hour of blue, red for two seconds: a unit each five minutes and one of two seconds."""
    starts = np.array([*range(0, 2000, 300), 2000, *range(2002, 3600, 300)], dtype=np.float64)
    blue, red = shots([1, 1])
    vectors = np.where((starts == 2000)[:, None], red, blue)
    film = dataclasses.replace(
        stored("/f/still.mp4", vectors),
        spans=np.stack([starts, [*starts[1:], 3600.0]], axis=1),
        settings=settings,
    )
    moving = [stored(f"/f/{n}.mp4", shots([6, 9], seed=n + 1)) for n in range(3)]
    with library([*moving, film]) as store:
        (moment,) = search_moments(store.snapshot(), red, k=1)
    assert (moment.path, moment.peak) == ("/f/still.mp4", 2000)
    assert (moment.start, moment.end) == (start, end)


@pytest.mark.parametrize("seed", range(6))
def test_stills_stored_once_change_no_moment(seed: int) -> None:
    """A film of shots and stills, with a unit a second and with a unit a still."""
    rng = np.random.default_rng(seed)
    vectors, stands = [], []
    for _ in range(12):
        shot = rng.normal(size=24)
        if rng.random() < 0.5:
            stands += [1] * 6
            vectors += [shot + 0.3 * rng.normal(size=24) for _ in range(6)]
        else:
            stands.append(int(rng.integers(5, 40)))
            vectors.append(shot)
    kept = np.array([vector / np.linalg.norm(vector) for vector in vectors], np.float32)
    query = kept[int(rng.integers(len(kept)))]
    ends = np.cumsum(stands).astype(float)
    spans = np.stack([ends - stands, ends], axis=1)
    seconds = np.arange(ends[-1])
    whole = FilmScores(
        0, "film", np.stack([seconds, seconds + 1], axis=1), np.repeat(kept @ query, stands)
    )
    brief = FilmScores(0, "film", spans, kept @ query)
    found = find_moments([brief], k=3, vectors=lambda number: kept)
    expected = find_moments([whole], k=3, vectors=lambda number: np.repeat(kept, stands, axis=0))
    assert [(m.start, m.end) for m in found] == [(m.start, m.end) for m in expected]
    assert [m.score for m in found] == pytest.approx([m.score for m in expected])


def test_how_brief_the_frames_before_stills_are_changes_no_score() -> None:
    """Slides that fade in: two units a slide, of which the first stands for less than a sample."""
    scores = np.where(np.arange(40) // 2 == 7, 0.4, 0.1).astype(np.float32)
    found = []
    for brief in (0.3, 0.01):
        starts = np.add.outer(np.arange(20) * 20.0, [0.0, brief]).ravel()
        spans = np.stack([starts, [*starts[1:], 400.0]], axis=1)
        found += find_moments([FilmScores(0, "film", spans, scores, step=1.0)], k=1)
    one, other = found
    assert (one.peak, other.peak) == (140, 140)
    assert one.score == pytest.approx(other.score)

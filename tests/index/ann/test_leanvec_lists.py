"""Lists of rows and codes for queries in one inverted file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maxsight.benchmarks.ann_data import Collection, made
from maxsight.errors import LibraryError, UsageError
from maxsight.index import faiss_build
from maxsight.index.ann.auto import make
from maxsight.index.ann.contract import Effort
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.ann.leanvec_lists import LeanVecLists
from maxsight.index.ann.places import Places
from maxsight.index.ann.refined import Refined
from maxsight.kernels.native import binding

SPEC = "leanivf:32/IVF64,PQ16x4fsr"
ALL = Effort(64, 200)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    faiss = faiss_build.load()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def collection() -> Collection:
    return made(6_000, 128, "strong", queries=80, known=2_000)


@pytest.fixture(scope="module")
def index(collection: Collection) -> LeanVecLists:
    index = LeanVecLists(SPEC, 128)
    index.train(collection.vectors.astype(np.float32), collection.known)
    for start in (0, 1_000, 1_001):
        index.add(collection.vectors[start : {0: 1_000, 1_000: 1_001, 1_001: 6_000}[start]])
    return index


def recall(collection: Collection, rows: np.ndarray) -> float:
    _, truth = collection.truth(10)
    return float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(rows.tolist(), truth.tolist())]))


def test_it_finds_more_than_either_space_alone(collection: Collection) -> None:
    """With as many lists and bytes: all dimensions, or LeanVec's for lists as for codes."""
    found = []
    for prefix in ("leanivf:32/", "", "leanvec:32/"):
        index = make(f"{prefix}IVF256,PQ16x4fsr", 128)
        index.train(collection.vectors.astype(np.float32), collection.known)
        index.add(collection.vectors)
        rows = index.search(collection.queries, 60, effort=Effort(16, 60))[1]
        found.append(recall(collection, rows))
    assert found[0] > 0.05 + max(found[1:])


def test_every_row_is_in_one_list_under_its_own_number(
    collection: Collection, index: LeanVecLists
) -> None:
    assert len(index) == 6_000
    _, rows = index.search(collection.queries[:3], 6_000, effort=ALL)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(6_000), (3, 1)))


def test_scores_are_estimates_of_the_inner_products(
    collection: Collection, index: LeanVecLists
) -> None:
    scores, rows = index.search(collection.queries, 50, effort=ALL)
    exact = np.einsum("qd,qkd->qk", collection.queries, collection.vectors[rows], dtype=np.float32)
    assert np.abs(scores - exact).mean() < 0.05
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_forbidden_rows_are_never_found(
    collection: Collection, index: LeanVecLists, share: float
) -> None:
    allowed = np.random.default_rng(3).random(6_000) < share
    _, rows = index.search(collection.queries, 20, allowed=allowed, effort=Effort(16, 20))
    assert (rows >= 0).mean() > 0.9
    assert allowed[rows[rows >= 0]].all()


def test_int8_rows_rank_its_shortlist(collection: Collection) -> None:
    refined = make(SPEC + "+int8", 128)
    assert isinstance(refined, Refined)
    refined.train(collection.vectors.astype(np.float32), collection.known)
    refined.add(collection.vectors)
    _, rows = refined.search(collection.queries, 10, effort=Effort(32, 300))
    assert recall(collection, rows) > 0.9


def test_what_is_saved_answers_the_same(
    collection: Collection, index: LeanVecLists, tmp_path: Path
) -> None:
    index.save(tmp_path)
    loaded = LeanVecLists(SPEC, 128)
    loaded.load(tmp_path)
    effort = Effort(8, 50)
    for one, other in zip(
        index.search(collection.queries, 50, effort=effort),
        loaded.search(collection.queries, 50, effort=effort),
    ):
        np.testing.assert_array_equal(one, other)
    # Rows added to what was loaded come to the same lists.
    loaded.add(collection.vectors[:5])
    _, rows = loaded.search(collection.queries, 6_005, effort=ALL)
    assert len(loaded) == 6_005 == len(set(rows[0].tolist()))
    other = LeanVecLists("leanivf:32/IVF32,PQ16x4fsr", 128)
    with pytest.raises(LibraryError, match="64 lists of 32 dimensions"):
        other.load(tmp_path)
    (tmp_path / "codes.faiss").write_bytes(b"not an index")
    with pytest.raises(LibraryError, match="cannot be read"):
        loaded.load(tmp_path)


def test_a_budget_changes_no_answer(collection: Collection, index: LeanVecLists) -> None:
    effort = Effort(8, 20)
    one = index.search(collection.queries, 20, effort=effort)
    other = index.search(collection.queries, 20, effort=effort, budget=1)
    np.testing.assert_array_equal(one[1], other[1])


def test_bytes_are_those_of_what_it_holds(index: LeanVecLists, tmp_path: Path) -> None:
    index.save(tmp_path)
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert LeanVecLists(SPEC, 128).bytes_for(6_000) == index.bytes_for(6_000) <= index.bytes()
    # In memory the lists have room to grow, and directions are int8.
    assert 0.8 * written < index.bytes() < 1.3 * written


def test_lists_are_the_same_without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    places = Places(draw.standard_normal((300, 40)).astype(np.float32))
    vectors = draw.standard_normal((50, 40)).astype(np.float32)
    scores, lists = places.nearest(vectors, 7)
    monkeypatch.setattr(binding, "find_library", lambda: None)
    plain_scores, plain = places.nearest(vectors, 7)
    np.testing.assert_array_equal(lists, plain)
    np.testing.assert_allclose(scores, plain_scores, rtol=1e-5)
    products = vectors.astype(np.float64) @ places.directions().T
    np.testing.assert_array_equal(np.argsort(-products, axis=1)[:, :7], lists)


def test_what_does_not_fit_is_refused(collection: Collection) -> None:
    for spec in ("leanivf:32/IVF64,PQ5x4fsr", "leanivf:256/IVF64,PQ16x4fsr", "leanivf:32/IVF64"):
        with pytest.raises(UsageError, match="write leanivf"):
            LeanVecLists(spec, 128)
    index = LeanVecLists(SPEC, 128)
    with pytest.raises(UsageError, match="must be trained"):
        index.add(collection.vectors)
    with pytest.raises(UsageError, match="on 63 rows"):
        index.train(collection.known[:63])
    assert index.search(collection.queries, 3)[1].tolist() == [[-1, -1, -1]] * 80
    assert len(index) == 0


def test_without_queries_it_learns_from_rows(collection: Collection) -> None:
    index = LeanVecLists(SPEC, 128)
    index.train(collection.vectors.astype(np.float32))
    index.add(collection.vectors)
    flat = FaissIndex("Flat", 128)
    flat.add(collection.vectors)
    rows = collection.vectors[:40].astype(np.float32)
    _, found = index.search(rows, 100, effort=Effort(16, 100))
    _, truth = flat.search(rows, 10)
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.tolist(), truth.tolist())]) > 0.8

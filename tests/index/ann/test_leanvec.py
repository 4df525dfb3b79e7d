"""The wrapper around an index of fewer dimensions, over real indexes of FAISS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maxsight.benchmarks.material.ann_data import Collection, made
from maxsight.index import faiss_build
from maxsight.index.ann.contract import Effort
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.ann.leanvec import LeanVec


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    faiss = faiss_build.load()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def collection() -> Collection:
    return made(3_000, 96, "strong", queries=60, known=2_000)


def built(collection: Collection, kind: str, *, spec: str = "Flat", reduced: int = 24) -> LeanVec:
    index = LeanVec(FaissIndex(spec, reduced), 96, "ood" if kind == "ood" else "id")
    index.train(collection.vectors.astype(np.float32), collection.known)
    index.add(collection.vectors[:1_000])
    index.add(collection.vectors[1_000:])
    return index


def recall(collection: Collection, index: LeanVec, k: int, effort: Effort | None = None) -> float:
    _, truth = collection.truth(10)
    _, rows = index.search(collection.queries, k, effort=effort)
    return float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(rows.tolist(), truth.tolist())]))


def test_learning_from_queries_finds_more(collection: Collection) -> None:
    with_queries = recall(collection, built(collection, "ood"), 40)
    without = recall(collection, built(collection, "id"), 40)
    assert with_queries > without + 0.02
    assert with_queries > 0.8


def test_all_dimensions_are_an_exact_search(collection: Collection) -> None:
    assert recall(collection, built(collection, "ood", reduced=96), 10) > 0.99


def test_scores_are_near_the_inner_products(collection: Collection) -> None:
    scores, rows = built(collection, "ood", reduced=96).search(collection.queries, 5)
    exact = np.einsum("qd,qkd->qk", collection.queries, collection.vectors[rows], dtype=np.float32)
    np.testing.assert_allclose(scores, exact, atol=5e-3)


def test_forbidden_rows_are_never_found(collection: Collection) -> None:
    index = built(collection, "ood")
    allowed = np.zeros(3_000, np.bool_)
    allowed[7::11] = True
    _, rows = index.search(collection.queries, 20, allowed=allowed)
    assert allowed[rows].all()


def test_it_wraps_an_inverted_file_and_hands_effort_through(collection: Collection) -> None:
    index = built(collection, "ood", spec="IVF32,PQ12x4fs")
    few, many = Effort(1, 100), Effort(32, 100)
    assert recall(collection, index, 100, many) > recall(collection, index, 100, few)
    index.effort = many
    assert index.inner.effort == many == index.effort
    assert index.efforts(10) == index.inner.efforts(10)


def test_what_is_saved_answers_the_same(collection: Collection, tmp_path: Path) -> None:
    index = built(collection, "ood", spec="IVF32,PQ12x4fs")
    index.save(tmp_path)
    loaded = LeanVec(FaissIndex("IVF32,PQ12x4fs", 24), 96)
    loaded.load(tmp_path)
    assert len(loaded) == len(index) == 3_000
    assert loaded.spec == index.spec == "leanvec:24/IVF32,PQ12x4fs"
    effort = Effort(8, 50)
    for one, other in zip(
        index.search(collection.queries, 50, effort=effort),
        loaded.search(collection.queries, 50, effort=effort),
    ):
        np.testing.assert_array_equal(one, other)
    assert loaded.bytes() == index.bytes() > 2 * 4 * 24 * 96


def test_what_does_not_fit_is_refused(collection: Collection) -> None:
    with pytest.raises(ValueError, match="cannot reduce 16"):
        LeanVec(FaissIndex("Flat", 24), 16)
    index = LeanVec(FaissIndex("Flat", 24), 96)
    with pytest.raises(ValueError, match=r"given none.*leanvec-id:24/Flat"):
        index.train(collection.vectors.astype(np.float32))
    with pytest.raises(ValueError, match="train it first"):
        index.add(collection.vectors)
    with pytest.raises(ValueError, match=r"\(n, 96\)"):
        index.train(collection.known[:, :24], collection.known)

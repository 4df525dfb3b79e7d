"""Search by an index, with exact scores: what it returns, what it never returns, what it reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import faiss
import numpy as np
import pytest
from clustered import Held, asked, clustered
from hypothesis import given, settings
from hypothesis import strategies as st

from maxsight.index.ann import auto, searcher
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.exact.memory import ExactIndex

DIM = 32
ROWS = 3000
SPECS = [
    "exact",
    "IVF16,PQ16x4fs",
    "IVF16,PQ16x4fs+int8",
    "IVF16,RaBitQ",
    "HNSW16,SQ8",
    "PQ16x4fs",
    "leanvec-id:24/IVF16,SQ8+int8",
]
STORED = clustered(ROWS, DIM)
STORED[100:140] = STORED[100]  # the same picture many times
QUERIES = np.concatenate([asked(12, DIM), STORED[100:101].astype(np.float32)])
EXACT = ExactIndex(DIM).extended([STORED])


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    """FAISS's threads wait for each other, on a busy machine long."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture(scope="module")
def made() -> dict[str, VectorIndex]:
    found = {}
    for spec in SPECS:
        index = auto.make(spec, DIM)
        index.train(STORED.astype(np.float32))
        index.add(STORED)
        found[spec] = index
    return found


def source() -> Held:
    return Held(STORED, [])


@pytest.mark.parametrize("spec", SPECS)
def test_everything_in_the_shortlist_is_the_exact_answer(
    made: dict[str, VectorIndex], spec: str
) -> None:
    """With the greatest effort: the same rows, and the same bits of their scores."""
    effort = Effort(ROWS, ROWS)
    for allowed in (None, np.arange(ROWS) % 2 == 0):
        found = searcher.search(
            made[spec], source(), QUERIES, 10, allowed=allowed, effort=effort, brute_rows=0
        )
        true = EXACT.search(QUERIES, 10, allowed=allowed)
        for (rows, scores), (true_rows, true_scores) in zip(found, true, strict=True):
            assert rows.dtype == np.int64
            assert scores.dtype == np.float32
            if "int8" not in spec:
                np.testing.assert_array_equal(rows, true_rows)
                np.testing.assert_array_equal(scores, true_scores)
            # Int8 rows choose which of the shortlist are scored exactly, and may lose a near one.
            assert np.isin(rows, true_rows).mean() >= 0.9
            bits = dict(zip(true_rows.tolist(), true_scores.tolist(), strict=True))
            assert all(bits.get(row, score) == score for row, score in zip(rows, scores.tolist()))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_filter(made: dict[str, VectorIndex], data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(SPECS))
    k = data.draw(st.integers(1, 40))
    share = data.draw(st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0]))
    seed = data.draw(st.integers(0, 99))
    effort = Effort(data.draw(st.sampled_from([1, 2, 8])), data.draw(st.integers(1, 60)))
    brute = data.draw(st.sampled_from([0, 100]))
    allowed = np.random.default_rng(seed).random(ROWS) < share
    if data.draw(st.booleans()):  # rows of one place
        allowed &= EXACT.scores(QUERIES[seed % 12], slice(None)) < 0
    held = source()
    found = searcher.search(
        made[spec], held, QUERIES[:3], k, allowed=allowed, effort=effort, brute_rows=brute
    )
    for query, (rows, scores) in zip(QUERIES[:3], found, strict=True):
        assert allowed[rows].all()
        assert len(rows) == min(k, np.count_nonzero(allowed))
        assert len(set(rows.tolist())) == len(rows)
        np.testing.assert_array_equal(scores, EXACT.scores(query, rows))
        pairs = list(zip((-scores).tolist(), rows.tolist()))
        assert pairs == sorted(pairs)


@pytest.mark.parametrize("spec", SPECS)
def test_few_allowed_rows_are_all_scored(made: dict[str, VectorIndex], spec: str) -> None:
    allowed = np.zeros(ROWS, dtype=bool)
    allowed[np.random.default_rng(5).choice(ROWS, 300, replace=False)] = True
    found = searcher.search(
        made[spec], source(), QUERIES, 10, allowed=allowed, effort=Effort(1, 1), brute_rows=300
    )
    true = EXACT.search(QUERIES, 10, allowed=allowed)
    for (rows, scores), (true_rows, true_scores) in zip(found, true, strict=True):
        if "int8" not in spec:
            np.testing.assert_array_equal(rows, true_rows)
            np.testing.assert_array_equal(scores, true_scores)
        assert np.isin(true_rows, rows).mean() >= 0.9


def test_a_batch_is_one_read(made: dict[str, VectorIndex]) -> None:
    held = source()
    searcher.search(made["IVF16,PQ16x4fs"], held, QUERIES, 10, effort=Effort(8, 50))
    assert len(held.takes) == 1
    # Rows that several queries share are read once.
    assert held.takes[0] < 50 * len(QUERIES)
    held = source()
    searcher.search(made["IVF16,PQ16x4fs+int8"], held, QUERIES, 10, effort=Effort(8, 500))
    # Ranked by int8 rows: of 500 a query a few more than 10 are read.
    assert held.takes[0] <= 18 * len(QUERIES)


@pytest.mark.parametrize("spec", SPECS)
def test_parts_within_a_budget(made: dict[str, VectorIndex], spec: str) -> None:
    allowed = np.arange(ROWS) % 3 > 0
    for mask, brute in itertools.product((None, allowed), (0, ROWS)):
        whole, parts = (
            searcher.search(
                made[spec], source(), QUERIES, 7, allowed=mask, budget=budget, brute_rows=brute
            )
            for budget in (None, 20_000)
        )
        for one, other in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_nothing_there() -> None:
    index = auto.make("exact", DIM)
    empty = Held(STORED[:0], [])
    assert [len(rows) for rows, _ in searcher.search(index, empty, QUERIES, 3)] == [0] * 13
    assert searcher.search(index, empty, QUERIES[:0], 3) == []


@pytest.mark.parametrize("spec", SPECS)
def test_wrong_arguments(made: dict[str, VectorIndex], spec: str) -> None:
    for queries, k in ((np.full((1, DIM), np.nan), 1), (np.ones((1, 3)), 1), (QUERIES, 0)):
        with pytest.raises(ValueError, match="must be"):
            searcher.search(made[spec], source(), queries.astype(np.float32), k)
        with pytest.raises(ValueError, match="must be"):
            made[spec].search(queries.astype(np.float32), k)
    with pytest.raises(ValueError, match="holds 3000 rows and the source 10"):
        searcher.search(made[spec], Held(STORED[:10], []), QUERIES, 1)

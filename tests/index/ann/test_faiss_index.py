"""FAISS's indexes behind the contract, each kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from clustered import asked, clustered, recall

from maxsight.errors import LibraryError, UsageError
from maxsight.index.ann.contract import Effort
from maxsight.index.ann.coverage import Coverage
from maxsight.index.ann.faiss_index import FILE, FaissIndex

DIM = 32
ROWS = 2000
# Recall of 100 rows of which the 10 best are wanted: what a shortlist holds.
LEAST = {
    "Flat": 1.0,
    "SQ8": 1.0,
    "PQ16x4fs": 0.9,
    "RaBitQ": 0.9,
    "RaBitQfs": 0.9,
    "IVF32,Flat": 0.98,
    "IVF32,PQ16x4fs": 0.9,
    "IVF32,PQ16x4fsr": 0.95,
    "IVF32,RaBitQ": 0.95,
    "IVF32,RaBitQfs": 0.95,
    "IVF32,SQ8": 0.98,
    "IVF32_HNSW8,SQ8": 0.98,
    "HNSW16,SQ8": 0.98,
    "PCA24,IVF32,PQ12x4fsr": 0.9,
    "PCA24,HNSW16,SQ8": 0.9,
    "Pad40,IVF32,PQ20x4fs": 0.85,
}
STORED = clustered(ROWS, DIM)
QUERIES = asked(20, DIM)


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    """FAISS's threads wait for each other, on a busy machine long."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture(scope="module")
def made() -> dict[str, FaissIndex]:
    """Each kind once, filled in uneven steps."""
    found = {}
    for spec in LEAST:
        index = FaissIndex(spec, DIM)
        index.train(STORED.astype(np.float32))
        for part in np.split(STORED, [1, 1000, 1001]):
            index.add(part)
        assert len(index) == ROWS
        found[spec] = index
    return found


@pytest.mark.parametrize("spec", LEAST)
def test_a_shortlist_holds_the_nearest(made: dict[str, FaissIndex], spec: str) -> None:
    scores, rows = made[spec].search(QUERIES, 100)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64
    assert (np.diff(scores, axis=1) <= 0).all()
    true = np.argsort(-(QUERIES @ STORED.astype(np.float32).T), axis=1)[:, :10]
    held = np.mean([np.isin(mine, own).mean() for mine, own in zip(true, rows)])
    assert held >= LEAST[spec]


@pytest.mark.parametrize("spec", LEAST)
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.2, 0.9])
@pytest.mark.parametrize("count", [1, 20])
def test_no_forbidden_row_however_narrow(
    made: dict[str, FaissIndex], spec: str, share: float, count: int
) -> None:
    allowed = np.random.default_rng(3).random(ROWS) < share
    k = 30
    scores, rows = made[spec].search(QUERIES[:count], k, allowed=allowed, effort=Effort(4, 100))
    found = rows >= 0
    assert allowed[rows[found]].all()
    np.testing.assert_array_equal(np.isneginf(scores), ~found)
    # What is missing is at the end; nothing is there twice; enough is found.
    assert (np.sort(~found, axis=1) == ~found).all()
    for line in rows:
        own = line[line >= 0]
        assert len(set(own.tolist())) == len(own)
    assert found.sum(axis=1).min() >= 0.4 * min(k, allowed.sum())


@pytest.mark.parametrize("spec", ["IVF32,Flat", "IVF32,SQ8", "IVF32_HNSW8,SQ8"])
def test_a_filter_for_another_place_than_the_query(made: dict[str, FaissIndex], spec: str) -> None:
    """Allowed are rows far away: of the lists near the query, none holds any."""
    scores = QUERIES[0] @ STORED.astype(np.float32).T
    allowed = scores < np.quantile(scores, 0.1)
    _, rows = made[spec].search(QUERIES[:1], 40, allowed=allowed, effort=Effort(8, 40))
    assert allowed[rows[rows >= 0]].all()
    true = np.argsort(np.where(allowed, -scores, np.inf))[:10]
    assert np.isin(true, rows).mean() >= 0.7


@pytest.mark.parametrize("spec", LEAST)
def test_saved_and_loaded_it_answers_the_same_and_grows(
    made: dict[str, FaissIndex], spec: str, tmp_path: Path
) -> None:
    made[spec].save(tmp_path)
    again = FaissIndex(spec, DIM)
    again.load(tmp_path)
    for one, other in zip(made[spec].search(QUERIES, 20), again.search(QUERIES, 20), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.bytes() == again.bytes_for(ROWS)
    more = clustered(50, DIM, seed=7)
    again.add(more)
    assert len(again) == ROWS + 50
    allowed = np.arange(ROWS + 50) >= ROWS
    _, rows = again.search(more.astype(np.float32), 10, allowed=allowed, effort=Effort(32, 10))
    assert (rows >= ROWS).all()
    found = np.mean([own in line for own, line in zip(range(ROWS, ROWS + 50), rows)])
    assert found >= 0.9


def test_more_than_there_is(made: dict[str, FaissIndex]) -> None:
    for spec in ("IVF32,PQ16x4fs", "PQ16x4fs", "HNSW16,SQ8"):
        allowed = np.zeros(ROWS, dtype=bool)
        allowed[[5, 77, 1999]] = True
        _, rows = made[spec].search(QUERIES[:2], 10, allowed=allowed, effort=Effort(32, 10))
        assert (rows[:, 3:] == -1).all()
        assert all(set(line) <= {5, 77, 1999, -1} for line in rows.tolist())
    scores, rows = made["IVF32,Flat"].search(QUERIES[:2], ROWS + 5, effort=Effort(32, 1))
    assert (np.sort(rows[:, :ROWS], axis=1) == np.arange(ROWS)).all()
    assert (rows[:, ROWS:] == -1).all()
    assert np.isneginf(scores[:, ROWS:]).all()


def test_empty(made: dict[str, FaissIndex]) -> None:
    index = FaissIndex("IVF16,PQ16x4fs", DIM)
    with pytest.raises(UsageError, match="must be trained"):
        index.add(STORED[:5])
    index.train(STORED[:500].astype(np.float32))
    for empty in (index, FaissIndex("HNSW16,SQfp16", DIM)):
        scores, rows = empty.search(QUERIES, 3)
        assert (rows == -1).all()
        assert np.isneginf(scores).all()
    _, rows = made["IVF32,Flat"].search(QUERIES, 3, allowed=np.zeros(ROWS, dtype=bool))
    assert (rows == -1).all()
    assert made["IVF32,Flat"].search(QUERIES[:0], 3)[0].shape == (0, 3)


@pytest.mark.parametrize("spec", ["IVF32,PQ16x4fs", "HNSW16,SQ8", "PQ16x4fs"])
def test_parts_within_a_budget_answer_the_same(made: dict[str, FaissIndex], spec: str) -> None:
    allowed = np.arange(ROWS) % 3 == 0
    for mask in (None, allowed):
        whole = made[spec].search(QUERIES, 10, allowed=mask)
        parts = made[spec].search(QUERIES, 10, allowed=mask, budget=1)
        np.testing.assert_array_equal(whole[1], parts[1])


@pytest.mark.parametrize("spec", ["IVF32,PQ16x4fsr", "HNSW16,SQ8", "IVF32,RaBitQ"])
def test_threads_with_efforts_of_their_own(made: dict[str, FaissIndex], spec: str) -> None:
    index = made[spec]
    efforts = [Effort(probes, 10) for probes in (1, 4, 16, 32)]
    alone = [index.search(QUERIES, 10, effort=effort)[1] for effort in efforts]
    wrong = []

    def work(place: int) -> None:
        for _ in range(20):
            rows = index.search(QUERIES, 10, effort=efforts[place])[1]
            if not (rows == alone[place]).all():
                wrong.append(place)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_more_effort_finds_more(made: dict[str, FaissIndex]) -> None:
    for spec in ("IVF32,Flat", "HNSW16,SQ8"):
        found = [
            recall(made[spec].search(QUERIES, 10, effort=Effort(probes, 10))[1], QUERIES, STORED)
            for probes in (1, 4, 32)
        ]
        assert found == sorted(found)
        assert found[-1] > 0.95
    efforts = made["IVF32,PQ16x4fs"].efforts(10)
    assert len(set(efforts)) == len(efforts)
    assert {effort.probes for effort in efforts} == {1, 2, 4, 8, 16, 32}
    assert min(effort.shortlist for effort in efforts) == 10
    assert {effort.probes for effort in made["SQ8"].efforts(10)} == {0}


@pytest.mark.parametrize(
    ("queries", "k", "allowed"),
    [
        (np.ones((1, 5)), 1, None),
        (np.ones(DIM), 1, None),
        (np.ones((1, DIM)), 0, None),
        (np.full((1, DIM), np.nan), 1, None),
        (np.full((1, DIM), np.inf), 1, None),
        (np.ones((1, DIM)), 1, np.ones(3, dtype=bool)),
        (np.ones((1, DIM)), 1, np.ones(ROWS)),
    ],
)
def test_wrong_arguments_are_refused(
    made: dict[str, FaissIndex], queries: np.ndarray, k: int, allowed: np.ndarray | None
) -> None:
    with pytest.raises(ValueError, match="must be"):
        made["IVF32,Flat"].search(queries, k, allowed=allowed)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("IVF32,Nonsense", "makes no index of 32 dimensions"),
        ("PQ7x4fs", "makes no index of 32 dimensions"),
        ("IVF32,PQ16x4fs,RFlat", "write .int8"),
        ("IDMap,Flat", "leave the IDMap"),
        ("NSG16", "cannot add rows"),
    ],
)
def test_specs_that_cannot_serve(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FaissIndex(spec, DIM)


def test_a_sample_that_is_too_small() -> None:
    with pytest.raises(UsageError, match="cannot be trained on 10 rows"):
        FaissIndex("IVF64,Flat", DIM).train(STORED[:10].astype(np.float32))


def test_a_file_of_another_index(made: dict[str, FaissIndex], tmp_path: Path) -> None:
    made["SQ8"].save(tmp_path)
    with pytest.raises(LibraryError, match="holds a IndexScalarQuantizer, not a IndexIVFFlat"):
        FaissIndex("IVF32,Flat", DIM).load(tmp_path)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(LibraryError, match="cannot be read"):
        FaissIndex("SQ8", DIM).load(tmp_path)


def test_lists_without_an_allowed_row_do_not_count() -> None:
    """Ten lists of ten rows, of which 0 and 1 hold nothing allowed and 5 half."""
    owner = np.repeat(np.arange(10), 10).astype(np.int32)
    allowed = owner >= 2
    allowed[50:55] = False
    order = np.array([[0, 1, 2, 5, 9, 3, 4, 6, 7, 8], [9, 0, 3, 4, 1, 2, 5, 6, 7, 8]])
    asked_for = []

    def nearest(width: int) -> tuple[np.ndarray, np.ndarray]:
        asked_for.append(width)
        return -np.arange(10, dtype=np.float32)[None].repeat(2, 0)[:, :width], order[:, :width]

    near, lists = Coverage(owner, 10).visits(allowed, 2, nearest)
    # 75 of 100 rows are allowed: 2 / .75 = 2.7 lists wanted.
    assert lists.tolist() == [[2, 5, 9], [9, 3, 4]]
    assert near.tolist() == [[-2, -3, -4], [0, -2, -3]]
    # One row is allowed: its list alone, though it is the last.
    one = np.arange(100) == 85
    _, lists = Coverage(owner, 10).visits(one, 2, nearest)
    assert lists.tolist() == [[8], [8]]
    assert asked_for == [6, 2, 8, 10]

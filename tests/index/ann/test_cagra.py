"""CAGRA on a processor: as it is made there, and as a GPU leaves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clustered import Held, asked, clustered, recall
from device_checks import Elsewhere, on
from hypothesis import given, settings
from hypothesis import strategies as st

from maxsight.errors import LibraryError, UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import auto, cagra, searcher
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.ann.gpu_index import LEAST_GRAPH_ROWS

faiss = faiss_build.load()
DIM = 24
STORED = clustered(LEAST_GRAPH_ROWS, DIM)
QUERIES = asked(60, DIM)


def made_here() -> VectorIndex:
    index = auto.make("CAGRA16", DIM)
    for part in np.array_split(STORED, 3):
        index.add(part)
    return index


def left_by_a_gpu() -> VectorIndex:
    index = on(Elsewhere(), "CAGRA16", DIM)
    for part in np.array_split(STORED, 3):
        index.add(part)
    return index


@pytest.fixture(scope="module", params=[made_here, left_by_a_gpu])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    """As a processor loads it."""
    make: Callable[[], VectorIndex] = request.param
    folder = tmp_path_factory.mktemp("cagra")
    made = make()
    _, rows = made.search(QUERIES, 10, effort=Effort(64, 10))
    made.save(folder)
    loaded = FaissIndex("CAGRA16", DIM)
    loaded.load(folder)
    np.testing.assert_array_equal(loaded.search(QUERIES, 10, effort=Effort(64, 10))[1], rows)
    assert len(loaded) == len(STORED)
    # Only a GPU gives every row all of its links.
    assert cagra.is_full(loaded.index) == (make is left_by_a_gpu)
    np.testing.assert_array_equal(cagra.rows(loaded.index), STORED.astype(np.float32))
    return loaded


def test_more_effort_finds_more(index: VectorIndex) -> None:
    found = [
        recall(index.search(QUERIES, 10, effort=effort)[1], QUERIES, STORED)
        for effort in (Effort(16, 10), Effort(64, 10), Effort(512, 10))
    ]
    assert found[0] < found[1] <= found[2]
    assert found[2] > 0.99
    probes = {effort.probes for effort in index.efforts(10)}
    assert {16, 512} <= probes


def test_searches_are_repeatable(index: VectorIndex) -> None:
    """The bottom level alone would begin its walks at random."""
    first = index.search(QUERIES, 10, effort=Effort(16, 10))
    for _ in range(3):
        np.testing.assert_array_equal(index.search(QUERIES, 10, effort=Effort(16, 10))[1], first[1])


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.0002, 1), seed=st.integers(0, 99), k=st.integers(1, 30))
def test_filters_are_kept(index: VectorIndex, share: float, seed: int, k: int) -> None:
    allowed = np.random.default_rng(seed).random(len(STORED)) < share
    _, rows = index.search(QUERIES[:4], k, allowed=allowed)
    assert allowed[rows[rows >= 0]].all()
    found = searcher.search(index, Held(STORED, []), QUERIES[:4], k, allowed=allowed, brute_rows=0)
    for rows, _ in found:
        assert allowed[rows].all()
        assert len(rows) == min(k, np.count_nonzero(allowed))


def test_filtered_recall(index: VectorIndex) -> None:
    for share in (0.5, 0.1, 0.02):
        allowed = np.random.default_rng(0).random(len(STORED)) < share
        _, rows = index.search(QUERIES, 10, allowed=allowed, effort=Effort(64, 10))
        assert recall(rows, QUERIES, STORED, allowed) > 0.9


def test_it_grows_here(index: VectorIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    grown = auto.make("CAGRA16", DIM)
    grown.load(tmp_path)
    new = clustered(1500, DIM, seed=7)
    grown.add(new)
    together = np.concatenate([STORED, new])
    _, rows = grown.search(QUERIES, 10, effort=Effort(128, 10))
    assert recall(rows, QUERIES, together) > 0.9
    _, own = grown.search(new.astype(np.float32), 1, effort=Effort(64, 1))
    assert (own[:, 0] == np.arange(len(STORED), len(together))).mean() > 0.97


@pytest.mark.parametrize(
    "spec", ["CAGRA16+int8", "leanvec-id:16/CAGRA16", "leanvec:16/CAGRA16+int8"]
)
def test_it_composes(spec: str, tmp_path: Path) -> None:
    made = auto.make(spec, DIM)
    made.train(STORED[:2000].astype(np.float32), asked(300, DIM, 5))
    made.add(STORED)
    made.save(tmp_path)
    loaded = auto.make(spec, DIM)
    loaded.load(tmp_path)
    found = searcher.search(loaded, Held(STORED, []), QUERIES, 10, effort=Effort(256, 200))
    assert recall(np.stack([rows for rows, _ in found]), QUERIES, STORED) > 0.9


def test_its_bytes_are_those_of_vectors_and_links() -> None:
    index = auto.make("CAGRA64", 128)
    stored = clustered(500, 128)
    index.add(stored)
    vectors, links = 4 * 128 * 500, 4 * 64 * 500
    assert vectors + links < index.bytes() < 1.1 * (vectors + links)
    assert isinstance(index, FaissIndex)
    held = 4 * index.index.hnsw.neighbors.size()
    assert held == pytest.approx(links, rel=0.05)


@pytest.mark.parametrize("spec", ["CAGRA", "CAGRA0", "CAGRA7", "CAGRA6", "CAGRA258", "CAGRA64,SQ8"])
def test_what_is_no_cagra(spec: str) -> None:
    with pytest.raises(UsageError):
        auto.make(spec, DIM)


def test_an_older_graph_file_is_another_kind(tmp_path: Path) -> None:
    other = faiss.IndexHNSWFlat(DIM, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.write_index(other, str(tmp_path / "faiss.index"))
    with pytest.raises(LibraryError, match="holds a IndexHNSWFlat"):
        auto.make("CAGRA16", DIM).load(tmp_path)

"""An index that lives on a card. Without a GPU another copy on the processor stands for the card:
what is on which side, and when, is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from clustered import asked, clustered, recall

from maxsight.errors import BackendError
from maxsight.index.ann import auto
from maxsight.index.ann.contract import Effort
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.ann.gpu_index import Card, Cuda, GpuIndex
from maxsight.index.faiss_build import gpu_count

DIM = 32
STORED = clustered(3000, DIM)
QUERIES = asked(10, DIM)
SPECS = ["Flat", "IVF16,Flat", "IVF16,SQ8"]


class Elsewhere:
    """A copy of the index, on the same processor."""

    def take(self, index: Any) -> Any:
        return faiss.clone_index(index)

    def give(self, index: Any) -> Any:
        return faiss.clone_index(index)


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.mark.parametrize("spec", SPECS)
def test_made_there_and_loaded_here_and_back(spec: str, tmp_path: Path) -> None:
    check(spec, tmp_path, Elsewhere())


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_count(), reason="needs a GPU and a GPU build of FAISS")
@pytest.mark.parametrize("spec", SPECS)
def test_made_on_a_gpu_and_loaded_here_and_back(spec: str, tmp_path: Path) -> None:
    check(spec, tmp_path, Cuda())


def check(spec: str, folder: Path, card: Card) -> None:
    index = GpuIndex(spec, DIM, card=card)
    assert (index.search(QUERIES, 2)[1] == -1).all()
    index.train(STORED.astype(np.float32))
    for part in np.split(STORED, [1000, 1001]):
        index.add(part)
        # Filters see what was just added, too.
        newest = np.arange(len(index)) >= len(index) - len(part)
        _, rows = index.search(QUERIES, 5, allowed=newest, effort=Effort(16, 5))
        assert newest[rows[rows >= 0]].all()
        assert (rows >= 0).sum() == 10 * min(5, len(part))
    assert len(index) == 3000
    _, rows = index.search(QUERIES, 10, effort=Effort(16, 10))
    assert recall(rows, QUERIES, STORED) > 0.9
    index.save(folder)
    here, again = FaissIndex(spec, DIM), GpuIndex(spec, DIM, card=card)
    for loaded in (here, again):
        loaded.load(folder)
        assert len(loaded) == 3000
        _, found = loaded.search(QUERIES, 10, effort=Effort(16, 10))
        assert np.mean([np.isin(mine, own).mean() for mine, own in zip(rows, found)]) > 0.97
    again.add(STORED[:5])
    assert len(again) == 3005


@pytest.mark.skipif(gpu_count() > 0, reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(BackendError, match=r"maxsight\[gpu\]"):
        auto.make("IVF16,Flat", DIM, device="gpu")

"""FAISS files that lie: each is one error, before or in the search, and no read out of bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from clustered import asked, clustered

from maxsight.errors import LibraryError
from maxsight.index.ann import faiss_kinds
from maxsight.index.ann.faiss_index import FILE, FaissIndex

DIM = 32
STORED = clustered(400, DIM)

Lie = Callable[[Any], object]


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


def made(spec: str) -> FaissIndex:
    index = FaissIndex(spec, DIM)
    index.train(STORED.astype(np.float32))
    index.add(STORED)
    return index


def forged(spec: str, lie: Lie, folder: Path) -> FaissIndex:
    """A new index of a spec, and in the folder the file of one that was changed before."""
    index = made(spec).index
    lie(index)
    faiss.write_index(index, str(folder / FILE))
    return FaissIndex(spec, DIM)


def _step(index: Any) -> Any:
    return faiss.downcast_VectorTransform(index.chain.at(0))


def _other_steps(*steps: Any) -> Lie:
    def lie(index: Any) -> None:
        index.chain.clear()
        for step in steps:
            step.this.own(False)
            index.chain.push_back(step)

    return lie


def _remap(places: list[int]) -> Any:
    kind: Any = faiss.RemapDimensionsTransform
    step = kind(DIM, DIM, True)
    faiss.copy_array_to_vector(np.array(places, np.int32), step.map)
    return step


def _short(vector: Any) -> None:
    faiss.copy_array_to_vector(faiss.vector_to_array(vector)[:1].copy(), vector)


def _rows_twice(index: Any) -> None:
    place = next(n for n in range(index.nlist) if index.invlists.list_size(n) > 1)
    ids = faiss.rev_swig_ptr(index.invlists.get_ids(place), 2)
    ids[1] = ids[0]


LIES: dict[str, tuple[str, Lie]] = {
    "a step that reads other numbers": (
        "RR32,IVF8,Flat",
        _other_steps(_remap([10**9] * DIM)),
    ),
    "one step more": (
        "RR32,IVF8,Flat",
        _other_steps(_remap(list(range(DIM))), _remap(list(range(DIM)))),
    ),
    "no step": ("RR32,IVF8,Flat", _other_steps()),
    "padding from elsewhere": (
        "Pad48,SQ8",
        lambda index: faiss.copy_array_to_vector(np.full(48, 10**8, np.int32), _step(index).map),
    ),
    "too little to add": ("PCA16,IVF8,Flat", lambda index: _short(_step(index).b)),
    "a row in two places": ("IVF8,SQ8", _rows_twice),
    "a search that there is not": (
        "IVF8,PQ8x4fs",
        lambda index: setattr(index, "implem", 99),
    ),
    "blocks that do not fit": ("PQ8x4fs", lambda index: setattr(index, "bbs", 1 << 20)),
    "bits that do not fit": (
        "RaBitQfs",
        lambda index: setattr(index.rabitq, "nb_bits", 1 << 20),
    ),
    "more blocks than it has": (
        "RaBitQfs",
        lambda index: setattr(index, "ntotal2", 1 << 20),
    ),
    "half a centre": ("RaBitQ", lambda index: _short(index.center)),
}


@pytest.mark.parametrize(("spec", "lie"), LIES.values(), ids=LIES)
def test_a_file_that_lies_is_refused(spec: str, lie: Lie, tmp_path: Path) -> None:
    index = forged(spec, lie, tmp_path)
    with pytest.raises(LibraryError, match=r"faiss\.index .*make the index again"):
        index.load(tmp_path)


def test_what_faiss_refuses_in_a_search_is_one_error(tmp_path: Path) -> None:
    def lie(index: Any) -> None:
        faiss_kinds.core_of(index).is_trained = False

    index = forged("IVF8,Flat", lie, tmp_path)
    index.load(tmp_path)
    with pytest.raises(LibraryError, match=r"not trained.*make the index again"):
        index.search(asked(2, DIM), 5)


@pytest.mark.parametrize(
    "spec",
    ["RR32,IVF8,Flat", "Pad48,SQ8", "PCAR16,IVF8,SQ8", "OPQ4_16,IVF8,PQ4x4fs", "L2norm,RaBitQ"],
)
def test_a_file_with_steps_before_comes_back(spec: str, tmp_path: Path) -> None:
    index = made(spec)
    index.save(tmp_path)
    again = FaissIndex(spec, DIM)
    again.load(tmp_path)
    queries = asked(5, DIM)
    scores, rows = again.search(queries, 10)
    best, right = index.search(queries, 10)
    assert np.array_equal(rows, right)
    assert np.array_equal(scores, best)

"""A device without a GPU, and what every device must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from clustered import asked, clustered, recall

from maxsight.index import faiss_build
from maxsight.index.ann import auto, cagra, devices, faiss_kinds
from maxsight.index.ann.contract import Effort
from maxsight.index.ann.devices import Device
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.ann.gpu_index import LEAST_GRAPH_ROWS, GpuIndex
from maxsight.index.exact.gpu import WARM_UP_QUERIES

faiss = faiss_build.load()
DIM = 32
# And the recall that their codes allow.
SPECS = {
    "Flat": 0.99,
    "IVF16,Flat": 0.99,
    "IVF16,SQ8": 0.9,
    "IVF16,PQ16np": 0.5,
    "RR32,IVF16,Flat": 0.99,
    "CAGRA16": 0.9,
}
STORED = clustered(LEAST_GRAPH_ROWS + 500, DIM)
QUERIES = asked(20, DIM)


class Linked:
    """As FAISS's ``GpuIndexCagra``: takes all rows at once, reads them where they are, and links
    each to as many others."""

    def __init__(self, empty: Any) -> None:
        self.degree = cagra.degree(empty)
        self.d = empty.d
        self.ntotal = 0
        self._rows: npt.NDArray[np.float32] | None = None

    def train(self, rows: npt.NDArray[np.float32]) -> None:
        assert self._rows is None, "FAISS ignores the second call"
        assert len(rows) > self.degree
        self._rows, self.ntotal = rows, len(rows)

    def given(self) -> Any:
        """The graph as ``copyTo`` leaves it: links above the bottom are made here, those of the
        bottom come from the GPU, and every row has all of them."""
        assert self._rows is not None
        inserted = cagra.graph(self.d, self.degree)
        inserted.add(self._rows)
        linked = cagra.links(inserted)
        others = np.random.default_rng(0).integers(0, self.ntotal, linked.shape)
        index = faiss.IndexHNSWCagra(self.d, self.degree // 2, faiss.METRIC_INNER_PRODUCT)
        index.init_level0 = False
        index.add(self._rows)
        first = faiss.vector_to_array(index.hnsw.offsets)[:-1].astype(np.int64)
        held = faiss.rev_swig_ptr(index.hnsw.neighbors.data(), index.hnsw.neighbors.size())
        held[first[:, None] + np.arange(self.degree)] = np.where(linked < 0, others, linked)
        index.init_level0 = True
        return index


class Elsewhere:
    """The same processor, with the manners of a GPU: kinds it lacks, and refusals.

    Args:
        refuses: names of methods that fail as FAISS does, ``train`` and ``add`` among them.
        room: bytes that are free.
    """

    name = "elsewhere"

    def __init__(self, *refuses: str, room: int | None = None) -> None:
        self.refuses = set(refuses)
        self.room = room
        self.done: list[str] = []

    def is_there(self) -> bool:
        return True

    def form(self, index: Any) -> devices.Form | None:
        return devices.form_of(index)

    def free(self) -> int | None:
        return self.room

    def take(self, index: Any) -> Any:
        self._do("take")
        if isinstance(index, faiss.IndexHNSWCagra):
            return _copy(index) if index.ntotal else self._guarded(Linked(index))
        core = faiss_kinds.core_of(index)
        if isinstance(core, faiss.IndexIVFFastScan | faiss.IndexIVFRaBitQ | faiss.IndexHNSW):
            raise RuntimeError("Error: 'false' failed: not implemented on GPU")
        return self._guarded(_copy(index))

    def give(self, index: Any) -> Any:
        self._do("give")
        index = index.inner
        return index.given() if isinstance(index, Linked) else _copy(index)

    def flat(self, dim: int) -> Any:
        self._do("flat")
        return faiss.IndexFlatIP(dim)

    def search(self, index: Any, queries: Any, k: int, probes: int) -> Any:
        self._do("search")
        index = getattr(index, "inner", index)
        parameters: Any = None
        if isinstance(index, faiss.IndexHNSWCagra):
            parameters = faiss.SearchParametersHNSW(efSearch=probes)
        elif isinstance(faiss_kinds.core_of(index), faiss.IndexIVF):
            parameters = faiss.SearchParametersIVF(nprobe=probes)
            if isinstance(index, faiss.IndexPreTransform):
                parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        return index.search(queries, k, params=parameters)

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in self.refuses:
            raise RuntimeError(f"Error in void f() at x.cu:1: Error: 'ok' failed: no {what} here")

    def _guarded(self, index: Any) -> Any:
        return _Guarded(index, self)


def _copy(index: Any) -> Any:
    """With all that training looks at; FAISS's clone of CAGRA is none."""
    if isinstance(index, faiss.IndexHNSWCagra):
        return faiss.deserialize_index(faiss.serialize_index(index))
    return faiss.clone_index(index)


class _Guarded:
    """An index there, of which ``train`` and ``add`` are told."""

    def __init__(self, inner: Any, gpu: Elsewhere) -> None:
        self.inner = inner
        self._gpu = gpu

    @property
    def ntotal(self) -> int:
        return int(self.inner.ntotal)

    def train(self, rows: Any) -> None:
        self._gpu._do("train")
        self.inner.train(rows)

    def add(self, rows: Any) -> None:
        self._gpu._do("add")
        self.inner.add(rows)


def on(gpu: Device, spec: str, dim: int = DIM) -> GpuIndex:
    """The empty index of a spec on a GPU."""
    index = auto.make(spec, dim, device=gpu)
    assert isinstance(index, GpuIndex)
    return index


def check_made_and_loaded(spec: str, folder: Path, gpu: Device) -> None:
    """Made there, looked at here, added to, saved; loaded on either side, and searched there."""
    index = on(gpu, spec)
    assert (index.search(QUERIES, 2)[1] == -1).all()
    index.train(STORED.astype(np.float32))
    first, later = STORED[:-200], STORED[-200:]
    for part in np.split(first, [1000, 1001]):
        index.add(part)
    assert len(index) == len(first)
    hard = Effort(256 if spec.startswith("CAGRA") else 16, 10)
    _, rows = index.search(QUERIES, 10, effort=hard)
    assert recall(rows, QUERIES, first) > SPECS[spec]
    index.add(later)
    assert len(index) == len(STORED)
    newest = np.arange(len(STORED)) >= len(first)
    _, rows = index.search(QUERIES, 5, allowed=newest, effort=hard)
    assert newest[rows].all()
    _, rows = index.search(QUERIES, 10, effort=hard)
    assert recall(rows, QUERIES, STORED) > SPECS[spec]
    index.save(folder)

    here, there = FaissIndex(spec, DIM), on(gpu, spec)
    for loaded in (here, there):
        loaded.load(folder)
        assert len(loaded) == len(STORED)
    there.search(np.repeat(QUERIES, WARM_UP_QUERIES, axis=0), 10)  # from now on, on the GPU
    for loaded in (here, there):
        _, found = loaded.search(QUERIES, 10, effort=hard)
        assert np.mean([np.isin(mine, own).mean() for mine, own in zip(rows, found)]) > 0.95
        allowed = np.random.default_rng(0).random(len(STORED)) < 0.3
        _, found = loaded.search(QUERIES, 10, allowed=allowed, effort=hard)
        assert allowed[found].all()
        assert recall(found, QUERIES, STORED, allowed) > SPECS[spec]
    there.add(STORED[:5])
    assert len(there) == len(STORED) + 5
    _, found = there.search(STORED[:5].astype(np.float32), 2, effort=hard)
    assert (found.max(axis=1) >= len(STORED)).mean() >= 0.8

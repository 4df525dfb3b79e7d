"""A FAISS index that is trained, filled and searched on a GPU, and saved as a CPU loads it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from maxsight.errors import BackendError, UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import faiss_kinds
from maxsight.index.ann.arguments import checked_queries
from maxsight.index.ann.contract import Effort, Floats, Halves, Mask, Rows
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.gpu import MAX_FETCH
from maxsight.index.vectors import unpack

_ADD_ROWS = 65_536


class Card(Protocol):
    """Where an index can be moved to, and back."""

    def take(self, index: Any) -> Any:
        """A copy there of a FAISS index here."""
        ...

    def give(self, index: Any) -> Any:
        """A copy here of a FAISS index there."""
        ...


class Cuda:
    """GPU 0.

    Raises:
        BackendError: there is none, or FAISS was built for CPUs.
    """

    def __init__(self) -> None:
        if not faiss_build.gpu_count():
            raise BackendError(
                "an index on a GPU needs an NVIDIA GPU and a FAISS built for it: `pip install "
                "'maxsight[gpu]'`, or make the index on the processor"
            )
        faiss = faiss_build.load()
        self._resources = faiss.StandardGpuResources()
        self._options = faiss.GpuClonerOptions()
        self._options.useFloat16 = True

    def take(self, index: Any) -> Any:
        faiss = faiss_build.load()
        try:
            return faiss.index_cpu_to_gpu(self._resources, 0, index, self._options)
        except RuntimeError as error:
            raise BackendError(
                f"the GPU does not take it ({faiss_kinds.reason(error)}): FAISS has Flat, IVF with "
                "Flat, SQ8 and PQ of 8 bits there, no fast-scan and no HNSW"
            ) from None

    def give(self, index: Any) -> Any:
        return faiss_build.load().index_gpu_to_cpu(index)


class GpuIndex:
    """As :class:`FaissIndex`, but on a card. A filter is answered by a copy on the processor.

    Searches may run in many threads, one at a time on the card; ``train``, ``add`` and ``load``
    beside nothing.

    Args:
        spec: a factory string of FAISS.
        dim: D.
        card: GPU 0 unless given.

    Raises:
        BackendError: no GPU.
        UsageError: the string does not make an index of that width.
    """

    def __init__(self, spec: str, dim: int, *, card: Card | None = None) -> None:
        self.spec = spec
        self.dim = dim
        self._card = card or Cuda()
        self._here = FaissIndex(spec, dim)
        self._there: Any = None
        self._turn = threading.Lock()

    @property
    def lists(self) -> int:
        """Of the inverted file, 0 where it is none."""
        return self._here.lists

    @property
    def effort(self) -> Effort:
        """As :attr:`FaissIndex.effort`."""
        return self._here.effort

    @effort.setter
    def effort(self, effort: Effort) -> None:
        self._here.effort = effort

    def __len__(self) -> int:
        return len(self._here) if self._there is None else int(self._there.ntotal)

    def train(self, sample: Floats, queries: Floats | None = None) -> None:
        """Learn centroids on the card from a sample (n, D); ``queries`` are not looked at."""
        there = self._card.take(self._here.index)
        try:
            there.train(np.ascontiguousarray(sample, dtype=np.float32))
        except RuntimeError as error:
            raise UsageError(
                f"{self.spec} cannot be trained on {len(sample)} rows: {faiss_kinds.reason(error)}"
            ) from None
        self._there = there

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D)."""
        there = self._on_card()
        if not there.is_trained:
            raise UsageError(f"{self.spec} must be trained before rows are added")
        for start in range(0, len(vectors), _ADD_ROWS):
            there.add(unpack(vectors[start : start + _ADD_ROWS]))

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Mask | None = None,
        effort: Effort | None = None,
        budget: int | None = None,
    ) -> tuple[Floats, Rows]:
        """As the contract says."""
        queries = checked_queries(queries, self.dim, k, allowed=allowed, rows=len(self))
        effort = effort or self.effort
        if allowed is not None or k > MAX_FETCH or not len(self) or not len(queries):
            here = self._on_processor()
            return here.search(queries, k, allowed=allowed, effort=effort, budget=budget)
        faiss = faiss_build.load()
        parameters = None
        if self.lists:
            probes = min(max(1, effort.probes), self.lists, MAX_FETCH)
            parameters = faiss.SearchParametersIVF(nprobe=probes)
        with self._turn:
            found: tuple[Floats, Rows] = self._on_card().search(queries, k, params=parameters)
        scores, rows = found
        scores[rows < 0] = -np.inf
        return scores, rows

    def efforts(self, k: int) -> list[Effort]:
        """As :meth:`FaissIndex.efforts`."""
        return self._on_processor().efforts(k)

    def save(self, folder: Path) -> None:
        """Write what :class:`FaissIndex` loads."""
        self._on_processor().save(folder)

    def load(self, folder: Path) -> None:
        """Become what this or a :class:`FaissIndex` wrote there."""
        self._here.load(folder)
        self._there = None

    def bytes(self) -> int:
        """Memory of the card it holds; as much of the machine's once a filter was asked for."""
        return self.bytes_for(len(self))

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold."""
        return self._here.bytes_for(rows)

    def _on_card(self) -> Any:
        if self._there is None:
            self._there = self._card.take(self._here.index)
        return self._there

    def _on_processor(self) -> FaissIndex:
        with self._turn:
            here, there = self._here.index, self._there
            if there is not None and (
                here.ntotal != there.ntotal or here.is_trained != there.is_trained
            ):
                self._here.become(self._card.give(there))
        return self._here

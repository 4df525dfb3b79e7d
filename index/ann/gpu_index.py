"""A FAISS index that a GPU makes or searches; kept, saved and loaded it is one of a processor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.errors import BackendError, UsageError
from maxsight.index.ann import faiss_kinds
from maxsight.index.ann.contract import Effort
from maxsight.index.ann.devices import MOST_KEPT, Device, Form
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.array_types import Floats, Halves, Mask, Rows
from maxsight.index.exact.arguments import checked_queries
from maxsight.index.exact.gpu import MAX_FETCH, WARM_UP_QUERIES
from maxsight.kernels.halves import unpack

_HANDED_ROWS = 65_536
# Fewer rows of a graph are linked before a GPU has started, and cuVS is not made for so few.
LEAST_GRAPH_ROWS = 10_000
# A filter that lets so large a share through, as where some files were removed, hides few of what a
# GPU finds; it knows no filters.
_NEARLY_ALL = 0.9

_log = logging.getLogger("maxsight.index")


class GpuIndex:
    """As the :class:`FaissIndex` that it is given; a GPU does what it is quicker at.

    While it is made, learning and adding are the GPU's (of kinds that it lacks, only where the
    lists are is learned there). The first look at the index brings it to the processor, where it
    is measured and saved; rows that are added later are added there.

    A loaded index is searched on the GPU from the ``WARM_UP_QUERIES``-th query on: copying it
    takes longer than a few searches. Filters that let less than nearly all through, and efforts
    beyond what the GPU can, are always the processor's. Where the GPU refuses, the processor goes
    on, and a warning says why.

    Searches may run in many threads, one at a time on the GPU; ``train``, ``add`` and ``load``
    beside nothing.

    Args:
        index: empty.
        gpu: need not be there if the index is loaded.

    Raises:
        UsageError: GPUs can do nothing for this kind.
    """

    is_ranked = False

    def __init__(self, index: FaissIndex, gpu: Device) -> None:
        form = gpu.form(index.index)
        if form is None:
            raise UsageError(
                f"{index.spec}: FAISS has Flat, IVF and, built with cuVS, CAGRA on a GPU, and this "
                "is none of these"
            )
        self.spec = index.spec
        self.dim = index.dim
        self.form: Form = form
        self.device = gpu.name
        self._here = index
        self._gpu = gpu
        self._there: Any = None
        # Of a graph, which is made of all rows at once.
        self._waiting: list[Halves] = []
        self._is_loaded = False
        self._is_refused = False
        self._asked = 0
        self._turn = threading.Lock()

    @property
    def innermost(self) -> GpuIndex:
        """Itself."""
        return self

    @property
    def effort(self) -> Effort:
        """As :attr:`FaissIndex.effort`."""
        return self._here.effort

    @effort.setter
    def effort(self, effort: Effort) -> None:
        self._here.effort = effort

    def __len__(self) -> int:
        if self._is_loaded or self._there is None:
            return len(self._here) + sum(map(len, self._waiting))
        return int(self._there.ntotal)

    def train(self, sample: Floats, queries: Floats | None = None) -> None:
        """Learn centroids on the GPU from a sample (n, D); ``queries`` are not looked at.

        Raises:
            BackendError: the GPU refuses; a :class:`FaissIndex` says whether it is the sample.
        """
        sample = np.ascontiguousarray(sample, dtype=np.float32)
        with self._refusals():
            if self.form is Form.LISTS:
                self._train_lists(sample)
            elif self.form is Form.WHOLE:
                self._there = self._gpu.take(self._here.index)
                self._there.train(sample)

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D).

        Raises:
            BackendError: the GPU refuses. Some rows may be in: make the index anew.
        """
        if self.form is Form.GRAPH and not self._is_loaded and not len(self._here):
            self._waiting.append(vectors)
        elif self._is_loaded or self._there is None:
            self._there = None
            self._here.add(vectors)
        else:
            with self._refusals():
                for start in range(0, len(vectors), _HANDED_ROWS):
                    self._there.add(unpack(vectors[start : start + _HANDED_ROWS]))

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
        found = self._search_there(queries, k, effort.probes, allowed)
        if found is not None:
            return found
        here = self._on_processor()
        return here.search(queries, k, allowed=allowed, effort=effort, budget=budget)

    def efforts(self, k: int) -> list[Effort]:
        """As :meth:`FaissIndex.efforts`."""
        return self._on_processor().efforts(k)

    def save(self, folder: Path) -> None:
        """Write what :class:`FaissIndex` loads."""
        self._on_processor().save(folder)

    def load(self, folder: Path) -> None:
        """Become what this or a :class:`FaissIndex` wrote there."""
        self._here.load(folder)
        self._there, self._waiting = None, []
        self._is_loaded = True

    def bytes(self) -> int:
        """Memory of the machine it holds; once it is searched on a GPU, it is there besides."""
        return self._here.bytes()

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold."""
        return self._here.bytes_for(rows)

    def sample_rows(self, rows: int) -> int:
        """As :meth:`FaissIndex.sample_rows`."""
        return self._here.sample_rows(rows)

    def _pays(self, queries: int, k: int, probes: int) -> bool:
        """Whether the GPU is asked; counts ``queries`` towards that."""
        most = MOST_KEPT if self.form is Form.GRAPH else MAX_FETCH
        if not self._is_loaded or self._is_refused or self.form is Form.LISTS or not len(self):
            return False
        if max(k, min(probes, self._here.lists) if self._here.lists else probes) > most:
            return False
        self._asked += queries
        return self._asked >= WARM_UP_QUERIES and self._gpu.is_there()

    def _search_there(
        self, queries: Floats, k: int, probes: int, allowed: Mask | None
    ) -> tuple[Floats, Rows] | None:
        """None where it is the processor's turn, from then on if the GPU refuses."""
        fetch = k
        if allowed is not None:
            available = np.count_nonzero(allowed)
            if not available or available < _NEARLY_ALL * len(self):
                return None
            fetch = k + k // 4 + 32 if available < len(self) else k
        if not self._pays(len(queries), fetch, probes):
            return None
        found = self._ask_gpu(queries, fetch, probes)
        if found is None or fetch == k or allowed is None:
            return found
        scores, rows = found
        right = (rows >= 0) & allowed[rows]
        if (right.sum(axis=1) < min(k, available)).any():
            return None
        order = np.argsort(~right, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(right, order, axis=1)
        return (
            np.where(kept, np.take_along_axis(scores, order, axis=1), -np.inf),
            np.where(kept, np.take_along_axis(rows, order, axis=1), -1),
        )

    def _ask_gpu(self, queries: Floats, k: int, probes: int) -> tuple[Floats, Rows] | None:
        if lists := self._here.lists:
            probes = min(max(1, probes), lists)
        with self._turn:
            try:
                if self._there is None:
                    self._there = self._gpu.take(self._here.index)
                scores, rows = self._gpu.search(self._there, queries, k, probes)
            except RuntimeError as error:
                self._is_refused, self._there = True, None
                reason = faiss_kinds.reason(error)
                _log.warning("searching on the processor, %s refuses: %s", self._gpu.name, reason)
                return None
        scores[rows < 0] = -np.inf
        return scores, rows

    def _on_processor(self) -> FaissIndex:
        with self._turn:
            if self._waiting:
                waiting, self._waiting = self._waiting, []
                self._link(waiting)
            elif self._there is not None and not self._is_loaded:
                with self._refusals():
                    self._here.become(self._gpu.give(self._there))
                self._there = None
        return self._here

    def _train_lists(self, sample: Floats) -> None:
        index = self._here.index
        core = faiss_kinds.core_of(index)
        core.clustering_index = there = self._gpu.flat(core.d)
        try:
            index.train(sample)
        finally:
            core.clustering_index = None
            del there
        self._here.become(index)

    def _link(self, waiting: list[Halves]) -> None:
        """Make the graph of all rows."""
        if sum(map(len, waiting)) < LEAST_GRAPH_ROWS:
            for part in waiting:
                self._here.add(part)
            return
        # The GPU reads them until the graph is here.
        rows = np.concatenate([unpack(part) for part in waiting])
        waiting.clear()
        with self._refusals():
            there = self._gpu.take(self._here.index)
            there.train(rows)
            made = self._gpu.give(there)
        made.hnsw.efConstruction = self._here.index.hnsw.efConstruction
        self._here.become(made)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise BackendError(
                f"{self._gpu.name} refuses {self.spec}: {faiss_kinds.reason(error)}"
            ) from None

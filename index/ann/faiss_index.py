"""Any FAISS index on a CPU as a :class:`~maxsight.index.ann.contract.VectorIndex`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.errors import LibraryError, UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import faiss_calls, faiss_files, faiss_kinds
from maxsight.index.ann.contract import WIDENED_ROWS, Effort
from maxsight.index.ann.coverage import Coverage
from maxsight.index.ann.devices import form_of
from maxsight.index.ann.faiss_kinds import Dial
from maxsight.index.ann.list_rows import ListRows
from maxsight.index.array_types import Floats, Halves, Mask, Rows
from maxsight.index.exact.arguments import checked_queries
from maxsight.kernels.halves import unpack

FILE = "faiss.index"
# What k-means is given to place each centroid.
ROWS_A_LIST = 64
_LEAST_SAMPLE = 20_000
_DEFAULT_SHORTLIST = 200
# Times k.
_SHORTLISTS = (1, 2, 5, 10, 20, 50)


class FaissIndex:
    """Searches may run in many threads at once; ``train``, ``add`` and ``load`` beside nothing.

    Args:
        spec: a factory string of FAISS.
        dim: D.

    Attributes:
        index: FAISS's own.
        lists: of the inverted file, 0 where it is none.

    Raises:
        UsageError: the string does not make an index of that width.
    """

    device = "cpu"
    is_ranked = False

    def __init__(self, spec: str, dim: int) -> None:
        self.spec = spec
        self.dim = dim
        self.become(faiss_kinds.factory(spec, dim))
        probes = {Dial.LISTS: max(16, self.lists // 32), Dial.GRAPH: 128, Dial.NONE: 0}
        self.effort = Effort(probes[self._dial], _DEFAULT_SHORTLIST)

    def become(self, index: Any) -> None:
        """Hold another FAISS index of the same spec and width."""
        self.index = index
        self.form = form_of(index)
        self._core = faiss_kinds.core_of(index)
        self._dial = faiss_kinds.dial_of(self._core)
        self.lists = int(self._core.nlist) if self._dial is Dial.LISTS else 0
        self._coverage: Coverage | None = None
        self._list_rows = self._find_list_rows()

    @property
    def innermost(self) -> FaissIndex:
        """Itself."""
        return self

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def train(self, sample: Floats, queries: Floats | None = None) -> None:
        """Learn centroids from a sample (n, D) of the rows; ``queries`` are not looked at.

        Raises:
            UsageError: the sample is too small for the factory string.
        """
        sample = np.ascontiguousarray(sample, dtype=np.float32)
        try:
            self.index.train(sample)
        except RuntimeError as error:
            raise UsageError(
                f"{self.spec} cannot be trained on {len(sample)} rows: "
                f"{faiss_kinds.reason(error)}; take more rows or fewer lists"
            ) from None
        self._list_rows = self._find_list_rows()

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D)."""
        if not self.index.is_trained:
            raise UsageError(f"{self.spec} must be trained before rows are added")
        for start in range(0, len(vectors), WIDENED_ROWS):
            self.index.add(unpack(vectors[start : start + WIDENED_ROWS]))
        self._coverage = None

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Mask | None = None,
        effort: Effort | None = None,
        budget: int | None = None,
    ) -> tuple[Floats, Rows]:
        """As the contract says. Where a filter is narrow, it looks harder by itself.

        Raises:
            ValueError: a shape that does not fit, a number that is not finite, ``k`` below 1.
            LibraryError: FAISS finds something in the index that it cannot search.
        """
        queries = checked_queries(queries, self.dim, k, allowed=allowed, rows=len(self))
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        available = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if available == len(self):
            allowed = None
        fetch = min(k, available)
        if not fetch:
            return scores, rows
        probes = max(1, (effort or self.effort).probes)
        step = max(1, len(queries))
        if budget is not None:
            step = max(1, budget // self._bytes_a_query(fetch, probes, available))
        try:
            with faiss_build.cores_for(len(queries)):
                for start in range(0, len(queries), step):
                    part = slice(start, start + step)
                    found = self._search(queries[part], fetch, probes, allowed, available)
                    scores[part, :fetch], rows[part, :fetch] = found
        except RuntimeError as error:
            raise LibraryError(
                f"FAISS cannot search its index {self.spec} ({faiss_kinds.reason(error)}): make "
                "the index again, or another with --index"
            ) from None
        scores[rows < 0] = -np.inf
        return scores, rows

    def efforts(self, k: int) -> list[Effort]:
        """Probes in powers of two, each with some shortlists, by about what they cost."""
        code = faiss_kinds.code_bytes(self._core)
        shortlists = [k * times for times in _SHORTLISTS]
        dials, cost = [0], 0.0
        if self._dial is Dial.LISTS:
            dials = [2**power for power in range(int(math.log2(self.lists)) + 1)]
            cost = code * len(self) / self.lists
        elif self._dial is Dial.GRAPH:
            dials = [2**power for power in range(4, 12)]
            cost = 32.0 * code  # links looked at a candidate
        found = [Effort(probes, shortlist) for probes in dials for shortlist in shortlists]
        return sorted(found, key=lambda e: e.probes * cost + e.shortlist * 8 * self.dim)

    def save(self, folder: Path) -> None:
        faiss_files.write(self.index, folder / FILE)

    def load(self, folder: Path) -> None:
        """As the contract says.

        Raises:
            LibraryError: FAISS cannot read the file, or it holds another kind of index.
        """
        self.become(faiss_files.read(folder / FILE, self.index))

    def bytes(self) -> int:
        """Memory it holds."""
        coverage = 0 if self._coverage is None else self._coverage.bytes()
        return self.bytes_for(len(self)) + coverage

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold."""
        return faiss_kinds.held_bytes(self._core, rows)

    def sample_rows(self, rows: int) -> int:
        """Enough for each centroid, all if there are fewer."""
        return min(rows, max(_LEAST_SAMPLE, ROWS_A_LIST * self.lists))

    def _search(
        self, queries: Floats, k: int, probes: int, allowed: Mask | None, available: int
    ) -> tuple[Floats, Rows]:
        if allowed is not None and not faiss_kinds.knows_masks(self._core):
            return self._search_wide(queries, k, allowed, available)
        faiss = faiss_build.load()
        chosen = None if allowed is None else faiss_kinds.selector(allowed)
        if self._dial is Dial.LISTS:
            return self._search_lists(queries, k, probes, allowed, chosen)
        parameters = None
        if self._dial is Dial.GRAPH:
            # The graph walks over forbidden rows, too: they are what it keeps most of.
            wide = min(len(self), max(k, probes) * len(self) // available)
            parameters = faiss.SearchParametersHNSW(efSearch=wide, sel=chosen)
        elif chosen is not None:
            parameters = faiss.SearchParameters(sel=chosen)
        if parameters is not None and self._core is not self.index:
            parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        return faiss_calls.search(self.index, queries, k, parameters)

    def _search_lists(
        self, queries: Floats, k: int, probes: int, allowed: Mask | None, chosen: Any
    ) -> tuple[Floats, Rows]:
        probes = min(probes, self.lists)
        queries = faiss_kinds.transformed(self.index, queries)
        if allowed is None:
            near, lists = self._nearest_lists(queries, probes)
        else:
            if self._coverage is None:
                self._coverage = Coverage(faiss_kinds.owners(self._core, len(self)), self.lists)
            near, lists = self._coverage.visits(
                allowed, probes, lambda width: self._nearest_lists(queries, width)
            )
        return faiss_calls.search_lists(self._core, queries, k, near, lists, chosen)

    def _nearest_lists(self, queries: Floats, width: int) -> tuple[Floats, Rows]:
        faiss = faiss_build.load()
        if self._list_rows is not None:
            return self._list_rows.nearest(queries, width, threads=faiss.omp_get_max_threads())
        quantizer = faiss.downcast_index(self._core.quantizer)
        parameters = None
        if isinstance(quantizer, faiss.IndexHNSW):
            parameters = faiss.SearchParametersHNSW(efSearch=max(64, 2 * width))
        return faiss_calls.search(quantizer, queries, width, parameters)

    def _find_list_rows(self) -> ListRows | None:
        """The lists of a trained inverted file, unless FAISS looks them up better: in a graph."""
        centroids = faiss_kinds.centroids(self._core) if self.lists else None
        return None if centroids is None else ListRows(centroids)

    def _search_wide(
        self, queries: Floats, k: int, allowed: Mask, available: int
    ) -> tuple[Floats, Rows]:
        """FAISS leaves nothing out here: so much is fetched that enough is allowed."""
        fetch = min(len(self), 32 + 3 * k * len(self) // (2 * available))
        while True:
            scores, rows = self.index.search(queries, fetch)
            right = (rows >= 0) & allowed[rows]
            if fetch == len(self) or (right.sum(axis=1) >= k).all():
                break
            fetch = min(len(self), 4 * fetch)
        order = np.argsort(~right, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(right, order, axis=1)
        return (
            np.take_along_axis(scores, order, axis=1),
            np.where(kept, np.take_along_axis(rows, order, axis=1), -1),
        )

    def _bytes_a_query(self, k: int, probes: int, available: int) -> int:
        """Of working memory: candidates, lists and, at most, a table of a byte a number a list."""
        masked = available < len(self)
        if self._dial is Dial.LISTS:
            lists = self.lists if masked else min(probes, self.lists)
            return 32 * k + lists * (24 + 4 * self.dim)
        if self._dial is Dial.GRAPH:
            return 32 * k + len(self) // 8 + 16 * probes * len(self) // available
        wide = 1 if faiss_kinds.knows_masks(self._core) else 2 * len(self) // available
        return 32 * (k + 32) * wide + 16 * self.dim

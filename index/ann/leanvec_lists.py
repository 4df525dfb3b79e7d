"""An inverted file whose lists are made of rows and whose codes are made for queries.

Which rows lie together is a matter of the rows: lists are clusters of their principal components.
Which of them a query means is a matter of the query: the 4-bit codes are of what LeanVec keeps
(:mod:`maxsight.index.ann.projections`), relative to the mean of their list. In one space for both,
either the lists are poor (queries stress directions in which rows do not gather), or the codes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.errors import LibraryError, UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import faiss_kinds
from maxsight.index.ann.arguments import checked_queries
from maxsight.index.ann.contract import Effort, Floats, Halves, Mask, Rows
from maxsight.index.ann.coverage import Coverage
from maxsight.index.ann.places import Places
from maxsight.index.ann.projections import Projections, learn
from maxsight.index.vectors import unpack

_SPEC = re.compile(r"leanivf:([1-9][0-9]*)/IVF([1-9][0-9]*),PQ([1-9][0-9]*)x4fsr")
_LEARNED, _CODES = "leanvec.npz", "codes.faiss"
# Principal components that place rows in lists: of 512, 192 do nearly as well as all.
_PLACING, _LEAST_PLACING = 3 / 8, 128
# Rows that are projected and encoded at once: 128 MiB at D = 512.
_ADD_ROWS = 65_536
_TRAIN_PARTS = 65_536
_ITERATIONS = 10
_DEFAULT_SHORTLIST = 100
_SHORTLISTS = (2, 3, 4, 6, 8, 10, 15, 20, 30)
# Of working memory a query for each list it visits, beside the centroid.
_LIST_BYTES = 24


class LeanVecLists:
    """Searches may run in many threads at once; ``train``, ``add`` and ``load`` beside nothing.

    Args:
        spec: ``leanivf:d/IVFn,PQmx4fsr``: n lists, codes of d dimensions in m parts of 4 bits.
        dim: D.

    Raises:
        UsageError: the spec is of another form, d above D or no multiple of m.
    """

    def __init__(self, spec: str, dim: int) -> None:
        match = _SPEC.fullmatch(spec)
        if not match or int(match[1]) > dim or int(match[1]) % int(match[3]):
            raise UsageError(
                f'{spec!r}: write leanivf:d/IVFn,PQmx4fsr, say "leanivf:{max(2, dim // 4)}/'
                f'IVF1024,PQ{max(1, dim // 8)}x4fsr", with d at most {dim} and a multiple of m'
            )
        self.spec = spec
        self.dim = dim
        self.reduced, self.lists, self.parts = (int(part) for part in match.groups())
        self.effort = Effort(max(16, self.lists // 64), _DEFAULT_SHORTLIST)
        self._projections: Projections | None = None
        self._placing: Floats = np.empty((0, dim), dtype=np.float32)
        self._places = Places(self._placing)
        self._take(None)

    def _take(self, codes: Any) -> None:
        """FAISS's inverted file; None: not trained."""
        self._codes = codes
        self._coverage: Coverage | None = None
        if codes is not None:
            faiss = faiss_build.load()
            # The means that codes are relative to, (lists, d), in FAISS's own memory.
            held = faiss.downcast_index(codes.quantizer)
            means = faiss.rev_swig_ptr(held.get_xb(), self.lists * self.reduced)
            self._means: Floats = means.reshape(self.lists, self.reduced)

    def __len__(self) -> int:
        return 0 if self._codes is None else int(self._codes.ntotal)

    def train(self, sample: Floats, queries: Floats | None = None) -> None:
        """Learn lists and codes from a sample (n, D), and from queries (m, D) what codes keep.

        Without queries the codes are of principal components.

        Raises:
            UsageError: fewer rows than lists.
        """
        if len(sample) < max(self.lists, 16):
            raise UsageError(
                f"{self.spec} cannot be trained on {len(sample)} rows: take more rows or fewer "
                "lists"
            )
        faiss = faiss_build.load()
        self._placing = learn(sample, None, reduced=self._placing_dim).rows
        self._projections = learn(sample, queries, reduced=self.reduced).turned()
        placed, coded = sample @ self._placing.T, sample @ self._projections.rows.T
        clustering = faiss.Kmeans(
            self._placing_dim,
            self.lists,
            niter=_ITERATIONS,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=len(sample),
        )
        clustering.train(placed)
        self._places = Places(clustering.centroids)
        owner = self._places.nearest(placed, 1)[1][:, 0]
        means = _means(coded, owner, self.lists)
        codes = self._empty_codes()
        codes.quantizer.add(means)
        codes.pq.cp.min_points_per_centroid = 1
        part = slice(_TRAIN_PARTS)
        codes.pq.train(coded[part] - means[owner[part]])
        codes.is_trained = True
        self._take(codes)

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D)."""
        faiss = faiss_build.load()
        learned = self._learned
        for start in range(0, len(vectors), _ADD_ROWS):
            part = unpack(vectors[start : start + _ADD_ROWS])
            owner = self._places.nearest(part @ self._placing.T, 1)[1]
            coded = np.ascontiguousarray(part @ learned.rows.T)
            ids = np.arange(len(self), len(self) + len(part), dtype=np.int64)
            # FAISS lets rows be put into lists of one's choice in its plain layout only.
            plain = faiss.IndexIVFPQ(
                self._codes.quantizer,
                self.reduced,
                self.lists,
                self.parts,
                4,
                faiss.METRIC_INNER_PRODUCT,
            )
            plain.pq, plain.by_residual, plain.is_trained = self._codes.pq, True, True
            plain.add_core(
                len(part), faiss.swig_ptr(coded), faiss.swig_ptr(ids), faiss.swig_ptr(owner)
            )
            fresh = faiss.IndexIVFPQFastScan(plain)
            _move_into_full_blocks(fresh, self._codes)
            self._codes.merge_from(fresh, 0)
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
        """
        queries = checked_queries(queries, self.dim, k, allowed=allowed, rows=len(self))
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        available = len(self) if allowed is None else int(np.count_nonzero(allowed))
        fetch = min(k, available)
        if not fetch:
            return scores, rows
        if available == len(self):
            allowed = None
        probes = min(max(1, (effort or self.effort).probes), self.lists)
        step = len(queries)
        if budget is not None:
            step = max(1, budget // self._bytes_a_query(fetch, probes, allowed is not None))
        with faiss_build.cores_for(len(queries)):
            for start in range(0, len(queries), step):
                part = slice(start, start + step)
                found = self._search(queries[part], fetch, probes, allowed)
                scores[part, :fetch], rows[part, :fetch] = found
        scores[rows < 0] = -np.inf
        return scores, rows

    def efforts(self, k: int) -> list[Effort]:
        """Probes in powers of two, each with some shortlists, by about what they cost."""
        dials = [2**power for power in range(self.lists.bit_length())]
        cost = self.parts / 2 * len(self) / self.lists
        found = [Effort(probes, k * times) for probes in dials for times in _SHORTLISTS]
        return sorted(found, key=lambda e: e.probes * cost + e.shortlist * 4 * self.dim)

    def save(self, folder: Path) -> None:
        faiss = faiss_build.load()
        learned = self._learned
        np.savez(
            folder / _LEARNED,
            queries=learned.queries,
            rows=learned.rows,
            placing=self._placing,
            places=self._places.directions(),
        )
        faiss.write_index(self._codes, str(folder / _CODES))

    def load(self, folder: Path) -> None:
        """As the contract says.

        Raises:
            LibraryError: a file cannot be read, or holds another index.
        """
        faiss = faiss_build.load()
        try:
            with np.load(folder / _LEARNED) as stored:
                projections = Projections(stored["queries"], stored["rows"])
                placing, places = stored["placing"], Places(stored["places"])
            codes = faiss.read_index(str(folder / _CODES))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise LibraryError(f"{folder} cannot be read ({error}): make the index again") from None
        if (codes.d, codes.nlist) != (self.reduced, self.lists) or placing.shape[1] != self.dim:
            raise LibraryError(
                f"{folder} holds {codes.nlist} lists of {codes.d} dimensions out of "
                f"{placing.shape[1]}, which {self.spec} of {self.dim} does not make; make the "
                "index again"
            )
        self._projections, self._placing, self._places = projections, placing, places
        self._take(codes)

    def bytes(self) -> int:
        """Memory it holds."""
        coverage = 0 if self._coverage is None else self._coverage.bytes()
        return self.bytes_for(len(self)) + coverage

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold."""
        placing = self._placing_dim
        return (
            faiss_kinds.held_bytes(self._codes or self._empty_codes(), rows)
            + self.lists * (placing + 4)
            + 4 * self.dim * (placing + 2 * self.reduced)
        )

    def _search(
        self, queries: Floats, k: int, probes: int, allowed: Mask | None
    ) -> tuple[Floats, Rows]:
        chosen = None if allowed is None else faiss_kinds.selector(allowed)
        placed = queries @ self._placing.T
        if allowed is None:
            _, lists = self._places.nearest(placed, probes)
        else:
            if self._coverage is None:
                owners = faiss_kinds.owners(self._codes, len(self))
                self._coverage = Coverage(owners, self.lists)
            _, lists = self._coverage.visits(
                allowed, probes, lambda width: self._places.nearest(placed, width)
            )
        coded = queries @ self._learned.queries.T
        near = np.matmul(self._means[lists], coded[:, :, None])[:, :, 0]
        return faiss_kinds.search_lists(self._codes, coded, k, near, lists, chosen)

    def _empty_codes(self) -> Any:
        faiss = faiss_build.load()
        codes = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(self.reduced),
            self.reduced,
            self.lists,
            self.parts,
            4,
            faiss.METRIC_INNER_PRODUCT,
        )
        codes.by_residual = True
        return codes

    def _bytes_a_query(self, k: int, probes: int, masked: bool) -> int:
        lists = self.lists if masked else probes
        return 32 * k + lists * (_LIST_BYTES + 4 * self.reduced) + 16 * self.reduced

    @property
    def _placing_dim(self) -> int:
        return min(self.dim, max(_LEAST_PLACING, round(_PLACING * self.dim)))

    @property
    def _learned(self) -> Projections:
        if self._projections is None:
            raise UsageError(f"{self.spec} must be trained before it is used")
        return self._projections


def _move_into_full_blocks(fresh: Any, codes: Any) -> None:
    """Move the rows of some lists, those that ``merge_from`` would damage.

    FAISS 1.15 copies too many bytes where a list's size is a multiple of the bytes of a block.
    """
    faiss = faiss_build.load()
    new, old = (faiss.downcast_InvertedLists(index.invlists) for index in (fresh, codes))
    sizes = faiss_kinds.list_sizes(codes)
    packer = codes.get_CodePacker()
    code = np.empty(packer.code_size, dtype=np.uint8)
    for place in np.flatnonzero((sizes > 0) & (sizes % old.block_size == 0)).tolist():
        size, count = int(sizes[place]), new.list_size(place)
        if not count:
            continue
        old.resize(place, size + count)
        ids = faiss.rev_swig_ptr(old.get_ids(place), size + count)
        ids[size:] = faiss.rev_swig_ptr(new.get_ids(place), count)
        for row in range(count):
            packer.unpack_1(new.get_codes(place), row, faiss.swig_ptr(code))
            packer.pack_1(faiss.swig_ptr(code), size + row, old.get_codes(place))
        new.resize(place, 0)


def _means(rows: Floats, owner: npt.NDArray[np.int64], lists: int) -> Floats:
    """(lists, d): the mean of the rows of each list, zeros where it has none."""
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=lists)
    found = np.zeros((lists, rows.shape[1]), dtype=np.float32)
    filled = counts > 0
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1][filled]
    found[filled] = np.add.reduceat(rows[order], starts, axis=0) / counts[filled, None]
    return found

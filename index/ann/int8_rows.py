"""Rows as int8 numbers with a factor each: a quarter of float32, and nearly its ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from maxsight.errors import LibraryError
from maxsight.index import faiss_build
from maxsight.index.ann.contract import WIDENED_ROWS
from maxsight.index.array_types import Floats, Halves, Rows
from maxsight.index.files.arrays import read_array
from maxsight.kernels import int8, similarity
from maxsight.kernels.halves import unpack

CODES, _SCALES = "int8.npy", "int8-scales.npy"
# From so many queries on, a scan unpacks rows and multiplies matrices: 16 MiB of them at D = 512.
_PRODUCT_QUERIES = 8
_SCAN_ROWS = 8192


class Int8Rows:
    """Row r is ``codes[r] * scales[r]``: (N, D) int8 and (N,) float32.

    After ``load`` they stay in the file, of which the system keeps in memory what is used.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._codes: npt.NDArray[np.int8] = np.empty((0, dim), dtype=np.int8)
        self._scales: Floats = np.empty(0, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D)."""
        if not self._codes.flags.owndata:  # it is in a file
            self._codes, self._scales = np.array(self._codes), np.array(self._scales)
        first = len(self)
        # In place: large arrays move by their page table, so that they never lie in memory twice.
        self._codes.resize((first + len(vectors), self.dim), refcheck=False)
        self._scales.resize(first + len(vectors), refcheck=False)
        for start in range(0, len(vectors), WIDENED_ROWS):
            rows = unpack(vectors[start : start + WIDENED_ROWS])
            part = slice(first + start, first + start + len(rows))
            self._codes[part], self._scales[part] = int8.rounded_array(rows)

    def best(
        self, queries: Floats, candidates: Rows, k: int, *, threads: int = 1
    ) -> tuple[Floats, Rows]:
        """The ``k`` best of some rows a query.

        Args:
            queries: (Q, D).
            candidates: (Q, C) rows, none twice a query; -1 is none.

        Returns:
            ``(scores, rows)``, each (Q, min(k, C)), best first; -inf and -1 where there are fewer.
        """
        return similarity.rescore(
            queries, self._codes, candidates, k, scale=self._scales, threads=threads
        )

    def scan(self, queries: Floats, rows: Rows, k: int, *, threads: int = 1) -> tuple[Floats, Rows]:
        """The ``k`` best of the same (n,) rows for every query, as :meth:`best` gives them."""
        if len(queries) < _PRODUCT_QUERIES or not len(rows):
            candidates = np.broadcast_to(rows, (len(queries), len(rows)))
            return self.best(queries, candidates, k, threads=threads)
        faiss = faiss_build.load()
        scores, found = [], []
        for start in range(0, len(rows), _SCAN_ROWS):
            part = rows[start : start + _SCAN_ROWS]
            unpacked = self._codes[part].astype(np.float32)
            unpacked *= self._scales[part, None]
            near = faiss.knn(queries, unpacked, min(k, len(part)), faiss.METRIC_INNER_PRODUCT)
            scores.append(near[0])
            found.append(part[near[1]])
        together = np.concatenate(scores, axis=1)
        order = np.argsort(-together, axis=1, kind="stable")[:, :k]
        return (
            np.take_along_axis(together, order, axis=1),
            np.take_along_axis(np.concatenate(found, axis=1), order, axis=1),
        )

    def save(self, folder: Path) -> None:
        np.save(folder / CODES, self._codes)
        np.save(folder / _SCALES, self._scales)

    def load(self, folder: Path) -> None:
        """Become what ``save`` wrote there.

        Raises:
            LibraryError: it is not there, or not that.
        """
        codes = read_array(folder / CODES, mapped=True)
        scales = read_array(folder / _SCALES)
        if scales.ndim != 1 or scales.dtype != np.float32:
            raise LibraryError(
                f"{folder / _SCALES} holds {scales.shape} {scales.dtype}, not float32 numbers: "
                "make the index again"
            )
        if codes.shape != (len(scales), self.dim) or codes.dtype != np.int8:
            raise LibraryError(
                f"{folder / CODES} holds {codes.shape} {codes.dtype}, not "
                f"({len(scales)}, {self.dim}) int8: make the index again"
            )
        self._codes, self._scales = codes, scales

    def bytes(self) -> int:
        """Memory they hold, or take once all of the file was used."""
        return self.bytes_for(len(self))

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold."""
        return rows * (self.dim + 4)

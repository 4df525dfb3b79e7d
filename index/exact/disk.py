"""Exact search over vectors that stay on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from maxsight.index.array_types import Floats, Mask, Rows
from maxsight.index.exact.memory import ExactIndex, inner
from maxsight.index.tables import lance_tables, table_rows
from maxsight.kernels import array_ordering

# Of vectors read at a time; FAISS copies them once more.
CHUNK_BYTES = 16 * 2**20


class DiskVectors:
    """The vectors of a table's rows, read when they are wanted. Immutable.

    A search reads every allowed vector: right, and as slow as the disk. It is for libraries larger
    than the memory they may take which nobody has built an index for.

    Args:
        units: the Lance table, at one version.
        positions: (N,) int64 positions of the rows in that table.
        dim: D.
        path: what an error names.
    """

    def __init__(self, units: Any, positions: Rows, dim: int, path: Path) -> None:
        self.dim = dim
        self._units = units
        self._positions = positions
        self._path = path

    @classmethod
    def of(cls, units: Any, unit_ids: Rows, dim: int, path: Path) -> Self:
        """Over the units with these rising ids.

        One that a compaction has deleted from the table, and that no search may therefore return,
        has the vector of another.
        """
        with lance_tables.storage_errors(path):
            stored = lance_tables.column(units, "unit_id")
        return cls(units, np.minimum(np.searchsorted(stored, unit_ids), len(stored) - 1), dim, path)

    def __len__(self) -> int:
        return len(self._positions)

    def take(self, rows: npt.ArrayLike) -> npt.NDArray[np.float16]:
        """The stored (n, D) float16 vectors of ``rows``, in the order given; one read."""
        positions = self._positions[np.asarray(rows, dtype=np.int64)]
        if not len(positions):
            return np.empty((0, self.dim), dtype=np.float16)
        with lance_tables.storage_errors(self._path):
            column = self._units.take(positions, columns=["vector"])["vector"].combine_chunks()
        return table_rows.vectors_of(column, self.dim)

    def scores(self, query: Floats, rows: slice | npt.ArrayLike) -> Floats:
        """Inner products of one (D,) query with ``rows``: (n,) float32, in bounded memory."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        parts = [inner(self.take(part), query) for part in chunks(np.asarray(rows), self.dim)]
        return np.concatenate([*parts, np.empty(0, dtype=np.float32)])

    def search(
        self, queries: npt.ArrayLike, k: int, *, allowed: Mask | None = None
    ) -> list[tuple[Rows, Floats]]:
        """As :meth:`ExactIndex.search`, reading ``CHUNK_BYTES`` at a time."""
        rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        # An empty index checks the arguments and gives the answer there is without rows.
        best = ExactIndex(self.dim).search(queries, k)
        for part in chunks(rows, self.dim):
            found = ExactIndex(self.dim).extended([self.take(part)]).search(queries, k)
            best = [
                merge_best([old, (part[near], scores)], k)
                for old, (near, scores) in zip(best, found, strict=True)
            ]
        return best


def chunks(rows: Rows, dim: int) -> Iterator[Rows]:
    """``rows`` in parts whose vectors take ``CHUNK_BYTES`` at most."""
    step = max(1, CHUNK_BYTES // (2 * dim))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def merge_best(parts: list[tuple[Rows, Floats]], k: int) -> tuple[Rows, Floats]:
    """The best ``k`` of several answers over different rows; equal scores by lower row."""
    rows = np.concatenate([rows for rows, _ in parts])
    scores = np.concatenate([scores for _, scores in parts])
    scores, rows = array_ordering.best(scores, rows, k)
    return rows, scores

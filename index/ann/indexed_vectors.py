"""Search by an index over most of the rows, and exactly over the newest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from maxsight.index.ann import searcher
from maxsight.index.ann.contract import Built, Effort, StoredVectors, VectorIndex
from maxsight.index.array_types import Floats, Mask, Rows
from maxsight.index.exact.disk import DiskVectors, chunks, merge_best
from maxsight.index.exact.memory import ExactIndex


@dataclass(frozen=True, eq=False)
class _IndexedRows:
    """The stored vectors by the rows of the index."""

    stored: ExactIndex | DiskVectors
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows) -> npt.NDArray[np.float16]:
        return self.stored.take(self.rows[rows])


class IndexedVectors:
    """Immutable; safe to search from threads.

    Args:
        built: the index, and which units it knows.
        stored: every row's vector.
        rows: (len(index),) the row of each of the index's rows, -1 where it is gone.
        tail: the rows after the last that the index knows.
    """

    def __init__(
        self, built: Built, stored: ExactIndex | DiskVectors, rows: Rows, tail: ExactIndex
    ) -> None:
        self.dim = stored.dim
        self.built = built
        self.tail = tail
        self.stored = stored
        self._stored_rows = rows
        self._is_there: Mask = rows >= 0
        self._is_whole = bool(self._is_there.all())

    @classmethod
    def of(
        cls,
        built: Built,
        stored: ExactIndex | DiskVectors,
        unit_ids: Rows,
        old: StoredVectors | None,
    ) -> Self:
        """Over rows with these rising ids, taking over what ``old`` holds of the newest rows."""
        rows = np.searchsorted(unit_ids, built.unit_ids)
        found = np.append(unit_ids, -1)[rows] == built.unit_ids
        first = int(np.searchsorted(unit_ids, built.newest, side="right"))
        tail = ExactIndex(stored.dim)
        if isinstance(old, cls) and old.built is built:
            tail = old.tail
        new = np.arange(first + len(tail), len(stored))
        tail = tail.extended(stored.take(part) for part in chunks(new, stored.dim))
        return cls(built, stored, np.where(found, rows, -1), tail)

    def searched_by(self, index: VectorIndex) -> Self:
        """The same rows, by another object of the same index."""
        built = replace(self.built, index=index)
        return type(self)(built, self.stored, self._stored_rows, self.tail)

    def __len__(self) -> int:
        return len(self.stored)

    def take(self, rows: npt.ArrayLike) -> npt.NDArray[np.float16]:
        """The stored (n, D) float16 vectors of ``rows``, in the order given."""
        return self.stored.take(rows)

    def scores(self, query: Floats, rows: slice | npt.ArrayLike) -> Floats:
        """Inner products of one (D,) query with ``rows``: (n,) float32."""
        return self.stored.scores(query, rows)

    def search(
        self,
        queries: npt.ArrayLike,
        k: int,
        *,
        allowed: Mask | None = None,
        effort: Effort | None = None,
    ) -> list[tuple[Rows, Floats]]:
        """As :meth:`ExactIndex.search`, but that a row may be missed; scores are exact.

        Args:
            effort: instead of the one that the index was tuned to.
        """
        first = len(self) - len(self.tail)
        known = None if self._is_whole else self._is_there
        if allowed is not None:
            known = np.append(allowed, False)[self._stored_rows]
        found = searcher.search(
            self.built.index,
            _IndexedRows(self.stored, self._stored_rows),
            np.ascontiguousarray(queries, dtype=np.float32),
            k,
            allowed=known,
            effort=effort,
        )
        newest = self.tail.search(queries, k, allowed=None if allowed is None else allowed[first:])
        return [
            merge_best([(self._stored_rows[rows], scores), (tail_rows + first, tail_scores)], k)
            for (rows, scores), (tail_rows, tail_scores) in zip(found, newest, strict=True)
        ]

"""A light index that proposes, and int8 rows that rank what it proposes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maxsight.index import faiss_build
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.ann.int8_rows import Int8Rows
from maxsight.index.array_types import Floats, Halves, Mask, Rows
from maxsight.index.exact.arguments import checked_queries

SUFFIX = "+int8"
# Where a filter lets no more rows through, all are ranked: for a batch that costs no more than
# proposing some, for one query half as much again, and none is missed.
SCAN_ROWS = 10_000
# A proposed row and its score, as they are found and as they are handed on.
_PROPOSED_BYTES = 32


class Refined:
    """``effort.shortlist`` rows of the inner index are scored again by int8 rows.

    The scores err by about a hundredth of their spread, so a few more than ``k`` rows of this index
    hold the ``k`` best of its shortlist. Filters that let few rows through are answered by scoring
    all of these.

    Args:
        inner: of the same width, empty.
    """

    def __init__(self, inner: VectorIndex) -> None:
        self.inner = inner
        self.spec = inner.spec + SUFFIX
        self.dim = inner.dim
        self.is_ranked = True
        self.innermost = inner.innermost
        self._rows = Int8Rows(inner.dim)

    @property
    def effort(self) -> Effort:
        """That of the inner index."""
        return self.inner.effort

    @effort.setter
    def effort(self, effort: Effort) -> None:
        self.inner.effort = effort

    def __len__(self) -> int:
        return len(self._rows)

    def train(self, sample: Floats, queries: Floats | None = None) -> None:
        """Train the inner index."""
        self.inner.train(sample, queries)

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D)."""
        self.inner.add(vectors)
        self._rows.add(vectors)

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Mask | None = None,
        effort: Effort | None = None,
        budget: int | None = None,
    ) -> tuple[Floats, Rows]:
        """As the contract says, with scores of int8 rows.

        Raises:
            ValueError: a shape that does not fit, a number that is not finite, ``k`` below 1.
        """
        queries = checked_queries(queries, self.dim, k, allowed=allowed, rows=len(self))
        effort = effort or self.effort
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        threads = faiss_build.load().omp_get_max_threads()
        if allowed is not None and np.count_nonzero(allowed) <= SCAN_ROWS:
            found = self._rows.scan(queries, np.flatnonzero(allowed), k, threads=threads)
            width = found[0].shape[1]
            scores[:, :width], rows[:, :width] = found
            return scores, rows
        shortlist = max(k, effort.shortlist)
        step = len(queries) if budget is None else budget // (_PROPOSED_BYTES * shortlist)
        for start in range(0, len(queries), max(1, step)):
            part = slice(start, start + max(1, step))
            _, proposed = self.inner.search(
                queries[part], shortlist, allowed=allowed, effort=effort, budget=budget
            )
            scores[part], rows[part] = self._rows.best(queries[part], proposed, k, threads=threads)
        return scores, rows

    def efforts(self, k: int) -> list[Effort]:
        """Those of the inner index."""
        return self.inner.efforts(k)

    def save(self, folder: Path) -> None:
        self.inner.save(folder)
        self._rows.save(folder)

    def load(self, folder: Path) -> None:
        """As the contract says."""
        self.inner.load(folder)
        self._rows.load(folder)

    def bytes(self) -> int:
        """Memory it holds."""
        return self.inner.bytes() + self._rows.bytes()

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold."""
        return self.inner.bytes_for(rows) + self._rows.bytes_for(rows)

    def sample_rows(self, rows: int) -> int:
        """As the inner index needs."""
        return self.inner.sample_rows(rows)

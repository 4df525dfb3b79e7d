"""A light index that proposes, and int8 rows that rank what it proposes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maxsight.index import faiss_build
from maxsight.index.ann.arguments import checked_queries
from maxsight.index.ann.contract import Effort, Floats, Halves, Mask, Rows, VectorIndex
from maxsight.index.ann.int8_rows import Int8Rows

SUFFIX = "+int8"
# Where a filter lets no more rows through, ranking them all costs no more than proposing some.
SCAN_ROWS = 5_000


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
        threads = faiss_build.load().omp_get_max_threads()
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        if allowed is not None and np.count_nonzero(allowed) <= SCAN_ROWS:
            found = self._rows.scan(queries, np.flatnonzero(allowed), k, threads=threads)
        else:
            shortlist = max(k, effort.shortlist)
            _, proposed = self.inner.search(
                queries, shortlist, allowed=allowed, effort=effort, budget=budget
            )
            found = self._rows.best(queries, proposed, k, threads=threads)
        width = found[0].shape[1]
        scores[:, :width], rows[:, :width] = found
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

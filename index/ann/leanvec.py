"""An index over fewer dimensions (:mod:`maxsight.index.ann.projections`), whatever index it is.

Rows are projected when they are added, queries when they are asked. The scores are estimates: what
is found has to be scored again with whole vectors, as candidates of every index are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from maxsight.errors import LibraryError
from maxsight.index.ann.contract import WIDENED_ROWS, Effort, VectorIndex
from maxsight.index.ann.projections import Projections, learn
from maxsight.index.array_types import Floats, Halves, Mask, Rows
from maxsight.index.exact.arguments import checked_queries
from maxsight.index.files.arrays import read_arrays

Kind = Literal["id", "ood"]

_NAMES: dict[Kind, str] = {"id": "leanvec-id", "ood": "leanvec"}
_FILE = "projections.npz"
_INNER = "inner"


class LeanVec:
    """Rows of width ``dim`` in an index of width ``inner.dim``.

    Args:
        inner: an index of the reduced width, empty.
        dim: D.
        kind: ``ood`` learns from rows and queries; ``id`` from rows alone (principal components).

    Raises:
        ValueError: the inner index is wider than D.
    """

    def __init__(self, inner: VectorIndex, dim: int, kind: Kind = "ood") -> None:
        if inner.dim > dim:
            raise ValueError(f"{inner.spec} of {inner.dim} dimensions cannot reduce {dim}")
        self.inner = inner
        self.dim = dim
        self.kind = kind
        self.spec = f"{_NAMES[kind]}:{inner.dim}/{inner.spec}"
        self.is_ranked = False
        self.innermost = inner.innermost
        self._projections: Projections | None = None

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def effort(self) -> Effort:
        """That of the inner index."""
        return self.inner.effort

    @effort.setter
    def effort(self, effort: Effort) -> None:
        self.inner.effort = effort

    def train(self, sample: Floats, queries: Floats | None = None) -> None:
        """Learn the projections, then train the inner index in them.

        Args:
            sample: (n, D) of the rows.
            queries: (m, D); needed for ``ood``.

        Raises:
            ValueError: ``ood`` without queries, shapes that do not fit.
        """
        if self.kind == "ood" and queries is None:
            raise ValueError(
                f"{self.spec} learns from queries and was given none: give some, or take "
                f"{_NAMES['id']}:{self.inner.dim}/{self.inner.spec}"
            )
        if sample.shape[1:] != (self.dim,):
            raise ValueError(f"a sample must be (n, {self.dim}), got {sample.shape}")
        asked = queries if self.kind == "ood" else None
        self._projections = learn(sample, asked, reduced=self.inner.dim).turned()
        self.inner.train(
            sample @ self._learned.rows.T,
            None if queries is None else queries @ self._learned.queries.T,
        )

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D)."""
        rows = self._learned.rows.T
        for start in range(0, len(vectors), WIDENED_ROWS):
            part = vectors[start : start + WIDENED_ROWS].astype(np.float32)
            self.inner.add((part @ rows).astype(np.float16))

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Mask | None = None,
        effort: Effort | None = None,
        budget: int | None = None,
    ) -> tuple[Floats, Rows]:
        """Candidates of the inner index; see :class:`VectorIndex`."""
        queries = checked_queries(queries, self.dim, k, allowed=allowed, rows=len(self))
        projected = queries @ self._learned.queries.T
        return self.inner.search(projected, k, allowed=allowed, effort=effort, budget=budget)

    def efforts(self, k: int) -> list[Effort]:
        """Those of the inner index."""
        return self.inner.efforts(k)

    def save(self, folder: Path) -> None:
        """Write the projections, and the inner index into a folder below."""
        learned = self._learned
        np.savez(folder / _FILE, queries=learned.queries, rows=learned.rows)
        (folder / _INNER).mkdir()
        self.inner.save(folder / _INNER)

    def load(self, folder: Path) -> None:
        """As the contract says.

        Raises:
            LibraryError: a file is missing or damaged.
        """
        matrices = read_arrays(folder / _FILE, "queries", "rows")
        shape = (self.inner.dim, self.dim)
        for matrix in matrices:
            if matrix.shape != shape or matrix.dtype != np.float32:
                raise LibraryError(
                    f"{folder / _FILE} holds {matrix.shape} {matrix.dtype}, not {shape} float32: "
                    "make the index again"
                )
        self._projections = Projections(*matrices)
        self.inner.load(folder / _INNER)

    def bytes(self) -> int:
        """Memory of the inner index and of the two matrices."""
        return self.inner.bytes() + self._learned.rows.nbytes + self._learned.queries.nbytes

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold, and the two matrices."""
        return self.inner.bytes_for(rows) + 8 * self.dim * self.inner.dim

    def sample_rows(self, rows: int) -> int:
        """As the inner index needs."""
        return self.inner.sample_rows(rows)

    @property
    def _learned(self) -> Projections:
        if self._projections is None:
            raise ValueError(f"{self.spec} has learned nothing yet: train it first")
        return self._projections

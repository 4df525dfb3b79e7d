"""What every vector index can do, and how hard it looks.

An index finds *candidates*: rows that are probably nearest, with scores that may be estimates.
:mod:`maxsight.index.ann.searcher` scores them again with the stored vectors, which makes the scores
of an answer exact whatever found it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from maxsight.index.ann.devices import Form
from maxsight.index.array_types import Floats, Halves, Mask, Rows

# Rows that are float32 at a time, 32 MiB at D = 512.
WIDENED_ROWS = 16_384


@dataclass(frozen=True, order=True)
class Effort:
    """How hard a search looks: the two dials that ``maxsight tune-index`` turns.

    Attributes:
        probes: lists an inverted file visits, or candidates a graph keeps (efSearch); 0 where an
            index knows no such dial.
        shortlist: rows a query that are scored again with better vectors; at least ``k`` are.
    """

    probes: int
    shortlist: int


class VectorIndex(Protocol):
    """Rows 0, 1, ... of D-wide vectors, searched by inner product.

    Attributes:
        spec: what makes such an index again, as ``--index`` takes it.
        dim: D.
        effort: what a search spends unless told otherwise; set by tuning, saved with the index.
        is_ranked: whether it ranks its shortlist itself, so that a few more rows than k hold the k
            best of it, and misses none where a filter is narrow.
    """

    spec: str
    dim: int
    effort: Effort
    is_ranked: bool

    @property
    def innermost(self) -> Finder:
        """The one that finds rows, behind what ranks them and what reduces them."""
        ...

    def __len__(self) -> int:
        """Rows added."""
        ...

    def train(self, sample: Floats, queries: Floats | None = None) -> None:
        """Learn from a sample (n, D) of the rows and, where it helps, from queries (m, D)."""
        ...

    def add(self, vectors: Halves) -> None:
        """Append rows (n, D)."""
        ...

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Mask | None = None,
        effort: Effort | None = None,
        budget: int | None = None,
    ) -> tuple[Floats, Rows]:
        """Candidates for the ``k`` best rows of each query.

        Args:
            queries: (Q, D).
            k: at least 1.
            allowed: (N,) bool; rows outside it are never returned. None: all.
            effort: instead of the index's own.
            budget: bytes of working memory to stay within, by doing the queries in parts.

        Returns:
            ``(scores, rows)``, each (Q, k), best first; -inf and -1 where fewer were found.
        """
        ...

    def efforts(self, k: int) -> list[Effort]:
        """Settings worth trying for ``k`` answers, cheapest first."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything into an existing folder; the caller makes the folder appear at once."""
        ...

    def load(self, folder: Path) -> None:
        """Become what ``save`` wrote there, of an index made by the same ``spec`` and ``dim``.

        ``effort`` is not read: whoever loads sets it.
        """
        ...

    def bytes(self) -> int:
        """Memory it holds."""
        ...

    def bytes_for(self, rows: int) -> int:
        """Memory that so many rows will hold."""
        ...

    def sample_rows(self, rows: int) -> int:
        """How many of so many rows training needs."""
        ...


class Finder(VectorIndex, Protocol):
    """An index that finds rows by itself."""

    @property
    def form(self) -> Form | None:
        """How much of it the GPU that it was made for can take over, or any; None: nothing."""
        ...

    @property
    def device(self) -> str:
        """Where it is searched once it was asked often enough: ``cpu``, or ``cuda:N``."""
        ...


class VectorSource(Protocol):
    """The stored vectors, wherever they are."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Halves:
        """(n, D) of ``rows``, in the order given; one read."""
        ...


class StoredVectors(Protocol):
    """The vectors of a snapshot's rows, in memory or on disk, and how they are searched."""

    dim: int

    def __len__(self) -> int: ...

    def take(self, rows: npt.ArrayLike) -> Halves:
        """The stored (n, D) vectors of ``rows``, in the order given."""
        ...

    def scores(self, query: Floats, rows: slice | npt.ArrayLike) -> Floats:
        """Inner products of one (D,) query with ``rows``: (n,) float32."""
        ...

    def search(
        self, queries: npt.ArrayLike, k: int, *, allowed: Mask | None = None
    ) -> list[tuple[Rows, Floats]]:
        """As :meth:`maxsight.index.exact.memory.ExactIndex.search`."""
        ...


@dataclass(frozen=True, eq=False)
class Built:
    """An index and what it was made from.

    Attributes:
        folder: where it is saved.
        index: its row i is the unit ``unit_ids[i]``.
        unit_ids: rising.
        details: what ``index.json`` says besides.
    """

    folder: Path
    index: VectorIndex
    unit_ids: Rows
    details: Mapping[str, Any]

    @property
    def newest(self) -> int:
        """The highest unit id that it knows; -1 if it knows none."""
        return int(self.unit_ids[-1]) if len(self.unit_ids) else -1

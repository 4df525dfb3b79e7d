"""How much memory a library takes to be searched, before any is taken.

With N rows of D numbers in I items:

    rows      43 * N            ids, spans, owners, positions, masks
    items     160 * I           ids, paths; what paths take is judged by those of other libraries
    vectors   2 * D * N         float16, where they are held
    index     as it says        where there is one (docs/indexes.md)
    tail      2 * D * T         the T rows an index does not know yet
    work      64 MiB + 16 * D * min(N, 8192)    what one search holds for its duration

Vectors are held where they fit. Otherwise they are read from disk: those of a shortlist with an
index; all of them, slowly, without.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from maxsight.errors import BudgetError

_ROW = 43
_ITEM = 160
_WORK = 64 * 2**20


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by part.

    Attributes:
        in_memory: whether the vectors are held.
        rows, items, vectors, index, tail, work: bytes.
        spare: that may be taken besides.
    """

    in_memory: bool
    rows: int
    items: int
    vectors: int
    index: int
    tail: int
    work: int
    spare: int = field(default=0, compare=False)

    @property
    def held(self) -> int:
        """Bytes between searches."""
        return self.rows + self.items + self.vectors + self.index + self.tail

    @property
    def peak(self) -> int:
        """Bytes while a search runs."""
        return self.held + self.work


def plan(
    *, rows: int, items: int, dim: int, budget: int, index: int | None = None, tail: int = 0
) -> MemoryPlan:
    """What to hold in memory.

    Args:
        rows: N, units.
        items: I, files.
        dim: D.
        budget: bytes that may be taken.
        index: what a vector index over these rows takes; None if there is none.
        tail: T, rows that it lacks.

    Raises:
        BudgetError: even with vectors on disk it needs more.
    """
    parts = {
        "rows": _ROW * rows,
        "items": _ITEM * items,
        "index": index or 0,
        "tail": 0 if index is None else 2 * dim * tail,
        "work": _WORK + 16 * dim * min(rows, 8192),
    }
    whole = MemoryPlan(in_memory=True, vectors=2 * dim * rows, **parts)
    if whole.peak <= budget:
        return replace(whole, spare=budget - whole.peak)
    lean = MemoryPlan(in_memory=False, vectors=0, **parts)
    if lean.peak > budget:
        smaller = "" if index is None else ", or make a smaller index (maxsight tune-index --index)"
        raise BudgetError(
            f"searching {rows:,} pictures and frames needs {_mib(lean.peak)} with their vectors "
            f"on disk, and MAXSIGHT_MEMORY allows {_mib(budget)}: allow more{smaller}"
        )
    return replace(lean, spare=budget - lean.peak)


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"

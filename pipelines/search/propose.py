"""Which rows are worth scoring by tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maxsight.index.array_types import chosen_rows

if TYPE_CHECKING:
    from maxsight.index.snapshot import Snapshot
    from maxsight.pipelines.query.late_query import LateQuery

# Where not every unit is scored, so many by pooled vector: reading a thousand takes some 15 ms.
CANDIDATES = 1_000

# And so many, if not k are more, by the index of tokens, whose time grows with them.
BY_TOKENS = 30


def candidates(
    snapshot: Snapshot,
    query: LateQuery,
    vector: np.ndarray,
    k: int,
    allowed: np.ndarray | None,
) -> np.ndarray:
    """The rows that are worth scoring for ``k`` hits: all of them while their tokens fit in memory.

    Otherwise the best by pooled vector, and those that the index of tokens finds.

    Args:
        vector: (D,) of the whole query.
        allowed: (row_count,) bool, or None for all.
    """
    if snapshot.tokens.are_held:
        return chosen_rows(allowed, snapshot.row_count)
    nearest = snapshot.nearest(vector, max(CANDIDATES, 10 * k), allowed=allowed)
    # What there should be less of brings no candidates.
    wanted = [own for own, share in zip(query.tokens, query.shares) if share > 0]
    most = max(k, BY_TOKENS)
    found = snapshot.tokens.best_rows(wanted, most, allowed=allowed) if wanted else None
    return nearest if found is None else np.union1d(nearest, found)

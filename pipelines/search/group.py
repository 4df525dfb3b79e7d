"""The best unit of each file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from maxsight.index.records import UnitHit
    from maxsight.index.snapshot import Snapshot


def best_units(
    snapshot: Snapshot, vector: np.ndarray, k: int, allowed: np.ndarray | None
) -> list[UnitHit]:
    """The best unit of each of the k best items.

    The frames of one film may fill all the first places. What was found is then left out and the
    rest searched again: every round finds at least one more item, and none better than the last.
    """
    has_films = snapshot.unit_count > snapshot.item_count
    fetch = 4 * k if has_films else k
    best: dict[int, UnitHit] = {}
    while True:
        units = snapshot.search(vector[None], fetch, allowed=allowed)[0]
        for unit in units:
            best.setdefault(unit.item_id, unit)
        if len(best) >= k or len(units) < fetch:
            return list(best.values())[:k]
        others = snapshot.allowed(without_items=best)
        allowed = others if allowed is None or others is None else allowed & others

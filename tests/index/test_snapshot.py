"""The best files of one state: the best unit of each, whatever scores the units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maxsight.index.records import Changes
from maxsight.index.snapshot import Snapshot


@pytest.fixture
def snapshot(create: Any, samples: Any) -> Snapshot:
    """Rows 0 | 1 2 3 | 4, and of long films many more than a search for few files fetches."""
    store = create()
    contents = ["a", "b*3", "c", *(f"long {n}*60" for n in range(4)), *(f"p{n}" for n in range(9))]
    store.apply(Changes(added=[samples.item(f"/{n}", own) for n, own in enumerate(contents)]))
    found: Snapshot = store.snapshot()
    return found


def test_best_of_each_takes_a_files_best_unit(snapshot: Snapshot) -> None:
    rows = np.array([4, 3, 2, 1, 0])
    scores = np.array([0.5, 0.1, 0.9, 0.9, 0.5], np.float32)
    hits = snapshot.best_of_each(rows, scores, 10)
    assert [(hit.path, hit.start) for hit in hits] == [("/1", 0), ("/0", None), ("/2", None)]
    np.testing.assert_allclose([hit.score for hit in hits], [0.9, 0.5, 0.5])
    assert [hit.path for hit in snapshot.best_of_each(rows, scores, 1)] == ["/1"]


@pytest.mark.parametrize("k", [1, 2, 3, 16, 50])
@pytest.mark.parametrize("filtered", [False, True])
def test_files_are_those_that_all_units_together_give(
    snapshot: Snapshot, samples: Any, k: int, filtered: bool
) -> None:
    """Also where the units of one film fill all that the first round of a search brings."""
    allowed = snapshot.allowed(without_items=[0, 5]) if filtered else None
    rows = snapshot.live_rows if allowed is None else np.flatnonzero(allowed)
    long = snapshot.item_vectors(4)
    queries = np.stack([*samples.unit_vectors(5, seed=3), long[7], long.mean(0)])
    expected = [snapshot.best_of_each(rows, snapshot.scores(query, rows), k) for query in queries]
    assert snapshot.search_files(queries, k, allowed=allowed) == expected

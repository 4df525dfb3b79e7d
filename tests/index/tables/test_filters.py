"""Filters: which rows a search may see."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from maxsight.errors import FilterError
from maxsight.index.records import Changes, Failure, FileState
from maxsight.index.store import Store

Create = Callable[..., Store]


def filterable(create: Create, samples: Any) -> Store:
    store = create()
    items = [
        dataclasses.replace(samples.item("/old.jpg", "0"), width=10, captured_at=None),
        dataclasses.replace(
            samples.item("/Rome/new.jpg", "1"), width=2000, captured_at=datetime(2024, 5, 1)
        ),
        samples.item("/Rome/film.mp4", "2*3"),
        samples.item("/gone.jpg", "3"),
    ]
    store.apply(
        Changes(added=items, failed=[Failure(FileState("/broken.jpg", 7, 8), "no such codec")])
    )
    store.apply(Changes(removed=[3]))
    return store


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("width > 1000", {1}),
        ("kind = 'video'", {2}),
        ("path LIKE '/Rome/%'", {1, 2}),
        ("captured_at > '2024-01-01'", {1}),
        ("captured_at IS NULL AND bytes < 1000", {0, 2}),
        ("mtime > timestamp '2020-01-01'", {0, 1, 2}),
        ("duration_s >= 3", {2}),
        ("1 = 1", {0, 1, 2}),
        ("width > 1000 OR TRUE", {0, 1, 2}),
        ("status = 'removed' OR status = 'failed'", set()),
        ("width > 99999", set()),
        ("width > 1 --", {0, 1, 2}),
        ("NULL", set()),
    ],
)
def test_filters(create: Create, samples: Any, where: str, ids: set[int]) -> None:
    with filterable(create, samples) as store:
        assert set(store.items(where=where)["item_id"].to_pylist()) == ids
        snapshot = store.snapshot()
        allowed = snapshot.allowed(where=where)
        hits = snapshot.search(samples.unit_vectors(1), 99, allowed=allowed)[0]
        assert {hit.item_id for hit in hits} == ids
        assert len(hits) == sum(3 if item == 2 else 1 for item in ids)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("1=1) OR (1=1", "found: )"),
        ("1=1; DROP TABLE items", "found: ;"),
        ("TRUE, TRUE", "not one condition"),
        ("width > 1 nonsense", "found: nonsense"),
        ("colour = 'red'", "there is no column colour"),
        ("width >", "found the end"),
        ("width", "not one condition"),
        ("", "found the end"),
        ("path = 'unclosed", "Unterminated string"),
        ("SELECT 1", "found: 1"),
    ],
)
def test_a_filter_that_is_none_is_explained(
    create: Create, samples: Any, where: str, reason: str
) -> None:
    with filterable(create, samples) as store:
        for evaluate in (store.items, store.snapshot().allowed):
            with pytest.raises(FilterError) as caught:
                evaluate(where=where)
            message = str(caught.value)
            assert reason in message
            assert "captured_at" in message
            assert "nullif" not in message
            assert "/home" not in message


def test_kinds_and_left_out_items(create: Create, samples: Any) -> None:
    with filterable(create, samples) as store:
        snapshot = store.snapshot()
        query = samples.unit_vectors(1)

        def items(**options: Any) -> set[int]:
            hits = snapshot.search(query, 99, allowed=snapshot.allowed(**options))[0]
            return {hit.item_id for hit in hits}

        assert items(kinds=["image"]) == {0, 1}
        assert items(kinds=frozenset({"video"})) == {2}
        assert items(kinds=[]) == set()
        assert items(without_items=[1, 77]) == {0, 2}
        assert items(where="width > 100", kinds=["image"], without_items=(2,)) == {1}
        assert snapshot.find_items(content_hash="1") == [1]
        assert snapshot.find_items(content_hash="3") == []
        assert snapshot.find_items(path="/old.jpg", content_hash="1") == []


def test_no_dead_rows_no_mask(create: Create, samples: Any) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a")]))
        assert store.snapshot().allowed() is None

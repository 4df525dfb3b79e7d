"""Recall as it is measured, and the setting that is chosen by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from maxsight.errors import UsageError
from maxsight.index.ann.contract import Effort
from maxsight.index.derived import building, generations, tuning, vector_folder
from maxsight.index.derived.dimensionality import local_dimensionality, order_effect
from maxsight.index.derived.tuning import Asked, OperatingPoint
from maxsight.index.records import Changes
from maxsight.index.store import Store

Create = Callable[..., Store]


def test_recall_counts_what_exact_search_finds() -> None:
    truth = np.array([[4, 2, 9], [1, -1, -1]])
    assert tuning.recall_of([np.array([2, 4, 7]), np.array([1])], truth) == 3 / 4
    assert tuning.recall_of([np.array([], np.int64)], np.array([[-1]])) == 1


def test_the_sweep_stops_where_it_has_found_enough() -> None:
    tried = []

    def search(queries: np.ndarray, effort: Effort) -> list[np.ndarray]:
        tried.append(effort.probes)
        return [np.arange(effort.probes) for _ in queries]

    asked = {"texts": Asked(np.zeros((2, 4), np.float32), np.tile(np.arange(10), (2, 1)))}
    efforts = [Effort(probes, 10) for probes in (1, 5, 9, 10, 20)]
    points = tuning.sweep(search, efforts, asked, enough=0.9)
    assert tried == [1, 5, 9]
    assert [point.recall["texts"] for point in points] == [0.1, 0.5, 0.9]


def test_the_fastest_that_is_good_enough_is_chosen_or_the_best_there_is() -> None:
    points = [
        OperatingPoint(Effort(1, 10), {"a": 0.9, "b": 0.8}, 900.0),
        OperatingPoint(Effort(2, 10), {"a": 0.99, "b": 0.93}, 500.0),
        OperatingPoint(Effort(1, 99), {"a": 0.97, "b": 0.92}, 700.0),
        OperatingPoint(Effort(4, 99), {"a": 0.99, "b": 0.99}, 100.0),
    ]
    assert tuning.choose(points, 0.92) is points[2]
    assert tuning.choose(points, 0.93) is points[1]
    assert tuning.choose(points, 0.999) is points[3]


@pytest.mark.parametrize("dimension", [2, 5, 10])
def test_local_dimensionality_is_that_of_the_space(dimension: int) -> None:
    """Distances from the middle of a uniform ball of d dimensions are uniform to the d-th power."""
    draw = np.random.default_rng(0)
    distances = np.sort(draw.random((400, 100)) ** (1 / dimension), axis=1).astype(np.float32)
    assert np.median(local_dimensionality(distances)) == pytest.approx(dimension, rel=0.05)


def test_distances_that_say_nothing() -> None:
    distances = np.ones((2, 5), np.float32)
    distances[1, 0] = 0
    assert local_dimensionality(distances).tolist() == [np.inf, 0]


def test_orders_of_insertion_are_compared() -> None:
    draw = np.random.default_rng(0)
    sample = draw.standard_normal((600, 16)).astype(np.float32)
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    effect = order_effect(sample)
    assert set(effect.recall) == {"stored", "shuffled", "descending", "ascending"}
    assert min(effect.recall.values()) > 0.9
    low, high = effect.quartiles
    assert 5 < low < effect.dimensionality < high < 30


def test_an_index_is_built_extended_tuned_and_removed(create: Create, samples: Any) -> None:
    store = create()
    store.apply(Changes(added=[samples.item(f"/{n}", str(n)) for n in range(400)]))
    seen = []
    report = building.build(
        store,
        "IVF4,Flat",
        recall=0.9,
        texts=lambda: samples.unit_vectors(20, seed=9),
        step=lambda stage, done, total: seen.append(stage),
    )
    assert (report.action, report.index, report.rows) == ("built", "IVF4,Flat", 400)
    building.remember(store, "IVF4,Flat")
    assert report.point is not None
    assert set(report.point.recall) == {"pictures", "texts"}
    assert report.point.worst >= 0.9
    assert list(dict.fromkeys(seen)) == ["train", "fill", "truth", "measure"]
    built = store.snapshot().state.built
    assert built is not None
    assert built.index.effort == report.point.effort
    assert building.bring_up_to_date(store).action == "kept"

    store.apply(Changes(added=[samples.item(f"/n{n}", f"n{n}") for n in range(60)], removed=[3, 4]))
    assert building.bring_up_to_date(store).action == "extended"
    with Store.open(store.path) as reader:
        extended = reader.snapshot().state.built
        assert extended is not None
        assert len(extended.unit_ids) == 460
        hits = reader.snapshot().search(samples.item("", "n7").vectors, 1)[0]
        assert hits[0].path == "/n7"
        gone = reader.snapshot().search(samples.item("", "3").vectors, 5)[0]
        assert "/3" not in {hit.path for hit in gone}

        tuned = building.tune(store, recall=0.99)
        assert tuned.action == "tuned"
        assert tuned.point is not None
        assert tuned.order is not None
        again = reader.snapshot().state.built
        assert again is not None
        assert again.index.effort == tuned.point.effort

        store.apply(Changes(added=[samples.item(f"/m{n}", f"m{n}") for n in range(900)]))
        assert building.bring_up_to_date(store).action == "built"
        assert building.build(store, "exact").action == "none"
        assert reader.snapshot().state.built is None
    assert generations.newest(store.path, vector_folder.NAME) is None
    with pytest.raises(UsageError, match="nonsense"):
        building.build(store, "nonsense")


def test_what_was_asked_for_is_kept_to(create: Create, samples: Any) -> None:
    store = create()
    store.apply(Changes(added=[samples.item(f"/{n}", str(n)) for n in range(300)]))
    with pytest.raises(UsageError, match="nonsense"):
        building.bring_up_to_date(store, "nonsense")
    assert building.bring_up_to_date(store).index == "exact"
    assert building.bring_up_to_date(store, "SQ8").action == "built"
    assert building.bring_up_to_date(store, "SQ8").action == "kept"
    generations.remove(store.path, vector_folder.NAME)  # as a repair does
    assert building.bring_up_to_date(store).index == "SQ8"
    assert building.bring_up_to_date(store, "exact").action == "none"
    assert building.bring_up_to_date(store).index == "exact"
    assert building.bring_up_to_date(store, "SQ8").action == "built"
    assert building.bring_up_to_date(store, "auto").index == "exact"
    assert building.bring_up_to_date(store).index == "exact"


def test_small_libraries_stay_exact(create: Create, samples: Any) -> None:
    store = create()
    store.apply(Changes(added=[samples.item("/1", "1")]))
    report = building.bring_up_to_date(store)
    assert (report.index, report.action) == ("exact", "none")
    assert building.tune(store).why == "no index has been made: every search is exact"


def test_an_index_of_another_library_is_refused(create: Create, samples: Any) -> None:
    from maxsight.errors import LibraryError

    stores = [create(name) for name in ("one", "two")]
    for store in stores:
        store.apply(Changes(added=[samples.item(f"/{n}", str(n)) for n in range(50)]))
    building.build(stores[0], "SQ8")
    (stores[1].path / "indexes").mkdir()
    (stores[0].path / "indexes" / "vectors-1").rename(stores[1].path / "indexes" / "vectors-1")
    with pytest.raises(LibraryError, match="made for another library"):
        stores[1].snapshot()

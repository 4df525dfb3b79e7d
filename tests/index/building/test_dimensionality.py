"""How many dimensions vectors fill, and what their order does to an index."""

from __future__ import annotations

import numpy as np
import pytest

from maxsight.index.building.dimensionality import local_dimensionality, order_effect


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

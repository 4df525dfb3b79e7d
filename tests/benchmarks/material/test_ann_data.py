"""Made collections are what they say: unit rows, disjoint queries, a gap where one is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from maxsight.benchmarks.material.ann_data import Gap, made


@pytest.mark.parametrize("gap", ["none", "mild", "strong"])
def test_rows_are_of_norm_one_and_drawn_from_the_seed(gap: Gap) -> None:
    one = made(3_000, 48, gap, queries=20, known=30)
    assert one.vectors.shape == (3_000, 48)
    assert one.vectors.dtype == np.float16
    assert (one.queries.shape, one.known.shape) == ((20, 48), (30, 48))
    norms = np.linalg.norm(one.vectors.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(one.queries, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(one.vectors, made(3_000, 48, gap, queries=20, known=30).vectors)
    other = made(3_000, 48, gap, queries=20, known=30, seed=1)
    assert not np.array_equal(one.vectors, other.vectors)


def test_truth_is_that_of_float64() -> None:
    one = made(2_000, 32, "mild", queries=15, known=5)
    scores, rows = one.truth(10)
    products = one.queries.astype(np.float64) @ one.vectors.astype(np.float64).T
    np.testing.assert_array_equal(np.argsort(-products, axis=1)[:, :10], rows)
    np.testing.assert_allclose(np.take_along_axis(products, rows, 1), scores, atol=1e-6)


def test_the_gap_widens() -> None:
    """The best score falls, and queries gather elsewhere than rows."""
    best, between = [], []
    gaps: tuple[Gap, ...] = ("none", "mild", "strong")
    for gap in gaps:
        one = made(5_000, 256, gap, queries=200, known=200)
        best.append(one.truth(1)[0].mean())
        means = one.vectors.astype(np.float32).mean(axis=0), one.queries.mean(axis=0)
        cosine = means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
        between.append(cosine)
    assert best[0] > 0.7 > 0.5 > best[1] > best[2] > 0.15
    assert between[0] > 0.95 > 0.5 > max(between[1:])

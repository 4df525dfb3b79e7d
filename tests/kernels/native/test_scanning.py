"""The best of all rows on NumPy's arrays, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from maxsight.kernels import native
from maxsight.kernels.native import topk_rows

pytestmark = pytest.mark.skipif(native.available() is None, reason="not compiled")


@pytest.mark.parametrize("queries", [1, 8, 9, 70])
@pytest.mark.parametrize("dim", [3, 64, 200])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_best_rows_are_those_of_float64(
    engine: str, queries: int, dim: int, threads: int
) -> None:
    draw = np.random.default_rng(dim)
    codes = draw.integers(-127, 128, (1_500, dim)).astype(np.int8)
    scale = draw.uniform(0.5, 2, 1_500).astype(np.float32)
    asked = draw.standard_normal((queries, dim)).astype(np.float32)
    scores, rows = topk_rows(asked, codes, scale, 12, threads=threads)
    products = asked.astype(np.float64) @ (codes * scale[:, None].astype(np.float64)).T
    best = np.sort(products, axis=1)[:, ::-1][:, :12]
    np.testing.assert_allclose(scores, best, rtol=1e-5, atol=1e-3)
    own = np.take_along_axis(products, rows, axis=1)
    np.testing.assert_allclose(scores, own, rtol=1e-5, atol=1e-3)
    assert all(len(set(row)) == 12 for row in rows.tolist())


@pytest.mark.parametrize("queries", [1, 9, 70])
@pytest.mark.parametrize("dim", [3, 64, 200])
@pytest.mark.parametrize("share", [None, 0.0, 0.01, 0.6])
def test_float16_rows_and_a_filter(
    engine: str, queries: int, dim: int, share: float | None
) -> None:
    draw = np.random.default_rng(dim)
    held = draw.standard_normal((1_500, dim)).astype(np.float16)
    held[3, :2] = [6e-8, -6e-5]  # subnormal
    asked = draw.standard_normal((queries, dim)).astype(np.float32)
    allowed = None if share is None else draw.random(1_500) < share
    scores, rows = topk_rows(asked, held, None, 12, allowed=allowed)
    products = asked.astype(np.float64) @ held.astype(np.float64).T
    if allowed is not None:
        products[:, ~allowed] = -np.inf
    best = np.sort(products, axis=1)[:, ::-1][:, :12]
    np.testing.assert_allclose(scores, best, rtol=1e-5, atol=1e-4)
    assert ((rows == -1) == (best == -np.inf)).all()
    assert allowed is None or allowed[rows[rows >= 0]].all()


def test_more_queries_than_a_pass_takes_and_fewer_rows_than_asked_for(engine: str) -> None:
    codes, scale = np.eye(5, dtype=np.int8), np.ones(5, np.float32)
    asked = np.tile(np.eye(5, dtype=np.float32), (900, 1))
    scores, rows = topk_rows(asked, codes, scale, 9)
    assert scores.shape == rows.shape == (4_500, 5)
    np.testing.assert_array_equal(rows[:, 0], np.tile(np.arange(5), 900))
    assert topk_rows(asked[:0], codes, scale, 9)[1].shape == (0, 5)


def test_what_does_not_fit_is_refused() -> None:
    codes, scale = np.ones((5, 8), np.int8), np.ones(5, np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        topk_rows(np.ones((2, 7), np.float32), codes, scale, 1)
    with pytest.raises(ValueError, match="float64"):
        topk_rows(np.ones((2, 8), np.float32), np.ones((5, 8)), scale, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allowed"):
        topk_rows(np.ones((2, 8), np.float32), codes, scale, 1, allowed=np.ones(4, bool))
    with pytest.raises(ValueError, match="k = 0"):
        topk_rows(np.ones((2, 8), np.float32), codes, scale, 0)

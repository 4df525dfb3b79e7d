"""A query of several parts is a plain signed sum, texts weighted against pictures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight.errors import UsageError
from maxsight.models.compose import TEXT_WEIGHT, weighted_sum

D = 16


def unit_rows(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def test_a_single_part_comes_back() -> None:
    rows = unit_rows(1, seed=0)
    for is_text in (False, True):
        mixed = weighted_sum(rows, weights=[0.3], is_text=[is_text])
        assert mixed.shape == (D,)
        assert mixed.dtype == np.float32
        np.testing.assert_allclose(mixed, rows[0], atol=1e-6)


def test_texts_weigh_more_than_pictures_only_beside_pictures() -> None:
    rows = unit_rows(2, seed=1)
    both_texts = weighted_sum(rows, weights=[1.0, 1.0], is_text=[True, True])
    both_pictures = weighted_sum(rows, weights=[1.0, 1.0], is_text=[False, False])
    np.testing.assert_allclose(both_texts, both_pictures, atol=1e-6)
    mixed = weighted_sum(rows, weights=[1.0, 1.0], is_text=[False, True])
    expected = rows[0] + TEXT_WEIGHT * rows[1]
    np.testing.assert_allclose(mixed, expected / np.linalg.norm(expected), atol=1e-6)


def test_the_text_weight_can_be_given() -> None:
    rows = unit_rows(2, seed=2)
    picture_alone = weighted_sum(rows, weights=[1.0, 1.0], is_text=[False, True], text_weight=0.0)
    np.testing.assert_allclose(picture_alone, rows[0], atol=1e-6)


def test_minus_moves_away() -> None:
    rows = unit_rows(2, seed=3)
    plain = weighted_sum(rows, weights=[1.0, 0.5], is_text=[True, True]) @ rows[1]
    minus = weighted_sum(rows, weights=[1.0, -0.5], is_text=[True, True]) @ rows[1]
    assert minus < rows[0] @ rows[1] < plain


@given(st.integers(1, 8), st.integers(0, 1_000), st.floats(0.1, 10.0))
def test_only_the_ratio_of_weights_matters(count: int, seed: int, factor: float) -> None:
    rows = unit_rows(count, seed)
    weights = np.random.default_rng(seed).uniform(0.1, 2.0, count)
    marks = [index % 2 == 0 for index in range(count)]
    one = weighted_sum(rows, weights=weights.tolist(), is_text=marks)
    other = weighted_sum(rows, weights=(factor * weights).tolist(), is_text=marks)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(one), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "weights", "marks", "message"),
    [
        (np.zeros((0, D)), [], [], "N of 1 or more"),
        (np.ones(D), [1.0], [True], "N of 1 or more"),
        (unit_rows(2, 0), [1.0], [True, True], "2 vectors need as many"),
        (unit_rows(2, 0), [1.0, 1.0], [True], "2 vectors need as many"),
        (unit_rows(1, 0), [float("nan")], [True], "finite"),
        (unit_rows(1, 0).repeat(2, 0), [1.0, -1.0], [True, True], "cancel"),
        (unit_rows(1, 0), [0.0], [True], "cancel"),
    ],
)
def test_what_cannot_be_mixed(
    vectors: np.ndarray, weights: list[float], marks: list[bool], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        weighted_sum(vectors, weights=weights, is_text=marks)


def test_mixing_does_not_import_torch() -> None:
    code = "import maxsight.models.compose, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The lists of an inverted file, looked up in int8."""

from __future__ import annotations

import numpy as np
import pytest

from maxsight.index.ann.list_rows import ListRows
from maxsight.kernels import native

pytestmark = pytest.mark.skipif(native.available() is None, reason="not compiled")


@pytest.mark.parametrize("queries", [1, 50])
def test_the_nearest_lists_are_found(queries: int) -> None:
    draw = np.random.default_rng(0)
    centroids = draw.standard_normal((700, 40)).astype(np.float32)
    centroids[5] = 0
    asked = draw.standard_normal((queries, 40)).astype(np.float32)
    scores, lists = ListRows(centroids).nearest(asked, 20)
    exact = asked @ centroids.T
    truth = np.argsort(-exact, axis=1)[:, :20]
    assert np.mean([len({*a} & {*b}) / 20 for a, b in zip(lists.tolist(), truth.tolist())]) >= 0.95
    np.testing.assert_allclose(scores, np.take_along_axis(exact, lists, 1), atol=0.15)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_bytes_are_a_number_a_dimension_and_a_factor() -> None:
    assert ListRows(np.ones((7, 40), np.float32)).bytes() == 7 * 44

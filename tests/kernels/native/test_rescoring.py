"""A shortlist in int8 on NumPy's arrays, against float64."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from maxsight.kernels import int8, native
from maxsight.kernels.native import rescore_rows

pytestmark = pytest.mark.skipif(native.available() is None, reason="not compiled")


@pytest.mark.parametrize("dim", [1, 45, 64, 200, 512])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_best_of_a_shortlist_are_those_of_float64(engine: str, dim: int, threads: int) -> None:
    draw = np.random.default_rng(dim)
    codes, scale = int8.rounded_array(draw.standard_normal((900, dim)).astype(np.float32))
    queries = draw.standard_normal((40, dim)).astype(np.float32)
    candidates = np.array([draw.permutation(900)[:400] for _ in queries])
    candidates[3] = -1
    candidates[5, 7:] = -1
    candidates[6, 0] = 900
    scores, rows = rescore_rows(queries, codes, scale, candidates, 10, threads=threads)
    assert scores.shape == rows.shape == (40, 10)
    stored = codes * scale[:, None].astype(np.float64)
    for query, (mine, its_scores) in enumerate(zip(rows, scores)):
        listed = candidates[query][(candidates[query] >= 0) & (candidates[query] < 900)]
        truth = stored[listed] @ queries[query].astype(np.float64)
        order = np.lexsort((listed, -truth.astype(np.float32)))[:10]
        np.testing.assert_allclose(its_scores[: len(order)], truth[order], rtol=1e-5, atol=1e-5)
        assert set(mine[mine >= 0]) <= set(listed)
        kept = stored[mine[mine >= 0]] @ queries[query].astype(np.float64)
        np.testing.assert_allclose(kept, its_scores[: len(order)], rtol=1e-5, atol=1e-5)
        assert (mine[len(order) :] == -1).all()
        assert np.isneginf(its_scores[len(order) :]).all()


def test_equal_scores_come_by_lower_row(engine: str) -> None:
    codes, scale = np.ones((50, 70), np.int8), np.ones(50, np.float32)
    candidates = np.arange(50)[::-1].reshape(1, 50)
    _, rows = rescore_rows(np.ones((1, 70), np.float32), codes, scale, candidates, 4)
    assert rows.tolist() == [[0, 1, 2, 3]]


def test_fewer_candidates_than_asked_for_and_none(engine: str) -> None:
    codes, scale = np.ones((5, 8), np.int8), np.ones(5, np.float32)
    queries = np.ones((2, 8), np.float32)
    few = np.array([[1, -1], [3, 4]])
    scores, rows = rescore_rows(queries, codes, scale, few, 9)
    assert rows.tolist() == [[1, -1], [3, 4]]
    assert scores.tolist() == [[8, -np.inf], [8, 8]]
    assert rescore_rows(queries, codes, scale, few[:, :0], 9)[0].shape == (2, 0)
    assert rescore_rows(queries[:0], codes, scale, few[:0], 9)[0].shape == (0, 2)


def test_what_does_not_fit_is_refused() -> None:
    codes, scale = np.ones((5, 8), np.int8), np.ones(5, np.float32)
    with pytest.raises(ValueError, match="do not fit together"):
        rescore_rows(np.ones((2, 7), np.float32), codes, scale, np.zeros((2, 3), np.int64), 1)
    with pytest.raises(ValueError, match="k = 0"):
        rescore_rows(np.ones((2, 8), np.float32), codes, scale, np.zeros((2, 3), np.int64), 0)


def test_it_needs_no_torch() -> None:
    program = """
import sys
import numpy as np
from maxsight.kernels.native import rescore_rows
ones = np.ones((3, 8), np.int8)
print(rescore_rows(ones[:1].astype("f"), ones, np.ones(3, "f"), np.array([[2, 1]]), 1)[1])
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[1]]"

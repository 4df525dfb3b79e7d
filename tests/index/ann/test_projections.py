"""LeanVec's projections, against what the closed form stands for: the best of all projections."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxsight.index.ann.projections import Projections, learn, mean_outer, spread

Doubles = npt.NDArray[np.float64]
DIM = 48


def rows_and_queries(
    *, queries: int = 3_000, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Rows that vary most where queries vary least, and means of their own."""
    draw = np.random.default_rng(seed)
    turn = np.linalg.qr(draw.standard_normal((DIM, DIM)))[0]
    falling = 1 / np.sqrt(1 + np.arange(DIM))
    rows = draw.standard_normal((4_000, DIM)) * falling + 0.5 * draw.standard_normal(DIM)
    asked = draw.standard_normal((queries, DIM)) * draw.permutation(falling)
    asked += 0.5 * draw.standard_normal(DIM)
    return (rows @ turn).astype(np.float32), (asked @ turn).astype(np.float32)


def root(matrix: Doubles) -> Doubles:
    values, vectors = np.linalg.eigh(matrix)
    found: Doubles = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return found


def loss(learned: Projections, queries: Doubles, rows: Doubles) -> float:
    """Mean squared error of inner products, of queries and rows with these outer products."""
    error = learned.queries.T.astype(np.float64) @ learned.rows - np.eye(len(rows))
    return float(np.trace(queries @ error @ rows @ error.T))


def leading(matrix: Doubles, reduced: int) -> Doubles:
    found: Doubles = np.linalg.eigh(matrix)[1][:, ::-1][:, :reduced].T
    return found


def eigen_search(queries: Doubles, rows: Doubles, reduced: int) -> Projections:
    """LeanVec's second algorithm: A = B, eigenvectors of the best mean of both outer products."""
    found = []
    for share in np.linspace(0, 1, 101):
        mixed = (1 - share) * queries / np.trace(queries) + share * rows / np.trace(rows)
        basis = leading(mixed, reduced)
        found.append(Projections(basis.astype(np.float32), basis.astype(np.float32)))
    return min(found, key=lambda learned: loss(learned, queries, rows))


def frank_wolfe(start: Projections, queries: Doubles, rows: Doubles) -> Projections:
    """LeanVec's first algorithm: A and B in turn, each in the convex hull of orthonormal rows."""
    left, right = start.queries.astype(np.float64), start.rows.astype(np.float64)

    def towards(gradient: Doubles) -> Doubles:
        one, _, other = np.linalg.svd(gradient, full_matrices=False)
        corner: Doubles = -one @ other
        return corner

    def step(now: Doubles, change: Doubles) -> float:
        """The best way from one product of A and B to another: the loss is a parabola."""
        slope = np.trace(queries @ (now - np.eye(DIM)) @ rows @ change.T)
        bend = np.trace(queries @ change @ rows @ change.T)
        return float(np.clip(-slope / bend, 0, 1)) if bend > 0 else 0.0

    for _ in range(300):
        gradient = right @ rows @ (left.T @ right - np.eye(DIM)).T @ queries
        move = towards(gradient) - left
        left = left + step(left.T @ right, move.T @ right) * move
        gradient = left @ queries @ (left.T @ right - np.eye(DIM)) @ rows
        move = towards(gradient) - right
        right = right + step(left.T @ right, left.T @ move) * move
    return Projections(left.astype(np.float32), right.astype(np.float32))


@pytest.mark.parametrize("reduced", [4, 12, 24])
def test_no_other_method_finds_better_projections(reduced: int) -> None:
    sample, asked = rows_and_queries()
    rows, queries = mean_outer(sample), spread(asked)
    ours = loss(learn(sample, asked, reduced=reduced), queries, rows)
    components = learn(sample, None, reduced=reduced)
    searched = eigen_search(queries, rows, reduced)
    walked = frank_wolfe(searched, queries, rows)
    assert loss(searched, queries, rows) <= 1.001 * loss(components, queries, rows)
    assert loss(walked, queries, rows) <= 1.001 * loss(searched, queries, rows)
    assert ours <= 1.001 * loss(walked, queries, rows)
    # Where queries look elsewhere than rows vary, principal components are far from it.
    assert ours < 0.8 * loss(components, queries, rows)


@pytest.mark.parametrize("reduced", [1, 7, 24, DIM])
def test_the_loss_is_that_of_the_truncated_singular_values(reduced: int) -> None:
    sample, asked = rows_and_queries()
    rows, queries = mean_outer(sample), spread(asked)
    values = np.linalg.svd(root(queries) @ root(rows), compute_uv=False)
    found = loss(learn(sample, asked, reduced=reduced), queries, rows)
    assert found == pytest.approx(np.sum(values[reduced:] ** 2), rel=1e-3, abs=1e-7)


@settings(max_examples=30)
@given(
    dim=st.integers(1, 24), count=st.integers(1, 60), asked=st.integers(0, 60), seed=st.integers(0)
)
def test_fewer_dimensions_are_the_first_of_more(
    dim: int, count: int, asked: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    sample = draw.standard_normal((count, dim)).astype(np.float32)
    queries = draw.standard_normal((asked, dim)).astype(np.float32) if asked else None
    full = learn(sample, queries)
    for reduced in {1, (dim + 1) // 2, dim}:
        part = learn(sample, queries, reduced=reduced)
        np.testing.assert_array_equal(part.queries, full.queries[:reduced])
        np.testing.assert_array_equal(part.rows, full.rows[:reduced])
    # Projecting is one thing and not two: what B keeps, A reads as it was.
    assert np.abs(full.queries @ full.rows.T - np.eye(dim)).max() < 1e-2
    # All dimensions lose nothing.
    left = sample if queries is None else queries
    products = left @ full.queries.T @ (sample @ full.rows.T).T
    np.testing.assert_allclose(products, left @ sample.T, atol=2e-3 * dim)


def test_without_queries_rows_of_the_projection_are_orthogonal() -> None:
    sample, _ = rows_and_queries()
    learned = learn(sample, None, reduced=9)
    scale = np.linalg.norm(learned.rows[0])
    np.testing.assert_allclose(learned.rows @ learned.rows.T, scale**2 * np.eye(9), atol=1e-5)
    np.testing.assert_allclose(learned.queries, learned.rows / scale**2, rtol=1e-5)
    kept = np.sum((sample @ learned.rows.T / scale) ** 2)
    values = np.linalg.eigvalsh(sample.T.astype(np.float64) @ sample)
    assert kept == pytest.approx(values[::-1][:9].sum(), rel=1e-4)


def test_queries_that_vary_as_rows_change_nothing() -> None:
    sample, _ = rows_and_queries()
    one, other = learn(sample, sample, reduced=9), learn(sample, None, reduced=9)
    projector = one.queries.T @ one.rows
    np.testing.assert_allclose(projector, other.queries.T @ other.rows, atol=0.02)


def test_queries_and_rows_spread_alike() -> None:
    """No other scaling of the dimensions makes the error of even codes smaller."""
    sample, asked = rows_and_queries()
    learned = learn(sample, asked, reduced=12)
    rows = learned.rows @ mean_outer(sample) @ learned.rows.T
    queries = learned.queries @ spread(asked) @ learned.queries.T
    np.testing.assert_allclose(queries / np.trace(queries), rows / np.trace(rows), atol=1e-4)
    least = np.trace(queries) * np.trace(rows)
    draw = np.random.default_rng(0)
    for _ in range(50):
        turn = np.eye(12) + 0.2 * draw.standard_normal((12, 12))
        back = np.linalg.inv(turn)
        assert np.trace(turn @ rows @ turn.T) * np.trace(back.T @ queries @ back) > least


@pytest.mark.parametrize("count", [1, 4, 16, 48])
def test_a_few_queries_do_no_harm(count: int) -> None:
    """The mean over draws of a few, on all queries there are."""
    sample, asked = rows_and_queries()
    rows, truth = mean_outer(sample), mean_outer(asked)
    draw = np.random.default_rng(1)
    few = [
        loss(learn(sample, asked[draw.choice(len(asked), count)], reduced=12), truth, rows)
        for _ in range(8)
    ]
    assert np.mean(few) < 1.05 * loss(learn(sample, None, reduced=12), truth, rows)


def test_equal_queries_and_equal_rows_are_learned_from() -> None:
    for sample, asked in (
        (np.ones((5, 8)), np.ones((5, 8))),
        (np.zeros((5, 8)), np.ones((1, 8))),
        (np.eye(8), np.zeros((3, 8))),
    ):
        learned = learn(sample.astype(np.float32), asked.astype(np.float32), reduced=3)
        assert np.isfinite(learned.queries).all()
        assert np.isfinite(learned.rows).all()


def test_a_turn_changes_no_product_and_spreads_the_variance() -> None:
    sample, asked = rows_and_queries()
    plain = learn(sample, asked, reduced=24)
    turned = plain.turned()
    one = asked[:50] @ plain.queries.T @ (sample[:50] @ plain.rows.T).T
    other = asked[:50] @ turned.queries.T @ (sample[:50] @ turned.rows.T).T
    np.testing.assert_allclose(one, other, atol=1e-4)
    before, after = ((sample @ p.rows.T).std(axis=0) for p in (plain, turned))
    assert after.max() / after.min() < 0.7 * before.max() / before.min()


def test_what_cannot_be_learned_from_is_refused() -> None:
    rows = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="n of 1 or more"):
        learn(rows[:0], None)
    with pytest.raises(ValueError, match="1 to 4"):
        learn(rows, None, reduced=5)
    with pytest.raises(ValueError, match="queries must be"):
        learn(rows, rows[:, :2])

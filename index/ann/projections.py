"""LeanVec's projections: fewer dimensions that keep the inner products with queries.

Queries q become ``A q`` and rows x become ``B x``, d numbers instead of D, such that ``<A q, B x>``
is near ``<q, x>``. Texts do not vary as pictures do, so what tells pictures apart best need not be
what texts ask about: the two sides get a matrix each. With K_Q and K_X the mean outer products of
queries and rows and W the square root of K_Q, the mean squared error over all pairs is

    |W (A'B - I) K_X^(1/2)|^2,

whose smallest value over all A and B has a closed form: with P the first d eigenvectors of
``W K_X W`` and L their eigenvalues, A = P' W^-1 and B = P' W. Fewer dimensions are the first of
them. Where queries vary as rows do, this is the principal components of the rows. (Tepper et al.,
GleanVec: "LeanVec-Sphering".)

Any T and its inverse between A and B leave the products as they are, but not the error of codes:
one alike in all d numbers of B x, as large as these spread, is multiplied with A q, and

    (mean |A q|^2) (mean |B x|^2)

is smallest where both spread alike in each dimension: A = L^(1/4) P' W^-1, B = L^(-1/4) P' W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maxsight.index.ann.contract import WIDENED_ROWS
from maxsight.index.array_types import Doubles, Floats

# Dimensions in which less than this share of the most lies are scaled as if it were that much.
_LEAST_SPREAD = 1e-8


@dataclass(frozen=True, eq=False)
class Projections:
    """What queries and rows are multiplied with.

    Attributes:
        queries: A, (d, D) float32.
        rows: B, (d, D) float32; in D dimensions the sample's rows have a mean squared norm of 1.
    """

    queries: Floats
    rows: Floats

    def cut(self, reduced: int) -> Projections:
        """The first ``reduced`` dimensions: what learning so many would have given."""
        return Projections(self.queries[:reduced], self.rows[:reduced])

    def turned(self) -> Projections:
        """The same products, all dimensions alike: what quantisers that cut vectors in parts need.

        The turn is one at random, always the same for one d.
        """
        reduced = len(self.rows)
        noise = np.random.default_rng(reduced).standard_normal((reduced, reduced))
        turn = np.linalg.qr(noise)[0]
        return Projections(_single(turn @ self.queries), _single(turn @ self.rows))


def learn(
    sample: npt.NDArray[np.floating],
    queries: npt.NDArray[np.floating] | None,
    *,
    reduced: int | None = None,
) -> Projections:
    """Learn from some rows and, where there are any, from queries.

    Args:
        sample: (n, D) of the rows.
        queries: (m, D); a few hundred help, a few thousand are plenty. None: principal components.
        reduced: d; None: D.

    Raises:
        ValueError: shapes that do not fit, ``reduced`` not in 1..D, nothing to learn from.
    """
    if sample.ndim != 2 or not len(sample):
        raise ValueError(f"a sample must be (n, D) with n of 1 or more, got {sample.shape}")
    dim = sample.shape[1]
    reduced = dim if reduced is None else reduced
    if not 1 <= reduced <= dim:
        raise ValueError(f"reduced must be 1 to {dim}, the width of the sample, got {reduced}")
    if queries is not None and (queries.ndim != 2 or queries.shape[1] != dim or not len(queries)):
        raise ValueError(f"queries must be (m, {dim}) with m of 1 or more, got {queries.shape}")
    rows = mean_outer(sample)
    if queries is None:
        basis = _leading(rows)
        return _scaled(basis, basis, rows).cut(reduced)
    values, vectors = np.linalg.eigh(spread(queries))
    roots = np.sqrt(values)
    sphere, unsphere = vectors * roots @ vectors.T, vectors / roots @ vectors.T
    met = sphere @ rows @ sphere
    basis = _leading(met)
    spreads = np.einsum("id,de,ie->i", basis, met, basis, optimize=True)
    shares = np.maximum(spreads, _LEAST_SPREAD * spreads.max())[:, None] ** 0.25
    shares = np.where(shares > 0, shares, 1)
    return _scaled(basis @ unsphere * shares, basis @ sphere / shares, rows).cut(reduced)


def mean_outer(vectors: npt.NDArray[np.floating]) -> Doubles:
    """The mean outer product of (n, D) vectors: (D, D) float64."""
    dim = vectors.shape[1]
    total = np.zeros((dim, dim))
    for start in range(0, len(vectors), WIDENED_ROWS):
        part = vectors[start : start + WIDENED_ROWS].astype(np.float32)
        total += part.T @ part
    return total / len(vectors)


def spread(queries: npt.NDArray[np.floating]) -> Doubles:
    """The mean outer product of queries, as a few of them tell it: (D, D) float64, invertible.

    Their covariance is drawn towards the same variance in every direction by the share of it that
    chance alone may have made (Ledoit and Wolf 2004), and by 1 / (m + 1) at least, so that
    directions which none of a few queries happens to use do not look unused.
    """
    count, dim = queries.shape
    mean = queries.mean(axis=0, dtype=np.float64)
    centred = queries - mean.astype(np.float32)
    covariance = mean_outer(centred)
    squares = np.sum(covariance**2)
    excess = squares - np.trace(covariance) ** 2 / dim
    fourth = np.mean(np.sum(centred.astype(np.float64) ** 2, axis=1) ** 2)
    chance = (fourth - squares) / count
    share = max(1 / (count + 1), min(1.0, chance / excess if excess > 0 else 1.0))
    level = max(float(np.trace(covariance) + mean @ mean) / dim, np.finfo(np.float32).tiny)
    drawn = (1 - share) * covariance + share * level * np.eye(dim)
    estimate: Doubles = drawn + np.outer(mean, mean)
    return estimate


def _leading(matrix: Doubles) -> Doubles:
    """Eigenvectors of a symmetric matrix as rows, largest eigenvalue first, signs settled."""
    vectors = np.linalg.eigh((matrix + matrix.T) / 2)[1].T[::-1]
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    found: Doubles = vectors * signs[:, None]
    return found


def _scaled(queries: Doubles, rows: Doubles, outer: Doubles) -> Projections:
    """Float16, in which indexes are handed rows, has few digits for small numbers."""
    scale = np.sqrt(np.einsum("id,de,ie->", rows, outer, rows, optimize=True))
    scale = scale if scale > 0 else 1.0
    return Projections(_single(queries * scale), _single(rows / scale))


def _single(matrix: Doubles) -> Floats:
    return np.ascontiguousarray(matrix, dtype=np.float32)

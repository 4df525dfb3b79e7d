"""Synthetic embeddings that are shaped like a two-tower encoder's, for sizes no demo has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DRAWN_ROWS = 100_000
_CLUSTERS = 2_000


@dataclass(frozen=True, eq=False)
class Cloud:
    """Vectors and queries for them.

    Attributes:
        vectors: (N, D) float32, each number one that float16 can hold, rows of norm 1 within 1e-3.
        queries: (Q, D) float32, rows of norm 1.
    """

    vectors: np.ndarray
    queries: np.ndarray


def cloud(count: int, dim: int, *, queries: int = 64, seed: int = 0) -> Cloud:
    """Draw clustered vectors around a common mean, and queries from beside them.

    Independent Gaussian noise would be easier than life: every neighbour is equally far. Here
    variance falls off over the directions, pictures gather in clusters of uneven size and share
    a mean (cosine between two of them about .5), and queries sit off to one side as texts do
    (cosine to their best match about .3).

    Args:
        count: N.
        dim: D.
        queries: Q.
        seed: everything is drawn from it; the first N vectors do not depend on ``queries``.
    """
    draw = np.random.default_rng(seed)
    spread = (1 / np.sqrt(1 + np.arange(dim) / 16)).astype(np.float32)
    spread /= np.linalg.norm(spread)
    mean = draw.standard_normal(dim, dtype=np.float32)
    mean /= np.linalg.norm(mean)
    clusters = min(_CLUSTERS, max(1, count // 10))
    centres = draw.standard_normal((clusters, dim), dtype=np.float32) * spread
    share = 1 / np.arange(1, clusters + 1)
    share /= share.sum()

    vectors = np.empty((count, dim), dtype=np.float32)
    for start in range(0, count, _DRAWN_ROWS):
        block = vectors[start : start + _DRAWN_ROWS]
        block[:] = draw.standard_normal(block.shape, dtype=np.float32) * spread
        block *= 0.6
        block += 0.8 * centres[draw.choice(clusters, len(block), p=share)]
        block += mean
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        # The store keeps float16: rounding here gives every contender the same numbers.
        block[:] = block.astype(np.float16)

    near = vectors[draw.integers(0, count, queries)] - mean
    gap = draw.standard_normal(dim, dtype=np.float32) * spread
    asked = 0.6 * near + 0.8 * gap + 0.2 * mean
    asked += 0.4 * draw.standard_normal((queries, dim)) * spread
    asked = asked.astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return Cloud(vectors, asked)

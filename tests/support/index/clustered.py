"""Vectors in clusters, which an index can learn something of, and what is nearest in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Held:
    """Vectors as a source of an index: (N, D) float16. ``takes`` counts the reads."""

    vectors: npt.NDArray[np.float16]
    takes: list[int]

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        self.takes.append(len(rows))
        return self.vectors[rows]


def clustered(count: int, dim: int, seed: int = 0) -> npt.NDArray[np.float16]:
    """(count, dim), rows of norm 1."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, dim))
    rows = centres[draw.integers(0, len(centres), count)] + 0.6 * draw.standard_normal((count, dim))
    unit: npt.NDArray[np.float16] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(
        "f2"
    )
    return unit


def asked(count: int, dim: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """(count, dim) queries from the same clusters."""
    return clustered(count, dim, seed).astype(np.float32)


def recall(
    found: npt.NDArray[np.int64],
    queries: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float16],
    allowed: npt.NDArray[np.bool_] | None = None,
) -> float:
    """Share of the true nearest, as many as ``found`` is wide, that it holds."""
    scores = queries @ vectors.astype(np.float32).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    true = np.argsort(-scores, axis=1)[:, : found.shape[1]]
    return float(np.mean([np.isin(mine, own).mean() for mine, own in zip(true, found)]))

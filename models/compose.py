"""A query of several parts as one vector: a signed, weighted sum, normalised.

numpy only: a search whose texts are cached adds its parts without importing torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maxsight.errors import UsageError

# How much more a text counts than a picture of the same weight, where both are in the query. Of
# 0.4 to 2, best on the validation split of the composed triplets with the built-in encoder
# (models/builtin/MODEL_CARD.md; benchmarks/cases/composed_triplets.py measures the test split).
TEXT_WEIGHT = 1.2

# What a minus counts that names no weight. Texts about alike things lie close: taken off whole, "a
# musical instrument" less "a guitar" points at nothing, taken off by half at violins (ten pairs of
# words on the demo's pictures, weights .25, .5 and 1; there is no benchmark of it yet).
MINUS_WEIGHT = 0.5


def weighted_sum(
    vectors: np.ndarray,
    *,
    weights: Sequence[float],
    is_text: Sequence[bool],
    text_weight: float = TEXT_WEIGHT,
) -> np.ndarray:
    """One vector for all parts of a query: (D,) float32, L2-normalised.

    Arguments and errors are those of :func:`shares`.
    """
    parts = np.asarray(vectors, dtype=np.float32)
    total = shares(parts, weights=weights, is_text=is_text, text_weight=text_weight) @ parts
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


def shares(
    vectors: np.ndarray,
    *,
    weights: Sequence[float],
    is_text: Sequence[bool],
    text_weight: float = TEXT_WEIGHT,
) -> np.ndarray:
    """By what to multiply the parts of a query so that their sum is its unit vector.

    A score that is taken part by part, and added up with these, is on the scale of a cosine.

    Args:
        vectors: (N, D) float32, rows L2-normalised.
        weights: N finite numbers; below zero means *less of this*.
        is_text: N booleans, which vectors stand for texts.
        text_weight: factor on the texts' weights where some vectors are not texts.

    Returns:
        (N,) float32.

    Raises:
        UsageError: there are no vectors, lengths differ, a weight is not finite, or the parts
            cancel each other out.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) == 0:
        raise UsageError(f"a query needs (N, D) vectors with N of 1 or more, got {vectors.shape}")
    if not len(vectors) == len(weights) == len(is_text):
        raise UsageError(
            f"{len(vectors)} vectors need as many weights and text marks, "
            f"got {len(weights)} and {len(is_text)}"
        )
    factors = np.asarray(weights, dtype=np.float32)
    if not np.isfinite(factors).all():
        raise UsageError(f"weights must be finite, got {list(weights)}")
    texts = np.asarray(is_text, dtype=bool)
    if texts.any() and not texts.all():
        factors = np.where(texts, text_weight * factors, factors).astype(np.float32)
    total = factors @ vectors
    norm = float(np.linalg.norm(total))
    if norm <= 1e-6 * float(np.abs(factors).sum()):
        raise UsageError("the parts of the query cancel each other out; change their weights")
    return np.asarray(factors / norm, dtype=np.float32)

"""One vector from several: the linear mix behind composed queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Weight of a text beside a picture.
TEXT_WEIGHT = 0.6


def mix(
    vectors: np.ndarray, *, weights: Sequence[float], is_text: Sequence[bool]
) -> np.ndarray:
    """Mix unit vectors into one.

    Args:
        vectors: (n, D) float32, rows L2-normalised.
        weights: n signed weights.
        is_text: which rows are texts; beside a picture they count ``TEXT_WEIGHT`` as much.

    Returns:
        (D,) float32, L2-normalised.
    """
    scale = np.array(weights, dtype=np.float32)
    texts = np.array(is_text)
    if not texts.all():
        scale = np.where(texts, TEXT_WEIGHT * scale, scale)
    mixed = scale @ vectors
    return mixed / np.linalg.norm(mixed)

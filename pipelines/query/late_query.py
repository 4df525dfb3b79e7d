"""A query as it is scored by tokens: its parts, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maxsight.mix import Mix
from maxsight.models import compose


@dataclass(frozen=True, eq=False)
class LateQuery:
    """The parts of a query that are scored by tokens, and what is left of it.

    Attributes:
        vectors: (T, D) float32, of the parts.
        tokens: of each part, (n, d) float32 with n of 1 or more.
        shares: (T,) float32, what each part's score is multiplied by; below zero for what there
            should be less of.
        rest: (D,) float32, what pooled vectors are multiplied by besides; not normalised.
        mix: None where nobody has measured it: the pooled vector then counts half.
    """

    vectors: np.ndarray
    tokens: Sequence[np.ndarray]
    shares: np.ndarray
    rest: np.ndarray
    mix: Mix | None


def late_query(
    vectors: np.ndarray,
    tokens: Sequence[np.ndarray | None],
    mix: Mix | None,
    *,
    weights: Sequence[float],
    is_text: Sequence[bool],
) -> LateQuery | None:
    """Put a query of several parts together; None if no part has tokens.

    Args:
        vectors: (N, D) float32, of the parts.
        tokens: of each part, (n, d) float32; None or empty where it is scored by its vector alone.
        mix: the encoder's.
        weights, is_text: as :func:`maxsight.models.compose.shares` takes them.
    """
    late = [part for part, own in enumerate(tokens) if own is not None and len(own)]
    if not late:
        return None
    shares = compose.shares(vectors, weights=weights, is_text=is_text)
    others = [part for part in range(len(vectors)) if part not in late]
    own_tokens = [own for own in tokens if own is not None and len(own)]
    return LateQuery(vectors[late], own_tokens, shares[late], shares[others] @ vectors[others], mix)

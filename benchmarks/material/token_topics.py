"""Documents of several topics, as tokens: what a pooled vector cannot tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxsight.kernels.array_types import FloatArray

# Of all documents, and of one.
_POOL, _TOPICS = 200, 8
# How far a document's topics lie from the pool's, and tokens from the topic they are about.
_TOPIC_AWAY, _TOKEN_AWAY = 0.5, 0.9


@dataclass(frozen=True, eq=False)
class TokenTopics:
    """Queries about two of a document's topics.

    Attributes:
        documents: (N, L, d), rows of norm 1.
        queries: (Q, l, d), rows of norm 1.
    """

    documents: FloatArray
    queries: FloatArray


def token_topics(
    documents: int,
    queries: int,
    *,
    document_tokens: int = 70,
    query_tokens: int = 32,
    dim: int = 128,
    seed: int = 0,
) -> TokenTopics:
    """Draw them: every token is near one of its document's topics, which are near some of a pool.

    3,000 documents of these numbers are as hard as the sets that late interaction is for: of the
    ten best of exact MaxSim the pooled vector finds 95 % among its best 320.
    """
    draw = np.random.default_rng(seed)

    def near(rows: FloatArray, away: float) -> FloatArray:
        noise = _units(draw.standard_normal(rows.shape, dtype=np.float32))
        return _units(rows + np.float32(away) * noise)

    pool = _units(draw.standard_normal((_POOL, dim), dtype=np.float32))
    some = np.argsort(draw.random((documents, _POOL)), axis=1)[:, :_TOPICS]
    topics = near(pool[some], _TOPIC_AWAY)
    which = draw.integers(0, _TOPICS, (documents, document_tokens))
    tokens = near(np.take_along_axis(topics, which[:, :, None], axis=1), _TOKEN_AWAY)
    about = topics[draw.integers(0, documents, queries)][:, np.arange(query_tokens) % 2]
    return TokenTopics(tokens, near(about, _TOKEN_AWAY))


def _units(rows: FloatArray) -> FloatArray:
    found: FloatArray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found

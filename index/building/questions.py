"""The queries by which an index is measured: pictures like those of the library, and texts."""

from __future__ import annotations

import numpy as np

from maxsight.index.array_types import Floats, Mask
from maxsight.index.building import tuning
from maxsight.index.building.tuning import Asked, Near, Questions
from maxsight.index.exact.disk import DiskVectors
from maxsight.index.exact.memory import ExactIndex, inner

# To choose by, and to tell of the choice.
_ASKED = 2 * tuning.QUERIES
# Fewer are not divided into those learned from and those measured by.
_FEW_TEXTS = 2 * _ASKED
# How far a sampled query lies from the vector it was made of, and a near-duplicate.
_AWAY, _NEAR = 0.3, 0.1


def apart(texts: Floats) -> tuple[Floats, Floats]:
    """What to learn from and what to be measured by, which the index should not know by heart.

    Few texts serve as both.
    """
    if len(texts) < _FEW_TEXTS:
        return texts, texts
    is_asked = np.zeros(len(texts), bool)
    is_asked[np.linspace(0, len(texts) - 1, _ASKED).astype(np.int64)] = True
    return texts[~is_asked], texts[is_asked]


def sampled(
    searched: ExactIndex | DiskVectors,
    stored: DiskVectors,
    texts: Floats | None,
    *,
    allowed: Mask | None = None,
) -> Questions:
    """Queries of each kind, and what is nearest to them.

    Args:
        searched: where the truth is looked for, exactly.
        stored: pictures to make queries of.
        texts: (m, D) to draw queries from.
        allowed: (N,) rows of ``searched`` that may be found.
    """
    draw = np.random.default_rng(1)
    count = min(_ASKED, len(stored))
    own = stored.take(np.sort(draw.choice(len(stored), count, replace=False))).astype(np.float32)
    # Not the stored vectors themselves, which would be their own first answers: each a little way
    # along the line between two others.
    others = stored.take(draw.integers(0, len(stored), 2 * count)).astype(np.float32)
    kinds = {"pictures": _unit(own + _AWAY * (others[:count] - others[count:]))}
    if texts is not None and len(texts):
        chosen = draw.choice(len(texts), min(_ASKED, len(texts)), replace=False)
        kinds["texts"] = _unit(texts[chosen])
    together = np.concatenate(list(kinds.values()))
    found = searched.search(together, tuning.DEPTH, allowed=allowed)
    truth = np.full((len(together), tuning.DEPTH), -1, dtype=np.int64)
    for query, (rows, _) in enumerate(found):
        truth[query, : len(rows)] = rows
    answers = np.split(truth, np.cumsum([len(queries) for queries in kinds.values()])[:-1])
    asked = {
        kind: Asked(queries, answer)
        for (kind, queries), answer in zip(kinds.items(), answers, strict=True)
    }
    return Questions(
        {kind: _every_second(each, 0) for kind, each in asked.items()},
        # Of a single query there is no other.
        {kind: _every_second(each, min(1, len(each.queries) - 1)) for kind, each in asked.items()},
        _near(stored),
    )


def _every_second(asked: Asked, start: int) -> Asked:
    return Asked(asked.queries[start::2], asked.truth[start::2])


def _near(stored: DiskVectors) -> dict[str, Near]:
    """Stored vectors themselves, and what lies so near that it must be a copy of one."""
    draw = np.random.default_rng(2)
    count = min(tuning.NEAR, len(stored))
    vectors = stored.take(np.sort(draw.choice(len(stored), count, replace=False)))
    own = vectors.astype(np.float32)
    others = stored.take(draw.integers(0, len(stored), 2 * count)).astype(np.float32)
    beside = own + _NEAR * _unit(others[:count] - others[count:])
    kinds = {"stored": _unit(own), "near-duplicates": _unit(beside)}
    return {
        kind: Near(queries, np.array([inner(v[None], q)[0] for v, q in zip(vectors, queries)]))
        for kind, queries in kinds.items()
    }


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

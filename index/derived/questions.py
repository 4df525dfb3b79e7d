"""The queries by which an index is measured: pictures like those of the library, and texts."""

from __future__ import annotations

import numpy as np

from maxsight.index.array_types import Floats, Mask
from maxsight.index.derived import tuning
from maxsight.index.derived.tuning import Asked
from maxsight.index.disk_vectors import DiskVectors
from maxsight.index.vectors import ExactIndex

# Fewer are not divided into those learned from and those measured by.
_FEW_TEXTS = 4 * tuning.QUERIES
# How far a sampled query lies from the vector it was made of.
_AWAY = 0.3


def apart(texts: Floats) -> tuple[Floats, Floats]:
    """What to learn from and what to be measured by, which the index should not know by heart.

    Few texts serve as both.
    """
    if len(texts) < _FEW_TEXTS:
        return texts, texts
    is_asked = np.arange(len(texts)) % (len(texts) // tuning.QUERIES) == 0
    return texts[~is_asked], texts[is_asked]


def sampled(
    searched: ExactIndex | DiskVectors,
    stored: DiskVectors,
    texts: Floats | None,
    *,
    allowed: Mask | None = None,
) -> dict[str, Asked]:
    """Queries of each kind, and what is nearest to them.

    Args:
        searched: where the truth is looked for, exactly.
        stored: pictures to make queries of.
        texts: (m, D) to draw queries from.
        allowed: (N,) rows of ``searched`` that may be found.
    """
    draw = np.random.default_rng(1)
    count = min(tuning.QUERIES, len(stored))
    own = stored.take(np.sort(draw.choice(len(stored), count, replace=False))).astype(np.float32)
    # Not the stored vectors themselves, which would be their own first answers: each a little way
    # along the line between two others.
    others = stored.take(draw.integers(0, len(stored), 2 * count)).astype(np.float32)
    kinds = {"pictures": _unit(own + _AWAY * (others[:count] - others[count:]))}
    if texts is not None and len(texts):
        chosen = draw.choice(len(texts), min(tuning.QUERIES, len(texts)), replace=False)
        kinds["texts"] = _unit(texts[np.sort(chosen)])
    together = np.concatenate(list(kinds.values()))
    found = searched.search(together, tuning.DEPTH, allowed=allowed)
    truth = np.full((len(together), tuning.DEPTH), -1, dtype=np.int64)
    for query, (rows, _) in enumerate(found):
        truth[query, : len(rows)] = rows
    answers = np.split(truth, np.cumsum([len(queries) for queries in kinds.values()])[:-1])
    return {
        kind: Asked(queries, answer)
        for (kind, queries), answer in zip(kinds.items(), answers, strict=True)
    }


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

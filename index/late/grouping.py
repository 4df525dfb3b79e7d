"""Query tokens that ask for the same thing, taken together while candidates are looked for."""

from __future__ import annotations

import numpy as np

from maxsight.index.array_types import Floats, Rows


def carve(
    tokens: Floats, offsets: Rows, *, above: int, threshold: float = 0.7
) -> tuple[Floats, Rows]:
    """Like tokens become their sum, in queries of more than ``above`` tokens.

    The first token without a group takes every later one without a group whose cosine with it is at
    least ``threshold``.

    Args:
        tokens: (sum L, d).
        offsets: (B + 1,).

    Returns:
        ``(tokens, offsets)`` of the same queries in fewer tokens.

    Source: MUVERA, section 3.2 ("ball carving").
    """
    lengths = np.diff(offsets)
    if not (lengths > above).any():
        return tokens, offsets
    parts = []
    for query, length in enumerate(lengths):
        own = tokens[offsets[query] : offsets[query + 1]]
        parts.append(_sums(own, threshold) if length > above else own)
    sizes = [len(part) for part in parts]
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _sums(tokens: Floats, threshold: float) -> Floats:
    norms = np.linalg.norm(tokens, axis=1, keepdims=True)
    units = tokens / np.where(norms > 0, norms, 1)
    near = units @ units.T >= threshold
    group = np.full(len(tokens), -1)
    groups = 0
    for token in range(len(tokens)):
        if group[token] < 0:
            group[near[token] & (group < 0)] = groups
            group[token] = groups
            groups += 1
    sums = np.zeros((groups, tokens.shape[1]), np.float32)
    np.add.at(sums, group, tokens)
    return sums

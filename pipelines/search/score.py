"""Late interaction in search: what a text names, each thing against the patches of a picture.

A text of n phrases or words scores a picture

    (w * cosine of the pooled vectors + sum of the n MaxSim scores) / (w + n)

so the pooled vector is one voice more among the query's tokens, as loud as w of them, and the score
stays on the scale of a cosine. The weight w is the encoder's (``maxsight.mix``) and depends
on whether the pictures that the tokens find show one thing or several, and on whether the picture
itself does. docs/late-interaction.md says why, and what it brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maxsight.mix import Mix
from maxsight.pipelines.query.late_query import LateQuery

if TYPE_CHECKING:
    from maxsight.index.records import TokenTable
    from maxsight.index.snapshot import Snapshot

# So many of the best by MaxSim tell what kind of pictures a text finds. Among fewer, pictures of
# several things are often too few to be told from the odd one in a library of single things.
FOUND = 200


def score_rows(snapshot: Snapshot, query: LateQuery, rows: np.ndarray) -> np.ndarray:
    """What each of some rows scores: (n,) float32."""
    if snapshot.holds_tokens:
        table, positions = snapshot.all_tokens, rows
    else:
        table, positions = snapshot.row_tokens(rows), np.arange(len(rows))
    pooled = np.stack([snapshot.scores(vector, rows) for vector in query.vectors])
    return combine(query, table, positions, pooled=pooled, rest=snapshot.scores(query.rest, rows))


def combine(
    query: LateQuery,
    table: TokenTable,
    positions: np.ndarray,
    *,
    pooled: np.ndarray,
    rest: np.ndarray,
) -> np.ndarray:
    """Scores by vectors and tokens together: (n,) float32.

    Args:
        table: of some units.
        positions: (n,) int64, which of them.
        pooled: (T, n) float32, ``query.vectors`` with the vectors of these.
        rest: (n,) float32, ``query.rest`` with the same.
    """
    scores = rest.copy()
    # A unit without tokens is left to its vector.
    answering = np.flatnonzero(np.diff(table.offsets)[positions] > 0)
    unity = table.unity[positions[answering]]
    for part, late in enumerate(mean_maxsim(query.tokens, table, positions[answering])):
        share = late_shares(query.mix, len(query.tokens[part]), late, unity)
        mixed = pooled[part].copy()
        mixed[answering] += share * (late - mixed[answering])
        scores += query.shares[part] * mixed
    return scores


def late_shares(mix: Mix | None, count: int, late: np.ndarray, unity: np.ndarray) -> np.ndarray:
    """How much of each unit's score for a text is MaxSim, from 0 to 1: (n,) float32.

    Args:
        mix: the encoder's. None, where nobody has measured it, is one half.
        count: tokens of the text.
        late: (n,) mean MaxSim of the text with n units that have tokens.
        unity: (n,) of these units (``TokenTable.unity``).
    """
    if mix is None or not len(late):
        return np.full(len(late), 0.5, np.float32)
    best = np.argpartition(-late, FOUND)[:FOUND] if len(late) > FOUND else slice(None)
    return mix.shares(count, unity, found=unity[best])


def mean_maxsim(
    tokens: Sequence[np.ndarray], table: TokenTable, positions: np.ndarray
) -> np.ndarray:
    """What units answer to texts: the mean over a text's tokens of each one's best match.

    Args:
        tokens: of each of T texts, (n, d) float32 with n of 1 or more.
        table: of some units.
        positions: (n,) int64, which of them.

    Returns:
        (T, n) float32; -inf for a unit without tokens.
    """
    import torch

    from maxsight.kernels import maxsim

    lengths = np.array([len(own) for own in tokens])
    pairs = np.stack(
        [np.repeat(np.arange(len(tokens)), len(positions)), np.tile(positions, len(tokens))]
    )
    scores = maxsim.score_pairs(
        # As int8, too: the product is then exact in integers, and as fast as the machine can.
        maxsim.Int8Tokens.of(torch.from_numpy(np.concatenate(tokens))),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        maxsim.Int8Tokens(torch.from_numpy(table.tokens), torch.from_numpy(table.scales)),
        torch.from_numpy(table.offsets),
        pairs=torch.from_numpy(pairs.T),
    )
    sums: np.ndarray = scores.numpy().reshape(len(tokens), len(positions))
    return sums / lengths[:, None].astype(np.float32)

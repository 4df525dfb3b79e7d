"""Late interaction in search: what a text names, each thing against the patches of a picture.

A text of n phrases or words scores a picture

    (w * cosine of the pooled vectors + sum of the n MaxSim scores) / (w + n)

so the pooled vector is one voice more among the query's tokens, as loud as w of them, and the score
stays on the scale of a cosine. The weight w is the encoder's (``maxsight.mix``) and depends
on whether the pictures that the tokens find show one thing or several, and on whether the picture
itself does. docs/late-interaction.md says why, and what it brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maxsight.mix import Mix
from maxsight.pipelines.query.late_query import LateQuery

if TYPE_CHECKING:
    from maxsight.index.snapshot import Snapshot
    from maxsight.index.snapshot_tokens import TokenScores

# So many of the best by MaxSim tell what kind of pictures a text finds. Among fewer, pictures of
# several things are often too few to be told from the odd one in a library of single things.
FOUND = 200


def score_rows(snapshot: Snapshot, query: LateQuery, rows: np.ndarray) -> np.ndarray:
    """What each of some rows scores: (n,) float32."""
    late = snapshot.tokens.scores(query.tokens, rows)
    pooled = np.stack([snapshot.scores(vector, rows) for vector in query.vectors])
    return combine(query, late, pooled=pooled, rest=snapshot.scores(query.rest, rows))


def combine(
    query: LateQuery, late: TokenScores, *, pooled: np.ndarray, rest: np.ndarray
) -> np.ndarray:
    """Scores by vectors and tokens together: (n,) float32.

    Args:
        late: what n units answer to ``query.tokens``; a unit without tokens is left to its vector.
        pooled: (T, n) float32, ``query.vectors`` with the vectors of these.
        rest: (n,) float32, ``query.rest`` with the same.
    """
    scores = rest.copy()
    for part, maxsim in enumerate(late.maxsim):
        share = late_shares(query.mix, len(query.tokens[part]), maxsim, late.unity)
        mixed = pooled[part].copy()
        mixed[late.answering] += share * (maxsim - mixed[late.answering])
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

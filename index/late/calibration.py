"""How many candidates a recall asks for: measured on queries, when an index is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maxsight import machine
from maxsight.index.array_types import Doubles, Floats, Rows
from maxsight.index.late.token_files import units
from maxsight.kernels import array_ordering, maxsim
from maxsight.kernels.maxsim import CodedTokens

K = 10
_QUERIES, _FEWEST = 96, 8
# Products of two numbers that the measurement may take: a minute or so of one core.
_PRODUCTS = 4e12
_QUERY_TOKENS, _ANCHORS, _NOISE = 32, 2, 0.9
# Scores of all documents that are held at once.
_SCORES = 8_000_000

# (queries, their offsets, how many) -> (B, how many) rows, best first, -1 where there is none
Proposer = Callable[[Floats, Rows, int], Rows]


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        target: the recall of the ten best that was asked for.
        proposed: documents a query that are proposed by encodings; 0 where all are looked at.
        shortlist: documents a query that are scored by their tokens.
        recall: of the ten best by exact MaxSim of the tokens given, measured with these.
        ceiling: the same were all documents scored by the tokens as they are stored.
        queries: how many it was measured with.
        given: whether they were real ones, not made of the documents.
    """

    target: float
    proposed: int
    shortlist: int
    recall: float
    ceiling: float
    queries: int
    given: bool

    @staticmethod
    def of_all(documents: int, target: float) -> Calibration:
        """Before anything is measured: every document is scored by its tokens."""
        return Calibration(target, documents, max(1, documents), 1.0, 1.0, 0, False)


def imagined(raw: CodedTokens, count: int, draw: np.random.Generator) -> list[Floats]:
    """Queries about a part of a document: tokens near two of its own, and noise.

    Args:
        raw: the tokens as they were given.
    """
    filled = np.flatnonzero(np.diff(raw.offsets))
    if not len(filled):
        return []
    found = []
    for row in draw.choice(filled, count):
        own = units(raw.decoded(slice(*raw.offsets[row : row + 2])))
        anchors = own[draw.integers(0, len(own), _ANCHORS)]
        near = np.argsort(-(anchors @ own.T), axis=1)[:, : max(1, len(own) // 6)]
        picked = np.concatenate([draw.choice(rows, _QUERY_TOKENS // _ANCHORS) for rows in near])
        noise = units(draw.standard_normal((len(picked), own.shape[1])).astype(np.float32))
        found.append(units(own[picked] + np.float32(_NOISE) * noise))
    return found


def affordable(tokens: CodedTokens) -> int:
    """How many queries can be scored with every document."""
    each = max(1, int(tokens.offsets[-1])) * tokens.dim * _QUERY_TOKENS * 2
    return int(np.clip(_PRODUCTS / each, _FEWEST, _QUERIES))


def calibrate(
    queries: Sequence[Floats],
    raw: CodedTokens,
    coded: CodedTokens,
    *,
    target: float,
    given: bool,
    propose: Proposer | None = None,
) -> tuple[Calibration, Rows]:
    """The fewest candidates that reach a recall, by one standard error of the measurement.

    Where the stored codes themselves lose more than the target allows, so many are taken that
    99 % of what the codes can find is found: more would only cost time.

    Args:
        queries: (L, d) each, one at least.
        raw: the tokens as they were given; their exact MaxSim is the truth.
        coded: as they are stored.
        propose: candidates by encodings, if not all documents are looked at.

    Returns:
        The choice, its recall as estimated from that of its two steps, and the true best rows
        (B, K) of each query.
    """
    count = raw.documents
    ladder = _ladder(count)
    bests = np.empty((len(queries), min(K, count)), np.int64)
    found = np.zeros((len(ladder), len(queries)))
    covered = np.zeros((len(ladder), len(queries)))
    ceiling = np.zeros(len(queries))
    step = max(1, _SCORES // max(1, count))
    for start in range(0, len(queries), step):
        group = queries[start : start + step]
        tokens = np.concatenate(group)
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in group])]).astype(np.int64)
        pairs = np.array(
            [np.tile(np.arange(len(group)), count), np.repeat(np.arange(count), len(group))]
        ).T
        truth, stored = (
            maxsim.score_pairs(tokens, offsets, kept, pairs=pairs, threads=machine.threads())
            .reshape(count, -1)
            .T
            for kept in (raw, coded)
        )
        best = _top(truth, None)
        bests[start : start + step] = best
        proposed = None if propose is None else propose(tokens, offsets, ladder[-1])
        ceiling[start : start + step] = overlap(_top(stored, None), best)
        for rung, size in enumerate(ladder):
            kept = maxsim.interact(tokens, offsets, coded, size, threads=machine.threads())
            found[rung, start : start + step] = overlap(_top(stored, kept), best)
            if proposed is not None:
                covered[rung, start : start + step] = overlap(proposed[:, :size], best)
    most = float(ceiling.mean())
    sure = _lower(found)
    chosen = _first(sure, target) if sure[-1] >= target else _first(found.mean(1), 0.99 * most)
    recall = float(found[chosen].mean())
    wide = 0
    if propose is not None:
        # What is not proposed is lost; a third of the loss allowed may come from here.
        rung = _first(_lower(covered), 1 - (1 - target) / 3)
        wide = max(ladder[rung], ladder[chosen])
        recall *= float(covered[rung].mean())
    made = Calibration(target, wide, ladder[chosen], recall, most, len(queries), given)
    return made, bests


def _ladder(count: int) -> list[int]:
    """Numbers of candidates to try, a quarter to a half more each time."""
    sizes, size = [], 2 * K
    while size < count and size <= 20_000:
        sizes += [size, size * 5 // 4, size * 3 // 2]
        size *= 2
    return sorted({min(size, count) for size in [*sizes, size]}) or [1]


def _lower(shares: Doubles) -> Doubles:
    """Means over queries (rungs, B), each less its standard error."""
    lower: Doubles = shares.mean(1) - shares.std(1) / np.sqrt(shares.shape[1])
    return lower


def _first(values: Doubles, aim: float) -> int:
    reached = np.flatnonzero(values >= aim)
    return int(reached[0]) if len(reached) else len(values) - 1


def _top(scores: Floats, kept: Rows | None) -> Rows:
    """The best of some rows (B, K); -1 where there are fewer."""
    if kept is None:
        rows = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        return array_ordering.best(scores, rows, K)[1]
    own = np.take_along_axis(scores, np.maximum(kept, 0), axis=1)
    own[kept < 0] = -np.inf
    order = np.argsort(-own, axis=1, kind="stable")[:, :K]
    chosen: Rows = np.take_along_axis(kept, order, axis=1)
    return chosen


def overlap(found: Rows, best: Rows) -> Doubles:
    """The share of each query's best that was found."""
    hit = (best[:, :, None] == found[:, None, :]).any(2)
    shares: Doubles = hit.mean(1)
    return shares

"""Late interaction in compiled code, on every instruction set, against plain NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from maxsight.kernels import native
from maxsight.kernels.coded_tokens import CodedTokens

Doubles = npt.NDArray[np.float64]

# None of 0 and 1 tokens may be missing; 1,500 take several panels.
LENGTHS = np.array([3, 0, 1, 70, 17, 1_500, 33, 2, 59, 64, 5, 40])
QUERY_LENGTHS = np.array([32, 1, 0, 70, 17, 200])


def stored(dim: int, bits: int, centroids: int, seed: int = 0) -> tuple[CodedTokens, Doubles]:
    """Random documents, and their tokens in full."""
    draw = np.random.default_rng(seed)
    total = int(LENGTHS.sum())
    middle = draw.integers(-60, 61, (centroids, dim)).astype(np.int8)
    drawn = draw.integers(0, centroids, total)
    ids = drawn.astype(np.uint8) if centroids <= 256 else drawn.astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    if bits == 8:
        numbers = draw.integers(-127, 128, (total, dim)).astype(np.int8)
        scale = (draw.random(total) + 0.5).astype(np.float32)
        coded = CodedTokens(ids, middle, numbers.view(np.uint8), 8, None, scale, offsets)
        return coded, numbers.astype(np.float64) * scale[:, None]
    codes = draw.integers(0, 2**bits, (total, dim))
    levels = np.sort(draw.integers(-100, 101, 2**bits)).astype(np.int8)
    numbers = np.clip(middle[ids].astype(np.int64) + levels[codes], -127, 127)
    tokens = numbers / np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), 1e-9)
    return CodedTokens(ids, middle, packed(codes, bits), bits, levels, None, offsets), tokens


def packed(codes: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.uint8]:
    """Codes as CodedTokens describes them, bit by bit."""
    lower = min(bits, 4)
    bit = codes[:, :, None] >> np.arange(bits) & 1
    parts = [bit[:, :, :lower].reshape(len(codes), -1)]
    parts += [bit[:, :, 4].reshape(len(codes), -1)] if bits == 5 else []
    return np.packbits(np.concatenate(parts, axis=1), axis=1, bitorder="little")


def maxsim(queries: Doubles, edges: npt.NDArray[np.int64], tokens: Doubles) -> Doubles:
    """(B, N)."""
    scores = np.zeros((len(edges) - 1, len(LENGTHS)))
    ends = np.concatenate([[0], np.cumsum(LENGTHS)])
    for query in range(len(scores)):
        for document in range(len(LENGTHS)):
            own = tokens[ends[document] : ends[document + 1]]
            products = queries[edges[query] : edges[query + 1]] @ own.T
            scores[query, document] = products.max(axis=1, initial=-np.inf).sum()
    return scores


def asked(dim: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    draw = np.random.default_rng(1)
    edges = np.concatenate([[0], np.cumsum(QUERY_LENGTHS)]).astype(np.int64)
    return draw.standard_normal((int(edges[-1]), dim)).astype(np.float32), edges


@pytest.mark.parametrize("bits", [8, 5, 4, 2])
@pytest.mark.parametrize("dim", [8, 48, 128, 200])
@pytest.mark.usefixtures("engine")
def test_scores_are_those_of_the_tokens(dim: int, bits: int) -> None:
    coded, tokens = stored(dim, bits, centroids=300 if bits == 5 else 40)
    queries, edges = asked(dim)
    truth = maxsim(queries.astype(np.float64), edges, tokens)
    documents = np.repeat(np.arange(len(LENGTHS)), len(QUERY_LENGTHS))
    pairs = np.array([np.tile(np.arange(len(QUERY_LENGTHS)), len(LENGTHS)), documents]).T
    for fine, tolerance in (False, 2e-3), (True, 5e-6):
        scores = native.score_pairs(queries, edges, coded, pairs, fine=fine)
        found, finite = scores.reshape(len(LENGTHS), -1).T, np.isfinite(truth)
        # A document without tokens, to a query that has any.
        assert (found[~finite] == -np.inf).all()
        error = np.abs(np.where(finite, found, 0) - np.where(finite, truth, 0)).max()
        assert error <= tolerance * np.abs(truth[finite]).max()


@pytest.mark.parametrize("centroids", [40, 300])
@pytest.mark.usefixtures("engine")
def test_interaction_keeps_the_best_by_centroids(centroids: int) -> None:
    coded, _ = stored(48, 4, centroids)
    queries, edges = asked(48)
    truth = maxsim(queries.astype(np.float64), edges, coded.centroids[coded.ids].astype(np.float64))
    allowed = np.random.default_rng(2).random((len(QUERY_LENGTHS), len(LENGTHS))) < 0.7
    kept = native.interact(queries, edges, coded, 4, allowed=allowed)
    for query, own in enumerate(kept):
        assert (np.diff(own[own >= 0]) > 0).all()
        assert allowed[query, own[own >= 0]].all()
        # To 255 levels a token: what is left out is hardly better than what is kept.
        length = QUERY_LENGTHS[query]
        scores = np.where(allowed[query], truth[query], -np.inf)
        best = np.sort(scores)[::-1][: len(own)]
        some = truth[query][np.isfinite(truth[query])]
        step = (some.max() - some.min()) / 255 * length + length
        spread = np.abs(queries[edges[query] : edges[query + 1]] @ coded.centroids.T).max(initial=0)
        assert (np.sort(scores[own])[::-1] >= best - 2 * length * spread / 255 - step / 255).all()


def test_rows_that_are_listed_alone_take_part() -> None:
    coded, _ = stored(48, 8, 40)
    queries, edges = asked(48)
    rows = np.tile(np.array([-1, 0, 3, 8]), (len(QUERY_LENGTHS), 1))
    kept = native.interact(queries, edges, coded, 6, rows=rows)
    assert kept.tolist() == [[0, 3, 8, -1, -1, -1]] * len(QUERY_LENGTHS)


def test_many_threads_score_alike() -> None:
    coded, _ = stored(48, 5, 40)
    queries, edges = asked(48)
    documents = np.repeat(np.arange(len(LENGTHS)), 6 * 100)
    pairs = np.array([np.tile(np.arange(6), len(LENGTHS) * 100), documents]).T
    one = native.score_pairs(queries, edges, coded, pairs, fine=True)
    many = native.score_pairs(queries, edges, coded, pairs, fine=True, threads=3)
    assert (one == many).all()


def test_another_width_is_refused() -> None:
    coded, _ = stored(48, 4, 40)
    with pytest.raises(ValueError, match="48 dimensions"):
        native.interact(np.zeros((1, 40), np.float32), np.array([0, 1]), coded, 3)
    with pytest.raises(ValueError, match="rise from 0 to 1"):
        native.interact(np.zeros((1, 48), np.float32), np.array([0, 2]), coded, 3)


def test_tokens_that_compiled_code_would_follow_anywhere_are_refused() -> None:
    coded, _ = stored(48, 4, 40)
    with pytest.raises(ValueError, match="centroid 40 of 40"):
        replace(coded, ids=np.where(np.arange(len(coded.ids)) == 7, 40, coded.ids).astype(np.uint8))
    with pytest.raises(ValueError, match="centroid"):
        replace(coded, centroids=coded.centroids[:0])
    for wrong in (-1, 2**40), (5, 3):
        offsets = coded.offsets.copy()
        offsets[1], offsets[2] = wrong
        with pytest.raises(ValueError, match="never fall"):
            replace(coded, offsets=offsets)
    with pytest.raises(ValueError, match="data"):
        replace(coded, bits=5, levels=np.zeros(32, np.int8))
    with pytest.raises(ValueError, match="levels"):
        replace(coded, levels=coded.levels[:4] if coded.levels is not None else None)
    with pytest.raises(ValueError, match="contiguous"):
        replace(coded, data=coded.data[:, ::-1])
    with pytest.raises(ValueError, match="scales"):
        replace(stored(48, 8, 40)[0], scale=None)


def test_rows_and_pairs_that_there_are_not_are_refused() -> None:
    coded, _ = stored(48, 4, 40)
    queries, edges = asked(48)
    for pairs in [[0, 12]], [[0, -1]], [[6, 0]], [[0, 3], [0, 2]], [[0, 0, 0]]:
        with pytest.raises(ValueError, match="pair"):
            native.score_pairs(queries, edges, coded, np.array(pairs), fine=True)
    with pytest.raises(ValueError, match="below 12"):
        native.interact(queries, edges, coded, 3, rows=np.full((6, 1), 12))
    with pytest.raises(ValueError, match="allowed"):
        native.interact(queries, edges, coded, 3, allowed=np.ones(11, bool))
    with pytest.raises(ValueError, match="keep"):
        native.interact(queries, edges, coded, 0)

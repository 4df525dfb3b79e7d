"""The operations on NumPy's arrays: without torch, compiled or not, the same answers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from maxsim_truth import case, truth

from maxsight.kernels import int8, maxsim, native, similarity


@pytest.fixture(params=[True, False], ids=["compiled", "NumPy"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code, and an installation without a compiler."""
    if not request.param:
        monkeypatch.setattr(native, "available", lambda: None)
    elif native.available() is None:
        pytest.skip("not compiled")


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [np.int8, np.float16])
def test_topk_is_a_sort_of_every_score(kind: type[np.generic], masked: bool) -> None:
    draw = np.random.default_rng(0)
    rows = draw.integers(-9, 10, (9_000, 24)).astype(kind)  # whole numbers: many ties
    queries = draw.integers(-2, 3, (3, 24)).astype(np.float32)
    scale = np.where(np.arange(9_000) % 2, 0.5, 2).astype(np.float32)
    allowed = draw.random(9_000) < 0.001 if masked else None
    scores, found = similarity.topk(queries, rows, 30, allowed=allowed, scale=scale)
    products = (queries @ rows.astype(np.float32).T) * scale
    for query in range(3):
        own = np.arange(9_000) if allowed is None else np.flatnonzero(allowed)
        best = own[np.lexsort((own, -products[query, own]))][:30]
        assert found[query, : len(best)].tolist() == best.tolist()
        assert scores[query, : len(best)].tolist() == products[query, best].tolist()
        assert (found[query, len(best) :] == -1).all()
        assert (scores[query, len(best) :] == -np.inf).all()


@pytest.mark.usefixtures("room")
def test_rescore_takes_the_best_of_a_shortlist() -> None:
    draw = np.random.default_rng(1)
    codes, scale = int8.rounded_array(draw.standard_normal((500, 40)).astype(np.float32))
    queries = draw.standard_normal((2, 40)).astype(np.float32)
    shortlist = np.array([draw.permutation(500)[:20], draw.permutation(500)[:20]])
    shortlist[1, 3:] = -1
    scores, rows = similarity.rescore(queries, codes, shortlist, 5, scale=scale)
    stored = codes * scale[:, None].astype(np.float64)
    for query, length in ((0, 5), (1, 3)):
        own = shortlist[query][shortlist[query] >= 0]
        products = stored[own] @ queries[query]
        assert rows[query, :length].tolist() == own[np.argsort(-products)][:length].tolist()
        np.testing.assert_allclose(scores[query, :length], np.sort(products)[::-1][:length], 1e-5)
        assert (rows[query, length:] == -1).all()


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("bits", [8, 5, 4, 2])
def test_pairs_of_stored_documents_score_as_the_definition(bits: int) -> None:
    given = case(f"float32/coded{bits}", 48)
    assert isinstance(given.documents, maxsim.CodedTokens)
    expected, _ = truth(given)
    pairs = np.array([[2, 0], [0, 1], [2, 1], [1, 3], [3, 5], [0, 6]])
    scores = maxsim.score_pairs(
        given.left.numpy().astype(np.float32), given.query_offsets.numpy(), given.documents,
        pairs=pairs,
    )  # fmt: skip
    np.testing.assert_allclose(scores, expected.numpy()[pairs[:, 0], pairs[:, 1]], rtol=2e-4)


@pytest.mark.usefixtures("room")
def test_interaction_keeps_the_documents_of_the_best_centroids() -> None:
    given = case("float32/coded4", 48, queries=[9], documents=[4] * 40)
    assert isinstance(given.documents, maxsim.CodedTokens)
    queries = given.left.numpy().astype(np.float32)
    kept = maxsim.interact(queries, given.query_offsets.numpy(), given.documents, 5)
    table = queries @ given.documents.centroids.T.astype(np.float32)
    scores = table[:, given.documents.ids].reshape(9, 40, 4).max(2).sum(0)
    assert len(set(kept[0]) & set(np.argsort(-scores)[:5])) >= 4


@pytest.mark.usefixtures("room")
def test_documents_without_tokens_are_the_last_to_be_kept() -> None:
    given = case("float32/coded4", 48, queries=[1], documents=[0, 4, 0, 4, 0])
    assert isinstance(given.documents, maxsim.CodedTokens)
    # Against every centroid the query scores below zero.
    queries = -given.documents.centroids.astype(np.float32).sum(0)[None]
    table = queries @ given.documents.centroids.T.astype(np.float32)
    assert table[:, given.documents.ids].max() < 0
    for keep, expected in (1, 1), (2, 2), (4, 2):
        kept = maxsim.interact(queries, np.array([0, 1]), given.documents, keep)
        assert len(set(kept[0]) & {1, 3}) == expected
    allowed = np.array([True, True, True, False, True])
    kept = maxsim.interact(queries, np.array([0, 1]), given.documents, 1, allowed=allowed)
    assert kept.tolist() == [[1]]


def test_int8_is_rounded_alike_in_arrays_and_tensors() -> None:
    rows = np.random.default_rng(2).standard_normal((70, 33)).astype(np.float32)
    rows[5] = 0
    tokens = maxsim.Int8Tokens.of(torch.from_numpy(rows.copy()))
    codes, scale = int8.rounded_array(rows.copy())
    assert (tokens.values.numpy() == codes).all()
    assert (tokens.scale.numpy() == scale).all()


def test_arrays_load_no_torch() -> None:
    program = """
import sys
import numpy as np
from maxsight.kernels import int8, maxsim, similarity
codes, scale = int8.rounded_array(np.eye(8, dtype=np.float32))
queries, rows = np.eye(8, dtype=np.float32), np.tile(np.arange(8), (8, 1))
similarity.topk(queries, codes, 2, scale=scale)
similarity.rescore(queries, codes, rows, 2, scale=scale)
tokens = maxsim.CodedTokens(
    np.zeros(8, np.uint8), codes[:1], codes.view(np.uint8), 8, None, scale, np.arange(9)
)
pairs = np.array([[0, 1], [0, 3]])
maxsim.score_pairs(queries, np.array([0, 8]), tokens, pairs=pairs)
maxsim.interact(queries, np.array([0, 8]), tokens, 3)
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"

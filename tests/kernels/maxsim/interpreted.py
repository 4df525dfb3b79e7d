"""The Triton room in the interpreter; test_gpu_interpreted.py runs this in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from maxsim_truth import Case, case, truth

from maxsight.kernels import bitmap, dispatch, maxsim
from maxsight.kernels.check.tolerance import assert_close
from maxsight.kernels.maxsim import gpu, operators, reference
from maxsight.kernels.maxsim.values import Side

# More query tokens than one tile holds, queries that lie across its edge, empty ones on both sides.
QUERIES = [3, 0, 40, 1, 0]
DOCUMENTS = [5, 0, 70, 1, 0]
PAIRS = torch.tensor([[0, 0], [2, 2], [3, 1], [1, 3], [3, 2]])


def made(kind: str, d: int) -> Case:
    return case(kind, d, queries=QUERIES, documents=DOCUMENTS)


@pytest.mark.parametrize(
    ("kind", "d"),
    [
        ("float32/float32", 48),
        ("bfloat16/bfloat16", 96),
        ("float16/float16", 128),
        ("float32/bfloat16", 20),
        ("int8/int8", 128),
        ("int8/int8", 300),
        ("bfloat16/int8", 48),
        ("int8/bfloat16", 48),
        ("float32/int8", 48),
        ("bfloat16/bfloat16", 512),
        ("float64/float64", 48),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_score(kind: str, d: int, full: bool) -> None:
    assert dispatch.interprets()
    given = made(kind, d)
    generator = torch.Generator().manual_seed(d)
    options: dict[str, Any] = {"normalize": full}
    if full:
        options["query_weight"] = torch.rand(len(given.left), generator=generator) - 0.3
        options["document_weight"] = torch.rand(len(given.right), generator=generator) - 0.3
    expected, places = truth(given, **options)
    assert_close("scores", maxsim.score(*given.sides, **options), expected, torch.float32)
    if full:
        scores, argmax = maxsim.answers(*given.sides, **options)
        assert_close("scores with the arg-max", scores, expected, torch.float32)
        assert torch.equal(argmax < 0, places < 0)
        wrong = (argmax != places).float().mean()
        assert wrong <= 0.002


@pytest.mark.parametrize("kind", ["bfloat16/bfloat16", "int8/int8"])
def test_score_pairs(kind: str) -> None:
    given = made(kind, 48)
    expected, places = truth(given)
    # The operator also tells which token answers, where a gradient will need it.
    left = operators.flat(Side(given.queries, given.query_offsets))
    right = operators.flat(Side(given.documents, given.document_offsets))
    found, argmax = operators.score_pairs(*left, *right, PAIRS, False, True)
    assert_close("scores", found, expected[PAIRS[:, 0], PAIRS[:, 1]], torch.float32)
    start = given.query_offsets
    kept = [places[start[q] : start[q + 1], d] for q, d in PAIRS.tolist()]
    assert (argmax != torch.cat(kept)).float().mean() <= 0.02
    each = maxsim.score_pairs(*given.sides)
    assert_close("each with its own", each, expected.diagonal(), torch.float32)


def test_the_lower_of_equal_tokens_answers() -> None:
    tokens = torch.ones(200, 32)
    offsets = torch.tensor([0, 70, 200])
    _, argmax = maxsim.answers(tokens[:3], torch.tensor([0, 3]), tokens, offsets)
    assert argmax.tolist() == [[0, 0]] * 3


def test_large_int8_sums_are_exact() -> None:
    values = torch.full((2, 256), -128, dtype=torch.int8)
    tokens = maxsim.Int8Tokens(values, torch.ones(2))
    offsets = torch.tensor([0, 2])
    assert maxsim.score(tokens, offsets, tokens, offsets).item() == 2 * 128 * 128 * 256


@pytest.mark.parametrize("filtered", ["none", "shared", "each", "nothing"])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_topk(filtered: str, k: int) -> None:
    given = made("float32/float32", 48)
    generator = torch.Generator().manual_seed(k)
    allowed = {
        "none": None,
        "shared": torch.rand(len(DOCUMENTS), generator=generator) < 0.5,
        "each": torch.rand(len(QUERIES), len(DOCUMENTS), generator=generator) < 0.5,
        "nothing": torch.zeros(len(DOCUMENTS), dtype=torch.bool),
    }[filtered]
    scores, indices = maxsim.topk(*given.sides, k, allowed=allowed)
    kept = reference.topk(
        Side(given.queries, given.query_offsets),
        Side(given.documents, given.document_offsets),
        k,
        allowed=None if allowed is None else bitmap.pack(allowed),
        normalize=False,
    )
    assert torch.equal(indices, kept[1])
    assert_close("scores", scores, kept[0], torch.float32)


@pytest.mark.parametrize("weight", [None, 0.0, -1.0])
def test_an_empty_document_comes_after_all_others(weight: float | None) -> None:
    # 200 query tokens, so that one query lies in several tiles.
    query, one = torch.full((200, 16), 0.5), torch.tensor([0, 0, 1, 200])
    tokens, bounds = torch.tensor([[-1.0], [2.0]]).expand(2, 16), torch.tensor([0, 0, 1, 1, 2])
    weights = None if weight is None else torch.full((200,), weight)
    options: dict[str, Any] = {"query_weight": weights}
    empty = [[0.0] * 2, [-torch.inf] * 2, [-torch.inf] * 2]
    assert maxsim.score(query, one, tokens, bounds, **options)[:, [0, 2]].tolist() == empty
    assert maxsim.answers(query, one, tokens, bounds, **options)[0][:, [0, 2]].tolist() == empty
    pairs = torch.tensor([[query, document] for query in range(3) for document in (0, 2)])
    found = maxsim.score_pairs(query, one, tokens, bounds, pairs=pairs, **options)
    assert found.reshape(3, 2).tolist() == empty
    if weight is None:
        packed = maxsim.Packing.of(one, 200), maxsim.Packing.of(bounds, 2)
        indices = maxsim.topk(query, packed[0], tokens, packed[1], 4)[1]
        assert indices.tolist() == [[0, 1, 2, 3], [3, 1, 0, 2], [3, 1, 0, 2]]
        # A forbidden document with tokens is none, an allowed one without is the last.
        some = torch.tensor([True, False, False, True])
        indices = maxsim.topk(query, packed[0], tokens, packed[1], 4, allowed=some)[1]
        assert indices[1:].tolist() == [[3, 0, -1, -1]] * 2


def test_scores_of_minus_infinity_keep_their_documents() -> None:
    far, one = torch.full((1, 32), -1e38), torch.tensor([0, 1])
    tokens, bounds = torch.full((2, 32), 1e38), torch.tensor([0, 1, 1, 2])
    scores, indices = maxsim.topk(far, one, tokens, bounds, 3)
    assert scores.tolist() == [[-torch.inf] * 3]
    assert indices.tolist() == [[0, 1, 2]]
    some = torch.tensor([False, True, True])
    assert maxsim.topk(far, one, tokens, bounds, 3, allowed=some)[1].tolist() == [[1, 2, -1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("full", [False, True])
def test_gradients(dtype: torch.dtype, full: bool) -> None:
    given = made(f"{dtype}/{dtype}".replace("torch.", ""), 40)
    generator = torch.Generator().manual_seed(1)
    of_queries = torch.rand(len(given.left), generator=generator) if full else None
    of_documents = torch.rand(len(given.right), generator=generator) if full else None
    sides = (
        Side(given.queries, given.query_offsets, of_queries),
        Side(given.documents, given.document_offsets, of_documents),
    )
    scores, argmax = gpu.score(*sides, normalize=full, answers=True)
    grad = torch.randn(scores.shape, generator=generator)
    found = gpu.score_backward(grad, argmax, *sides, normalize=full)
    again = gpu.score_backward(grad, argmax, *sides, normalize=full)
    expected = reference.score_backward(grad, argmax, *sides, normalize=full)
    for name, one, two, right in zip(["queries", "documents", "u", "w"], found, again, expected):
        assert one.dtype == right.dtype
        assert torch.equal(one, two), name
        assert_close(name, one, right, dtype)


def test_tokens_that_are_not_contiguous() -> None:
    given = made("bfloat16/bfloat16", 32)
    queries, first, documents, second = given.sides
    assert isinstance(queries, torch.Tensor)
    assert isinstance(documents, torch.Tensor)
    wide = torch.cat([documents, documents], 1)[:, :32]
    assert not wide.is_contiguous()
    expected, _ = truth(given)
    assert_close("scores", maxsim.score(queries, first, wide, second), expected, torch.float32)

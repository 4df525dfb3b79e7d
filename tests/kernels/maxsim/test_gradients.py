"""Gradients of maxsim.score and score_pairs, by finite differences and against torch's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from maxsim_truth import Case, case

from maxsight.kernels import maxsim
from maxsight.kernels.check.tolerance import assert_close

PAIRS = torch.tensor([[0, 2], [0, 0], [1, 2], [2, 1], [2, 0], [2, 0], [0, 3]])


@pytest.mark.parametrize("room", ["cpu", "reference"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("listed", ["matrix", "pairs"])
def test_finite_differences(
    room: str, normalize: bool, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", room)
    given = case("float64/float64", 5, queries=[2, 0, 3], documents=[4, 0, 6, 1])

    def score(
        left: torch.Tensor, right: torch.Tensor, of_left: torch.Tensor, of_right: torch.Tensor
    ) -> torch.Tensor:
        sides = left, given.query_offsets, right, given.document_offsets
        if listed == "matrix":
            scores = maxsim.score(
                *sides, query_weight=of_left, document_weight=of_right, normalize=normalize
            )
        else:
            scores = maxsim.score_pairs(
                *sides,
                pairs=PAIRS,
                query_weight=of_left,
                document_weight=of_right,
                normalize=normalize,
            )
        # An empty document's score never changes.
        return torch.where(scores == -torch.inf, 0, scores)

    inputs = [given.left, given.right, torch.rand(5).double() + 0.1, torch.rand(11).double() + 0.1]
    assert torch.autograd.gradcheck(
        score, [each.requires_grad_() for each in inputs], fast_mode=True
    )


def plain_gradients(given: Case, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By torch's own backward pass through a product and a maximum, in float64."""
    left, right = (side.clone().requires_grad_() for side in (given.left, given.right))
    total = torch.zeros((), dtype=torch.float64)
    queries, documents = given.query_offsets.tolist(), given.document_offsets.tolist()
    for i, (first, last) in enumerate(itertools.pairwise(queries)):
        for j, (start, end) in enumerate(itertools.pairwise(documents)):
            if end > start and last > first:
                total = total + grad[i, j] * (left[first:last] @ right[start:end].T).amax(1).sum()
    gradients = torch.autograd.grad(total, [left, right])
    return gradients[0], gradients[1]


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("room", ["cpu", "reference"])
def test_gradients_keep_the_dtype_and_are_the_same_every_time(
    kind: str, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", room)
    given = case(f"{kind}/{kind}", 48)
    grad = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    expected = plain_gradients(given, grad.double())
    runs = []
    for _ in range(2):
        assert isinstance(given.queries, torch.Tensor)
        assert isinstance(given.documents, torch.Tensor)
        left = given.queries.clone().requires_grad_()
        right = given.documents.clone().requires_grad_()
        scores = maxsim.score(left, given.query_offsets, right, given.document_offsets)
        runs.append(torch.autograd.grad(scores, [left, right], grad))
    for first, second, truth, name in zip(*runs, expected, ["queries", "documents"]):
        assert first.dtype == getattr(torch, kind)
        assert torch.equal(first, second)
        assert_close(f"gradient of {name}", first, truth, first.dtype)


@pytest.mark.parametrize("documents", ["int8", "coded5"])
def test_coded_documents_give_queries_a_gradient(documents: str) -> None:
    given = case(f"float32/{documents}", 48)
    assert isinstance(given.queries, torch.Tensor)
    left = given.queries.clone().requires_grad_()
    scores = maxsim.score(left, given.query_offsets, given.documents, given.document_offsets)
    (gradient,) = torch.autograd.grad(scores.sum(), [left])
    expected, _ = plain_gradients(given, torch.ones(4, 7).double())
    assert_close("gradient of queries", gradient, expected, torch.float32)


def test_each_side_alone() -> None:
    given = case("float32/float32", 16)
    expected = plain_gradients(given, torch.ones(4, 7).double())
    for side in (0, 1):
        tokens = [given.left.float(), given.right.float()]
        tokens[side].requires_grad_()
        scores = maxsim.score(tokens[0], given.query_offsets, tokens[1], given.document_offsets)
        (gradient,) = torch.autograd.grad(scores.sum(), [tokens[side]])
        assert_close("gradient", gradient, expected[side], torch.float32)

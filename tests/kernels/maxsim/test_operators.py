"""The operators under torch's own checks, torch.compile and inference_mode."""

from __future__ import annotations

import pytest
import torch
from maxsim_truth import case

from maxsight.kernels import maxsim
from maxsight.kernels.maxsim import operators
from maxsight.kernels.maxsim.values import Side

PAIRS = torch.tensor([[0, 2], [1, 2], [2, 1], [2, 0]])


@pytest.mark.parametrize("kind", ["float32/float32", "bfloat16/int8", "float32/coded5"])
def test_opcheck(kind: str) -> None:
    given = case(kind, 16, queries=[2, 0, 3], documents=[4, 0, 6, 1])
    assert isinstance(given.queries, torch.Tensor)
    tokens = given.queries.clone().requires_grad_()
    weighted = operators.flat(Side(tokens, given.query_offsets, torch.rand(5)))
    documents = operators.flat(Side(given.documents, given.document_offsets))
    check, ours = torch.library.opcheck, torch.ops.maxsight
    check(ours.maxsim_score.default, (*weighted, *documents, True, True))
    packing = maxsim.Packing.of(given.query_offsets, len(tokens))
    packed = operators.flat(Side(tokens, packing.offsets, torch.rand(5), packing.owner))
    check(ours.maxsim_score.default, (*packed, *documents, True, True))
    queries = operators.flat(Side(tokens, given.query_offsets))
    check(ours.maxsim_score_pairs.default, (*queries, *documents, PAIRS, False, True))
    tokens.requires_grad_(False)
    check(ours.maxsim_score_pairs.default, (*queries, *documents, PAIRS, False, False))
    check(ours.maxsim_topk.default, (*queries, *documents, 3, None, False))


def test_compiled_is_the_same() -> None:
    given = case("float32/float32", 16)
    left, right = given.left.float().requires_grad_(), given.right.float().requires_grad_()

    def loss(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        scores = maxsim.score(
            left, given.query_offsets, right, given.document_offsets, normalize=True
        )
        return torch.logsumexp(scores * 3, 1).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(left, right), loss(left, right))
    ours = torch.autograd.grad(compiled(left, right), [left, right])
    plain = torch.autograd.grad(loss(left, right), [left, right])
    assert all(torch.equal(a, b) for a, b in zip(ours, plain))


def test_compiled_takes_packings() -> None:
    given = case("float32/float32", 16)
    left = given.left.float().requires_grad_()
    sides = (
        maxsim.Packing.of(given.query_offsets, len(left)),
        given.right.float(),
        maxsim.Packing.of(given.document_offsets, len(given.right)),
    )

    def total(left: torch.Tensor) -> torch.Tensor:
        return maxsim.score(left, *sides).clamp_min(-1).sum()

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    (ours,) = torch.autograd.grad(compiled(left), [left])
    (plain,) = torch.autograd.grad(total(left), [left])
    assert torch.equal(ours, plain)


def test_inference_mode() -> None:
    given = case("float32/float32", 16)
    with torch.inference_mode():
        scores = maxsim.score(*given.sides)
        assert maxsim.topk(*given.sides, 2)[1].shape == (4, 2)
    assert torch.equal(scores, maxsim.score(*given.sides))

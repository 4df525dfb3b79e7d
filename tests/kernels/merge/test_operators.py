"""Gradients by finite differences, and the operators under torch's own tools."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from maxsight.kernels import merge
from maxsight.kernels.merge import operators


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_of_merging(weighted: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 7, 2, dtype=torch.float64, generator=draw).requires_grad_()
    sizes = (1 + torch.rand(1, 7, dtype=torch.float64, generator=draw)).requires_grad_()
    metric = torch.randn(1, 7, 4, dtype=torch.float64, generator=draw)

    def merged(x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        done = merge.merge(x, 2, metric=metric, sizes=s, weighted=weighted)
        return done.tokens, done.sizes

    assert gradcheck(merged, (tokens, sizes))
    assert gradgradcheck(merged, (tokens, sizes))


def test_gradients_of_reducing() -> None:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randn(12, 3, dtype=torch.float64, generator=draw).requires_grad_()
    offsets = torch.tensor([0, 0, 1, 9, 12])
    assert gradcheck(lambda x: merge.reduce(x, offsets, 2).tokens, (tokens,))


@pytest.mark.usefixtures("room")
def test_gradients_of_attention() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, 2, count, 2, dtype=torch.float64, generator=draw).requires_grad_()
        for count in (2, 3, 3)
    )
    sizes = (1 + torch.rand(1, 3, dtype=torch.float64, generator=draw)).requires_grad_()
    assert gradcheck(merge.attention, (query, key, value, sizes))


def test_a_hidden_key_gets_no_gradient() -> None:
    query, key, value = torch.randn(3, 1, 1, 4, 8).unbind()
    key.requires_grad_()
    sizes = torch.tensor([[1.0, 0.0, 2.0, 1.0]], requires_grad=True)
    merge.attention(query, key, value, sizes).sum().backward()  # type: ignore[no-untyped-call]
    assert key.grad is not None
    assert sizes.grad is not None
    assert torch.equal(key.grad[0, 0, 1], torch.zeros(8))
    assert sizes.grad.isfinite().all()


def test_operators_pass_opcheck() -> None:
    rows = torch.randn(9, 4)
    offsets, targets = torch.tensor([0, 0, 8, 9]), torch.tensor([0, 0, 5, 6])
    known = torch.ops.maxsight
    opcheck(known.merge_match.default, (rows, offsets, targets, 1, 6, 8))
    places = operators.match(rows, offsets, targets, 1, 6, 8)
    opcheck(
        torch.ops.maxsight.merge_average.default,
        (rows.clone().requires_grad_(), torch.ones(9), *places, True),
    )
    query, key, value = (torch.randn(1, 2, 3, 4).requires_grad_() for _ in range(3))
    opcheck(known.merge_attention.default, (query, key, value, torch.ones(1, 3), 0.5))


def test_compiles_whole() -> None:
    def block(tokens: Tensor, sizes: Tensor) -> Tensor:
        heads = tokens.view(*tokens.shape[:2], 2, 8).transpose(1, 2)
        attended = merge.attention(heads, heads, heads, sizes).transpose(1, 2).flatten(2)
        return merge.merge(attended, 5, metric=heads.mean(1), sizes=sizes).tokens * 2

    tokens = torch.randn(2, 33, 16, generator=torch.Generator().manual_seed(0))
    sizes = torch.ones(2, 33)
    one, other = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(one, sizes), block(other, sizes))
    compiled(one, sizes).square().sum().backward()  # type: ignore[no-untyped-call]
    block(other, sizes).square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(one.grad, other.grad)


def test_inference_mode() -> None:
    with torch.inference_mode():
        merged = merge.merge(torch.randn(2, 20, 4), 3)
        assert merged.tokens.is_inference()
        query = torch.randn(1, 2, 5, 8)
        assert merge.attention(query, query, query, torch.ones(1, 5)).isfinite().all()

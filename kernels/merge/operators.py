"""Token merging as torch operators, on packed documents: what runs on every device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maxsight.kernels.dispatch import room_of
from maxsight.kernels.merge.reference import shares
from maxsight.kernels.operator import operator


@operator("maxsight::merge_match")
def match(
    metric: Tensor, offsets: Tensor, targets: Tensor, protected: int, outputs: int, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Bipartite matching of packed documents.

    Args:
        metric: (sum L, D) floating point, compared by cosine.
        offsets, targets: (S + 1,) int64, before and after; kernels/merge/placement.py tells the
            rules. A document loses at most half of its unprotected tokens.
        protected: first tokens of every document that stay.
        outputs: ``targets[-1]``, known here so that nobody waits for the device.
        longest: the largest L.

    Returns:
        ``(source, order, starts)``: (sum L,) int64, the output of every input; and which inputs
        every output is made of: output o of ``order[starts[o] : starts[o + 1]]``.
    """
    room = room_of("merge", metric, offsets, targets)
    found: tuple[Tensor, Tensor, Tensor] = room.match(
        metric, offsets, targets, protected, outputs, longest
    )
    return found


@match.register_fake
def _(
    metric: Tensor, offsets: Tensor, targets: Tensor, protected: int, outputs: int, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    count = len(metric)
    return (
        offsets.new_empty(count),
        offsets.new_empty(count),
        offsets.new_empty(outputs + 1),
    )


@operator("maxsight::merge_average")
def average(
    tokens: Tensor, sizes: Tensor, source: Tensor, order: Tensor, starts: Tensor, weighted: bool
) -> tuple[Tensor, Tensor]:
    """The mean of what every output is made of, and its size.

    Args:
        tokens: (sum L, C) floating point.
        sizes: (sum L,) float32 or float64, none negative.
        source, order, starts: as :func:`match` returns them.
        weighted: by size; else each input counts once.

    Returns:
        (outputs, C) of the tokens' dtype, summed in float32, and (outputs,) of the sizes'.
        Differentiable in both; the sums run in the inputs' order, so a run repeats to the bit.
    """
    room = room_of("merge", tokens, sizes, source, order, starts)
    found: tuple[Tensor, Tensor] = room.average(tokens, sizes, source, order, starts, weighted)
    return found


@average.register_fake
def _(
    tokens: Tensor, sizes: Tensor, source: Tensor, order: Tensor, starts: Tensor, weighted: bool
) -> tuple[Tensor, Tensor]:
    outputs = starts.shape[0] - 1
    return tokens.new_empty((outputs, tokens.shape[1])), sizes.new_empty(outputs)


def _keep_average(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tokens, sizes, source, _order, starts, weighted = inputs
    ctx.weighted = weighted
    # Without a gradient for sizes the tokens themselves are not needed again.
    through_sizes = weighted and sizes.requires_grad
    ctx.save_for_backward(sizes, source, starts, *((tokens, output[0]) if through_sizes else ()))


def _average_backward(ctx: Any, means: Tensor, totals: Tensor) -> tuple[Tensor | None, ...]:
    """Gathers only: every input asks its own output."""
    sizes, source, starts, *through_sizes = ctx.saved_tensors
    total, share = shares(sizes, source, starts, ctx.weighted)
    mine = means[source]
    tokens = share[:, None].to(means.dtype) * mine
    grown = totals[source]
    if through_sizes:
        inputs, outputs = through_sizes
        pull = (mine * (inputs - outputs[source])).sum(1).to(sizes.dtype)
        positive = total[source] > 0
        grown = grown + torch.where(positive, pull / torch.where(positive, total[source], 1), 0)
    return tokens, grown, None, None, None, None


average.register_autograd(_average_backward, setup_context=_keep_average)


@operator("maxsight::merge_attention")
def attention(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor, scale: float) -> Tensor:
    """Attention in which key j counts ``sizes[:, j]`` times.

    Args:
        query: (B, H, N, D); ``key``, ``value``: (B, H, M, D); one floating dtype.
        sizes: (B, M) float32 or float64.

    Returns:
        (B, H, N, D), contiguous. Differentiable; the backward is plain torch and holds a few
        (B, H, N, M) float32 tensors.
    """
    found: Tensor = room_of("merge", query, key, value, sizes).attention(
        query, key, value, sizes, scale
    )
    return found.contiguous()


@attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor, scale: float) -> Tensor:
    return query.new_empty(query.shape)


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, output)


def _attention_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, sizes, output = ctx.saved_tensors
    dtype = torch.promote_types(query.dtype, torch.float32)
    q, k, v, out, grad = (x.to(dtype) for x in (query, key, value, output, gradient))
    logits = ctx.scale * (q @ k.transpose(-1, -2)) + sizes.to(dtype).log()[:, None, None, :]
    weights = logits.softmax(-1).nan_to_num(nan=0.0)
    pull = weights * (grad @ v.transpose(-1, -2) - (grad * out).sum(-1, keepdim=True))
    grown = pull.sum((1, 2)) / sizes
    return (
        (ctx.scale * (pull @ k)).to(query.dtype),
        (ctx.scale * (pull.transpose(-1, -2) @ q)).to(key.dtype),
        (weights.transpose(-1, -2) @ grad).to(value.dtype),
        torch.where(sizes > 0, grown, 0).to(sizes.dtype),
        None,
    )


attention.register_autograd(_attention_backward, setup_context=_keep_attention)

"""ToMe as its authors published it, in plain torch, on open_clip's own image transformer.

What it does and with which operators follows the paper and the published code's description:
attention spelled out with its softmax, the logarithm of the sizes added to it, matching by a whole
matrix of cosines with the class token's row at minus infinity, an ``argsort``, and sums by
``scatter_reduce``. The contender that :mod:`maxsight.models.towers.merging` is measured against.

Source: Bolya et al., Token Merging: Your ViT But Faster, 2023, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


def encode(visual: Any, pixels: Tensor, removed: Sequence[int]) -> Tensor:
    """Pooled vectors of an open_clip ``VisionTransformer`` that pools by its class token.

    Args:
        visual: the image tower.
        pixels: (B, 3, S, S) float, normalised.
        removed: tokens that each block merges away.

    Returns:
        (B, D), not normalised.
    """
    tokens = visual._embeds(pixels)
    sizes: Tensor | None = None
    for block, r in zip(visual.transformer.resblocks, removed):
        attended, metric = _attention(block.attn, block.ln_1(tokens), sizes)
        tokens = tokens + block.ls_1(attended)
        r = min(r, (tokens.shape[1] - 1) // 2)
        if r > 0:
            combine = _matching(metric, r)
            if sizes is None:
                sizes = torch.ones_like(tokens[..., :1])
            tokens = combine(tokens * sizes)
            sizes = combine(sizes)
            tokens = tokens / sizes
        tokens = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    vectors: Tensor = visual.ln_post(tokens)[:, 0] @ visual.proj
    return vectors


def _attention(attention: Any, normed: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
    """What attention adds, and the mean of its keys over heads."""
    batch, count, width = normed.shape
    heads = attention.num_heads
    packed = linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    packed = packed.reshape(batch, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    query, key, value = packed[0], packed[1], packed[2]
    logits = (query * (width // heads) ** -0.5) @ key.transpose(-2, -1)
    if sizes is not None:
        logits = logits + sizes.log()[:, None, None, :, 0]
    gathered = (logits.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, count, width)
    return attention.out_proj(gathered), key.mean(1)


def _matching(metric: Tensor, r: int) -> Callable[[Tensor], Tensor]:
    """How to sum ``r`` tokens of each image into others; the class token stands first, alone."""
    metric = metric / metric.norm(dim=-1, keepdim=True)
    a, b = metric[..., ::2, :], metric[..., 1::2, :]
    scores = a @ b.transpose(-1, -2)
    scores[..., 0, :] = -torch.inf
    best, partner = scores.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)[..., None]
    left = order[..., r:, :].sort(dim=1)[0]
    merged = order[..., :r, :]
    target = partner[..., None].gather(dim=-2, index=merged)

    def combine(tokens: Tensor) -> Tensor:
        sources, targets = tokens[..., ::2, :], tokens[..., 1::2, :]
        batch, count, width = sources.shape
        kept = sources.gather(dim=-2, index=left.expand(batch, count - r, width))
        moving = sources.gather(dim=-2, index=merged.expand(batch, r, width))
        index = target.expand(batch, r, width)
        return torch.cat([kept, targets.scatter_reduce(-2, index, moving, reduce="sum")], dim=1)

    return combine

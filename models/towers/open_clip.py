"""open_clip's own image transformer as a :class:`Tower`."""

from __future__ import annotations

from typing import Any

from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from maxsight.errors import EncoderError
from maxsight.models.towers import timm
from maxsight.models.towers.tower import (
    Block,
    Tower,
    join_heads,
    mean,
    pool_by_attention,
    torch_attention,
)


def tower(visual: Any, *, encoder: str) -> Tower:
    """The image tower of an open_clip network, its own or timm's.

    Args:
        visual: ``network.visual``.
        encoder: URI, for the message.

    Raises:
        EncoderError: it is no transformer of patches, or one of a kind that is not known here.
    """
    if isinstance(visual, TimmModel):
        return timm.tower(visual.trunk, visual.head, encoder=encoder)
    if not isinstance(visual, VisionTransformer):
        raise EncoderError(
            f"{encoder}: a {type(visual).__name__} has no tokens to merge or to take from its "
            "last block; leave the options merge and tokens out"
        )
    blocks = visual.transformer.resblocks
    if not all(type(block) is ResidualAttentionBlock for block in blocks):
        raise EncoderError(
            f"{encoder}: blocks of {type(blocks[0]).__name__} cannot be taken apart; leave the "
            "options merge and tokens out"
        )
    if visual.attn_pool is not None and visual.attn_pool_contrastive is not None:
        raise EncoderError(
            f"{encoder}: a tower that pools twice cannot be taken apart; leave the options merge "
            "and tokens out"
        )

    def project(patches: Tensor) -> Tensor:
        projected: Tensor = visual.ln_post(patches).to(visual.proj.dtype) @ visual.proj
        return projected

    return Tower(
        embed=lambda pixels: (visual._embeds(pixels), None),
        blocks=tuple(_block(block) for block in blocks),
        prefix=1,
        pool=lambda states, sizes: _pool(visual, states, sizes) @ visual.proj,
        project=None if visual.attn_pool is not None else project,
    )


def _block(block: ResidualAttentionBlock) -> Block:
    attention = block.attn
    split = torch_attention(attention)
    return Block(
        heads=lambda states, _: split(block.ln_1(states)),
        out=lambda heads: block.ls_1(attention.out_proj(join_heads(heads))),
        mlp=lambda states: block.ls_2(block.mlp(block.ln_2(states))),
        scale=attention.head_dim**-0.5,
    )


def _pool(visual: VisionTransformer, states: Tensor, sizes: Tensor | None) -> Tensor:
    """``VisionTransformer._pool`` by sizes: (B, M, C) -> (B, C)."""
    if (pooler := visual.attn_pool) is not None:
        query = pooler.ln_q(pooler.query).expand(len(states), -1, -1)
        states = pool_by_attention(pooler.attn, query, pooler.ln_k(states), sizes)
        sizes = None  # its queries, which stand for no patches
    if visual.attn_pool is not None or not visual.final_ln_after_pool:
        states = visual.ln_post(states)
    if visual.pool_type == "avg":
        pooled = mean(states[:, 1:], None if sizes is None else sizes[:, 1:])
    else:
        pooled = states[:, 0]
    if visual.attn_pool is None and visual.final_ln_after_pool:
        pooled = visual.ln_post(pooled)
    return pooled

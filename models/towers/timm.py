"""timm's image transformers, which open_clip wraps, as a :class:`Tower`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block as PlainBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import linear

from maxsight.errors import EncoderError
from maxsight.models.towers.tower import Block, Tower, join_heads, log_sizes, mean, split_heads

_Step = Callable[[Tensor], Tensor]


def tower(trunk: Any, head: _Step, *, encoder: str) -> Tower:
    """A timm trunk and what stands on it.

    Args:
        trunk: timm's model.
        head: what open_clip applies to the trunk's result.
        encoder: URI, for the message.

    Raises:
        EncoderError: it is no VisionTransformer or Eva, or one with parts that are not known here.
    """
    if refused := _unknown(trunk):
        raise _refusal(encoder, refused)

    def pool(states: Tensor, sizes: Tensor | None) -> Tensor:
        pooled = trunk.fc_norm(_pool(trunk, trunk.norm(states), sizes))
        return head(trunk.head(pooled))

    def project(patches: Tensor) -> Tensor:
        patches = trunk.norm(patches)
        if trunk.attn_pool is not None:
            patches = trunk.attn_pool(
                patches[:, None]
            )  # a sequence of one: attention is the identity
        return head(trunk.head(trunk.fc_norm(patches)))

    return Tower(
        embed=lambda pixels: _embed(trunk, pixels),
        blocks=tuple(_block(block, encoder) for block in trunk.blocks),
        prefix=trunk.num_prefix_tokens,
        pool=pool,
        project=project,
    )


def _unknown(trunk: Any) -> str | None:
    """What of a trunk is not known here."""
    if not isinstance(trunk, (VisionTransformer, Eva)):
        return f"a {type(trunk).__name__}"
    if getattr(trunk, "rope_mixed", False):
        return "a tower whose blocks turn by different angles"
    pooler: Any = trunk.attn_pool
    if pooler is not None:
        known = isinstance(pooler, AttentionPoolLatent) and pooler.pos_embed is None
        return None if known else f"a {type(pooler).__name__}"
    return None if trunk.global_pool in ("token", "avg") else "a tower that pools by maxima"


def _embed(trunk: Any, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    states, rope = trunk.patch_embed(pixels), None
    if isinstance(trunk, Eva):
        states, rope = trunk._pos_embed(states)
    else:
        states = trunk._pos_embed(states)
    return trunk.norm_pre(states), rope


def _block(block: Any, encoder: str) -> Block:
    before, after, before_mlp, after_mlp = _around(block, encoder)
    attention = block.attn
    if type(attention) not in (Attention, EvaAttention, AttentionRope) or (
        attention.gate is not None or getattr(attention, "num_kv_groups", 1) > 1
    ):
        raise _refusal(encoder, f"a {type(attention).__name__} with gates or shared keys")
    return Block(
        heads=lambda states, rope: _heads(attention, before(states), rope),
        out=lambda heads: after(attention.proj(attention.norm(join_heads(heads)))),
        mlp=lambda states: after_mlp(block.mlp(before_mlp(states))),
        scale=attention.scale,
    )


def _around(block: Any, encoder: str) -> tuple[_Step, _Step, _Step, _Step]:
    """What a block does before and after attention, before and after its MLP."""
    if type(block) is PlainBlock:
        return block.norm1, block.ls1, block.norm2, block.ls2
    if type(block) is EvaBlock:
        return block.norm1, _times(block.gamma_1), block.norm2, _times(block.gamma_2)
    if type(block) is EvaBlockPostNorm:
        return _same, block.norm1, _same, block.norm2
    raise _refusal(encoder, f"a {type(block).__name__}")


def _heads(attention: Any, normed: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = _projected(attention, normed)
    query, key = attention.q_norm(query), attention.k_norm(key)
    if rope is not None:
        first = attention.num_prefix_tokens
        query = _rotated(query, rope, first, attention.rotate_half).type_as(value)
        key = _rotated(key, rope, first, attention.rotate_half).type_as(value)
    return query, key, value


def _projected(attention: Any, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if attention.qkv is None:
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        shape = (*normed.shape[:2], attention.num_heads, -1)
        query, key, value = (part(normed).view(shape).transpose(1, 2) for part in parts)
        return query, key, value
    bias = attention.qkv.bias
    if getattr(attention, "q_bias", None) is not None:
        bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    return split_heads(linear(normed, attention.qkv.weight, bias), attention.num_heads)


def _rotated(heads: Tensor, rope: Tensor, first: int, half: bool) -> Tensor:
    """The heads of the patches, which stand behind the ``first`` others, turned by their angles."""
    patches = apply_rot_embed_cat(heads[:, :, first:], rope, half=half)
    return torch.cat((heads[:, :, :first], patches), dim=2)


def _pool(trunk: Any, states: Tensor, sizes: Tensor | None) -> Tensor:
    """``trunk.pool`` by sizes: (B, M, C) -> (B, C)."""
    by_attention = trunk.attn_pool is not None
    if (by_attention and isinstance(trunk, Eva)) or getattr(trunk, "pool_include_prefix", False):
        first = 0
    else:
        first = trunk.num_prefix_tokens
    of_patches = None if sizes is None else sizes[:, first:]
    if by_attention:
        mask = log_sizes(of_patches, states.dtype)
        pooled: Tensor = trunk.attn_pool(states[:, first:], attn_mask=mask)
        return pooled
    return states[:, 0] if trunk.global_pool == "token" else mean(states[:, first:], of_patches)


def _times(factor: Tensor | None) -> _Step:
    return _same if factor is None else lambda states: factor * states


def _same(states: Tensor) -> Tensor:
    return states


def _refusal(encoder: str, what: str) -> EncoderError:
    return EncoderError(
        f"{encoder}: {what} cannot be taken apart to merge tokens or to take them from the last "
        "block; leave the options merge and tokens out"
    )

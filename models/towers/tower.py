"""An image transformer taken apart: what merging tokens and dense tokens need of it.

Libraries write the same pre-norm block in their own ways. The readers beside this file
(``open_clip``, ``timm``, ``hf``) give each as a :class:`Tower` of the library's own modules and
weights; nothing in the library's model is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


@dataclass(frozen=True, eq=False)
class Block:
    """A transformer block in its parts: ``x += out(attention(heads(x)))``, then ``x += mlp(x)``.

    Attributes:
        heads: states (B, N, C) and rotary angles, if the tower has them, to query, key and value:
            (B, H, N, D) each.
        out: the heads' results (B, H, N, D) to what is added to the states (B, N, C).
        mlp: states (B, N, C) to what is added to them.
        scale: of the products of query and key.
    """

    heads: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor]]
    out: Callable[[Tensor], Tensor]
    mlp: Callable[[Tensor], Tensor]
    scale: float


@dataclass(frozen=True, eq=False)
class Tower:
    """An image transformer in its parts.

    Attributes:
        embed: normalised pixels (B, 3, S, S) to the states that enter the first block, (B, N, C),
            and rotary angles of the patches, (N - prefix, A), or None.
        blocks: first to last.
        prefix: how many first states stand for no patch: class, distillation, registers.
        pool: the last block's states (B, M, C) and how many patches each stands for, (B, M), or
            None for one each, to the vectors (B, D), not normalised.
        project: states of patches (N, C) to tokens in the vectors' space (N, D), by the way that
            the pooled state takes; None where there is none.
    """

    embed: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    blocks: tuple[Block, ...]
    prefix: int
    pool: Callable[[Tensor, Tensor | None], Tensor]
    project: Callable[[Tensor], Tensor] | None


def split_heads(packed: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3 H D) to query, key and value, (B, H, N, D) each, without a copy."""
    batch, tokens, width = packed.shape
    heads = packed.view(batch, tokens, 3, count, width // (3 * count)).permute(2, 0, 3, 1, 4)
    return heads[0], heads[1], heads[2]


def join_heads(heads: Tensor) -> Tensor:
    """(B, H, N, D) to (B, N, H D)."""
    return heads.transpose(1, 2).flatten(2)


def mean(states: Tensor, sizes: Tensor | None) -> Tensor:
    """(B, M, C) to (B, C), each state counted as often as the patches it stands for."""
    if sizes is None:
        return states.mean(dim=1)
    weights = (sizes / sizes.sum(dim=1, keepdim=True)).float()
    return (weights[:, None] @ states.float())[:, 0].to(states.dtype)


def log_sizes(sizes: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """(B, M) to what attention adds to its logits, (B, 1, 1, M)."""
    return None if sizes is None else sizes.log().to(dtype)[:, None, None]


def pool_by_attention(
    attention: nn.MultiheadAttention, query: Tensor, states: Tensor, sizes: Tensor | None
) -> Tensor:
    """Torch's multi-head attention of (B, Q, C) on (B, M, C), by sizes: (B, Q, C)."""
    mask = log_sizes(sizes, states.dtype)
    if mask is not None:
        shape = (len(states), attention.num_heads, query.shape[1], states.shape[1])
        mask = mask.expand(shape).flatten(0, 1)
    pooled: Tensor = attention(query, states, states, need_weights=False, attn_mask=mask)[0]
    return pooled


def torch_attention(
    attention: nn.MultiheadAttention,
) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Normed states to the heads of torch's own multi-head attention."""

    def heads(normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        packed = linear(normed, attention.in_proj_weight, attention.in_proj_bias)
        return split_heads(packed, attention.num_heads)

    return heads

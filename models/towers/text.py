"""open_clip's causal text towers over texts of their own lengths.

open_clip pads every text to the tower's full context, 77 tokens for CLIP, and computes them all. In
a causal tower nothing behind the pooled token can change it: texts of like length are computed
together, as far as the longest of them reaches: for captions a sixth of the work.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import text_global_pool
from torch import Tensor

# Texts computed together: enough to keep a device busy, few enough to be of like length.
_TEXTS = 64


def is_causal(text: Any) -> bool:
    """Whether a text tower pools one token and no token sees those behind it."""
    return (
        getattr(text, "attn_mask", None) is not None
        and getattr(text, "cls_emb", None) is None
        and not getattr(text, "use_pad_mask", False)
        and _pool(text) in ("argmax", "eos")
    )


def encode(text: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """What the tower makes of tokens.

    Args:
        text: a tower for which ``is_causal`` holds.
        ids: (B, L) int64.

    Returns:
        (B, D) pooled and projected, and (B, L, width) states after the final norm; states behind
        the pooled token are zeros.
    """
    position = _pooled_position(text, ids)
    dtype = text.transformer.get_cast_dtype()
    pooled: list[Tensor] = []
    width = text.ln_final.normalized_shape[0]
    states = torch.zeros(*ids.shape, width, dtype=dtype, device=ids.device)
    order = position.argsort()
    for chosen in torch.split(order, _TEXTS):
        length = int(position[chosen].max()) + 1
        some = ids[chosen, :length]
        x = text.token_embedding(some).to(dtype) + text.positional_embedding[:length].to(dtype)
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        states[chosen, :length] = x
        pooled.append(text_global_pool(x, some, _pool(text), eos_token_id=_eos(text)))
    together = torch.empty_like(torch.cat(pooled))
    together[order] = torch.cat(pooled)
    return project(text, together), states


def project(text: Any, states: Tensor) -> Tensor:
    """(N, width) normed states -> (N, D) in the space of pictures, by the way of the pooled one."""
    projection = text.text_projection
    if isinstance(projection, torch.nn.Module):
        projected: Tensor = projection(states)
        return projected
    return states if projection is None else states.to(projection.dtype) @ projection


def _pooled_position(text: Any, ids: Tensor) -> Tensor:
    if _pool(text) == "argmax":
        return ids.argmax(dim=1)
    is_end = torch.eq(ids, _eos(text))
    return is_end.int().argmax(dim=1)


def _pool(text: Any) -> str | None:
    # CLIP carries its text tower in itself, under other names.
    return getattr(text, "pool_type", None) or getattr(text, "text_pool_type", None)


def _eos(text: Any) -> int:
    eos: int = getattr(text, "eos_id", None) or getattr(text, "text_eos_id", None) or 0
    return eos

"""Sharper attention in a text tower, so that long texts do not all end up alike.

Attention averages: a low-pass filter that cuts the more the longer the text is, and the less the
lower its temperature.

Source: Zhou et al., Length-Induced Embedding Collapse in PLM-based Models, 2024.
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def sharpen(attentions: list[nn.MultiheadAttention], temperature: float) -> None:
    """Divide the logits of attention layers by a temperature, in place and at no cost afterwards.

    softmax(Q K^T / (t sqrt d)) is plain attention with queries divided by t, and those are linear:
    their weights and biases are divided once.

    Args:
        attentions: every attention layer of a text tower.
        temperature: above 0; below 1 sharpens, 1 changes nothing.
    """
    for attention in attentions:
        width = attention.embed_dim
        attention.in_proj_weight[:width].div_(temperature)
        attention.in_proj_bias[:width].div_(temperature)

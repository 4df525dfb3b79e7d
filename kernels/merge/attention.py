"""Attention over merged tokens, each of which counts as often as the tokens it stands for."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.merge import operators


def attention(
    query: Tensor, key: Tensor, value: Tensor, sizes: Tensor, *, scale: float | None = None
) -> Tensor:
    """Proportional attention: ``softmax(scale Q K^T + log sizes) V``.

    Equal to plain attention over every key and value repeated ``sizes`` times, so that merging
    exact duplicates changes nothing.

    Memory on a CPU and a GPU: the output alone; no (N, M) scores are stored. The backward is plain
    torch and stores a few of (B, H, N, M) float32.

    Args:
        query: (B, H, N, D) floating point.
        key, value: (B, H, M, D) of the same dtype; strides are free.
        sizes: (B, M), how many tokens each key stands for, none negative; 0 hides a key.
        scale: of the products; None: ``D ** -0.5``.

    Returns:
        (B, H, N, D), contiguous; zero where no key has a size above zero. Differentiable in all
        four.

    Raises:
        ValueError: shapes or dtypes that do not fit.

    Source: Bolya et al., Token Merging: Your ViT But Faster, 2023, equation 1.

    Example:
        >>> query, key = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 2, 2)
        >>> value = torch.tensor([[[[0.0, 1.0], [4.0, 1.0]]]])
        >>> attention(query, key, value, torch.tensor([[1.0, 3.0]])).round().tolist()
        [[[[3.0, 1.0]]]]
    """
    batch, heads, _, dim = query.shape if query.ndim == 4 else (0, 0, 0, 0)
    fits = key.ndim == 4 and key.shape == value.shape == (batch, heads, key.shape[2], dim)
    if query.ndim != 4 or not fits:
        raise ValueError(
            "query must be (B, H, N, D), key and value (B, H, M, D), got "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        )
    if not query.is_floating_point() or not query.dtype == key.dtype == value.dtype:
        raise ValueError(
            "query, key and value must be of one floating dtype, got "
            f"{query.dtype}, {key.dtype} and {value.dtype}"
        )
    if sizes.shape != (batch, key.shape[2]):
        raise ValueError(
            f"sizes must be (B, M) = {(batch, key.shape[2])}, got {tuple(sizes.shape)}"
        )
    sizes = sizes.to(torch.promote_types(query.dtype, torch.float32))
    scale = float(dim**-0.5 if scale is None else scale)
    attended: Tensor = operators.attention(query, key, value, sizes, scale)
    return attended

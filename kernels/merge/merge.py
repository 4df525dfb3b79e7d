"""Merging the tokens of a batch of images: the same number from each, as a transformer needs it."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.merge import operators
from maxsight.kernels.merge.schedule import removable
from maxsight.kernels.merge.values import Merged


def merge(
    tokens: Tensor,
    r: int,
    *,
    metric: Tensor | None = None,
    sizes: Tensor | None = None,
    protected: int = 1,
    weighted: bool = True,
) -> Merged:
    """Merge the ``r`` most redundant tokens of each image into others that resemble them.

    Token merging by bipartite matching: tokens at even places (A) each pick the token at an odd
    place (B) of largest cosine; the ``r`` of A that found the closest join theirs. Equal cosines
    go by the lower place. The outputs are the protected tokens, what is left of A, then B, each in
    the order of the inputs; with nothing to merge the inputs come back as they are. ToMe does the
    same where there is a class token; where there is none (``protected=0``) its outputs are the
    same tokens, but what is left of A stands by falling similarity.

    Memory beside the output: 8 MiB of similarities on a CPU, none on a GPU, and 24 bytes a token.

    Args:
        tokens: (B, N, C) floating point.
        r: tokens to remove from each image; at most half of the unprotected ones are.
        metric: (B, N, D) floating point, what is compared: ToMe takes the mean over heads of the
            layer's attention keys. None compares the tokens themselves. No gradient flows into it.
        sizes: (B, N), how many tokens each stands for, none negative; None: one.
        protected: that many first tokens neither move nor take others in: 1 for a class token, 2
            for class and distillation token, 5 with four registers, 0 for pooled features.
        weighted: mean by sizes, as ToMe; else the plain mean of destination and sources, as AIM.
            Tokens that all have size zero are averaged plainly.

    Returns:
        :class:`Merged`, differentiable in tokens and sizes. A token that did not merge keeps its
        value to the bit.

    Raises:
        ValueError: shapes or dtypes that do not fit, a negative ``r`` or ``protected``.

    Source: Bolya et al., Token Merging: Your ViT But Faster, 2023, section 3.

    Example:
        >>> tokens = torch.tensor([[[9.0, 9.0], [0.0, 1.0], [1.0, 0.0], [2.0, 0.0]]])
        >>> merged = merge(tokens, 1)
        >>> merged.tokens.tolist(), merged.sizes.tolist(), merged.source.tolist()
        ([[[9.0, 9.0], [0.0, 1.0], [1.5, 0.0]]], [[1.0, 1.0, 2.0]], [[0, 1, 2, 2]])
    """
    sizes, metric = _checked(tokens, sizes, metric)
    if r < 0 or protected < 0:
        raise ValueError(f"r and protected must be 0 or more, got {r} and {protected}")
    batch, count, channels = tokens.shape
    removed = removable(count, r, protected)
    kept = count - removed
    if removed == 0 or batch == 0:
        same = torch.arange(count, device=tokens.device).expand(batch, count)
        return Merged(tokens[:, :kept], sizes[:, :kept], same)
    step = torch.arange(batch + 1, device=tokens.device)
    source, order, starts = operators.match(
        metric.detach().flatten(0, 1), step * count, step * kept, protected, batch * kept, count
    )
    means, totals = operators.average(
        tokens.flatten(0, 1), sizes.flatten(), source, order, starts, weighted
    )
    return Merged(
        means.view(batch, kept, channels),
        totals.view(batch, kept),
        source.view(batch, count) - (step * kept)[:-1, None],
    )


def _checked(tokens: Tensor, sizes: Tensor | None, metric: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sizes and metric, given or not."""
    if tokens.ndim != 3 or not tokens.is_floating_point():
        raise ValueError(
            f"tokens must be floating point (B, N, C), got {tokens.dtype} {tuple(tokens.shape)}"
        )
    wide = torch.promote_types(tokens.dtype, torch.float32)
    if sizes is None:
        sizes = tokens.new_ones(tokens.shape[:2], dtype=wide)
    if metric is None:
        metric = tokens
    if sizes.shape != tokens.shape[:2]:
        raise ValueError(
            f"sizes must be (B, N) = {tuple(tokens.shape[:2])}, got {tuple(sizes.shape)}"
        )
    if metric.ndim != 3 or metric.shape[:2] != tokens.shape[:2] or not metric.is_floating_point():
        raise ValueError(
            f"metric must be floating point (B, N, D) with (B, N) = {tuple(tokens.shape[:2])}, "
            f"got {metric.dtype} {tuple(metric.shape)}"
        )
    return sizes.to(wide), metric

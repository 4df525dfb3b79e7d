"""Merging the tokens of packed documents down to a number that an index can afford."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.merge import operators
from maxsight.kernels.merge.values import Reduced


def reduce(
    tokens: Tensor,
    offsets: Tensor,
    limit: int,
    *,
    sizes: Tensor | None = None,
    protected: int = 0,
    weighted: bool = True,
) -> Reduced:
    """Merge every document's tokens until at most ``limit`` are left.

    Rounds of :func:`maxsight.kernels.merge.merge` on the tokens' own cosines, each of which
    removes what is above the limit, but at most half: a document of 4,096 tokens reaches 16 in
    eight rounds. A document within the limit keeps its tokens and their order.

    The offsets are read on the host once; after that no round waits for the device. Every round
    copies the whole batch, so documents of like length belong together.

    Args:
        tokens: (sum L, C) floating point.
        offsets: (S + 1,) int64, where the documents begin; lengths 0 and 1 are fine.
        limit: tokens a document may keep, more than ``protected``.
        sizes: (sum L,), how many tokens each stands for; None: one.
        protected: that many first tokens of every document neither move nor take others in.
        weighted: mean by sizes, else the plain mean of each round.

    Returns:
        :class:`Reduced`, differentiable in tokens and sizes.

    Raises:
        ValueError: shapes or dtypes that do not fit, or a limit that cannot be reached.

    Example:
        >>> tokens = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
        >>> reduced = reduce(tokens, torch.tensor([0, 3, 4]), 2)
        >>> reduced.tokens.tolist(), reduced.offsets.tolist(), reduced.sizes.tolist()
        ([[0.0, 1.0], [1.5, 0.0], [5.0, 5.0]], [0, 2, 3], [1.0, 2.0, 1.0])
    """
    sizes = checked(tokens, offsets, limit, sizes, protected)
    source = torch.arange(len(tokens), device=tokens.device)
    lengths = offsets.cpu().diff()
    while True:
        removed = torch.minimum(lengths - limit, (lengths - protected) // 2).clamp(min=0)
        if not removed.any():
            return Reduced(tokens, offsets, sizes, source)
        longest = int(lengths.max())
        lengths = lengths - removed
        ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        targets = ends.to(offsets.device, non_blocking=True)
        step, order, starts = operators.match(
            tokens.detach(), offsets, targets, protected, int(ends[-1]), longest
        )
        tokens, sizes = operators.average(tokens, sizes, step, order, starts, weighted)
        source, offsets = step[source], targets


def checked(
    tokens: Tensor, offsets: Tensor, limit: int, sizes: Tensor | None, protected: int
) -> Tensor:
    """The sizes, given or not, of arguments that fit each other."""
    if tokens.ndim != 2 or not tokens.is_floating_point():
        raise ValueError(
            f"tokens must be floating point (sum L, C), got {tokens.dtype} {tuple(tokens.shape)}"
        )
    if offsets.ndim != 1 or offsets.dtype != torch.int64 or not len(offsets):
        raise ValueError(
            f"offsets must be (S + 1,) int64, got {offsets.dtype} {tuple(offsets.shape)}"
        )
    ends = offsets.cpu()
    if ends[0] != 0 or ends[-1] != len(tokens) or bool((ends.diff() < 0).any()):
        raise ValueError(
            f"offsets must rise from 0 to the {len(tokens)} tokens, got {ends[0]} to {ends[-1]}"
        )
    if protected < 0 or limit <= protected:
        raise ValueError(
            f"limit must be above the protected tokens, got {limit} and {protected} of them"
        )
    wide = torch.promote_types(tokens.dtype, torch.float32)
    if sizes is None:
        return tokens.new_ones(len(tokens), dtype=wide)
    if sizes.shape != tokens.shape[:1]:
        raise ValueError(f"sizes must be ({len(tokens)},), got {tuple(sizes.shape)}")
    return sizes.to(wide)

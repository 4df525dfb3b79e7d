"""Token merging as the paper words it: one image, one token at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels import merge
from maxsight.kernels.check.tolerance import assert_close


@dataclass(frozen=True, eq=False)
class Image:
    """One image's tokens (M, C) float64, their sizes, and the output that every input went to."""

    tokens: Tensor
    sizes: list[float]
    source: list[int]


def tome(
    tokens: Tensor,
    sizes: Sequence[float],
    metric: Tensor,
    r: int,
    *,
    protected: int,
    weighted: bool = True,
) -> Image:
    """Merge ``r`` of the tokens (N, C) by the cosines of ``metric`` (N, D)."""
    count = len(tokens)
    values, keys = tokens.double(), metric.double().tolist()
    r = min(r, max(count - protected, 0) // 2)
    if r == 0:
        return Image(values, list(sizes), list(range(count)))
    a = [position for position in range(count) if position >= protected and position % 2 == 0]
    b = [position for position in range(count) if position >= protected and position % 2 == 1]
    edges = []
    for mine in a:
        best, other = max((_cosine(keys[mine], keys[other]), -other) for other in b)
        edges.append((-best, mine, -other))
    joins = {mine: other for _, mine, other in sorted(edges)[:r]}
    standing = [
        *range(min(protected, count)),
        *(position for position in a if position not in joins),
        *b,
    ]
    means, totals = [], []
    for position in standing:
        group = [position, *(mine for mine, other in joins.items() if other == position)]
        weights = torch.tensor([sizes[i] if weighted else 1 for i in group], dtype=torch.float64)
        if weights.sum() == 0:
            weights = torch.ones_like(weights)
        means.append((values[group] * weights[:, None]).sum(0) / weights.sum())
        totals.append(sum(sizes[i] for i in group))
    source = [standing.index(joins.get(position, position)) for position in range(count)]
    return Image(torch.stack(means), totals, source)


def assert_is_tome(
    tokens: Tensor,
    r: int,
    *,
    metric: Tensor | None = None,
    sizes: Tensor | None = None,
    protected: int = 1,
    weighted: bool = True,
) -> None:
    """That ``merge.merge`` of whatever room does to a batch what :func:`tome` does to each."""
    merged = merge.merge(
        tokens, r, metric=metric, sizes=sizes, protected=protected, weighted=weighted
    )
    batch, count, channels = tokens.shape
    kept = count - min(r, max(count - protected, 0) // 2)
    assert merged.tokens.shape == (batch, kept, channels)
    assert merged.sizes.shape == (batch, kept)
    assert merged.source.shape == (batch, count)
    assert merged.tokens.dtype == tokens.dtype
    assert merged.source.dtype == torch.int64
    weights = torch.ones(batch, count) if sizes is None else sizes
    for image in range(batch):
        expected = tome(
            tokens[image],
            weights[image].tolist(),
            (tokens if metric is None else metric)[image],
            r,
            protected=protected,
            weighted=weighted,
        )
        assert merged.source[image].tolist() == expected.source
        assert_close("tokens", merged.tokens[image], expected.tokens, tokens.dtype)
        totals = torch.tensor(expected.sizes, dtype=torch.float64)
        assert_close("sizes", merged.sizes[image], totals, torch.float32)


def one_hot(batch: int, count: int, dim: int, *, seed: int) -> Tensor:
    """A metric full of ties that no rounding can break: cosines are exactly 1, 0 or -1."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.one_hot(
        torch.randint(dim, (batch, count), generator=draw), dim
    ).float()
    factors = torch.tensor([1.0, -2.0, 4.0, 0.0])
    return rows * factors[torch.randint(4, (batch, count, 1), generator=draw)]


def _cosine(left: list[float], right: list[float]) -> float:
    norms = math.hypot(*left) * math.hypot(*right)
    return sum(x * y for x, y in zip(left, right, strict=True)) / norms if norms else 0.0

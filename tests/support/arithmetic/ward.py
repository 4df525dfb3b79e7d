"""Ward's hierarchical clustering of tokens: slow, and what merging is judged by."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from maxsight.kernels.merge.reduce import checked
from maxsight.kernels.merge.values import Reduced


def ward(tokens: Tensor, offsets: Tensor, limit: int, *, sizes: Tensor | None = None) -> Reduced:
    """Merge every document's tokens down to ``limit`` with the least loss at each step.

    The two clusters whose union adds least to the sum of squared distances from the means, namely
    ``n m / (n + m) |x - y|^2``, become one, until ``limit`` are left. O(L^2) memory and about
    O(L^2) time for a document of L tokens, one at a time on the tokens' device: a reference of
    quality, not for indexing.

    Args:
        tokens: (sum L, C) floating point. Distances are Euclidean: normalise for cosines.
        offsets: (S + 1,) int64.
        limit: at least 1.
        sizes: (sum L,), how many tokens each stands for, above 0; None: one.

    Returns:
        :class:`Reduced`: the means, in the order of each cluster's first token.

    Raises:
        ValueError: shapes or dtypes that do not fit, a limit below 1.

    Source: Ward, Hierarchical Grouping to Optimize an Objective Function, 1963; for late
    interaction Clavié et al., Reducing the Footprint of Multi-Vector Retrieval, 2024.

    Example:
        >>> tokens = torch.tensor([[0.0], [10.0], [1.0], [11.0]])
        >>> ward(tokens, torch.tensor([0, 4]), 2).tokens.tolist()
        [[0.5], [10.5]]
    """
    sizes = checked(tokens, offsets, limit, sizes, 0)
    source, ends = torch.empty(len(tokens), dtype=torch.int64, device=tokens.device), [0]
    bounds = offsets.tolist()
    for start, stop in itertools.pairwise(bounds):
        clusters = _clusters(tokens[start:stop].detach(), sizes[start:stop].detach(), limit)
        leads = clusters == torch.arange(len(clusters), device=clusters.device)
        source[start:stop] = ends[-1] + (leads.long().cumsum(0) - 1)[clusters]
        ends.append(ends[-1] + int(leads.sum()))
    totals = torch.zeros(ends[-1], dtype=sizes.dtype, device=sizes.device)
    totals = totals.index_add(0, source, sizes)
    share = (sizes / totals[source])[:, None]
    means = torch.zeros((ends[-1], tokens.shape[1]), dtype=sizes.dtype, device=tokens.device)
    means = means.index_add(0, source, share * tokens.to(sizes.dtype))
    return Reduced(
        means.to(tokens.dtype), torch.tensor(ends, device=offsets.device), totals, source
    )


def _clusters(tokens: Tensor, sizes: Tensor, limit: int) -> Tensor:
    """The first token of every token's cluster: (L,) int64."""
    count = len(tokens)
    leader = torch.arange(count, device=tokens.device)
    if count <= limit:
        return leader
    means, weight = tokens.double(), sizes.double()
    cost = _costs(means, weight, means, weight)
    cost.fill_diagonal_(torch.inf)
    nearest_cost, nearest = cost.min(1)
    for _ in range(count - limit):
        one = int(nearest_cost.argmin())
        low, high = sorted((one, int(nearest[one])))
        both = weight[low] + weight[high]
        means[low] = (weight[low] * means[low] + weight[high] * means[high]) / both
        weight[low] = both
        leader[leader == high] = low
        gone = cost[high].isinf()
        gone[high] = gone[low] = True
        row = _costs(means[low : low + 1], weight[low : low + 1], means, weight)[0]
        row[gone] = torch.inf
        cost[high], cost[:, high] = torch.inf, torch.inf
        cost[low], cost[:, low] = row, row
        # Union costs never fall below what was there (Ward's linkage is reducible), so a row's
        # nearest changes only if it was one of the two.
        stale = ((nearest == low) | (nearest == high)).nonzero()[:, 0]
        stale = torch.cat([stale, stale.new_tensor([low, high])])
        nearest_cost[stale], nearest[stale] = cost[stale].min(1)
    return leader


def _costs(one: Tensor, of_one: Tensor, other: Tensor, of_other: Tensor) -> Tensor:
    squares = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()
    return of_one[:, None] * of_other / (of_one[:, None] + of_other) * squares

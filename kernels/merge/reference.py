"""The truth for token merging, in plain torch: a document at a time, a token at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.merge.placement import members


def match(
    metric: Tensor, offsets: Tensor, targets: Tensor, protected: int, outputs: int, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which output every token goes to; see :func:`maxsight.kernels.merge.operators.match`."""
    source = torch.empty(len(metric), dtype=torch.int64, device=metric.device)
    inputs, ends = offsets.tolist(), targets.tolist()
    for document, start in enumerate(inputs[:-1]):
        rows = metric[start : inputs[document + 1]]
        removed = len(rows) - (ends[document + 1] - ends[document])
        places = _match(rows, removed, protected)
        source[start : inputs[document + 1]] = ends[document] + places
    return source, *members(source, outputs)


def average(
    tokens: Tensor, sizes: Tensor, source: Tensor, order: Tensor, starts: Tensor, weighted: bool
) -> tuple[Tensor, Tensor]:
    """The mean of what every output is made of, and its size."""
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    outputs = len(starts) - 1
    means = torch.zeros((outputs, tokens.shape[1]), dtype=dtype, device=tokens.device)
    total, share = shares(sizes, source, starts, weighted)
    means.index_add_(0, source[order], (share[:, None] * tokens)[order].to(dtype))
    return means.to(tokens.dtype), total


def shares(sizes: Tensor, source: Tensor, starts: Tensor, weighted: bool) -> tuple[Tensor, Tensor]:
    """The size of every output, and the share of every input in its output.

    The shares of an output sum to one: sizes over their sum, or equal ones where that sum is zero
    or ``weighted`` is not asked for. That of a token alone is exactly one.
    """
    total = torch.zeros(len(starts) - 1, dtype=sizes.dtype, device=sizes.device)
    total.index_add_(0, source, sizes)
    equal = starts.diff().to(sizes.dtype).reciprocal()[source]
    if not weighted:
        return total, equal
    mine = total[source]
    return total, torch.where(mine > 0, sizes / torch.where(mine > 0, mine, 1), equal)


def attention(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor, scale: float) -> Tensor:
    """softmax(scale Q K^T + log sizes) V, zero where no key has a size above zero."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    logits = scale * (query.to(dtype) @ key.to(dtype).transpose(-1, -2))
    logits = logits + sizes.to(dtype).log()[:, None, None, :]
    weights = logits.softmax(-1) if key.shape[-2] else logits
    return (weights.nan_to_num(nan=0.0) @ value.to(dtype)).to(query.dtype)


def unit(metric: Tensor) -> Tensor:
    """Rows of norm 1 in float32, or float64 if they came so; zero rows stay zero."""
    rows = metric.to(torch.promote_types(metric.dtype, torch.float32))
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows.div(norm.clamp(min=torch.finfo(rows.dtype).tiny))


def _match(metric: Tensor, removed: int, protected: int) -> Tensor:
    """The output place of every token of one document: (L,) int64."""
    count = len(metric)
    if removed == 0:
        return torch.arange(count, device=metric.device)
    rows = unit(metric)
    a = list(range(protected + protected % 2, count, 2))
    b = list(range(protected + 1 - protected % 2, count, 2))
    similarity = (rows[a] @ rows[b].T).nan_to_num(nan=-torch.inf)
    best, partner = similarity.max(dim=1)
    # Python's sort is stable: of equal similarities the lower place merges first.
    ranked = sorted(range(len(a)), key=best.neg().tolist().__getitem__)
    merged = set(ranked[:removed])
    left = [place for i, place in enumerate(a) if i not in merged]
    standing = [*range(min(protected, count)), *left, *b]
    place_of = {token: place for place, token in enumerate(standing)}
    for i in merged:
        place_of[a[i]] = place_of[b[int(partner[i])]]
    return torch.tensor([place_of[token] for token in range(count)], device=metric.device)

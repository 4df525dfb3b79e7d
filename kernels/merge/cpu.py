"""Token merging on a CPU: batched products over documents of like length, copies of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from maxsight.kernels.merge.placement import Sides, members, outputs_of, sides
from maxsight.kernels.merge.reference import shares, unit

_SCORES = 1 << 21  # similarities at a time: 8 MiB of float32, which the cache still holds in part
_PADDING = 0.75  # documents at least this long beside the longest share a product


def match(
    metric: Tensor, offsets: Tensor, targets: Tensor, protected: int, outputs: int, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which output every token goes to; see :func:`maxsight.kernels.merge.operators.match`."""
    split = sides(offsets, targets, protected=protected, tokens=len(metric))
    values, partners = _best(unit(metric), offsets, split)
    source = outputs_of(split, targets, values, partners)
    return source, *members(source, outputs)


def average(
    tokens: Tensor, sizes: Tensor, source: Tensor, order: Tensor, starts: Tensor, weighted: bool
) -> tuple[Tensor, Tensor]:
    """The mean of what every output is made of, and its size."""
    total, share = shares(sizes, source, starts, weighted)
    # Most tokens stand alone and are copied; only the groups are computed.
    means = tokens.index_select(0, order[starts[:-1]])
    grouped = starts.diff() > 1
    inputs = order[grouped[source[order]]]
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    parts = tokens.index_select(0, inputs).to(dtype) * share[inputs, None].to(dtype)
    group = grouped.cumsum(0) - 1
    sums = torch.zeros((int(grouped.sum()), tokens.shape[1]), dtype=dtype)
    sums.index_add_(0, group[source[inputs]], parts)
    means[grouped] = sums.to(tokens.dtype)
    return means, total


def attention(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor, scale: float) -> Tensor:
    """softmax(scale Q K^T + log sizes) V, zero where no key has a size above zero."""
    # The mask is as wide as the sums: rounded to bfloat16, log(3) would be off by 0.2 %.
    mask = sizes.log()[:, None, None, :]
    mask = mask.to(torch.float64 if query.dtype == torch.float64 else torch.float32)
    if query.dtype == torch.float16:
        mask = mask.half()
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def _best(rows: Tensor, offsets: Tensor, split: Sides) -> tuple[Tensor, Tensor]:
    """For every token of A: its largest similarity and the place of that partner among B."""
    lengths = offsets.diff()
    count_a = (lengths - split.first_a + 1).div(2, rounding_mode="floor").clamp(min=0)
    count_b = (lengths - split.first_b + 1).div(2, rounding_mode="floor").clamp(min=0)
    first = count_a.cumsum(0) - count_a
    values = torch.full((int(count_a.sum()),), -torch.inf, dtype=rows.dtype)
    partners = torch.zeros(len(values), dtype=torch.int64)
    finite = bool(rows.isfinite().all())
    for documents in _alike(lengths.masked_fill(split.removed == 0, 0)):
        wide_a, wide_b = int(count_a[documents].max()), int(count_b[documents].max())
        places_b = torch.arange(wide_b)
        beyond = places_b >= count_b[documents, None]
        b = _rows(rows, offsets[documents] + split.first_b, places_b)
        height = max(1, _SCORES // (len(documents) * wide_b))
        for low in range(0, wide_a, height):
            places_a = torch.arange(low, min(low + height, wide_a))
            a = _rows(rows, offsets[documents] + split.first_a, places_a)
            similarity = a @ b.transpose(1, 2)
            if beyond.any():
                similarity.masked_fill_(beyond[:, None, :], -torch.inf)
            if not finite:
                similarity.nan_to_num_(nan=-torch.inf)
            best, partner = similarity.max(dim=2)
            inside = places_a < count_a[documents, None]
            where = (first[documents, None] + places_a)[inside]
            values[where], partners[where] = best[inside], partner[inside]
    return values, partners


def _alike(lengths: Tensor) -> Iterator[Tensor]:
    """Documents that share one product: of like length, and not too many."""
    order = lengths.argsort(descending=True, stable=True)
    sorted_lengths = lengths[order].tolist()
    low = 0
    while low < len(order) and sorted_lengths[low]:
        longest = sorted_lengths[low]
        most = max(1, 4 * _SCORES // longest**2)
        high = low + 1
        while high < min(len(order), low + most) and sorted_lengths[high] >= _PADDING * longest:
            high += 1
        yield order[low:high].sort().values
        low = high


def _rows(rows: Tensor, first: Tensor, places: Tensor) -> Tensor:
    """(documents, places, D): every second row from ``first`` on; past the end, some row."""
    index = (first[:, None] + 2 * places).clamp(max=len(rows) - 1)
    return rows.index_select(0, index.flatten()).view(*index.shape, rows.shape[1])

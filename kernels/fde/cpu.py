"""Fixed-dimensional encodings on a CPU.

Tokens are summed into cells first and projected afterwards: the sketch is linear, and there are
fewer cells than tokens. Sums are embedding bags over the tokens sorted by cell; numpy sorts 16-bit
keys by radix, so a chunk is small enough for its cells to be numbered in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from maxsight.kernels.fde import randomness, simhash
from maxsight.kernels.fde.values import Config

_CHUNK_TOKENS = 2048
_CHUNK_CELLS = 1 << 16
_CELL_BYTES = 4 << 20  # of the cells that are summed at a time: they stay in the cache
_INNER_BYTES = 16 << 20  # of the encodings before the final projection
_FAR = 1 << 40  # a Hamming distance above every other, shifted as those are


def encode(
    tokens: Tensor, offsets: Tensor, weights: Tensor | None, config: Config, *, documents: bool
) -> Tensor:
    """See ``encode_queries`` and ``encode_documents`` in __init__.py."""
    if weights is not None and bool((weights == 0).any()):
        kept = weights > 0
        offsets = torch.nn.functional.pad(kept.cumsum(0), (1, 0))[offsets]
        tokens, weights = tokens[kept], weights[kept]
    found = torch.empty((len(offsets) - 1, config.dim), dtype=torch.float32)
    for first, last in _chunks(offsets, config):
        start, end = int(offsets[first]), int(offsets[last])
        rows = tokens[start:end]
        rows = rows if rows.dtype == torch.float64 else rows.to(torch.float32)
        sizes = None if weights is None else weights[start:end].to(rows.dtype)
        lengths = offsets[first : last + 1].diff()
        if config.final_dim is None:
            _encode_chunk(rows, lengths, sizes, config, documents, found[first:last])
        else:
            inner = torch.empty((last - first, config.inner_dim), dtype=rows.dtype)
            _encode_chunk(rows, lengths, sizes, config, documents, inner)
            found[first:last] = _folded(inner, config)
    return found


def _chunks(offsets: Tensor, config: Config) -> Iterator[tuple[int, int]]:
    """Runs of documents, (first, last + 1), that are encoded together; at least one each."""
    most = min(_CHUNK_CELLS, _CELL_BYTES // (4 * config.token_dim)) // config.cells
    if config.final_dim is not None:
        most = min(most, _INNER_BYTES // (4 * config.inner_dim))
    first, count = 0, len(offsets) - 1
    while first < count:
        fitting = torch.searchsorted(offsets, offsets[first] + _CHUNK_TOKENS, right=True)
        last = min(max(int(fitting) - 1, first + 1), first + max(1, most), count)
        yield first, last
        first = last


def _encode_chunk(
    rows: Tensor,
    lengths: Tensor,
    sizes: Tensor | None,
    config: Config,
    documents: bool,
    found: Tensor,
) -> None:
    """The encodings of a chunk's documents, before the final projection, into ``found``."""
    count = len(lengths)
    places = found.view(count, config.repetitions, config.cells, config.cell_dim)
    cells = simhash.cells_of(simhash.patterns(rows, _planes(config)))
    cells = cells + torch.arange(count, dtype=torch.int32).repeat_interleave(lengths) * config.cells
    numbered = count * config.cells
    step = min(_CHUNK_CELLS, _CELL_BYTES // (4 * config.token_dim)) // numbered
    step = max(1, step)
    for start in range(0, config.repetitions, step):
        part = cells[start : start + step]
        summed = _summed(rows, part, lengths, sizes, config, documents)
        if config.projection_dim is not None:
            summed = torch.bmm(summed, _projections(config)[start : start + step].to(rows.dtype))
        summed = summed.view(len(part), count, config.cells, config.cell_dim)
        places[:, start : start + step] = summed.transpose(0, 1)


def _summed(
    rows: Tensor,
    cells: Tensor,
    lengths: Tensor,
    sizes: Tensor | None,
    config: Config,
    documents: bool,
) -> Tensor:
    """Sums or means of the tokens in each cell.

    Args:
        rows: (L, d).
        cells: (R, L) int32: document x cells + cell, in each of some repetitions.
        lengths: (B,) int64, of the documents.
        sizes: (L,) as rows, positive.

    Returns:
        (R, B x cells, d).
    """
    repetitions, numbered = len(cells), len(lengths) * config.cells
    first = torch.arange(repetitions, dtype=torch.int32).unsqueeze(1)
    keys = (cells + first * numbered).flatten()
    if repetitions * numbered <= _CHUNK_CELLS:
        order = np.argsort(keys.numpy().astype(np.uint16), kind="stable")
    else:
        order = np.argsort(keys.numpy(), kind="stable")
    # Each repetition holds every token once, so the sorted places of one follow those before.
    members = (torch.from_numpy(order).view(repetitions, -1) - first * len(rows)).flatten()
    counts = torch.bincount(keys, minlength=repetitions * numbered)
    ends = counts.cumsum(0)
    starts = ends - counts
    summed = torch.nn.functional.embedding_bag(
        members,
        rows,
        torch.cat([starts, ends[-1:]]),
        mode="sum",
        include_last_offset=True,
        per_sample_weights=None if sizes is None else sizes[members],
    )
    if documents:
        totals = counts.to(rows.dtype)
        if sizes is not None:
            totals = torch.bincount(keys, sizes.repeat(repetitions), minlength=len(counts))
        summed /= totals.where(counts > 0, 1).unsqueeze(1)
        if config.fill_empty and len(rows):
            leading = members[starts.clamp_max(len(members) - 1)].where(counts > 0, _FAR)
            nearest = _nearest(leading.view(-1, config.cells), config).flatten()
            empty = ((counts == 0) & (nearest < _FAR)).nonzero().squeeze(1)
            summed[empty] = rows[nearest[empty]]
    return summed.view(repetitions, numbered, -1)


def _nearest(leading: Tensor, config: Config) -> Tensor:
    """The token that fills each cell: that of the nearest cell, the first one of several.

    The smallest of distance and token, over all cells, is found plane by plane: a cell takes what
    the cell across the plane has, one farther, if that is less.

    Args:
        leading: (S, cells) int64: the first token in each cell, _FAR where there is none.

    Returns:
        (S, cells) int64: a token, _FAR in a document without any.
    """
    codes = simhash.patterns_of(torch.arange(config.cells))
    # By pattern: the cell across a plane is one flip away.
    keys = torch.empty_like(leading)
    keys[:, codes] = leading
    for plane in range(config.k_sim):
        across = keys.view(len(keys), -1, 2, 1 << plane).flip(2).view_as(keys)
        keys = torch.minimum(keys, across + (1 << 32))
    keys = keys[:, codes]
    return torch.where(keys < _FAR, keys & (1 << 32) - 1, _FAR)


def _folded(inner: Tensor, config: Config) -> Tensor:
    """The final projection of encodings (B, inner_dim)."""
    order, ends, signs = _final(config)
    return torch.nn.functional.embedding_bag(
        order,
        inner.T.contiguous(),
        ends,
        mode="sum",
        include_last_offset=True,
        per_sample_weights=signs.to(inner.dtype),
    ).T


@lru_cache(maxsize=8)
def _planes(config: Config) -> Tensor:
    return torch.from_numpy(randomness.planes(config)).to(torch.float32)


@lru_cache(maxsize=8)
def _projections(config: Config) -> Tensor:
    """(repetitions, token_dim, projection_dim) float32."""
    sketches = randomness.inner_sketches(config) or []
    return torch.from_numpy(np.stack([sketch.matrix() for sketch in sketches]))


@lru_cache(maxsize=8)
def _final(config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Input coordinates in the order of their outputs, where each output's begin, their signs."""
    sketch = randomness.final_sketch(config)
    assert sketch is not None
    targets = torch.from_numpy(sketch.target)
    order = targets.argsort(stable=True)
    ends = torch.nn.functional.pad(torch.bincount(targets, minlength=config.dim).cumsum(0), (1, 0))
    return order, ends, torch.from_numpy(sketch.sign)[order].to(torch.float32)

"""The truth for fixed-dimensional encodings, in plain torch: document by document."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from maxsight.kernels.fde import randomness, simhash
from maxsight.kernels.fde.values import Config


def encode(
    tokens: Tensor, offsets: Tensor, weights: Tensor | None, config: Config, *, documents: bool
) -> Tensor:
    """See ``encode_queries`` and ``encode_documents`` in __init__.py."""
    device = tokens.device
    dtype = torch.float64 if tokens.dtype == torch.float64 else torch.float32
    planes = torch.from_numpy(randomness.planes(config)).to(device, torch.float32)
    inner = randomness.inner_sketches(config)
    final = randomness.final_sketch(config)
    codes = simhash.patterns_of(torch.arange(config.cells, device=device))
    shape = (config.repetitions, config.cells, config.cell_dim)
    found = torch.zeros((len(offsets) - 1, config.dim), dtype=torch.float32, device=device)
    bounds = offsets.tolist()
    for place, (start, end) in enumerate(pairwise(bounds)):
        rows = tokens[start:end].to(dtype)
        sizes = torch.ones_like(rows[:, 0]) if weights is None else weights[start:end].to(dtype)
        patterns = simhash.patterns(tokens[start:end], planes)[:, sizes > 0]
        rows, sizes = rows[sizes > 0], sizes[sizes > 0]
        if not len(rows):
            continue
        encoded = torch.zeros(shape, dtype=dtype, device=device)
        for repetition in range(config.repetitions):
            projected = rows
            if inner is not None:
                projected = rows @ torch.from_numpy(inner[repetition].matrix()).to(rows)
            differing = _ones(patterns[repetition] ^ codes.unsqueeze(1))  # (cells, L)
            members = (differing == 0).to(dtype) * sizes
            cells = members @ projected
            if documents:
                total = members.sum(1, keepdim=True)
                cells = torch.where(total > 0, cells / total, 0)
                if config.fill_empty:
                    # A stable sort puts the first of equals in front, argmin any of them.
                    nearest = differing.sort(dim=1, stable=True).indices[:, 0]
                    cells = torch.where(total > 0, cells, projected[nearest])
            encoded[repetition] = cells
        flat = encoded.flatten()
        if final is not None:
            signs = torch.from_numpy(final.sign).to(flat)
            targets = torch.from_numpy(final.target).to(device)
            flat = flat.new_zeros(final.width).index_add(0, targets, flat * signs)
        found[place] = flat
    return found


def _ones(numbers: Tensor) -> Tensor:
    """How many bits are set in each of some integers below 2^30."""
    return sum((numbers >> bit & 1 for bit in range(30)), torch.zeros_like(numbers))

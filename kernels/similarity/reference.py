"""The truth for similarity search, in plain torch: every score, a block of rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels import bitmap, ordering

# Rows multiplied at once: memory is O(Q * (BLOCK + k)), never Q * N.
BLOCK = 65536


def topk(
    queries: Tensor, database: Tensor, k: int, *, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The ``k`` rows of largest score; ``similarity.topk`` says what the arguments mean.

    Args:
        queries: (Q, D) floating point tensor.
        database: (N, D) floating point or int8.
        k: at least 1.
        allowed: bitmap (ceil(N / 8),) or (Q, ceil(N / 8)) uint8.
        scale: (N,) float; the score of row i is its product with the query times ``scale[i]``.

    Returns:
        ``(scores, indices)``: (Q, min(k, N)) float32 and int64.
    """
    dtype = _accumulator(queries, database)
    count, device = len(queries), queries.device
    scores = torch.empty((count, 0), dtype=dtype, device=device)
    indices = torch.empty((count, 0), dtype=torch.int64, device=device)
    for start in range(0, len(database), BLOCK):
        part = _scores(queries, database, start, allowed, scale, dtype)
        places = torch.arange(start, start + part.shape[1], device=device).expand_as(part)
        scores = torch.cat([scores, part], dim=1)
        indices = torch.cat([indices, places], dim=1)
        scores, indices = ordering.first(scores, indices, k)
    # `contiguous`: a slice would keep the whole block alive.
    return scores.float().contiguous(), indices.masked_fill(scores == -torch.inf, -1)


def _accumulator(queries: Tensor, database: Tensor) -> torch.dtype:
    double = torch.float64 in (queries.dtype, database.dtype)
    return torch.float64 if double else torch.float32


def _scores(
    queries: Tensor,
    database: Tensor,
    start: int,
    allowed: Tensor | None,
    scale: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Every score of the block of rows from ``start`` on, -inf where forbidden."""
    rows = database[start : start + BLOCK]
    part = queries.to(dtype) @ rows.to(dtype).T
    if scale is not None:
        part *= scale[start : start + BLOCK]
    if allowed is not None:
        inside = bitmap.unpack(allowed[..., start // 8 : (start + BLOCK) // 8], len(rows))
        part = part.masked_fill(~inside, -torch.inf)
    return part

"""The truth for similarity search, in plain torch: every score, a block of rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels import bitmap, ordering
from maxsight.kernels.chunks import BYTES

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


def above(
    queries: Tensor,
    database: Tensor,
    threshold: Tensor,
    *,
    allowed: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows that score at least the threshold; arguments as in :func:`topk`.

    Args:
        threshold: (Q,) float32.

    Returns:
        ``(scores, indices, offsets)``: (H,) float32, (H,) int64, (Q + 1,) int64.
    """
    dtype = _accumulator(queries, database)
    found = []
    for start in range(0, len(database), BLOCK):
        part = _scores(queries, database, start, allowed, scale, dtype).float()
        rows, columns = ((part >= threshold[:, None]) & (part > -torch.inf)).nonzero(as_tuple=True)
        found.append((part[rows, columns], columns + start, rows))
    if not found:
        empty = torch.empty(0, dtype=torch.int64, device=queries.device)
        found.append((empty.float(), empty, empty))
    return ragged(*(torch.cat(pieces) for pieces in zip(*found)), queries=len(queries))


def rescore(
    queries: Tensor, database: Tensor, candidates: Tensor, k: int, *, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best ``k`` of some rows a query.

    Args:
        candidates: (Q, C) int64 rows of the database, none twice a query; -1 where there is none.
        queries, database, k, scale: as in :func:`topk`.

    Returns:
        ``(scores, indices)``: (Q, min(k, C)) float32 and int64.
    """
    dtype = _accumulator(queries, database)
    # Lower rows first, so that the stable sort below breaks ties by row.
    candidates = candidates.sort(dim=1).values
    scores = torch.empty(candidates.shape, dtype=torch.float32, device=queries.device)
    each = max(1, BYTES // max(1, 4 * candidates.shape[1] * database.shape[1]))
    for start in range(0, len(queries), each):
        chosen = slice(start, start + each)
        rows = candidates[chosen].clamp_min(0)
        gathered = database[rows].to(dtype)  # (q, C, D)
        part = torch.bmm(gathered, queries[chosen].to(dtype)[:, :, None])[:, :, 0]
        if scale is not None:
            part *= scale[rows]
        scores[chosen] = part.masked_fill(candidates[chosen] < 0, -torch.inf)
    scores, candidates = ordering.first(scores, candidates, k)
    return scores.contiguous(), candidates


def ragged(
    scores: Tensor, indices: Tensor, rows: Tensor, *, queries: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Hits in any order, put by query, then best first, then by lower index.

    Args:
        scores, indices, rows: (H,) score, database row and query of each hit.
        queries: Q.
    """
    order = indices.argsort()
    order = order[scores[order].argsort(descending=True, stable=True)]
    order = order[rows[order].argsort(stable=True)]
    offsets = torch.zeros(queries + 1, dtype=torch.int64, device=rows.device)
    offsets[1:] = torch.bincount(rows, minlength=queries).cumsum(0)
    return scores[order], indices[order], offsets


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

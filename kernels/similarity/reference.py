"""The truth for similarity and top-k, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def topk(
    queries: Tensor, database: Tensor, k: int, *, allowed: Tensor | None = None, block: int = 65536
) -> tuple[Tensor, Tensor]:
    """The ``k`` database rows of largest inner product with each query.

    The database is read in blocks, so memory is O(Q * (block + k)), never Q * N.

    Args:
        queries: (Q, D) floating point tensor.
        database: (N, D) floating point tensor on the same device; may be of another dtype.
        k: at least 1.
        allowed: (N,) or (Q, N) bool tensor; rows where it is False are never returned.
        block: database rows at a time.

    Returns:
        ``(scores, indices)``: (Q, k') float32 and (Q, k') int64, best first, equal scores by lower
        index. ``k' = min(k, N)``; a query with fewer allowed rows ends in score ``-inf`` and index
        ``-1``. Products are summed in float32, or in float64 if either input is.

    Raises:
        ValueError: shapes that do not fit, ``k`` or ``block`` below 1.

    Example:
        >>> database = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> topk(torch.tensor([[1.0, 0.0]]), database, 2)[1].tolist()
        [[0, 2]]
    """
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"queries (Q, D) and database (N, D) must share D, got {tuple(queries.shape)} and "
            f"{tuple(database.shape)}"
        )
    if k < 1 or block < 1:
        raise ValueError(f"k and block must be at least 1, got {k} and {block}")
    count, rows = len(queries), len(database)
    if allowed is not None and tuple(allowed.shape) not in {(rows,), (count, rows)}:
        raise ValueError(
            f"allowed must be ({rows},) or ({count}, {rows}), got {tuple(allowed.shape)}"
        )
    double = torch.float64 in (queries.dtype, database.dtype)
    dtype = torch.float64 if double else torch.float32
    device = queries.device
    scores = torch.empty((count, 0), dtype=dtype, device=device)
    indices = torch.empty((count, 0), dtype=torch.int64, device=device)
    for start in range(0, rows, block):
        part = queries.to(dtype) @ database[start : start + block].to(dtype).T
        places = torch.arange(start, start + part.shape[1], device=device).expand_as(part)
        if allowed is not None:
            keep = allowed[..., start : start + block].expand_as(part)
            part = part.masked_fill(~keep, -torch.inf)
            places = places.masked_fill(~keep, -1)
        scores = torch.cat([scores, part], dim=1)
        indices = torch.cat([indices, places], dim=1)
        # A stable sort keeps the order of arrival, which is that of the indices, among equals;
        # masked rows (score -inf) come last.
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        scores, indices = scores[:, :k], indices.gather(1, order[:, :k])
    return scores.to(torch.float32), indices

"""What is asked of the arguments of a search before a room sees them."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Rows whose norms are taken at once.
_NORM_ROWS = 8192


def check(queries: Tensor, database: Tensor, scale: Tensor | None) -> None:
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"queries (Q, D) and database (N, D) must share D, got {tuple(queries.shape)} and "
            f"{tuple(database.shape)}"
        )
    if queries.dtype not in _FLOATS or database.dtype not in (*_FLOATS, torch.int8):
        raise ValueError(
            "queries must be floating point and the database floating point or int8, got "
            f"{queries.dtype} and {database.dtype}"
        )
    if scale is not None and (
        tuple(scale.shape) != (len(database),) or not scale.is_floating_point()
    ):
        raise ValueError(
            f"scale must be ({len(database)},) floating point, got {scale.dtype} "
            f"{tuple(scale.shape)}"
        )


def scaled(
    queries: Tensor, database: Tensor, scale: Tensor | None, normalize: bool
) -> tuple[Tensor, Tensor | None]:
    """Contiguous queries and the factor of every row, so that a room knows of no norms."""
    double = torch.float64 in (queries.dtype, database.dtype)
    dtype = torch.float64 if double else torch.float32
    queries = queries.to(dtype).contiguous()
    if not normalize:
        return queries, None if scale is None else scale.to(dtype).contiguous()
    norms = torch.empty(len(database), dtype=dtype, device=database.device)
    for start in range(0, len(database), _NORM_ROWS):
        rows = slice(start, start + _NORM_ROWS)
        norms[rows] = torch.linalg.vector_norm(database[rows].to(dtype), dim=1)
    inverse = norms.clamp_min(1e-12).reciprocal()
    # What is normalised keeps only the sign of its scale.
    inverse = inverse if scale is None else inverse * scale.sign()
    return torch.nn.functional.normalize(queries, dim=1), inverse

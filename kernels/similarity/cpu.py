"""Similarity search on a CPU: a compiled scan that screens in bfloat16 or int8 and scores exactly.

Where the compiled library is missing, or the numbers are float64, the reference computes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels import native
from maxsight.kernels.similarity import reference

__all__ = ["topk"]


def topk(
    queries: Tensor, database: Tensor, k: int, *, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``reference.topk``, compiled."""
    if not _compiled(queries, database):
        return reference.topk(queries, database, k, allowed=allowed, scale=scale)
    return native.topk(queries, database, k, allowed=allowed, scale=scale)


def _compiled(queries: Tensor, database: Tensor) -> bool:
    if not native.is_compiled():
        return False
    double = torch.float64 in (queries.dtype, database.dtype)
    return not double and queries.shape[1] > 0

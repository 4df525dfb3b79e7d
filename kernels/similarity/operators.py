"""Similarity search as a torch operator, on arguments that were checked."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.dispatch import room_of
from maxsight.kernels.operator import operator


@operator("maxsight::similarity_topk")
def topk(
    queries: Tensor, database: Tensor, k: int, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    room = room_of("similarity", queries, database, allowed, scale)
    return room.topk(queries, database, k, allowed=allowed, scale=scale)  # type: ignore[no-any-return]


@topk.register_fake
def _(
    queries: Tensor, database: Tensor, k: int, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], min(k, database.shape[0]))
    scores = queries.new_empty(shape, dtype=torch.float32)
    return scores, queries.new_empty(shape, dtype=torch.int64)

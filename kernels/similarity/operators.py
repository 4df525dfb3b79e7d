"""Similarity search as torch operators, on arguments that were checked."""

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
    return _empty_answer(queries, min(k, database.shape[0]))


@operator("maxsight::similarity_above")
def above(
    queries: Tensor,
    database: Tensor,
    threshold: Tensor,
    allowed: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    room = room_of("similarity", queries, database, allowed, scale)
    return room.above(queries, database, threshold, allowed=allowed, scale=scale)  # type: ignore[no-any-return]


@above.register_fake
def _(
    queries: Tensor,
    database: Tensor,
    threshold: Tensor,
    allowed: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    hits = torch.library.get_ctx().new_dynamic_size()
    return (
        queries.new_empty(hits, dtype=torch.float32),
        queries.new_empty(hits, dtype=torch.int64),
        queries.new_empty(queries.shape[0] + 1, dtype=torch.int64),
    )


@operator("maxsight::similarity_rescore")
def rescore(
    queries: Tensor, database: Tensor, candidates: Tensor, k: int, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    room = room_of("similarity", queries, database, candidates, scale)
    return room.rescore(queries, database, candidates, k, scale=scale)  # type: ignore[no-any-return]


@rescore.register_fake
def _(
    queries: Tensor, database: Tensor, candidates: Tensor, k: int, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _empty_answer(queries, min(k, candidates.shape[1]))


def _empty_answer(queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], k)
    scores = queries.new_empty(shape, dtype=torch.float32)
    return scores, queries.new_empty(shape, dtype=torch.int64)

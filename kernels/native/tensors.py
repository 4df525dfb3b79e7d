"""Tensors as the structs of the compiled library take them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Packing, Rows

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.int8: 3}
BFLOAT16, INT8, SIGN = 1, 3, 4
# Fewer rows than this a thread are not worth a thread.
THREAD_ROWS = 2048


def pack(queries: Tensor, source: int, kind: int, *, bounds: bool) -> list[Tensor]:
    """Queries in the layout of the tiles, and where asked for their scales, errors and norms."""
    count, dim = queries.shape
    lanes = binding.library().maxsight_lanes(binding.engine())
    padded = -(-count // lanes) * lanes
    numbers = {INT8: 4, BFLOAT16: 2}.get(kind, 1)
    pieces = [torch.empty(padded * -(-dim // numbers) * 4, dtype=torch.uint8)]
    if bounds:
        pieces += [torch.empty(padded) for _ in range(3)]
    task = Packing(
        source=queries.data_ptr(),
        source_kind=source,
        kind=kind,
        count=count,
        dim=dim,
        packed=pieces[0].data_ptr(),
    )
    if bounds:
        task.scale, task.error, task.norm = (piece.data_ptr() for piece in pieces[1:])
    binding.library().maxsight_pack(binding.engine(), ctypes.byref(task))
    if task.count < 0:
        raise MemoryError(f"no memory to pack queries {tuple(queries.shape)}")
    return pieces


def rows_of(
    rows: Tensor,
    kind: int,
    dim: int,
    allowed: Tensor | None,
    scale: Tensor | None,
    kept: list[Tensor],
) -> Rows:
    return Rows(
        data=rows.data_ptr(),
        scale=pointer(scale, kept),
        allowed=pointer(allowed, kept),
        allowed_stride=0 if allowed is None or allowed.ndim == 1 else allowed.shape[1],
        kind=kind,
        dim=dim,
    )


def pointer(tensor: Tensor | None, kept: list[Tensor]) -> int | None:
    if tensor is None:
        return None
    kept.append(tensor.contiguous())
    return kept[-1].data_ptr()

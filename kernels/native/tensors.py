"""Tensors as the structs of the compiled library take them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    Matrix,
    Packing,
)

KINDS = {
    torch.float32: FLOAT32,
    torch.bfloat16: BFLOAT16,
    torch.float16: FLOAT16,
    torch.int8: INT8,
}
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


def matrix_of(
    rows: Tensor,
    kind: int,
    dim: int,
    allowed: Tensor | None,
    scale: Tensor | None,
    kept: list[Tensor],
) -> Matrix:
    return Matrix(
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


def check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or tensor.device.type != "cpu":
        raise ValueError(
            f"{name} must be {dtype} {shape} on the CPU, got {tensor.dtype} "
            f"{tuple(tensor.shape)} on {tensor.device}"
        )


def check_offsets(name: str, offsets: Tensor, rows: int) -> None:
    """What lies outside would be read all the same: the compiled code trusts its arguments."""
    check(name, offsets, torch.int64, (offsets.shape[0],))
    if not fits(offsets, rows, whole=False):
        raise ValueError(f"{name} must never fall and lie in 0..{rows}, got {offsets}")


def fits(offsets: Tensor, rows: int, *, whole: bool) -> bool:
    """Whether offsets (B + 1,) int64, on the CPU, never fall and lie in ``0..rows``.

    A call of torch or NumPy takes ten times as long as the comparison, where a search of a
    millisecond has pushed its code out of the cache.

    Args:
        whole: whether they must begin at 0 and end at ``rows``.
    """
    library = binding.find_library()
    if library is not None:
        offsets = offsets.contiguous()
        return bool(library.maxsight_fits(offsets.data_ptr(), offsets.shape[0], rows, whole))
    numbers = offsets.numpy()
    if len(numbers) == 0 or (numbers[1:] < numbers[:-1]).any():
        return False
    first, last = numbers[0], numbers[-1]
    return bool(first == 0 and last == rows if whole else first >= 0 and last <= rows)

"""What is asked of MaxSim's arguments before a room sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels import native
from maxsight.kernels.maxsim.codes import Documents, Int8Tokens, ResidualCodes, storage

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_finite(queries: list[Tensor], weight: Tensor | None) -> None:
    """That query tokens are numbers, on the CPU, where asking costs next to nothing."""
    given = [*queries, *([] if weight is None else [weight])]
    if any(side.is_cpu and not bool(side.isfinite().all()) for side in given):
        raise ValueError("query tokens and their weights must be finite")


def check_offsets(offsets: Tensor, rows: int, side: str) -> None:
    """That offsets start at 0, never fall and end at the number of tokens.

    On a CUDA device the check runs there without waiting for it: a wrong one fails a later call.

    Raises:
        ValueError: they do not.
    """
    message = f"{side} offsets must start at 0, never fall, and end at the {rows} tokens given"
    if offsets.is_cuda:
        ends = (offsets[:1] == 0).all() & (offsets[-1:] == rows).all()
        torch._assert_async(ends & (offsets.diff() >= 0).all(), message)
        return
    if not native.fits(offsets, rows, whole=True):
        raise ValueError(f"{message}; got {offsets[:4].tolist()} ... {offsets[-4:].tolist()}")


def check_side(tokens: Documents, offsets: Tensor, weight: Tensor | None, side: str) -> None:
    """That dtypes and shapes fit together, and that codes name centroids that there are.

    Raises:
        ValueError: they do not.
    """
    rows = storage(tokens)
    if isinstance(tokens, Tensor) and (tokens.dtype not in _FLOATS or tokens.ndim != 2):
        raise ValueError(
            f"{side} tokens must be (sum L, d) float32, float16 or bfloat16, or coded, got "
            f"{tokens.dtype} {tuple(tokens.shape)}"
        )
    if isinstance(tokens, Int8Tokens) and (
        rows.dtype != torch.int8
        or rows.ndim != 2
        or tokens.scale.dtype != torch.float32
        or tokens.scale.shape != rows.shape[:1]
    ):
        raise ValueError(
            f"Int8Tokens must be (T, d) int8 with a (T,) float32 scale, got {rows.dtype} "
            f"{tuple(rows.shape)} with {tokens.scale.dtype} {tuple(tokens.scale.shape)}"
        )
    if isinstance(tokens, ResidualCodes):
        _check_codes(tokens)
    if offsets.dtype != torch.int64 or offsets.ndim != 1 or len(offsets) == 0:
        raise ValueError(
            f"{side} offsets must be (B + 1,) int64, got {offsets.dtype} {tuple(offsets.shape)}"
        )
    if weight is not None and (
        weight.shape != rows.shape[:1] or not weight.dtype.is_floating_point
    ):
        raise ValueError(
            f"{side} weights must be ({len(rows)},) floating point, one a token, got "
            f"{weight.dtype} {tuple(weight.shape)}"
        )


def _check_codes(tokens: ResidualCodes) -> None:
    d = tokens.centroids.shape[-1]
    shape = (len(tokens.centroid_ids), d * tokens.bits // 8)
    if (
        tokens.bits not in (2, 4)
        or len(tokens.bucket_weights) != 2**tokens.bits
        or tokens.centroid_ids.dtype != torch.int32
        or tokens.codes.dtype != torch.uint8
        or tuple(tokens.codes.shape) != shape
        or d * tokens.bits % 8
    ):
        raise ValueError(
            f"ResidualCodes must hold (T,) int32 ids, (T, d * bits / 8) uint8 codes and 4 or 16 "
            f"bucket weights, got {tokens.centroid_ids.dtype} {tuple(tokens.centroid_ids.shape)}, "
            f"{tokens.codes.dtype} {tuple(tokens.codes.shape)}, {len(tokens.bucket_weights)} "
            f"weights and d = {d}"
        )
    ids = tokens.centroid_ids
    # On a GPU this would wait for the device.
    if ids.is_cpu and len(ids):
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= len(tokens.centroids):
            raise ValueError(
                f"an id of coded rows is not that of a centroid: they must lie in "
                f"0..{len(tokens.centroids) - 1}, got {low}..{high}"
            )

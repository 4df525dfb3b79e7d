"""What is asked of MaxSim's arguments before a room sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels import native
from maxsight.kernels.maxsim.codes import Int8Tokens, Tokens, storage

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


def check_side(tokens: Tokens, offsets: Tensor, weight: Tensor | None, side: str) -> None:
    """That dtypes and shapes fit together.

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

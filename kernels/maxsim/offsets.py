"""Offsets of packed sequences: what is asked of them, and whose each token is."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels import native


def check_offsets(offsets: Tensor, rows: int, side: str) -> None:
    """That offsets start at 0, never fall and end at the number of tokens.

    On a CUDA device the check runs there without waiting for it: a wrong one fails a later call.

    Raises:
        ValueError: they do not.
    """
    check_form(offsets, side)
    message = f"{side} offsets must start at 0, never fall, and end at the {rows} tokens given"
    if offsets.is_cuda:
        ends = (offsets[:1] == 0).all() & (offsets[-1:] == rows).all()
        torch._assert_async(ends & (offsets.diff() >= 0).all(), message)
        return
    if not native.fits(offsets, rows, whole=True):
        raise ValueError(f"{message}; got {offsets[:4].tolist()} ... {offsets[-4:].tolist()}")


def check_form(offsets: Tensor, side: str) -> None:
    """That offsets are (B + 1,) int64."""
    if offsets.dtype != torch.int64 or offsets.ndim != 1 or len(offsets) == 0:
        raise ValueError(
            f"{side} offsets must be (B + 1,) int64, got {offsets.dtype} {tuple(offsets.shape)}"
        )


def owners(offsets: Tensor, rows: int) -> Tensor:
    """The sequence of each of ``rows`` tokens: (sum L,) int32."""
    places = torch.arange(rows, device=offsets.device)
    return torch.searchsorted(offsets, places, right=True, out_int32=True) - 1

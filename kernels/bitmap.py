"""Which rows of a database may be returned, one bit a row.

A bitmap is (ceil(N / 8),) uint8, or (Q, ceil(N / 8)) with a row a query: row i of the database is
bit ``i % 8``, counted from the least significant, of byte ``i // 8``. Bits past N are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack(mask: Tensor) -> Tensor:
    """A bool mask (..., N) as a bitmap (..., ceil(N / 8)) uint8.

    Example:
        >>> pack(torch.tensor([True, False, True]))
        tensor([5], dtype=torch.uint8)
    """
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, -mask.shape[-1] % 8))
    octets = padded.view(*padded.shape[:-1], padded.shape[-1] // 8, 8)
    weights = torch.ones(8, dtype=torch.uint8, device=mask.device) << _places(mask.device)
    return (octets * weights).sum(-1, dtype=torch.uint8)


def unpack(bitmap: Tensor, rows: int) -> Tensor:
    """A bitmap (..., ceil(N / 8)) uint8 as a bool mask (..., N).

    Args:
        rows: N.
    """
    bits = (bitmap.unsqueeze(-1) >> _places(bitmap.device)) & 1
    return bits.to(torch.bool).flatten(-2)[..., :rows]


def checked(allowed: Tensor | None, *, rows: int, queries: int) -> Tensor | None:
    """``allowed`` as a contiguous bitmap, whether it came as one or as a bool mask.

    Args:
        allowed: (N,) or (Q, N) bool, or a bitmap of either; None allows every row.
        rows, queries: N and Q.

    Raises:
        ValueError: another dtype or shape.
    """
    if allowed is None:
        return None
    width = {torch.bool: rows, torch.uint8: -(-rows // 8)}.get(allowed.dtype)
    if width is None or tuple(allowed.shape) not in {(width,), (queries, width)}:
        raise ValueError(
            f"allowed must be a bool mask ({rows},) or ({queries}, {rows}), or a uint8 bitmap of "
            f"{-(-rows // 8)} bytes a row, got {allowed.dtype} {tuple(allowed.shape)}"
        )
    return pack(allowed) if allowed.dtype == torch.bool else allowed.contiguous()


def _places(device: torch.device) -> Tensor:
    """0 to 7, made on the device: numbers of Python's would wait for it."""
    return torch.arange(8, dtype=torch.uint8, device=device)

"""A database in fewer bytes, for ``similarity.topk``. Importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maxsight.kernels import int8

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Rounded:
    """A database in one or two bytes a number, and the vectors that its shortlist is scored with.

    A search finds the best ``shortlist * k`` rows of the codes, exactly, and scores these with the
    vectors: scores are exact, but a row that rounding put outside the shortlist is missed. It reads
    half or a quarter of float32's bytes, which is what one query at a time takes.

    Attributes:
        codes: (N, D) int8, float16 or bfloat16.
        vectors: (N, D) floating point tensor; it may be memory-mapped.
        scale: (N,) float32, what a row of codes is multiplied by; None: 1.
        shortlist: rows scored with the vectors for each row asked for, at least 1.
    """

    codes: Tensor
    vectors: Tensor
    scale: Tensor | None = None
    shortlist: int = 4

    @staticmethod
    def of(vectors: Tensor, dtype: torch.dtype | None = None, *, shortlist: int = 4) -> Rounded:
        """Round vectors (N, D) to ``dtype``; None: to int8, on a scale a row.

        Example:
            >>> Rounded.of(torch.tensor([[1.0, -0.5]])).codes
            tensor([[127, -64]], dtype=torch.int8)
        """
        import torch

        codes = _empty(vectors.shape, dtype or torch.int8, vectors.device)
        if codes.dtype != torch.int8:
            return Rounded(codes.copy_(vectors), vectors, shortlist=shortlist)
        scale = torch.empty(len(vectors), device=vectors.device)
        int8.round_into(vectors, codes, scale)
        return Rounded(codes, vectors, scale, shortlist)


def _empty(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory to be read from end to end many times."""
    import torch

    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    # NumPy asks Linux for huge pages, torch does not: rows are read up to a quarter faster.
    memory = torch.from_numpy(np.empty((shape.numel() + 1) * dtype.itemsize, dtype=np.uint8))
    return memory.view(dtype)[:-1].view(shape)

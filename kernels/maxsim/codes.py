"""How tokens are stored in fewer bytes: int8 with a scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels.chunks import CACHE_BYTES, chunks


@dataclass(frozen=True)
class Int8Tokens:
    """Tokens as int8, each with a scale: ``token = values * scale``.

    Given for both queries and documents, their product is exact in integers, and as fast as the
    machine's int8 product. d + 4 bytes a token.

    Attributes:
        values: (T, d) int8.
        scale: (T,) float32.
    """

    values: Tensor
    scale: Tensor

    @staticmethod
    def of(tokens: Tensor) -> Int8Tokens:
        """Tokens (T, d) rounded to 255 levels, the largest component of each token at +-127.

        Example:
            >>> Int8Tokens.of(torch.tensor([[0.5, -1.27]])).values.tolist()
            [[50, -127]]
        """
        values = tokens.new_empty(tokens.shape, dtype=torch.int8)
        scale = tokens.new_empty(len(tokens), dtype=torch.float32)
        for rows in chunks(len(tokens), tokens.shape[1], limit=CACHE_BYTES):
            part = tokens[rows].to(torch.float32)
            step = int8_step(part)
            values[rows] = (part / step.where(step > 0, 1)[:, None]).round()
            scale[rows] = step
        return Int8Tokens(values, scale)


Tokens = Tensor | Int8Tokens


def storage(tokens: Tokens) -> Tensor:
    """The tensor that has a row a token."""
    return tokens if isinstance(tokens, Tensor) else tokens.values


def dimensions(tokens: Tokens) -> int:
    """d."""
    return storage(tokens).shape[1]


def sum_dtype(queries: Tokens, documents: Tokens) -> torch.dtype:
    """In which sums are made and scores returned: float64 if either side is, else float32."""
    given = {side.dtype for side in (queries, documents) if isinstance(side, Tensor)}
    return torch.float64 if torch.float64 in given else torch.float32


def decode(tokens: Tokens, rows: Tensor | slice, dtype: torch.dtype) -> Tensor:
    """Some tokens as numbers.

    Args:
        rows: which, as indices or as a slice.
        dtype: of the result.
    """
    if isinstance(tokens, Tensor):
        return tokens[rows].to(dtype)
    return tokens.values[rows].to(dtype) * tokens.scale[rows].to(dtype)[:, None]


def inverse_norm(tokens: Tensor) -> Tensor:
    """1 / length of each row (T,), as ``torch.nn.functional.normalize`` divides."""
    norm: Tensor = torch.linalg.vector_norm(tokens, dim=1)
    return norm.clamp_min(1e-12).reciprocal()


def int8_step(tokens: Tensor) -> Tensor:
    """The int8 scale (T,) of float32 tokens (T, d)."""
    if tokens.shape[1] == 0:
        return tokens.new_zeros(len(tokens))
    return tokens.abs().amax(1) / 127

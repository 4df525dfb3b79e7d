"""Tokens of any storage as numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.coded_tokens import CodedTokens
from maxsight.kernels.maxsim.values import Int8Tokens, Side

Documents = Tensor | Int8Tokens | CodedTokens


def sum_dtype(queries: Side, documents: Side) -> torch.dtype:
    """In which sums are made and scores returned: float64 if either side is, else float32."""
    sides = (queries.tokens, documents.tokens)
    given = {tokens.dtype for tokens in sides if isinstance(tokens, Tensor)}
    return torch.float64 if torch.float64 in given else torch.float32


def decode(tokens: Documents, rows: Tensor | slice, dtype: torch.dtype) -> Tensor:
    """Some tokens as numbers.

    Args:
        rows: which, as indices or as a slice.
        dtype: of the result.
    """
    if isinstance(tokens, Tensor):
        return tokens[rows].to(dtype)
    if isinstance(tokens, CodedTokens):
        chosen = rows if isinstance(rows, slice) else rows.numpy()
        return torch.from_numpy(tokens.decoded(chosen)).to(dtype)
    return tokens.values[rows].to(dtype) * tokens.scale[rows].to(dtype)[:, None]


def inverse_norm(tokens: Tensor) -> Tensor:
    """1 / length of each row (T,), as ``torch.nn.functional.normalize`` divides."""
    norm: Tensor = torch.linalg.vector_norm(tokens, dim=1)
    return norm.clamp_min(1e-12).reciprocal()

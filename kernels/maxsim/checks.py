"""What is asked of MaxSim's arguments before a room sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.errors import BackendError
from maxsight.kernels.coded_tokens import CodedTokens
from maxsight.kernels.maxsim.codes import Documents
from maxsight.kernels.maxsim.offsets import check_form
from maxsight.kernels.maxsim.values import Int8Tokens, Packing, Side

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_finite(queries: list[Tensor]) -> None:
    """That query tokens and weights are numbers, on the CPU, where asking costs next to nothing."""
    if any(tensor.is_cpu and not bool(tensor.isfinite().all()) for tensor in queries):
        raise ValueError("query tokens and their weights must be finite")


def side_of(
    tokens: Documents, offsets: Tensor | Packing | None, weight: Tensor | None, side: str
) -> Side:
    """One side of an interaction, whose dtypes and shapes fit together.

    Args:
        offsets: None: those of ``CodedTokens``.
        side: ``query`` or ``document``, for messages.

    Raises:
        ValueError: they do not fit.
        BackendError: codes beside tensors that are not on the CPU.
    """
    owner: Tensor | None = None
    if isinstance(offsets, Packing):
        owner, offsets = offsets.owner, offsets.offsets
    if isinstance(tokens, CodedTokens) and offsets is None:
        offsets = torch.from_numpy(tokens.offsets)
    if offsets is None:
        raise ValueError(f"{side} offsets are needed: (B + 1,) int64")
    if isinstance(tokens, CodedTokens) and offsets.device.type != "cpu":
        raise BackendError(
            "CodedTokens are read on the CPU alone; the Triton room does not read them yet: move "
            "the queries to the CPU, or give the documents as tokens (`CodedTokens.decoded`)"
        )
    if isinstance(tokens, Tensor) and (tokens.dtype not in _FLOATS or tokens.ndim != 2):
        raise ValueError(
            f"{side} tokens must be (sum L, d) float32, float16 or bfloat16, or coded, got "
            f"{tokens.dtype} {tuple(tokens.shape)}"
        )
    if isinstance(tokens, Int8Tokens):
        values, scale = tokens.values, tokens.scale
        if (
            values.dtype != torch.int8
            or values.ndim != 2
            or scale.dtype != torch.float32
            or scale.shape != values.shape[:1]
        ):
            raise ValueError(
                f"Int8Tokens must be (T, d) int8 with a (T,) float32 scale, got {values.dtype} "
                f"{tuple(values.shape)} with {scale.dtype} {tuple(scale.shape)}"
            )
    check_form(offsets, side)
    made = Side(tokens, offsets, weight, owner)
    if owner is not None and len(owner) != made.rows:
        raise ValueError(f"the {side} packing is of {len(owner)} tokens, got {made.rows} of them")
    if weight is not None and (
        tuple(weight.shape) != (made.rows,) or not weight.dtype.is_floating_point
    ):
        raise ValueError(
            f"{side} weights must be ({made.rows},) floating point, one a token, got "
            f"{weight.dtype} {tuple(weight.shape)}"
        )
    return made

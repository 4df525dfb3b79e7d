"""In what precision an encoder computes, sums and hands on: one policy for all of them.

Networks run in :func:`arithmetic`'s dtype. Whatever decides a score is summed in float32: norms,
sizes of merged tokens, and every product inside the kernels. Results leave as float32 and are
stored as float16, whose rounding moves a unit vector by less than 1e-6 of cosine.

Against float32 a network gives vectors and tokens of a cosine of at least 0.999 in float16 and of
at least 0.99 in bfloat16 (tests/models/test_precision.py). They may share a library, so a
fingerprint leaves the dtype out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def arithmetic(device: torch.device, *, fits_float16: bool) -> torch.dtype:
    """The dtype of a network's weights and states.

    Args:
        device: where it computes.
        fits_float16: whether its activations are known to stay below 65,504.

    Returns:
        float32 on the CPU; on CUDA float16, or bfloat16 where activations may not fit.
    """
    if device.type == "cpu":
        return torch.float32
    return torch.float16 if fits_float16 else torch.bfloat16


def unit(states: Tensor) -> Tensor:
    """Rows of norm one in float32, whatever they were computed in; rows of zeros stay zero."""
    return normalize(states.float(), dim=-1)

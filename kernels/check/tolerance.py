"""How near a result must be to the truth, by the coarsest dtype that it was rounded to on its way.

Sums are float32 in every room: a score of two bfloat16 sides, held against the truth of the same
rounded numbers, is a float32 result; a gradient that is returned in bfloat16 is a bfloat16 one.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Largest error as a part of the truth's largest magnitude.
TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}


def assert_close(name: str, actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """That ``actual`` is ``expected`` within the tolerance of ``dtype``.

    Infinities must be in the same places.

    Args:
        name: of the tensor, for the message.
        dtype: the coarsest that the result was rounded to.
    """
    assert actual.shape == expected.shape, (
        f"{name}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
    )
    left, right = actual.detach().double().cpu(), expected.detach().double().cpu()
    if right.numel() == 0:
        return
    finite = right.isfinite()
    assert torch.equal(left[~finite], right[~finite]), f"{name}: infinite elsewhere"
    scale = float(right[finite].abs().max()) if finite.any() else 0.0
    error = (left - right)[finite].abs()
    allowed = TOLERANCE[dtype] * max(scale, 1e-6)
    worst = float(error.max()) if error.numel() else 0.0
    assert worst <= allowed, (
        f"{name}: error {worst:.3g} where {allowed:.3g} is allowed ({dtype}, values up to "
        f"{scale:.3g})"
    )

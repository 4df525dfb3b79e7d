"""The Triton kernel that averages what merged."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def average_kernel(
    tokens,
    sizes,
    order,
    starts,
    means,
    totals,
    outputs,
    channels,
    chunks,
    WEIGHTED: tl.constexpr,
    WIDE: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """A block of outputs and channels: gathers and sums in the order of the inputs, no atomics."""
    chunk = tl.program_id(0) % chunks
    o = (tl.program_id(0) // chunks).to(tl.int64) * OUTPUTS + tl.arange(0, OUTPUTS)
    c = chunk * CHANNELS + tl.arange(0, CHANNELS)
    real = o < outputs
    first = tl.load(starts + o, mask=real, other=0)
    count = tl.load(starts + o + 1, mask=real, other=0) - first
    most = tl.max(count, 0)
    total = tl.zeros((OUTPUTS,), WIDE)
    for k in range(most):
        member = tl.load(order + first + k, mask=k < count, other=0)
        total += tl.load(sizes + member, mask=k < count, other=0).to(WIDE)
    sums = tl.zeros((OUTPUTS, CHANNELS), WIDE)
    for k in range(most):
        member = tl.load(order + first + k, mask=k < count, other=0)
        rows = tl.load(
            tokens + member[:, None] * channels + c[None, :],
            mask=(k < count)[:, None] & (c < channels)[None, :],
            other=0,
        )
        share = 1.0 / tl.maximum(count, 1).to(WIDE)
        if WEIGHTED:
            size = tl.load(sizes + member, mask=k < count, other=0).to(WIDE)
            share = tl.where(total > 0, size / tl.where(total > 0, total, 1), share)
        # One member's share is exactly one: a token alone keeps its bits.
        share = tl.where(count == 1, 1.0, share)
        sums += tl.where((k < count)[:, None], share[:, None] * rows.to(WIDE), 0)
    inside = real[:, None] & (c < channels)[None, :]
    tl.store(
        means + o[:, None] * channels + c[None, :],
        sums.to(means.dtype.element_ty),
        mask=inside,
    )
    tl.store(totals + o, total.to(totals.dtype.element_ty), mask=real & (chunk == 0))

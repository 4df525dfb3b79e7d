"""bfloat16 in the interpreter, against torch. Collected by test_interpreter.py, in its process."""

# ruff: noqa: N803 - constants of a Triton kernel are written in capitals

from __future__ import annotations

import math

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 16, 32


@triton.jit
def _arithmetic(a, b, out, N: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, N)
    x, y = tl.load(a + i), tl.load(b + i)
    tl.store(out + i, x + y * x)
    tl.store(out + N + i, tl.where(x > 0, x, -x))
    tl.store(out + 2 * N + i, tl.maximum(x, y))
    tl.store(out + 3 * N + i, x / y)
    tl.store(out + 4 * N + i, tl.abs(x))
    tl.store(out + 5 * N + i, tl.fma(x, y, x))


@triton.jit
def _reductions(a, out, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    m, n = tl.arange(0, M), tl.arange(0, N)
    x = tl.load(a + m[:, None] * N + n[None, :])
    best, where = tl.max(x, axis=1, return_indices=True)
    tl.store(out + m, best)
    tl.store(out + M + m, where)
    tl.store(out + 2 * M + m, tl.min(x, axis=1))
    tl.store(out + 3 * M + m, tl.sum(x.to(tl.float32), axis=1))
    tl.store(out + 4 * M + m, tl.sum(tl.cumsum(x.to(tl.float32), axis=1), axis=1))


@triton.jit
def _product(a, b, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):  # type: ignore[no-untyped-def]
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x, y = tl.load(a + m[:, None] * K + k[None, :]), tl.load(b + k[:, None] * N + n[None, :])
    tl.store(out + m[:, None] * N + n[None, :], tl.dot(x, y))


@triton.jit
def _masked(a, out, count, N: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, N)
    x = tl.load(a + i, mask=i < count, other=float("-inf"))
    tl.store(out + i, x, mask=i % 2 == 0)


@triton.jit
def _to_bfloat16(a, out, N: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(a + i).to(tl.bfloat16))


@triton.jit
def _from_integers(a, out, bits, N: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, N)
    x = tl.load(a + i).to(tl.bfloat16)
    tl.store(out + i, x.to(tl.int8))
    tl.store(bits + i, x.to(tl.int16, bitcast=True))


@triton.jit
def _sorted(a, out, N: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, N)
    tl.store(out + i, tl.sort(tl.load(a + i)))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).bfloat16()


def test_arithmetic_rounds_after_every_step() -> None:
    x, y = numbers(64), numbers(64, seed=1)
    out = torch.empty(6, 64, dtype=torch.bfloat16)
    _arithmetic[(1,)](x, y, out, 64)
    torch.testing.assert_close(out[0], x + y * x, rtol=0, atol=0)
    torch.testing.assert_close(out[1], x.abs(), rtol=0, atol=0)
    torch.testing.assert_close(out[2], x.maximum(y), rtol=0, atol=0)
    torch.testing.assert_close(out[3], x / y, rtol=0, atol=0)
    torch.testing.assert_close(out[4], x.abs(), rtol=0, atol=0)
    torch.testing.assert_close(out[5], x * y + x, rtol=2e-2, atol=1e-2)


def test_reductions_see_the_sign() -> None:
    x = -numbers(ROWS, COLUMNS).abs() - 0.5
    out = torch.empty(5, ROWS)
    _reductions[(1,)](x, out, ROWS, COLUMNS)
    assert torch.equal(out[0], x.float().amax(1))
    picked = x.gather(1, out[1].long()[:, None])[:, 0]
    assert torch.equal(picked, x.amax(1))
    assert torch.equal(out[2], x.float().amin(1))
    torch.testing.assert_close(out[3], x.float().sum(1))
    torch.testing.assert_close(out[4], x.float().cumsum(1).sum(1))


def test_products_accumulate_in_float32() -> None:
    x, y = numbers(ROWS, 64), numbers(64, COLUMNS, seed=1)
    out = torch.empty(ROWS, COLUMNS)
    _product[(1,)](x, y, out, ROWS, COLUMNS, 64)
    torch.testing.assert_close(out, x.float() @ y.float())


def test_masks_hide_what_is_read_and_written() -> None:
    x = numbers(32)
    out = torch.full((32,), 7.0, dtype=torch.bfloat16)
    _masked[(1,)](x, out, 20, 32)
    assert torch.equal(out[1::2], torch.full((16,), 7.0).bfloat16())
    assert torch.equal(out[0:20:2], x[0:20:2])
    assert out[20::2].eq(-math.inf).all()


def test_float32_is_rounded_to_nearest_even() -> None:
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 3
    x[:6] = torch.tensor([math.inf, -math.inf, math.nan, 3.4e38, -3.4e38, 1.00390625])
    x[6:8] = torch.tensor([1e-40, -0.0])
    out = torch.empty(4096, dtype=torch.bfloat16)
    _to_bfloat16[(1,)](x, out, 4096)
    torch.testing.assert_close(out, x.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_integers_and_bits() -> None:
    x = torch.arange(-64, 64, dtype=torch.int8)
    out, bits = torch.empty(128, dtype=torch.int8), torch.empty(128, dtype=torch.int16)
    _from_integers[(1,)](x, out, bits, 128)
    assert torch.equal(out, x)
    assert torch.equal(bits, x.bfloat16().view(torch.int16))


def test_sort() -> None:
    x, out = numbers(64), torch.empty(64, dtype=torch.bfloat16)
    _sorted[(1,)](x, out, 64)
    assert torch.equal(out, x.sort().values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_types_are_left_alone(dtype: torch.dtype) -> None:
    x, y = numbers(ROWS, 64).to(dtype), numbers(64, COLUMNS, seed=1).to(dtype)
    out = torch.empty(ROWS, COLUMNS)
    _product[(1,)](x, y, out, ROWS, COLUMNS, 64)
    torch.testing.assert_close(out, x.float() @ y.float(), rtol=1e-3, atol=1e-3)


def test_fresh_memory_is_poisoned() -> None:
    assert torch.empty(1000).isnan().all()

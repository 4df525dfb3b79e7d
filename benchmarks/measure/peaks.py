"""What this processor multiplies at most, measured: the limit that kernels are held to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from maxsight.benchmarks.measure.interleave import processor_stopwatch

_SIDE = 2048
_ROUNDS = 7


@cache
def gemm_peak(dtype: torch.dtype) -> float:
    """Operations a second of one core in a square matrix product of torch, the best of seven.

    Args:
        dtype: float32, bfloat16 or int8 (which sums in int32).
    """
    with threads(1):
        a = torch.randint(-100, 100, (_SIDE, _SIDE)).to(dtype)
        b = a.T.contiguous()
        product = torch._int_mm if dtype == torch.int8 else torch.mm
        seconds = [processor_stopwatch(lambda _: product(a, b))(0) for _ in range(_ROUNDS)]
    return 2.0 * _SIDE**3 / min(seconds)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Have torch and FAISS use that many threads for a while."""
    import faiss

    before, before_faiss = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        faiss.omp_set_num_threads(before_faiss)

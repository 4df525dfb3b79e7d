"""Rounding at random, and what bounds the error that it makes in sums of maxima."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import Dithering, Spectra
from maxsight.kernels.native.tensors import (
    KINDS,
    THREAD_ROWS,
    check,
    check_offsets,
    pointer,
    rows_of,
)


def dither(
    rows: Tensor, seed: int, *, scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows as int8, each number rounded up with the probability that makes the mean right.

    Every number is drawn independently of every other; the same seed draws the same again.

    Args:
        rows: (N, d) float32, float16, bfloat16 or int8, on the CPU.
        scale: (N,) float32, what a row is multiplied by first; None: 1.

    Returns:
        ``(values, step, norm)``: (N, d) int8; (N,) float32, the largest magnitude of a row / 127,
        by which its values are multiplied; (N,) float32, the norm of the rounded row.

    Raises:
        BackendError: the library is not there.
        ValueError: dtypes or shapes that do not fit.
    """
    check_rows(rows, scale)
    kept = [rows := rows.contiguous()]
    values = torch.empty(rows.shape, dtype=torch.int8)
    step, norm = torch.empty(rows.shape[0]), torch.empty(rows.shape[0])
    given = rows_of(rows, KINDS[rows.dtype], rows.shape[1], None, scale, kept)
    threads = max(1, min(torch.get_num_threads(), rows.shape[0] // THREAD_ROWS))
    edges = [rows.shape[0] * place // threads for place in range(threads + 1)]
    tasks = [
        Dithering(
            rows=given,
            first=first,
            last=last,
            seed=seed,
            values=values.data_ptr(),
            step=step.data_ptr(),
            norm=norm.data_ptr(),
        )
        for first, last in itertools.pairwise(edges)
    ]
    binding.run(binding.library().maxsight_dither, tasks)
    return values, step, norm


def gram_bound(rows: Tensor, offsets: Tensor, *, scale: Tensor | None = None) -> Tensor:
    """A bound on the largest eigenvalue of the Gram matrix of each group of rows.

    It is the largest square of a norm that a sum of the rows reaches whose factors have squares
    that add up to 1. Memory: three matrices of min(d, longest group) squared.

    Args:
        rows, scale: as in :func:`dither`.
        offsets: (B + 1,) int64; group b has the rows ``offsets[b]:offsets[b + 1]``.

    Returns:
        (B,) float32, at most some 10 % too large.

    Raises:
        BackendError, ValueError: as :func:`dither`.
    """
    check_rows(rows, scale)
    check_offsets("offsets", offsets, rows.shape[0])
    kept = [rows := rows.contiguous()]
    bound = torch.empty(offsets.shape[0] - 1)
    task = Spectra(
        rows=rows_of(rows, KINDS[rows.dtype], rows.shape[1], None, scale, kept),
        offsets=pointer(offsets, kept),
        groups=len(bound),
        bound=bound.data_ptr(),
    )
    binding.run(binding.library().maxsight_bound, [task])
    return bound


def check_rows(rows: Tensor, scale: Tensor | None) -> None:
    if rows.dtype not in KINDS or rows.ndim != 2:
        raise ValueError(
            f"rows must be (N, d) float32, float16, bfloat16 or int8, got {rows.dtype} "
            f"{tuple(rows.shape)}"
        )
    check("rows", rows, rows.dtype, tuple(rows.shape))
    if scale is not None:
        check("scale", scale, torch.float32, (rows.shape[0],))

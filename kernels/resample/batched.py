"""The same resampling as matrix products, for pictures on any device."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from maxsight.kernels.resample.weights import ONE, Filter, Weights, goes_down_first, weights


def resize(
    pixels: Tensor,
    width: int,
    height: int,
    filter_: Filter,
    *,
    window: tuple[int, int, int, int] | None = None,
) -> Tensor:
    """Scale pictures of one size.

    Two matrix products in float32, rounded to bytes after each, as ``maxsight.kernels.resample``
    rounds: a sum that lies within float32's error of a half may come out one grey level apart.

    Memory beside the result: ``12 * B * (H * W + the pixels between the passes)`` bytes.

    Args:
        pixels: (B, H, W, 3) uint8.
        width, height, filter_, window: as ``maxsight.kernels.resample.resize`` takes them.

    Returns:
        (B, height, width, 3) uint8, or the window of it, on the device of ``pixels``.

    Raises:
        ValueError: not 8-bit colour, an empty picture.

    Example:
        >>> resize(torch.full((2, 40, 60, 3), 7, dtype=torch.uint8), 6, 4, "bicubic").shape
        torch.Size([2, 4, 6, 3])
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ValueError(
            f"pixels must be uint8 (B, H, W, 3), got {pixels.dtype} {tuple(pixels.shape)}"
        )
    if 0 in pixels.shape[1:3]:
        raise ValueError("a picture without pixels cannot be scaled")
    left, top, right, bottom = window or (0, 0, width, height)
    across = _matrix(pixels.shape[2], width, filter_, left, right, pixels.device)
    down = _matrix(pixels.shape[1], height, filter_, top, bottom, pixels.device)
    planes = pixels.permute(0, 3, 1, 2).float()
    if goes_down_first(pixels.shape[2], pixels.shape[1], width, height):
        scaled = _byte(_byte(down @ planes) @ across.T)
    else:
        scaled = _byte(down @ _byte(planes @ across.T))
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _byte(sums: Tensor) -> Tensor:
    """The next whole number, halves upwards, within a byte; in place."""
    return sums.add_(0.5).floor_().clamp_(0, 255)


@lru_cache(maxsize=128)
def _matrix(
    inputs: int, outputs: int, filter_: Filter, first: int, last: int, device: torch.device
) -> Tensor:
    """(last - first, inputs) float32."""
    return torch.from_numpy(_dense(weights(inputs, outputs, filter_, first, last), inputs)).to(
        device
    )


def _dense(sparse: Weights, inputs: int) -> np.ndarray:
    count, taps = sparse.weights.shape
    matrix = np.zeros((count, inputs + taps), np.float32)
    columns = sparse.starts[:, None] + np.arange(taps)
    np.put_along_axis(matrix, columns, (sparse.weights / ONE).astype(np.float32), axis=1)
    return matrix[:, :inputs]

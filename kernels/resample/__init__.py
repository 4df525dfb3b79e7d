"""Pillow's resampling of colour pictures, bit for bit: compiled on a CPU, batched on a device.

Encoders were trained and measured on pictures that Pillow had resampled, so its result is the
right one, rounding to bytes between the two passes and their order (that of Pillow 13) included.
Decoder processes use this package: it does not import torch.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import numpy as np

from maxsight.kernels.resample.weights import Filter, Weights, goes_down_first, weights

__all__ = ["available", "resize"]

Window = tuple[int, int, int, int]


def resize(
    pixels: np.ndarray, width: int, height: int, filter_: Filter, *, window: Window | None = None
) -> np.ndarray:
    """Scale a picture.

    Memory beside the result: ``3 * window_width * picture_height`` bytes, or ``4 * picture_width *
    window_height`` where rows are scaled first.

    Args:
        pixels: (H, W, 3) uint8; or (H, W, 4), of which the fourth is ignored. Rows may lie apart.
        width, height: of the whole picture afterwards.
        filter_: ``bicubic`` or ``bilinear``, stretched by the factor of reduction.
        window: (left, top, right, bottom) of the result; only that part is computed.

    Returns:
        (height, width, 3) uint8, or the window of it: what ``PIL.Image.resize`` gives, bit for bit.

    Raises:
        ValueError: not 8-bit colour, an empty picture, a window outside the result.

    Example:
        >>> resize(np.full((40, 60, 3), 7, np.uint8), 6, 4, "bicubic").shape
        (4, 6, 3)
    """
    left, top, right, bottom = window or (0, 0, width, height)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(
            f"pixels must be uint8 (H, W, 3) or (H, W, 4), got {pixels.dtype} {pixels.shape}"
        )
    if not pixels.size:
        raise ValueError("a picture without pixels cannot be scaled")
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"the window {left}, {top}, {right}, {bottom} must hold a pixel and lie in "
            f"{width} x {height}"
        )
    library = _library()
    if library is None:
        return _by_pillow(pixels, width, height, filter_, (left, top, right, bottom))
    if pixels.strides[1:] != (pixels.shape[2], 1):
        pixels = np.ascontiguousarray(pixels)
    out = np.empty((bottom - top, right - left, 3), np.uint8)
    across = weights(pixels.shape[1], width, filter_, left, right)
    down = weights(pixels.shape[0], height, filter_, top, bottom)
    picture = _Picture(
        pixels.ctypes.data, pixels.shape[2], pixels.strides[0], pixels.shape[1], pixels.shape[0]
    )
    down_first = goes_down_first(pixels.shape[1], pixels.shape[0], width, height)
    if library.maxsight_resample(
        ctypes.byref(picture), _direction(across), _direction(down), down_first, out.ctypes.data
    ):
        raise MemoryError(f"no memory to scale a picture to {width} x {height} pixels")
    return out


def available() -> bool:
    """Whether the compiled code is installed; without it Pillow computes, the same numbers."""
    return _library() is not None


class _Picture(ctypes.Structure):
    _fields_ = (
        ("pixels", ctypes.c_void_p),
        ("pixel_bytes", ctypes.c_int64),
        ("row_bytes", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("height", ctypes.c_int64),
    )


class _Direction(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("taps", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    )


def _direction(of: Weights) -> object:
    return ctypes.byref(
        _Direction(
            of.weights.ctypes.data,
            of.starts.ctypes.data,
            of.counts.ctypes.data,
            of.weights.shape[1],
            len(of.weights),
        )
    )


@cache
def _library() -> ctypes.CDLL | None:
    found = sorted(Path(__file__).parent.glob("_resample*.so"))
    if not found:
        return None
    library = ctypes.CDLL(os.fspath(found[0]))
    library.maxsight_resample.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_int, ctypes.c_void_p]
    library.maxsight_resample.restype = ctypes.c_int
    return library


def _by_pillow(
    pixels: np.ndarray, width: int, height: int, filter_: Filter, window: Window
) -> np.ndarray:
    from PIL import Image

    resampling = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return np.asarray(picture.resize((width, height), resampling[filter_]).crop(window))

"""From a decoded picture to the pixels an encoder reads.

The geometry runs in decoder processes, which must start fast, so nothing here imports torch at
module level. ``resize`` gives what Pillow's resampling gives, in a fraction of its time;
``resize_batch`` does it on the encoder's device; ``normalize`` is the arithmetic that is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from maxsight.kernels import resample
from maxsight.kernels.resample.weights import Filter
from maxsight.models.pixels import pillow_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Larger pictures are scaled before they are sent to a device, which they would fill.
_MOST_DEVICE_PIXELS = 1 << 24
# Of a picture that is more than this many times as long as wide the middle is taken: a resize would
# scale what it throws away, 60,000 x 1 pixels to 13 million x 224.
_LONGEST_STRIP = 8


@dataclass(frozen=True)
class Preprocess:
    """How an encoder wants its pictures.

    Attributes:
        size: side of the square the encoder reads, in pixels.
        resize_mode: ``shortest`` scales the short side to ``size`` and crops the centre (CLIP);
            ``longest`` scales the long side and pads with ``fill``; ``squash`` ignores the aspect
            ratio (SigLIP); ``fit`` keeps the picture's own shape and scales it down, never up, to
            as many pixels as the square has, for an encoder that does the rest itself. What is
            wider than eight times its height, or the reverse, is cut to the middle.
        interpolation: resampling filter.
        mean, std: per channel, of values in [0, 1].
        fill: RGB colour of padding.
    """

    size: int
    resize_mode: Literal["shortest", "longest", "squash", "fit"] = "shortest"
    interpolation: Filter = "bicubic"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    fill: tuple[int, int, int] = (255, 255, 255)

    def gives(self, width: int, height: int) -> bool:
        """Whether ``resize`` can make pixels of that shape."""
        if self.resize_mode != "fit":
            return width == height == self.size
        # Rounding adds half a pixel a side, and to a strip of one pixel as much as its width.
        short, long = sorted((width, height))
        fits = (short - 0.5) * (long - 0.5) <= self.size**2
        return short > 0 and fits and long <= 2 * _LONGEST_STRIP * short


def strip(width: int, height: int) -> tuple[int, int]:
    """Width and height of what is taken of a picture: all, or of a long one the middle."""
    return min(width, _LONGEST_STRIP * height), min(height, _LONGEST_STRIP * width)


def resize(
    image: Image.Image,
    preprocess: Preprocess,
    *,
    full: tuple[int, int] | None = None,
    recolour: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Scale and crop or pad an RGB picture.

    Args:
        image: mode RGB, upright.
        preprocess: the encoder's wishes.
        full: width and height of the picture that ``image`` was reduced from, which decide where
            its edges come to lie; None: its own.
        recolour: what is done to the scaled pixels, (H, W, 3) uint8, before padding.

    Returns:
        (size, size, 3) uint8; in the mode ``fit`` (height, width, 3).
    """
    plan = _Plan.of(preprocess, *(full or image.size))
    if image.size == (plan.width, plan.height):
        scaled = np.asarray(image if plan.window is None else image.crop(plan.window))
    else:
        scaled = resample.resize(
            pillow_memory.pixels(image),
            plan.width,
            plan.height,
            preprocess.interpolation,
            window=plan.window,
        )
    if recolour is not None:
        scaled = recolour(scaled)
    if preprocess.resize_mode != "longest":
        return scaled
    square = np.empty((preprocess.size, preprocess.size, 3), np.uint8)
    square[:] = preprocess.fill
    square[plan.rows, plan.columns] = scaled
    return square


def resize_batch(
    images: Sequence[Image.Image], preprocess: Preprocess, *, device: torch.device
) -> Tensor:
    """Scale and crop or pad pictures on the device that will encode them.

    On a CPU the same numbers as ``resize``; elsewhere at most one grey level from them.

    Args:
        images: B pictures of any size and mode, upright.
        preprocess: the encoder's wishes.

    Returns:
        (B, size, size, 3) uint8 on ``device``.
    """
    import torch

    squares = torch.empty(
        (len(images), preprocess.size, preprocess.size, 3), dtype=torch.uint8, device=device
    )
    for square, image in zip(squares, images):
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        if device.type == "cpu" or rgb.width * rgb.height > _MOST_DEVICE_PIXELS:
            square.copy_(torch.from_numpy(np.require(resize(rgb, preprocess), requirements="W")))
        else:
            square.copy_(resize_by_products(rgb, preprocess, device=device))
    return squares


def resize_by_products(
    image: Image.Image, preprocess: Preprocess, *, device: torch.device
) -> Tensor:
    """``resize`` as matrix products on any device, at most one grey level from it.

    Args:
        image, preprocess: as for ``resize``, which must give a square.

    Returns:
        (size, size, 3) uint8 on ``device``.
    """
    import torch

    from maxsight.kernels.resample import batched

    plan = _Plan.of(preprocess, *image.size)
    pixels = torch.from_numpy(np.array(image)).to(device)[None]
    scaled = batched.resize(
        pixels, plan.width, plan.height, preprocess.interpolation, window=plan.window
    )[0]
    if preprocess.resize_mode != "longest":
        return scaled
    fill = _channels(preprocess.fill, dtype=torch.uint8, device=device)
    square = fill.repeat(preprocess.size, preprocess.size, 1)
    square[plan.rows, plan.columns] = scaled
    return square


def normalize(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Turn pixels into what the network reads.

    Args:
        pixels: (B, size, size, 3) uint8 on any device.
        preprocess: the encoder's wishes.

    Returns:
        (B, 3, size, size) float32, channels last in memory, on the same device.
    """
    import torch

    stretch = [255.0 * s for s in preprocess.std]
    moved = [m / s for m, s in zip(preprocess.mean, preprocess.std)]
    scale = _channels(stretch, dtype=torch.float32, device=pixels.device)
    shift = _channels(moved, dtype=torch.float32, device=pixels.device)
    # (x / 255 - mean) / std in one fused pass; permute keeps the memory channels last.
    return (pixels / scale - shift).permute(0, 3, 1, 2)


def _channels(values: Sequence[float], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as a tensor, written on the device: a copy of Python's would wait for it."""
    import torch

    found = torch.empty(len(values), dtype=dtype, device=device)
    for place, value in enumerate(values):
        found[place].fill_(value)
    return found


@dataclass(frozen=True)
class _Plan:
    """How a picture comes into the square.

    Attributes:
        width, height: of the whole picture once scaled.
        window: the part of it that is kept (left, top, right, bottom); None keeps all.
        rows, columns: where the kept part stands in the square.
    """

    width: int
    height: int
    window: tuple[int, int, int, int] | None
    rows: slice
    columns: slice

    @classmethod
    def of(cls, preprocess: Preprocess, width: int, height: int) -> _Plan:
        size, every = preprocess.size, slice(None)
        if preprocess.resize_mode == "squash":
            return cls(size, size, None, every, every)
        if preprocess.resize_mode == "longest":
            # A quotient, not a product with the inverse: open_clip rounds it, and ties differ.
            ratio = max(width, height) / size
            width, height = max(1, round(width / ratio)), max(1, round(height / ratio))
            left, top = (size - width) // 2, (size - height) // 2
            return cls(width, height, None, slice(top, top + height), slice(left, left + width))
        if preprocess.resize_mode == "fit":
            return cls._fit(size, width, height)
        # The long side is truncated and the crop offset rounded, as torchvision does: open_clip's
        # published figures were measured with that geometry.
        short = min(width, height)
        width, height = size * width // short, size * height // short
        left, top = round((width - size) / 2), round((height - size) / 2)
        return cls(width, height, (left, top, left + size, top + size), every, every)

    @classmethod
    def _fit(cls, size: int, width: int, height: int) -> _Plan:
        kept = strip(width, height)
        scale = min(1.0, size / math.sqrt(kept[0] * kept[1]))
        window = None
        whole = [max(1, round(side * scale)) for side in (width, height)]
        if kept != (width, height):
            part = [max(1, round(side * scale)) for side in kept]
            left, top = (whole[0] - part[0]) // 2, (whole[1] - part[1]) // 2
            window = left, top, left + part[0], top + part[1]
        return cls(whole[0], whole[1], window, slice(None), slice(None))

"""From a decoded picture to the pixels an encoder reads.

The geometry runs in decoder processes, which must start fast, so nothing here imports torch at
module level. ``resize`` is Pillow's own resampling; ``normalize`` is the arithmetic that is
left for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Preprocess:
    """How an encoder wants its pictures.

    Attributes:
        size: side of the square the encoder reads, in pixels.
        resize_mode: ``shortest`` scales the short side to ``size`` and crops the centre (CLIP);
            ``longest`` scales the long side and pads with ``fill``; ``squash`` ignores the aspect
            ratio (SigLIP).
        interpolation: resampling filter.
        mean, std: per channel, of values in [0, 1].
        fill: RGB colour of padding.
    """

    size: int
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    fill: tuple[int, int, int] = (255, 255, 255)


def resize(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """Scale and crop or pad an RGB picture.

    Args:
        image: mode RGB, upright.
        preprocess: the encoder's wishes.

    Returns:
        (size, size, 3) uint8.
    """
    size, filter_ = preprocess.size, _RESAMPLING[preprocess.interpolation]
    width, height = image.size
    if preprocess.resize_mode == "squash":
        return np.asarray(image.resize((size, size), filter_))
    if preprocess.resize_mode == "longest":
        # A quotient, not a product with the inverse: open_clip rounds the quotient, ties differ.
        ratio = max(width, height) / size
        fitted = image.resize(
            (max(1, round(width / ratio)), max(1, round(height / ratio))), filter_
        )
        canvas = Image.new("RGB", (size, size), preprocess.fill)
        canvas.paste(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
        return np.asarray(canvas)
    # The long side is truncated and the crop offset rounded, as torchvision does: open_clip's
    # published figures were measured with that geometry.
    short = min(width, height)
    new_width, new_height = (size * width // short, size * height // short)
    scaled = image.resize((new_width, new_height), filter_)
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))


def normalize(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Turn pixels into what the network reads.

    Args:
        pixels: (B, size, size, 3) uint8 on any device.
        preprocess: the encoder's wishes.

    Returns:
        (B, 3, size, size) float32, channels last in memory, on the same device.
    """
    import torch

    scale = torch.tensor([255.0 * s for s in preprocess.std], device=pixels.device)
    shift = torch.tensor([m / s for m, s in zip(preprocess.mean, preprocess.std)])
    # (x / 255 - mean) / std in one fused pass; permute keeps the memory channels last.
    return (pixels / scale - shift.to(pixels.device)).permute(0, 3, 1, 2)

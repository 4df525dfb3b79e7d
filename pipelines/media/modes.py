"""From whatever mode Pillow decodes to, to RGB on white."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from maxsight.errors import MediaError
from maxsight.pipelines.media import colour, tiff_tags

_WHITE_IS_ZERO = 0  # of a TIFF's photometric interpretations

_SIXTEEN_TO_EIGHT = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)


def converted(image: Image.Image, conversion: colour.Conversion) -> Image.Image:
    """Mode RGB or RGBA, in sRGB."""
    if image.mode in ("CMYK", "LAB"):
        return conversion.convert(_true_ink(image))
    flat = eight_bits(image)
    if flat.mode != "RGBA":
        return conversion.convert(flat if flat.mode == "RGB" else flat.convert("RGB"))
    shown = conversion.convert(flat.convert("RGB"))
    shown.putalpha(flat.getchannel("A"))
    return shown


def _true_ink(image: Image.Image) -> Image.Image:
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, which are stored inverted.
        return ImageChops.invert(image)
    return image


def scale_key(image: Image.Image, data: bytes) -> None:
    """Bring the transparent colour of a PNG to the eight bits a channel that Pillow decodes to.

    Pillow keeps the file's own number, of 2, 4 or 16 bits.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or not isinstance(key, int | tuple):
        return
    depth = data[24]
    if image.mode == "L" and depth in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**depth - 1)
    if image.mode == "RGB" and depth == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def eight_bits(image: Image.Image) -> Image.Image:
    """Mode L, RGB or RGBA, whatever the file's mode."""
    if image.format == "GIF" and _covered(image) != (0, 0, *image.size):
        return _on_open_ground(image)
    if image.mode in ("L", "RGB", "RGBA"):
        return image if "transparency" not in image.info else image.convert("RGBA")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image)
        tags = getattr(image, "tag_v2", {})
        if tags.get(tiff_tags.BITS) == (12,):
            wide = wide * 16 + (wide >> 8)  # Pillow keeps numbers below 4,096
        if tags.get(tiff_tags.PHOTOMETRIC) == _WHITE_IS_ZERO:
            wide = 65535 - wide
        grey = Image.fromarray(_SIXTEEN_TO_EIGHT[wide])
        if "transparency" not in image.info:
            return grey
        grey = grey.convert("RGBA")
        grey.putalpha(Image.fromarray((wide != image.info["transparency"]).astype(np.uint8) * 255))
        return grey
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretched(_numbers(image)))
    image = _true_ink(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    try:
        return image.convert("RGB")
    except ValueError:
        raise MediaError(
            f"its colour mode {image.mode} cannot be shown; convert it to RGB"
        ) from None


def _numbers(image: Image.Image) -> np.ndarray:
    """The numbers of a picture of mode I or F as its file means them, (H, W)."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    is_positive = tags.get(tiff_tags.SAMPLE_FORMAT, (1,)) == (1,)
    if image.mode == "I" and tags.get(tiff_tags.BITS) == (32,) and is_positive:
        values = values.view(np.uint32)  # Pillow takes them for signed ones
    if tags.get(tiff_tags.PHOTOMETRIC) == _WHITE_IS_ZERO and np.isfinite(values).any():
        values = values[np.isfinite(values)].max() - values
    return values


def _covered(image: Image.Image) -> tuple[int, int, int, int]:
    """What the first frame of an animation covers of its canvas: left, top, right, bottom."""
    left, top, right, bottom = getattr(image, "dispose_extent", (0, 0, *image.size))
    return left, top, min(right, image.width), min(bottom, image.height)


def _on_open_ground(image: Image.Image) -> Image.Image:
    """Pillow fills with the first colour of the palette where a browser shows the page."""
    whole = Image.new("RGBA", image.size, (0, 0, 0, 0))
    box = _covered(image)
    whole.paste(image.convert("RGBA").crop(box), box)
    return whole


def _stretched(values: np.ndarray) -> np.ndarray:
    """Numbers without a fixed range as grey levels, (H, W) uint8.

    Whole numbers up to 65,535 and fractions up to 1 keep their usual meaning, numbers up to 255
    stay; anything else is stretched from its least to its greatest finite value.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = float(values[finite].min()), float(values[finite].max())
    whole = np.issubdtype(values.dtype, np.integer)
    if low >= 0:
        low = 0.0
        usual = [65535.0] if whole else [1.0, 255.0]
        high = next((limit for limit in usual if high <= limit), high)
    scale = 255 / (high - low) if high > low else 0.0
    grey = np.where(finite, values, low)
    levels: np.ndarray = np.clip((grey.astype(np.float32) - low) * scale + 0.5, 0, 255)
    return levels.astype(np.uint8)


def on_white(image: Image.Image) -> Image.Image:
    """Mode RGB; transparency lies on white."""
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white

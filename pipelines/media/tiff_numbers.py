"""TIFFs of numbers that Pillow does not know: half, double and wide ones, deep grey with alpha."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from maxsight.pipelines.media import tiff_tags
from maxsight.pipelines.media.tiff_tags import Tags

_WHITE_IS_ZERO, _LAB = 0, 8
_ALPHA_LAID_OUT, _ALPHA = 1, 2
_SIGNED, _FLOATING = 2, 3
_DIFFERENCES, _DIFFERENCES_OF_FLOATS = 2, 3


def read(tags: Tags, pieces: list[bytes]) -> Image.Image:
    """Mode L, LA, RGB, RGBA or LAB.

    Args:
        tags: of samples of 16, 32 or 64 bits, grey, RGB or L*a*b*.
        pieces: its strips or tiles.

    Raises:
        Exception: whatever Pillow and numpy raise of damaged ones.
    """
    samples = tags.value(tiff_tags.SAMPLES, 1)
    if tags.value(tiff_tags.PLANAR, 1) == 1:
        numbers = _numbers(tags, pieces, samples)
    else:
        share = len(pieces) // samples
        planes = [pieces[n * share : (n + 1) * share] for n in range(samples)]
        numbers = np.concatenate([_numbers(tags, plane, 1) for plane in planes], 2)
    photometric = tags.value(tiff_tags.PHOTOMETRIC, 1)
    colours = 1 if photometric in (0, 1) else 3
    shown = numbers[..., :colours]
    if photometric == _LAB:
        top = (shown.view(np.uint16) >> 8).astype(np.uint8)  # a and b keep their signs
        return Image.frombytes("LAB", top.shape[1::-1], top.tobytes())
    levels = _levels(shown, negative=photometric == _WHITE_IS_ZERO)
    extra = tags.value(tiff_tags.EXTRA_SAMPLES, 0)
    if samples == colours or extra not in (_ALPHA_LAID_OUT, _ALPHA):
        return Image.fromarray(levels[..., 0] if colours == 1 else levels)
    alpha = _levels(numbers[..., colours : colours + 1])
    if extra == _ALPHA_LAID_OUT:
        whole = levels * 255.0 / np.maximum(alpha, 1)
        levels = np.minimum(whole + 0.5, 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([levels, alpha], 2))


def _numbers(tags: Tags, pieces: list[bytes], samples: int) -> np.ndarray:
    """(H, W, samples), as the file has them."""
    width, height = tags.value(tiff_tags.WIDTH, 0), tags.value(tiff_tags.HEIGHT, 0)
    size = tags.value(tiff_tags.BITS, 8) // 8
    is_floating = tags.value(tiff_tags.SAMPLE_FORMAT, 1) == _FLOATING
    is_signed = tags.value(tiff_tags.SAMPLE_FORMAT, 1) == _SIGNED
    predictor = tags.value(tiff_tags.PREDICTOR, 1)
    step = tags.value(tiff_tags.TILE_WIDTH, width)
    rows = _bytes(tags, pieces, samples * size)
    numbers = np.empty((height, width, samples), f"=u{size}")
    for left in range(0, width, step):  # differences begin anew in every tile
        part = np.ascontiguousarray(rows[:, left * samples * size : (left + step) * samples * size])
        if predictor == _DIFFERENCES_OF_FLOATS:
            part = np.cumsum(part.reshape(height, -1, samples), 1, dtype=np.uint8)
            planes = part.reshape(height, size, -1).transpose(0, 2, 1)
            values = np.ascontiguousarray(planes).view(f">u{size}")
        else:
            values = part.view(f"{tags.order}u{size}")
        values = values.reshape(height, -1, samples).astype(numbers.dtype)
        if predictor == _DIFFERENCES:
            values = np.cumsum(values, 1, dtype=numbers.dtype)
        numbers[:, left : left + step] = values[:, : width - left]
    return numbers.view(f"=f{size}" if is_floating else f"=i{size}" if is_signed else numbers.dtype)


def _bytes(tags: Tags, pieces: list[bytes], pixel: int) -> np.ndarray:
    """Unpacked by libtiff, which takes them for a grey picture, (H, bytes of whole tiles' rows)."""
    width, height = tags.value(tiff_tags.WIDTH, 0), tags.value(tiff_tags.HEIGHT, 0)
    entries = {
        tiff_tags.HEIGHT: [height],
        tiff_tags.BITS: [8],
        tiff_tags.COMPRESSION: [tags.value(tiff_tags.COMPRESSION, 1)],
        tiff_tags.PHOTOMETRIC: [1],
        tiff_tags.SAMPLES: [1],
    }
    offsets = list(np.cumsum([8, *map(len, pieces)]))[:-1]
    if tiff_tags.TILE_OFFSETS in tags.entries:
        step = tags.value(tiff_tags.TILE_WIDTH, width)
        width = -(-width // step) * step
        entries[tiff_tags.TILE_WIDTH] = [step * pixel]
        entries[tiff_tags.TILE_HEIGHT] = [tags.value(tiff_tags.TILE_HEIGHT, height)]
        where, lengths = tiff_tags.TILE_OFFSETS, tiff_tags.TILE_BYTES
    else:
        entries[tiff_tags.ROWS_PER_STRIP] = [tags.value(tiff_tags.ROWS_PER_STRIP, height)]
        where, lengths = tiff_tags.STRIP_OFFSETS, tiff_tags.STRIP_BYTES
    entries[tiff_tags.WIDTH] = [width * pixel]
    entries[where], entries[lengths] = offsets, list(map(len, pieces))
    body = b"".join(pieces)
    directory = 8 + len(body)
    behind = directory + 2 + 12 * len(entries) + 4
    table, longs = b"", b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            offset = struct.pack("<I", behind + len(longs))
            longs += packed
        else:
            offset = packed
        table += struct.pack("<HHI", tag, 4, len(values)) + offset
    head = b"II*\x00" + struct.pack("<I", directory)
    whole = head + body + struct.pack("<H", len(entries)) + table + bytes(4) + longs
    from PIL import TiffImagePlugin

    with TiffImagePlugin.TiffImageFile(io.BytesIO(whole), "") as image:
        image.load()
        return np.asarray(image)


def _levels(numbers: np.ndarray, *, negative: bool = False) -> np.ndarray:
    """As ``modes`` has it: whole numbers by their range, fractions up to 1 or 255, or stretched."""
    if np.issubdtype(numbers.dtype, np.unsignedinteger):
        levels = (numbers >> (8 * numbers.itemsize - 8)).astype(np.uint8)
    else:
        finite = numbers[np.isfinite(numbers)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if low >= 0 and numbers.dtype.kind == "f":
            low, high = 0.0, next((limit for limit in (1.0, 255.0) if high <= limit), high)
        scaled = (np.nan_to_num(numbers.astype(np.float64), nan=low) - low) / ((high - low) or 1)
        levels = (255 * np.clip(scaled, 0, 1) + 0.5).astype(np.uint8)
    return 255 - levels if negative else levels

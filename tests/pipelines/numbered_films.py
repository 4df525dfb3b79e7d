"""Films whose frames carry their own number, so that what was decoded is checked by content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT, RATE = 192, 128, 30
_CELLS, _BAR = 12, 32  # twelve black or white cells in the top rows spell the number

IDENTITY = (65536, 0, 0, 65536)


def picture(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8: the number in the top rows, something that moves below."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([(x + 3 * number) % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    cell = x[:_BAR] * _CELLS // width
    pixels[:_BAR] = np.where((number >> cell) & 1, 235, 16)[..., None]
    return pixels


def number_of(image: Image.Image) -> int:
    """The number that a frame carries, at any size."""
    grey = np.asarray(image.convert("L"))
    row = grey[grey.shape[0] * _BAR // HEIGHT // 2]
    cells = (np.arange(_CELLS) + 0.5) * len(row) / _CELLS
    return int(sum(int(row[int(cell)] > 128) << bit for bit, cell in enumerate(cells)))


def write_film(
    path: Path,
    numbers: Iterable[int],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    keyframes: int = 30,
    rate: int = RATE,
    width: int = WIDTH,
    height: int = HEIGHT,
    matrix: Sequence[int] = IDENTITY,
    pixel_shape: Fraction | None = None,
) -> Path:
    """Write a film in which frame ``n`` is shown at ``n / rate`` seconds.

    Args:
        numbers: of the frames, rising; a gap leaves the frame before it standing.
        codec, pixels, options: of the encoder.
        keyframes: at most this many frames apart.
        matrix: a, b, c, d of the display matrix.
        pixel_shape: width by height of a pixel.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.gop_size = keyframes
        stream.options = options or {}
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if tuple(matrix) != IDENTITY:
            a, b, c, d = matrix
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for number in numbers:
            frame = av.VideoFrame.from_ndarray(
                picture(number, width=width, height=height), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, *, earlier_s: float = 0.0) -> Path:
    """Copy a film's packets into another container.

    Args:
        earlier_s: how much earlier everything is shown. What then comes before 0 is cut off by an
            edit list, where the container has one.
    """
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        assert stream.time_base is not None
        shift = round(earlier_s / stream.time_base)
        for packet in reading.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = copy
            writing.mux(packet)
    return target

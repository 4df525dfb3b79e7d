"""Films whose frames carry their own number, so that what was decoded is checked by content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from maxsight.pipelines.media.video import sample_frames

WIDTH, HEIGHT, RATE = 192, 128, 30
_CELLS, _BAR = 12, 32  # twelve black or white cells in the top rows spell the number

FRAMES = 120
SECONDS = FRAMES / RATE

IDENTITY = (65536, 0, 0, 65536)


X265 = "log-level=none:pools=1"
CODINGS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"bf": "3", "preset": "veryfast"}},
    "h264-open-gop.mkv": {"options": {"bf": "3", "x264-params": "open-gop=1"}},
    "h264-one-keyframe.mp4": {"options": {"bf": "3", "preset": "veryfast"}, "keyframes": 1000},
    "h264.ts": {"options": {"bf": "3", "preset": "veryfast"}},
    "h264.flv": {"options": {"bf": "2", "preset": "veryfast"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": X265, "preset": "ultrafast"}},
    "hevc10-open-gop.mkv": {
        "codec": "libx265",
        "pixels": "yuv420p10le",
        "options": {"x265-params": f"{X265}:open-gop=1", "preset": "ultrafast"},
    },
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "10", "svtav1-params": "lp=1"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "q": "3"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "q": "3"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "ffv1.mkv": {"codec": "ffv1"},
}


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


def coded(folder: Path, name: str) -> Path:
    """The film of ``FRAMES`` frames in one of ``CODINGS``, written once a folder."""
    path = folder / name
    if not path.exists():
        with _own_priority():
            write_film(path, range(FRAMES), **CODINGS[name])
    return path


@contextmanager
def _own_priority() -> Iterator[None]:
    """Run by root, SVT-AV1 gives the thread that calls it real-time priority, and leaves it so:
    every thread made later has it, too, and other processes hardly run any more."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def plain_film(folder: Path) -> Path:
    """Four seconds of H.264 with B-frames, the index at its end."""
    return write_film(folder / "plain.mp4", range(FRAMES), options={"bf": "3", "crf": "30"})


def times_and_numbers(path: Path, fps: float) -> tuple[list[float], list[int]]:
    """When each sampled frame is said to be shown, and which one it is."""
    frames = list(sample_frames(path, fps=fps))
    return [frame.time for frame in frames], [number_of(frame.image) for frame in frames]


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

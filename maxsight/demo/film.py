"""A short film made from still pictures, with every boundary known."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

_WIDTH, _HEIGHT = 480, 360  # pixels of the film
_CANVAS = 640  # pixels: the still fits on this square, and the camera moves over it


@dataclass(frozen=True)
class Shot:
    """When a still is seen, [start, end) in seconds; ``cut`` is false after a cross-fade."""

    name: str
    start: float
    end: float
    cut: bool


def make_film(
    path: Path, stills: Sequence[tuple[str, Image.Image]], *, seed: int = 0, fps: int = 12
) -> list[Shot]:
    """Film stills one after the other with hold, zoom and pan, cuts and cross-fades.

    Args:
        path: of the film; H.264 in whatever container the suffix names.
        stills: a name and an RGB picture each.
        seed: of lengths (2 to 6 s), camera moves and which joints are cross-faded (40 %).
        fps: frames a second.

    Returns:
        Where each still is seen.
    """
    import av

    rng = random.Random(seed)
    shots: list[Shot] = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        stream.options = {"crf": "24", "preset": "veryfast"}
        count, last = 0, None
        for name, still in stills:
            length = rng.randrange(2 * fps, 6 * fps)
            fade = fps // 2 if last is not None and rng.random() < 0.4 else 0
            for number, frame in enumerate(_camera(_fit(still), length, rng)):
                if number < fade and last is not None:
                    share = (number + 1) / fade
                    frame = (share * frame + (1 - share) * last).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            last = frame
            shots.append(Shot(name, count / fps, (count + length) / fps, cut=fade == 0))
            count += length
        container.mux(stream.encode(None))
    return shots


def _fit(still: Image.Image) -> Image.Image:
    scale = _CANVAS / max(still.size)
    fitted = still.resize((round(still.width * scale), round(still.height * scale)))
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), "white")
    canvas.paste(fitted, ((_CANVAS - fitted.width) // 2, (_CANVAS - fitted.height) // 2))
    return canvas


def _camera(canvas: Image.Image, length: int, rng: random.Random) -> Iterator[np.ndarray]:
    """(_HEIGHT, _WIDTH, 3) uint8 frames of a camera that holds, zooms in or pans."""
    move = rng.choice(("hold", "zoom", "pan"))
    drift = rng.uniform(0, 1)
    for number in range(length):
        progress = number / max(1, length - 1)
        width, x, y = 1.0, 0.0, 0.125
        if move == "zoom":
            width = 1 - 0.3 * progress
            x, y = (1 - width) / 2, (1 - 0.75 * width) / 2
        elif move == "pan":
            width = 0.875
            x, y = 0.125 * progress, 0.2 * drift + 0.08 * progress
        box = [side * _CANVAS for side in (x, y, x + width, y + 0.75 * width)]
        view = canvas.resize(
            (_WIDTH, _HEIGHT), Image.Resampling.BILINEAR, box=(box[0], box[1], box[2], box[3])
        )
        yield np.asarray(view)

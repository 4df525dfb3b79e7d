"""Films whose moments are known to the frame, made from captioned pictures.

Every film is a row of shots of one picture each: held, zoomed into or panned over, 2 to 6 seconds
long, joined by cuts and (four in ten) by cross-fades of half a second. What such films do not test
is motion and action.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 320, 240
FRAME_RATE = 12
_CANVAS = 480  # side of the square that the camera moves over, in pixels
_FADE_FRAMES = FRAME_RATE // 2
_FADE_SHARE = 0.4


@dataclass(frozen=True)
class KnownMoment:
    """One shot of a film and what is seen in it.

    Attributes:
        film: the file.
        start, end: in seconds.
        caption: of the picture shown.
        cut_in, cut_out: whether it begins or ends with a hard cut inside the film, not with a
            cross-fade nor at the film's own start or end.
    """

    film: Path
    start: float
    end: float
    caption: str
    cut_in: bool
    cut_out: bool


def make_films(
    pictures: Sequence[tuple[str, Image.Image]],
    folder: Path,
    *,
    films: int = 16,
    shots: int = 6,
    seed: int = 0,
) -> list[KnownMoment]:
    """Write films of the given pictures in random order.

    Args:
        pictures: caption and RGB image. Each is used once at most, each caption once a film.
        folder: where the films are written, as ``000.mp4`` and on; existing ones are replaced.
        films: how many at most; fewer where the pictures run out.
        shots: a film.
        seed: the same one gives the same films.
    """
    draw = random.Random(seed)
    left = list(pictures)
    draw.shuffle(left)
    folder.mkdir(parents=True, exist_ok=True)
    moments: list[KnownMoment] = []
    for number in range(films):
        chosen: dict[str, Image.Image] = {}
        for position in range(len(left) - 1, -1, -1):
            if len(chosen) < shots and left[position][0] not in chosen:
                caption, image = left.pop(position)
                chosen[caption] = image
        if len(chosen) < shots:
            break
        path = folder / f"{number:03}.mp4"
        moments += make_film(list(chosen.items()), path, seed=draw.randrange(2**32))
    return moments


def make_film(
    pictures: Sequence[tuple[str, Image.Image]], path: Path, *, seed: int = 0
) -> list[KnownMoment]:
    """Write one film of the given pictures, in their order.

    Args:
        pictures: caption and RGB image.
        path: of the film; H.264 in whatever container its suffix names.
        seed: of the shots' lengths, the camera's moves and the choice of cuts and cross-fades.
    """
    import av

    draw = random.Random(seed)
    lengths = [draw.randrange(2 * FRAME_RATE, 6 * FRAME_RATE) for _ in pictures]
    faded = [number > 0 and draw.random() < _FADE_SHARE for number in range(len(pictures))]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # One thread: with several, x264's bytes once differed between two runs of one seed.
        stream.options = {"crf": "26", "preset": "veryfast", "threads": "1"}
        before: np.ndarray | None = None
        for (_, image), length, fade in zip(pictures, lengths, faded, strict=True):
            for number, frame in enumerate(_camera(image, length, draw)):
                share = (number + 1) / _FADE_FRAMES if fade else 1.0
                if share < 1 and before is not None:
                    frame = (share * frame + (1 - share) * before).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            before = frame
        container.mux(stream.encode(None))
    starts = np.cumsum([0, *lengths]) / FRAME_RATE
    return [
        KnownMoment(
            film=path,
            start=float(starts[number]),
            end=float(starts[number + 1]),
            caption=caption,
            cut_in=number > 0 and not faded[number],
            cut_out=number + 1 < len(pictures) and not faded[number + 1],
        )
        for number, (caption, _) in enumerate(pictures)
    ]


def _camera(image: Image.Image, length: int, draw: random.Random) -> Iterator[np.ndarray]:
    """``length`` frames, (HEIGHT, WIDTH, 3) uint8, of a picture that is held, zoomed or panned."""
    scale = _CANVAS / max(image.size)
    fitted = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.BICUBIC,
    )
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), "white")
    canvas.paste(fitted, ((_CANVAS - fitted.width) // 2, (_CANVAS - fitted.height) // 2))
    move, top = draw.choice(("hold", "zoom", "pan")), draw.randrange(100)
    for number in range(length):
        progress = number / max(1, length - 1)
        if move == "zoom":
            width, height = 480 * (1 - 0.3 * progress), 360 * (1 - 0.3 * progress)
            x, y = (_CANVAS - width) / 2, (_CANVAS - height) / 2
        elif move == "pan":
            width, height = 420, 315
            x, y = 60 * progress, top + 40 * progress
        else:
            width, height, x, y = 480, 360, 0, 60
        box = (x, y, min(_CANVAS, x + width), min(_CANVAS, y + height))
        yield np.asarray(canvas.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box))

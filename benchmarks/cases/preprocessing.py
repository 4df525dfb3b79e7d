"""How long does it take to scale a picture for an encoder, against Pillow and torchvision?

Photographs, as Pillow holds them after decoding, scaled as CLIP wants them: the short side to 224
pixels, the middle cut out. Before anything is timed, our pixels must equal Pillow's to the last
bit, and those of the matrix products that a GPU would compute must lie within one grey level; the
vectors that the built-in encoder makes of the latter stand in a row of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch, ratio
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row, timed
from maxsight.kernels.resample import batched
from maxsight.models.encoder import load
from maxsight.models.pixels.preprocess import Preprocess, resize

_BENCHMARK = "preprocessing"
_CLIP = Preprocess(224)
_SIZES = ((300, 225), (448, 448), (640, 480), (900, 700), (1600, 1200))
_REPEATS = 20  # pictures a turn: one is too short to time


def run(data: Path, *, rounds: int = 15) -> list[Row]:
    """Measure on one thread.

    Args:
        data: not used; the photographs come with scikit-image.
        rounds: how often each contender runs.
    """
    photographs = _photographs()
    rows = [_cosine(photographs)]
    with threads(1):
        for size in _SIZES:
            rows += _measure(photographs[0].resize(size, Image.Resampling.LANCZOS), rounds)
    return rows


def _photographs() -> list[Image.Image]:
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket")
    return [Image.fromarray(getattr(data, name)()) for name in names]


def _measure(image: Image.Image, rounds: int) -> list[Row]:
    case = f"{image.width} x {image.height} to 224"
    torchvision = transforms.Compose(
        [
            transforms.PILToTensor(),
            transforms.Resize(224, interpolation=InterpolationMode.BICUBIC, antialias=True),
            transforms.CenterCrop(224),
        ]
    )
    ours, pillow = resize(image, _CLIP), _pillow(image)
    assert np.array_equal(ours, pillow), "not Pillow's pixels"
    assert np.abs(torchvision(image).permute(1, 2, 0).numpy().astype(int) - pillow).max() <= 2

    def often(work: Callable[[Image.Image], object]) -> Callable[[int], float]:
        def turn(_: int) -> None:
            for _ in range(_REPEATS):
                work(image)

        turn(0)
        return processor_stopwatch(turn)

    seconds = interleave(
        {
            "maxsight": often(lambda picture: resize(picture, _CLIP)),
            "Pillow": often(_pillow),
            "torchvision": often(torchvision),
        },
        rounds=rounds,
    )
    each = {name: [total / _REPEATS for total in totals] for name, totals in seconds.items()}
    rows = [
        timed(times, benchmark=_BENCHMARK, case=case, contender=name)
        for name, times in each.items()
    ]
    for other in ("Pillow", "torchvision"):
        rows.append(
            ratio(
                each[other],
                each["maxsight"],
                benchmark=_BENCHMARK,
                case=case,
                contender=other,
                metric="time of maxsight",
            )
        )
    return rows


def _pillow(image: Image.Image) -> np.ndarray:
    """The square as open_clip's transforms cut it."""
    short = min(image.size)
    width, height = 224 * image.width // short, 224 * image.height // short
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    return np.asarray(scaled.crop((left, top, left + 224, top + 224)))


def _cosine(photographs: list[Image.Image]) -> Row:
    """Between vectors of Pillow's pixels and of the matrix products'."""
    there = []
    for image in photographs:
        short = min(image.size)
        width, height = 224 * image.width // short, 224 * image.height // short
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        pixels = torch.from_numpy(np.array(image))[None]
        window = (left, top, left + 224, top + 224)
        there.append(batched.resize(pixels, width, height, "bicubic", window=window)[0])
    expected = torch.from_numpy(np.stack([_pillow(image) for image in photographs]))
    got = torch.stack(there)
    assert (got.int() - expected.int()).abs().max() <= 1
    encoder = load("builtin", device="cpu")
    cosines = (encoder.encode_images(got).vectors * encoder.encode_images(expected).vectors).sum(1)
    return Row.of(
        _BENCHMARK,
        f"{len(photographs)} photographs",
        "maxsight, matrix products",
        "cosine to Pillow's pixels",
        cast("list[float]", cosines.tolist()),
    )

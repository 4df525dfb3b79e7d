"""What is found of long pictures: seen whole, squeezed, or in squares?

A thing on white (Open Clip Art, or a photograph of Tux Paint's) is laid somewhere along a strip 2,
3 or 4 times longer than wide, on plain or textured ground. The strips are asked for by the caption
and by the picture of the thing alone. In a mixed gallery half the things stand alone, and are asked
for, too. Strips of other grounds and places ask for things alone and in strips. Pictures that are
long by themselves, one thing from end to end, stand beside them. A picture scores as its best unit.

Open Clip Art is what the rule was chosen on; Tux Paint was looked at once, afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maxsight.benchmarks.material import held_out
from maxsight.benchmarks.measure.rows import Row
from maxsight.models import encoder
from maxsight.models.builtin.training import corpus
from maxsight.models.builtin.training.rendering import render_all
from maxsight.models.encoder import Encoder
from maxsight.models.pixels.preprocess import resize
from maxsight.pipelines.media import squares

_BENCHMARK = "long-pictures"
_SHORT = 300  # pixels
_RATIOS = (2, 3, 4)
_BATCH = 16

Named = tuple[str, Image.Image]


@dataclass(frozen=True, eq=False)
class Seen:
    """What an encoder makes of one picture.

    Attributes:
        whole: (1, D), the picture in the encoder's own way.
        squares: (n, D), from end to end, overlapping by half; none of a picture that is not long.
        squeezed: (1, D), scaled to a square whatever its shape.
    """

    whole: np.ndarray
    squares: np.ndarray
    squeezed: np.ndarray


# What is kept of a long picture: (U, D) units.
KEPT: dict[str, Callable[[Seen], np.ndarray]] = {
    "whole": lambda seen: seen.whole,
    "squeezed": lambda seen: seen.squeezed,
    "squares side by side": lambda seen: seen.squares[::2],
    "overlapping squares": lambda seen: seen.squares,
    "whole, squares side by side": lambda seen: np.concatenate([seen.whole, seen.squares[::2]]),
    "whole, overlapping squares": lambda seen: np.concatenate([seen.whole, seen.squares]),
}

# What stands for a long picture as a query: (D,).
ASKED: dict[str, Callable[[Seen], np.ndarray]] = {
    "whole": lambda seen: seen.whole[0],
    "mean of squares": lambda seen: _unit(seen.squares.mean(0)),
    "mean of all": lambda seen: _unit(np.concatenate([seen.whole, seen.squares]).mean(0)),
    "half whole, half squares": lambda seen: _unit(seen.whole[0] + _unit(seen.squares.mean(0))),
}


def run(data: Path, *, encoder_uri: str = "builtin", count: int = 120) -> list[Row]:
    """Measure recall by text and by picture.

    Args:
        data: folder for fetched packages.
        encoder_uri: what encodes.
        count: things in a gallery at most.
    """
    model = encoder.load(encoder_uri)
    rows: list[Row] = []
    clipart = (picture for picture in corpus.clipart(data) if picture.split != "train")
    for name, pictures in (("openclipart", clipart), ("tuxpaint", corpus.stamps(data))):
        short, long = _drawn(pictures, count)
        texts = model.encode_text([caption for caption, _ in long]).vectors.cpu().numpy()
        seen = [_seen(model, image) for _, image in long]
        case = f"{name}, long by itself (gallery {len(long)})"
        for kept, units_of in KEPT.items():
            rows += _rows(texts, [units_of(one) for one in seen], case, kept)
        rows += _strips(model, name, short)
    cases = list(dict.fromkeys(row.case for row in rows))
    return sorted(rows, key=lambda row: cases.index(row.case))


def _strips(model: Encoder, name: str, things: Sequence[Named]) -> list[Row]:
    texts = model.encode_text([caption for caption, _ in things]).vectors.cpu().numpy()
    alone = _encoded(model, [image for _, image in things])
    singles = [vector[None] for vector in alone]
    rows: list[Row] = []
    for ratio in _RATIOS:
        draw = np.random.default_rng(ratio)
        first, second = (
            [_seen(model, _strip(image, ratio, draw, textured=bool(place % 2)))
             for place, (_, image) in enumerate(things)]
            for _ in range(2)
        )  # fmt: skip
        where = f"{name}, {ratio}:1 (gallery {len(things)})"
        for kept, units_of in KEPT.items():
            units = [units_of(one) for one in first]
            rows += _rows(texts, units, f"{where}, by text", kept)
            rows += _rows(alone, units, f"{where}, by picture", kept)
            # The grounds take turns, and so do strips and things alone: in pairs.
            strips = [place // 2 % 2 == 0 for place in range(len(things))]
            mixed = [many if is_one else one
                     for many, one, is_one in zip(units, singles, strips, strict=True)]  # fmt: skip
            for words, chosen in (
                ("strips", np.array(strips)),
                ("things alone", ~np.array(strips)),
            ):
                rows += _rows(texts, mixed, f"{where}, {words} of half and half", kept, chosen)
        kept_units = [KEPT["whole, overlapping squares"](one) for one in first]
        for asked, vector_of in ASKED.items():
            queries = np.stack([vector_of(one) for one in second])
            rows += _rows(queries, singles, f"{where}, a strip asks for things alone", asked)
            rows += _rows(queries, kept_units, f"{where}, a strip asks for strips", asked)
    return rows


def _rows(
    queries: np.ndarray,
    units: Sequence[np.ndarray],
    case: str,
    contender: str,
    chosen: np.ndarray | None = None,
) -> list[Row]:
    """Recall where the n-th picture is right for the n-th query, over all queries or some."""
    starts = np.cumsum([0, *(len(own) for own in units[:-1])])
    scores = np.maximum.reduceat(queries @ np.concatenate(units).T, starts, axis=1)
    ranks = (scores > scores.diagonal()[:, None]).sum(1)
    kept = ranks if chosen is None else ranks[chosen]
    return held_out.recall_rows(kept, benchmark=_BENCHMARK, case=case, contender=contender)


def _drawn(pictures: Iterable[corpus.Picture], count: int) -> tuple[list[Named], list[Named]]:
    """Pictures of different captions: at most ``count`` that are not long, and as many that are."""
    queue = list(pictures)
    random.Random(1).shuffle(queue)
    found: tuple[dict[str, Image.Image], dict[str, Image.Image]] = ({}, {})
    for picture, image in render_all(queue, _SHORT):
        if picture.style == "tuxpaint" and not corpus.is_photograph(picture, image):
            continue
        kind = found[squares.count(*image.size) > 0]
        if len(kind) < count:
            kind.setdefault(picture.caption, image)
        elif all(len(one) == count for one in found):
            break
    return list(found[0].items()), list(found[1].items())


def _strip(
    image: Image.Image, ratio: int, draw: np.random.Generator, *, textured: bool
) -> Image.Image:
    """A thing somewhere along a strip, .6 to .95 of its width, lying or upright."""
    size = (_SHORT * ratio, _SHORT)
    if textured:
        coarse = draw.normal(size=(13, 13 * ratio, 3)) * 35 + draw.integers(90, 200, 3)
        smooth = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize(size)
        grain = draw.normal(size=(*size[::-1], 1)) * 12
        ground = Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))
    else:
        ground = Image.new("RGB", size, tuple(draw.integers(60, 256, 3).tolist()))
    if upright := bool(draw.random() < 0.5):
        ground = ground.transpose(Image.Transpose.ROTATE_90)
    scale = _SHORT * draw.uniform(0.6, 0.95) / max(image.size)
    thing = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    room = ground.width - thing.width, ground.height - thing.height
    along = round(draw.random() * max(room))
    place = (room[0] // 2, along) if upright else (along, room[1] // 2)
    shape = (np.asarray(thing).min(2) < 248).astype(np.uint8) * 255
    ground.paste(thing, place, Image.fromarray(shape))
    return ground


def _seen(model: Encoder, image: Image.Image) -> Seen:
    pieces = list(squares.cut(image, squares.count(*image.size)))
    squeezed = image.resize((_SHORT, _SHORT))
    vectors = _encoded(model, [image, squeezed, *pieces])
    return Seen(vectors[:1], vectors[2:], vectors[1:2])


def _encoded(model: Encoder, images: Sequence[Image.Image]) -> np.ndarray:
    vectors = []
    for start in range(0, len(images), _BATCH):
        batch = [resize(image, model.preprocess) for image in images[start : start + _BATCH]]
        pixels = torch.from_numpy(np.stack(batch))
        vectors.append(model.encode_images(pixels).vectors.cpu().numpy())
    return np.concatenate(vectors)


def _unit(vector: np.ndarray) -> np.ndarray:
    normalised: np.ndarray = vector / np.linalg.norm(vector)
    return normalised

"""What the heads are trained on: features of the permissive pictures, and sentences about them."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from maxsight.models.builtin.image_tower import ImageTower
from maxsight.models.builtin.towers import PREPROCESS, PROMPTS, SentenceEncoder
from maxsight.models.builtin.training import corpus
from maxsight.models.builtin.training.corpus import Picture
from maxsight.models.builtin.training.rendering import render_all
from maxsight.models.pixels.preprocess import normalize, resize

_LOG = logging.getLogger("maxsight.train")

_BATCH = 32
# Five tones of one emoji are near-copies: Noto's lightest, middle and darkest are enough.
_TONES = {"noto": (1, 3, 5)}


@dataclass(frozen=True)
class PictureFeatures:
    """N pictures as the frozen image tower sees them.

    pictures: N of them, without their drawings. pooled: (N, 1280) and logits: (N, 1000), float32.
    """

    pictures: list[Picture]
    pooled: Tensor
    logits: Tensor


def training_split(data: Path) -> Iterator[Picture]:
    """The permissive pictures of the training split."""
    for picture in corpus.training_pictures(data):
        tone_is_wanted = picture.tone is None or picture.tone in _TONES.get(picture.style, ())
        if picture.split == "train" and tone_is_wanted:
            yield picture


def extract(pictures: Iterable[Picture], tower: ImageTower) -> PictureFeatures:
    """Render pictures and run the trunk over them."""
    kept: list[Picture] = []
    squares: list[Tensor] = []
    pooled: list[Tensor] = []
    logits: list[Tensor] = []

    def encode() -> None:
        pixels = normalize(torch.stack(squares), PREPROCESS)
        with torch.no_grad():
            features = tower(pixels.to(tower.classifier.weight.dtype))
        pooled.append(features.pooled.float())
        logits.append(features.logits.float())
        squares.clear()
        if len(pooled) % 32 == 0:
            _LOG.info("%d pictures encoded", len(kept))

    for picture, image in render_all(pictures, PREPROCESS.size):
        kept.append(picture)
        squares.append(torch.tensor(resize(image, PREPROCESS)))
        if len(squares) == _BATCH:
            encode()
    if squares:
        encode()
    return PictureFeatures(kept, torch.cat(pooled), torch.cat(logits))


def sentence_about(picture: Picture, draw: random.Random) -> str:
    """One of the ways to ask for a picture: its name, in a prompt, with a tag, or by its tags."""
    chance = draw.random()
    is_clipart = picture.style == "openclipart"
    if picture.tags and is_clipart and chance < 0.3:
        return f"{draw.choice(picture.tags)} {picture.caption}"
    if picture.tags and not is_clipart and chance < 0.35:
        count = min(len(picture.tags), draw.choice([1, 2, 3]))
        return " ".join(draw.sample(picture.tags, count))
    if chance < 0.6:
        return ("clip art of " if is_clipart else "an emoji of ") + picture.caption
    if chance < 0.75:
        return PROMPTS[1].format(picture.caption)
    return picture.caption


def sentence_vectors(
    pictures: Sequence[Picture], sentences: SentenceEncoder, *, each: int, draw: random.Random
) -> Tensor:
    """(N, each + 1, 384): ``each`` sampled sentences a picture, and its caption."""
    asked = [
        text
        for picture in pictures
        for text in [*(sentence_about(picture, draw) for _ in range(each)), picture.caption]
    ]
    unique = list(dict.fromkeys(asked))
    vectors = dict(zip(unique, sentences(unique)[0].pooled))
    return torch.stack([vectors[text] for text in asked]).view(len(pictures), each + 1, -1)


def class_name_vectors(sentences: SentenceEncoder) -> Tensor:
    """(1000, 384): MiniLM's vectors of ImageNet's class names, prompts averaged."""
    from open_clip import IMAGENET_CLASSNAMES

    names: list[str] = list(IMAGENET_CLASSNAMES)
    return sentences.prompted(names)


def classifier_features(tower: ImageTower, *, like: Tensor) -> Tensor:
    """(1000, 1280): stand-ins for photographs of ImageNet's classes, made of the classifier's rows.

    A row points to where the features of its class lie. Centred and as long as the centred
    features ``like`` (N, 1280) are on average, it passes for one.
    """
    rows = tower.classifier.weight.float()
    length = (like - like.mean(0)).norm(dim=-1).mean()
    stand_ins: Tensor = F.normalize(rows - rows.mean(0), dim=-1) * length + like.mean(0)
    return stand_ins

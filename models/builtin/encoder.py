"""The embedded default encoder: no download, everything comes with ``pip install maxsight``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from maxsight.errors import UnknownEncoder
from maxsight.mix import ALONE, Mix
from maxsight.models.builtin import heads, image_tower, towers, weights
from maxsight.models.builtin.phrases import JOINTS, MOST_PHRASES, phrases
from maxsight.models.device import resolve
from maxsight.models.embeddings import Embeddings, offsets_of
from maxsight.models.options import Options
from maxsight.models.pixels.preprocess import normalize, resize_batch

# Raise it when a change of this package's code changes vectors though no weight file changed.
_REVISION = 2

# How much of its neighbours, one and two patches away along each side, a patch takes in before it
# goes through the heads, which were trained on means of whole pictures and read a lone patch badly.
_NEIGHBOURS = (6.0, 4.0, 1.0)


def load(
    name: str,
    *,
    options: Options | None = None,
    device: str = "auto",
    dtype: torch.dtype | None = None,
) -> BuiltinEncoder:
    """Load the built-in encoder, after comparing every weight file with its pinned hash.

    Args:
        name: what follows ``builtin:`` in the URI; must be empty.
        options: none are supported.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: precision of the image trunk. Default: bfloat16 where the device multiplies it, else
            float32.

    Raises:
        UnknownEncoder: ``name`` is not empty.
        EncoderError: an option is given.
        WeightsMissing: a weight package is not installed, or lacks a file.
        WeightsCorrupted: a weight file differs from the one this release was measured with.
    """
    if name:
        raise UnknownEncoder(f"there is one built-in encoder; write builtin, not builtin:{name}")
    (options or Options()).require_only((), encoder="builtin")
    target = resolve(device)
    return BuiltinEncoder(
        weights.find_all(), device=target, dtype=dtype or towers.image_dtype(target)
    )


class BuiltinEncoder:
    """EfficientNet-Lite0 and MiniLM in one 384-dimensional space (docs/builtin-encoder.md).

    Image tokens are the 49 patches of the trunk's 7 x 7 map, row by row, each averaged with its
    neighbours. Text tokens are the vectors of the text's phrases (phrases.py): one for most texts,
    then equal to the text's own, and none for an empty one. The fingerprint leaves ``dtype`` out:
    bfloat16 and float32 give the same vectors to a cosine of 0.999. A tower is read when first
    used.
    """

    uri = "builtin"
    dim = heads.DIM
    token_dim: int | None = heads.DIM
    modalities = frozenset({"text", "image"})
    former_fingerprints: tuple[str, ...] = ()
    max_text_tokens = towers.MAX_TEXT_TOKENS
    preprocess = towers.PREPROCESS
    # Chosen on the validation split: MODEL_CARD.md.
    mix: Mix | None = Mix(alike=ALONE, unlike=0.1, low=0.72, high=0.84, louder=5.0)

    def __init__(
        self,
        files: Mapping[weights.WeightFile, Path],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.fingerprint = _fingerprint()
        self._files = files

    @cached_property
    def _heads(self) -> heads.Heads:
        return heads.from_state(load_file(self._files[weights.HEADS])).to(self.device)

    @cached_property
    def _image_tower(self) -> image_tower.ImageTower:
        path = self._files[weights.IMAGE_TOWER]
        return towers.read_image_tower(path, device=self.device, dtype=self.dtype)

    @cached_property
    def _sentences(self) -> towers.SentenceEncoder:
        return towers.SentenceEncoder(
            self._files[weights.TEXT_TOWER], self._files[weights.TOKENIZER], device=self.device
        )

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        """See ``Encoder``."""
        if not tokens:
            return Embeddings(self._heads.text(self._sentences.prompted(texts)))
        named = [phrases(text) for text in texts]
        unique = list(dict.fromkeys([*texts, *(phrase for group in named for phrase in group)]))
        row_of = {text: row for row, text in enumerate(unique)}
        vectors = self._heads.text(self._sentences.prompted(unique))
        return Embeddings(
            vectors[[row_of[text] for text in texts]],
            vectors[[row_of[phrase] for group in named for phrase in group]],
            offsets=offsets_of(torch.tensor([len(group) for group in named], device=self.device)),
        )

    @torch.no_grad()
    def encode_images(
        self, images: Sequence[Image] | Tensor, *, tokens: bool = False
    ) -> Embeddings:
        """See ``Encoder``."""
        if len(images) == 0:
            return self._nothing() if tokens else Embeddings(self._nothing().vectors)
        if isinstance(images, Tensor):
            pixels = images.to(self.device)
        else:
            pixels = resize_batch(images, self.preprocess, device=self.device)
        batch = normalize(pixels, self.preprocess).to(self.dtype)
        features = self._image_tower(batch)
        vectors = self._heads.image(features.pooled, features.logits)
        if not tokens:
            return Embeddings(vectors)
        count = features.patches.shape[1]
        patches = _with_neighbours(features.patches).flatten(0, 1)
        return Embeddings(
            vectors,
            self._heads.image(patches, self._image_tower.classifier(patches)),
            offsets=offsets_of(torch.full((len(vectors),), count, device=self.device)),
        )

    def _nothing(self) -> Embeddings:
        empty = torch.zeros(0, self.dim, device=self.device)
        return Embeddings(empty, empty.clone(), offsets=offsets_of(empty[:, 0]))


def _with_neighbours(patches: Tensor) -> Tensor:
    """(B, side * side, C) patches, each the weighted mean of those around it; row by row."""
    side = math.isqrt(patches.shape[1])
    far = len(_NEIGHBOURS) - 1
    band = [
        [_NEIGHBOURS[abs(i - j)] if abs(i - j) <= far else 0.0 for j in range(side)]
        for i in range(side)
    ]
    line = F.normalize(torch.tensor(band, device=patches.device), p=1, dim=1)
    return (torch.kron(line, line) @ patches.float()).to(patches.dtype)


def _fingerprint() -> str:
    identity = {
        "weights": [file.sha256 for file in weights.ALL],
        "preprocess": asdict(towers.PREPROCESS),
        "prompts": towers.PROMPTS,
        "max_text_tokens": towers.MAX_TEXT_TOKENS,
        "heads": [heads.TEMPERATURE, heads.LIKELIEST, heads.CENTRING, heads.CONSE_SHARE],
        "tokens": [_NEIGHBOURS, JOINTS, MOST_PHRASES],
        "revision": _REVISION,
    }
    return hashlib.sha256(b"builtin\n" + json.dumps(identity, sort_keys=True).encode()).hexdigest()

"""What an encoder is, and how one is named."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from maxsight.errors import UnknownEncoder
from maxsight.models import hub
from maxsight.models.options import EncoderUri, parse

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from maxsight.mix import Mix
    from maxsight.models.embeddings import Embeddings
    from maxsight.models.pixels.preprocess import Preprocess

# scheme -> module:function, called as `load(name, *, options, device)`; imported when asked for.
_SCHEMES = {
    "builtin": "maxsight.models.builtin.encoder:load",
    "hf-hub": "maxsight.models.open_clip.encoder:load_repository",
    "open_clip": "maxsight.models.open_clip.encoder:load",
    "st": "maxsight.models.vlm.encoder:load",
}


class Encoder(Protocol):
    """Text and pictures in one vector space.

    Attributes:
        uri: the name it was loaded by, with its options, in the canonical spelling.
        dim: D, width of the pooled vectors.
        token_dim: d, width of the token vectors; None if the encoder gives none.
        modalities: what it takes, of ``text`` and ``image``.
        mix: how search weighs pooled vectors and tokens. None: nobody has measured it, and search
            leaves tokens alone unless told to use them.
        max_text_tokens: longer texts are cut there.
        preprocess: how pictures must be scaled.
        fingerprint: sha256 over weights, preprocessing and every option that changes a result.
            Two encoders with one fingerprint give the same vectors but for rounding
            (docs/encoders.md).
        former_fingerprints: of the same vectors, by earlier releases that named it otherwise.
        device, dtype: where and in what precision it computes. Results are always float32.
    """

    uri: str
    dim: int
    token_dim: int | None
    mix: Mix | None
    modalities: frozenset[str]
    max_text_tokens: int
    preprocess: Preprocess
    fingerprint: str
    former_fingerprints: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype

    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        """Encode ``B`` texts. An empty list gives (0, D)."""
        ...

    def encode_images(
        self, images: Sequence[Image] | torch.Tensor, *, tokens: bool = False
    ) -> Embeddings:
        """Encode ``B`` pictures: PIL images of any mode and size, or (B, size, size, 3) uint8
        pixels that ``maxsight.models.pixels.preprocess.resize`` made. An encoder whose
        ``preprocess`` keeps each picture's shape also takes a list of (height, width, 3). May be
        called from several threads at once. What else is in the batch changes how a vector is
        rounded."""
        ...


def folder_of(uri: str) -> Path | None:
    """The folder that an encoder would be loaded from; None for what comes with maxsight or from
    the hub. Loads nothing, and looks at no other folder than the current one.

    Raises:
        UnknownEncoder: the scheme or an option is not known, or no such folder can be.
    """
    scheme, name, _ = _parsed(uri)
    if scheme == "open_clip" and name.startswith("local-dir:"):
        return _absolute(name.removeprefix("local-dir:"), uri)
    # A name without a path is the hub's, unless a folder of that name is here.
    is_of_hub = hub.is_repository(name, with_owner=False) and not os.path.isdir(name)
    return None if scheme != "st" or is_of_hub else _absolute(name, uri)


def absolute(uri: str) -> str:
    """The canonical spelling, with a folder as an absolute path: what is true wherever one stands.

    Raises:
        UnknownEncoder: as :func:`folder_of`.
    """
    folder, parts = folder_of(uri), _parsed(uri)
    if folder is None:
        return str(parts)
    mark = "local-dir:" if parts.scheme == "open_clip" else ""
    return str(parts._replace(name=f"{mark}{folder}"))


def _absolute(path: str, uri: str) -> Path:
    """By the letter: a path that a stranger chose may stand for a disk far away."""
    try:
        return Path(os.path.abspath(Path(path).expanduser()))
    except RuntimeError as error:  # no such home
        raise UnknownEncoder(f"{uri!r} names no folder that can be: {error}") from error


def _parsed(uri: str) -> EncoderUri:
    parts = parse(uri)
    if parts.scheme not in _SCHEMES:
        known = ", ".join(_SCHEMES)
        raise UnknownEncoder(f"no encoder {uri!r}: the part before ':' must be one of {known}")
    return parts


def load(uri: str, *, device: str = "auto") -> Encoder:
    """Load an encoder.

    Args:
        uri: ``SCHEME:NAME?KEY=VALUE&KEY=VALUE``, where options (models/options.py) may be left
            out: ``builtin``; ``open_clip:ARCH/PRETRAINED``, say
            ``open_clip:ViT-B-16/laion2b_s34b_b88k?merge=13``; ``open_clip:local-dir:PATH``;
            ``hf-hub:OWNER/REPO``, a repository in open_clip's format; ``st:NAME``, what
            sentence-transformers loads.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UnknownEncoder: the scheme or an option is not known, or the name is not one of the
            scheme's.
        EncoderError: the encoder does not support an option.
        WeightsMissing: the weights are neither on this machine nor to be fetched.
        WeightsCorrupted: a pinned weight file differs from what this release was measured with.
    """
    scheme, name, options = _parsed(uri)
    module, _, function = _SCHEMES[scheme].partition(":")
    loader = getattr(importlib.import_module(module), function)
    encoder: Encoder = loader(name, options=options, device=device)
    return encoder

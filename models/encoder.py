"""What an encoder is, and how one is named."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from maxsight.errors import UnknownEncoder
from maxsight.models.preprocess import Preprocess

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from maxsight.models.embeddings import Embeddings

# scheme -> module with a function `load(name, device)`, imported only when asked for.
_SCHEMES = {
    "builtin": "maxsight.models.builtin.encoder",
    "open_clip": "maxsight.models.open_clip",
}


class Encoder(Protocol):
    """Text and pictures in one vector space.

    Attributes:
        uri: the name it was loaded by.
        dim: D, width of the pooled vectors.
        token_dim: d, width of the token vectors; None if the encoder gives none.
        modalities: what it takes, of ``text`` and ``image``.
        max_text_tokens: longer texts are cut there.
        preprocess: how pictures must be scaled.
        fingerprint: sha256 over weights, preprocessing and every option that changes a result.
            Two encoders with one fingerprint give the same vectors.
        device, dtype: where and in what precision it computes. Results are always float32.
    """

    uri: str
    dim: int
    token_dim: int | None
    modalities: frozenset[str]
    max_text_tokens: int
    preprocess: Preprocess
    fingerprint: str
    device: torch.device
    dtype: torch.dtype

    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        """Encode ``B`` texts. An empty list gives (0, D)."""
        ...

    def encode_images(
        self, images: Sequence[Image] | torch.Tensor, *, tokens: bool = False
    ) -> Embeddings:
        """Encode ``B`` pictures: PIL images of any mode and size, or (B, size, size, 3) uint8
        pixels that ``maxsight.models.preprocess.resize`` made. May be called from several threads
        at once."""
        ...


def load(uri: str, *, device: str = "auto") -> Encoder:
    """Load an encoder.

    Args:
        uri: ``builtin``; ``open_clip:ARCH/PRETRAINED``, say
            ``open_clip:ViT-B-32/laion2b_s34b_b79k``;
            ``open_clip:local-dir:PATH``.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UnknownEncoder: the scheme is not known, or the name is not one of the scheme's.
        WeightsMissing: the weights are neither on this machine nor to be fetched.
        WeightsCorrupted: a pinned weight file differs from what this release was measured with.
    """
    scheme, _, name = uri.partition(":")
    module = _SCHEMES.get(scheme)
    if module is None:
        known = ", ".join(sorted(_SCHEMES))
        raise UnknownEncoder(f"no encoder {uri!r}: the part before ':' must be one of {known}")
    encoder: Encoder = importlib.import_module(module).load(name, device=device)
    return encoder

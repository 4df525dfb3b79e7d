"""A small encoder that is one for real: the colours of a picture on a coarse grid, projected."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from PIL.Image import Image

from maxsight.mix import Mix
from maxsight.models.embeddings import Embeddings
from maxsight.models.pixels.preprocess import Preprocess, resize_batch

GRID = 8
DIM = 64


class ColourGridEncoder:
    """Mean colours of an 8 x 8 grid, centred, turned by a fixed random rotation, normalised.

    Two pictures have one vector only if they have one colour layout, up to brightness and contrast.
    """

    uri = "test:colour-grid"
    dim = DIM
    token_dim: int | None = 16
    mix: Mix | None = None
    modalities = frozenset({"image"})
    former_fingerprints: tuple[str, ...] = ()
    max_text_tokens = 0
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, *, size: int = 64, resize_mode: str = "shortest") -> None:
        self.preprocess = Preprocess(size=size, resize_mode=resize_mode)  # type: ignore[arg-type]
        self.fingerprint = hashlib.sha256(f"{size} {resize_mode}".encode()).hexdigest()
        generator = torch.Generator().manual_seed(7)
        self._projection = torch.randn(GRID * GRID * 3, DIM, generator=generator)
        self._token_projection = torch.randn(3 * GRID, 16, generator=generator)

    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        raise NotImplementedError("it sees colours only")

    def encode_images(
        self, images: Sequence[Image] | torch.Tensor, *, tokens: bool = False
    ) -> Embeddings:
        if not isinstance(images, torch.Tensor):
            images = resize_batch(images, self.preprocess, device=self.device)
        pixels = images.permute(0, 3, 1, 2).float() / 255
        grid = torch.nn.functional.adaptive_avg_pool2d(pixels, GRID)
        centred = grid.flatten(1) - grid.flatten(1).mean(1, keepdim=True)
        vectors = torch.nn.functional.normalize(centred @ self._projection + 1e-4, dim=1)
        if not tokens:
            return Embeddings(vectors)
        # A token for every row of the grid that is not plain white.
        bands = grid.permute(0, 2, 1, 3).flatten(2)
        coloured = (bands < 0.999).any(dim=2)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), coloured.sum(1).cumsum(0)])
        packed = torch.nn.functional.normalize(
            bands[coloured] @ self._token_projection + 1e-4, dim=1
        )
        return Embeddings(vectors, packed, offsets)

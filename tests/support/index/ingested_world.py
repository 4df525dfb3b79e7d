"""A folder of pictures, a library of it, and what must hold of both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from colour_grid import ColourGridEncoder
from hostile import distinct_pictures
from PIL import Image

from maxsight.index.store import Store
from maxsight.models.embeddings import Embeddings
from maxsight.pipelines.ingestion.ingest import IngestReport, Progress, ingest

ENCODER = ColourGridEncoder()


def create(path: Path, *, token_dim: int | None = None) -> None:
    Store.create(
        path,
        encoder_uri=ENCODER.uri,
        fingerprint=ENCODER.fingerprint,
        dim=ENCODER.dim,
        token_dim=token_dim,
    ).close()


def never() -> ColourGridEncoder:
    raise AssertionError("the encoder is not needed")


class World:
    """A folder of pictures and a library of it."""

    def __init__(self, root: Path) -> None:
        self.photos = root / "photos"
        self.photos.mkdir()
        self.library = root / "test.maxsight"
        create(self.library)

    def ingest(
        self,
        load_encoder: Callable[[], ColourGridEncoder] = lambda: ENCODER,
        *,
        batch_size: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        with Store.open(self.library, write=True) as store:
            return ingest(
                store,
                load_encoder,
                [self.photos],
                fps=2,
                batch_size=batch_size,
                progress=progress,
            )

    def contents(self) -> dict[str, tuple[int, np.ndarray]]:
        """Name -> item id and vectors."""
        with Store.open(self.library) as store:
            snapshot = store.snapshot()
            return {
                os.path.relpath(path, self.photos): (
                    item.item_id,
                    snapshot.item_vectors(item.item_id),
                )
                for path, item in store.known().items()
            }

    def failures(self) -> dict[str, str]:
        with Store.open(self.library) as store:
            return {Path(path).name: failure.reason for path, failure in store.failures().items()}


PICTURES = distinct_pictures(12)


def fill(world: World, count: int = 6) -> list[Path]:
    paths = [world.photos / f"{number}.png" for number in range(count)]
    for path, picture in zip(paths, PICTURES):
        picture.save(path)
    return paths


def counts(report: IngestReport) -> dict[str, int]:
    names = ("added", "updated", "unchanged", "moved", "touched", "removed", "failed")
    return {name: value for name in names if (value := getattr(report, name))}


def assert_right(world: World) -> None:
    """Every picture has the vector of its pixels, encoded one by one."""
    contents = world.contents()
    names = {os.path.relpath(path, world.photos) for path in world.photos.rglob("*.png")}
    assert set(contents) == names
    for name, (_, vectors) in contents.items():
        (expected,) = ENCODER.encode_images([Image.open(world.photos / name)]).vectors.numpy()
        assert vectors.shape == (1, ENCODER.dim)
        assert vectors[0] @ expected > 0.9995, name


class CountingEncoder(ColourGridEncoder):
    """Knows how many pictures and frames it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode_images(
        self, images: Sequence[Image.Image] | torch.Tensor, *, tokens: bool = False
    ) -> Embeddings:
        self.encoded += len(images)
        return super().encode_images(images, tokens=tokens)

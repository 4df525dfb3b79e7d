"""Encoded galleries of held-out pictures, and recall over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from maxsight.benchmarks.measure.rows import Row
from maxsight.models.builtin.training.corpus import Picture, is_photograph
from maxsight.models.builtin.training.rendering import render_all
from maxsight.models.encoder import Encoder

_BATCH = 32
_DRAWN_AT = 224  # pixels; a drawing has no size of its own


@dataclass(frozen=True, eq=False)
class Gallery:
    """N pictures with their vectors.

    Attributes:
        pictures: N of them, without their drawings.
        photographs: (N,) bool, what Tux Paint's stamps are photographs.
        vectors: (N, D) float32, rows L2-normalised.
    """

    pictures: list[Picture]
    photographs: np.ndarray
    vectors: np.ndarray

    @property
    def captions(self) -> list[str]:
        """The N names."""
        return [picture.caption for picture in self.pictures]

    def where(self, mask: np.ndarray) -> Gallery:
        """The pictures that an (N,) bool mask marks."""
        kept = [picture for picture, keep in zip(self.pictures, mask) if keep]
        return Gallery(kept, self.photographs[mask], self.vectors[mask])


def encode(model: Encoder, pictures: Iterable[Picture]) -> Gallery:
    """Render pictures and encode them through the public encoder."""
    kept: list[Picture] = []
    photographs: list[bool] = []
    vectors: list[np.ndarray] = []
    drawn = render_all(pictures, _DRAWN_AT)
    while batch := list(islice(drawn, _BATCH)):
        images = [image for _, image in batch]
        vectors.append(model.encode_images(images).vectors.cpu().numpy())
        kept += [picture for picture, _ in batch]
        photographs += [is_photograph(picture, image) for picture, image in batch]
    width = vectors[0].shape[1] if vectors else model.dim
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, width), np.float32)
    return Gallery(kept, np.array(photographs, dtype=bool), stacked)


def text_to_image_ranks(model: Encoder, gallery: Gallery) -> dict[str, int]:
    """For each different caption, how many pictures come before the best one of that caption."""
    captions = gallery.captions
    queries = sorted(set(captions))
    scores = model.encode_text(queries).vectors.cpu().numpy() @ gallery.vectors.T
    names = np.array(captions)
    return {
        query: int((row > row[names == query].max()).sum()) for query, row in zip(queries, scores)
    }


def recall_rows(
    ranks: Sequence[int] | np.ndarray, *, benchmark: str, case: str, contender: str
) -> list[Row]:
    """Recall at 1, 5 and 10, in per cent of the queries.

    Args:
        ranks: of each query's right picture, 0 for the first place.
        benchmark, case, contender: see ``Row``.
    """
    places = np.asarray(ranks)
    return [
        Row(
            benchmark,
            case,
            contender,
            f"recall@{k}",
            round(100 * float((places < k).mean()), 1) if len(places) else 0.0,
            "%",
            runs=len(places),
        )
        for k in (1, 5, 10)
    ]

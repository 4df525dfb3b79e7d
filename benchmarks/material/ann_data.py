"""Collections that an approximate index is tried on: made ones with a modality gap, and real ones.

The made ones follow what is known of two-tower encoders. A picture's vector is a concept, seen
through the picture tower, plus what only pictures have (style, background); a text's is the same
concept seen through the text tower, plus what only texts have; each tower has a mean of its own.
So queries lie beside the rows, vary in other directions, and their neighbours are not each other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from maxsight.benchmarks.material.pictures import drawings
from maxsight.kernels import similarity

Gap = Literal["none", "mild", "strong"]

_DRAWN_ROWS = 50_000
# Variance of direction j is (1 + j / 16) ** -1.25: of 512, 128 hold three quarters.
_KNEE, _DECAY = 16, 1.25
# Of a picture: how much is its cluster's, its own, and the mean of all.
_CLUSTER, _OWN, _MEAN = 0.75, 0.65, 0.8
# By gap: how much only pictures have; how differently texts see a concept (spread of the logarithm
# of their weights); how much only texts have; how far off their mean lies.
_GAPS = {"mild": (0.35, 0.35, 0.7, 0.8), "strong": (0.75, 0.9, 0.9, 1.2)}
_REAL_PICTURES = 5_000


@dataclass(frozen=True, eq=False)
class Collection:
    """Rows, and queries of one kind.

    Attributes:
        name: with its gap and size.
        vectors: (N, D) float16, rows of norm 1 within 1e-3.
        queries: (Q, D) float32, rows of norm 1: to be answered.
        known: (M, D) float32, others of their kind: to learn from.
    """

    name: str
    vectors: np.ndarray
    queries: np.ndarray
    known: np.ndarray

    def truth(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """``(scores, rows)``, each (Q, k), of the largest products, exactly."""
        scores, rows = similarity.topk(
            torch.from_numpy(self.queries), torch.from_numpy(self.vectors), k
        )
        return scores.numpy(), rows.numpy()


def made(
    count: int, dim: int, gap: Gap, *, queries: int = 1_000, known: int = 10_000, seed: int = 0
) -> Collection:
    """Draw a collection.

    Args:
        count: N.
        dim: D.
        gap: ``none``: queries are drawn as rows are. ``mild``, ``strong``: as a text tower's.
        queries: Q.
        known: M.
        seed: everything is drawn from it.
    """
    draw = np.random.default_rng([seed, dim])
    decay = ((1 + np.arange(dim) / _KNEE) ** (-_DECAY / 2)).astype(np.float32)
    decay /= np.linalg.norm(decay)
    private, weight_spread, text_noise, text_mean = _GAPS["mild" if gap == "none" else gap]
    # The axes below are turned at random in the end, so that none is special.
    turn = np.linalg.qr(draw.standard_normal((dim, dim)))[0].astype(np.float32)
    means = draw.standard_normal((2, dim), dtype=np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    picture_only, text_only = decay[draw.permutation(dim)], decay[draw.permutation(dim)]
    weights = np.exp(weight_spread * draw.standard_normal(dim)).astype(np.float32)
    weights /= np.sqrt((weights**2 * decay**2).sum())

    clusters = max(1, min(count // 10, round(2 * count**0.5)))
    centres = draw.standard_normal((clusters, dim), dtype=np.float32) * decay
    share = np.arange(1, clusters + 1) ** -0.7
    share /= share.sum()

    def concepts(number: int) -> np.ndarray:
        own = draw.standard_normal((number, dim), dtype=np.float32)
        own *= _OWN * decay
        own += _CLUSTER * centres[draw.choice(clusters, number, p=share)]
        return own

    def pictures(seen: np.ndarray) -> np.ndarray:
        noise = draw.standard_normal(seen.shape, dtype=np.float32) * picture_only
        return _unit((seen + private * noise + _MEAN * means[0]) @ turn)

    vectors = np.empty((count, dim), dtype=np.float16)
    total = queries + known
    wanted = np.sort(draw.integers(0, count, total))
    asked = np.empty((total, dim), dtype=np.float32)
    for start in range(0, count, _DRAWN_ROWS):
        seen = concepts(min(_DRAWN_ROWS, count - start))
        vectors[start : start + len(seen)] = pictures(seen)
        mine = slice(*np.searchsorted(wanted, [start, start + len(seen)]))
        asked[mine] = seen[wanted[mine] - start]
    if gap == "none":
        asked = pictures(concepts(total))
    else:
        noise = draw.standard_normal(asked.shape, dtype=np.float32) * text_only
        asked = _unit((asked * weights + text_noise * noise + text_mean * means[1]) @ turn)
    draw.shuffle(asked)
    name = f"{count:,} x {dim}, gap {gap}"
    return Collection(name, vectors, asked[:queries], asked[queries:])


def drawn(data: Path) -> Collection:
    """The built-in encoder's vectors of 5,000 drawings; a query is a caption. Encoded once.

    Half of the different captions are queries, the other half is known.

    Args:
        data: folder for fetched, rendered and encoded material.

    Raises:
        DatasetError, EncoderError: pictures or encoder cannot be had.
    """
    kept = data / f"drawings-{_REAL_PICTURES}-vectors.npz"
    if not kept.exists():
        _encode(drawings(data, _REAL_PICTURES, side=224), kept)
    with np.load(kept) as stored:
        vectors, texts = stored["vectors"], stored["texts"]
    np.random.default_rng(0).shuffle(texts)
    half = len(texts) // 2
    name = f"{len(vectors):,} drawings x {vectors.shape[1]}, captions"
    return Collection(name, vectors.astype(np.float16), texts[:half], texts[half:])


def _encode(folder: Path, kept: Path) -> None:
    from PIL import Image

    from maxsight.models import encoder

    model = encoder.load("builtin")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    vectors = []
    for start in range(0, len(files), 32):
        images = [Image.open(path).convert("RGB") for path in files[start : start + 32]]
        vectors.append(model.encode_images(images).vectors.cpu().numpy())
    # 00937-person-golfing.png
    captions = sorted({path.stem.partition("-")[2].replace("-", " ") for path in files})
    texts = model.encode_text(captions).vectors.cpu().numpy()
    unfinished = kept.with_suffix(".unfinished.npz")
    np.savez(unfinished, vectors=np.concatenate(vectors), texts=texts)
    unfinished.rename(kept)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows

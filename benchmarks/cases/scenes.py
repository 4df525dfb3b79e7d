"""Does late interaction find pictures of several things, and cost nothing on those of one?

Scenes are 2 x 2 collages of real pictures whose concepts were held out from the built-in encoder's
training: Tux Paint's stamps and Noto's animals, food, objects, places and activities. A scene is
asked for by one of its four names, or by two ("x and y"). Beside them stand the held-out sets of
``builtin-recall``, one thing a picture, and one of these sets with scenes among its pictures, where
either are asked for. Each is ranked by the pooled vector, by MaxSim alone and by the mix that
search uses, over all patches and over 16 merged ones, stored as int8.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from maxsight.benchmarks.material import held_out
from maxsight.benchmarks.measure.rows import Row
from maxsight.index.records import TokenTable
from maxsight.index.snapshot_tokens import mean_maxsim
from maxsight.kernels import maxsim, merge
from maxsight.models import encoder
from maxsight.models.builtin.training import corpus
from maxsight.models.builtin.training.corpus import Picture
from maxsight.models.builtin.training.rendering import render_all
from maxsight.models.encoder import Encoder
from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.pipelines.search import score

_BENCHMARK = "scenes"
_SCENES, _GALLERIES = 200, 3  # scenes in a gallery, and galleries that the figures are taken over
_TILE = Preprocess(size=112, resize_mode="longest")
_DRAWN_AT = 224
_BATCH = 32
_MERGED = 16
_GROUPS = ("animals-nature", "food-drink", "travel-places", "objects", "activities")
_CROWD = "openclipart"  # single pictures of as many kinds as there are, to hide scenes among
_RESAMPLES = 2_000


@dataclass(frozen=True, eq=False)
class Gallery:
    """N pictures as a library stores them.

    Attributes:
        names: of each picture, what is in it.
        vectors: (N, D) float32.
        tables: the N pictures' tokens, by how many are kept.
    """

    names: list[tuple[str, ...]]
    vectors: np.ndarray
    tables: dict[str, TokenTable]


@dataclass(frozen=True)
class Question:
    """A text, and all the names that a right picture shows."""

    text: str
    names: frozenset[str]


def run(data: Path, *, encoder_uri: str = "builtin") -> list[Row]:
    """Measure recall on scenes and on the held-out sets.

    Args:
        data: folder for fetched packages.
        encoder_uri: what encodes; it must give tokens.

    Returns:
        recall@1, 5 and 10 in per cent, and by how much the mix's exceed those of either part, with
        the 95 % interval of resampled queries.
    """
    model = encoder.load(encoder_uri)
    stamps = list(render_all(corpus.stamps(data), _DRAWN_AT))
    noto = render_all(
        (
            picture
            for picture in corpus.emoji(data, "noto", tones=False)
            if picture.split == "test" and picture.group in _GROUPS
        ),
        _DRAWN_AT,
    )
    of_test = [(picture, image) for picture, image in stamps if picture.split == "test"]
    parts = [(picture.caption, resize(image, _TILE)) for picture, image in [*of_test, *noto]]
    asked: list[tuple[Gallery, list[Question], list[Question]]] = []
    for seed in range(_GALLERIES):
        draw = random.Random(seed)
        gallery = _encoded(model, _scenes(parts, draw))
        names = sorted({name for seen in gallery.names for name in seen})
        pairs = [draw.sample(seen, 2) for seen in gallery.names]
        one = [Question(name, frozenset([name])) for name in names]
        two = [
            Question(f"{first} and {second}", frozenset((first, second))) for first, second in pairs
        ]
        asked.append((gallery, one, two))
    where = f"{_GALLERIES} galleries of {_SCENES}"
    rows = _rows(model, f"scenes, two objects ({where})", [(g, two) for g, _, two in asked])
    rows += _rows(model, f"scenes, one object ({where})", [(g, one) for g, one, _ in asked])
    for name, pictures in _held_out(data, stamps):
        gallery = _encoded(model, (((picture.caption,), image) for picture, image in pictures))
        if name.startswith(_CROWD):
            among = f"scenes among {len(gallery.names)} single pictures ({where})"
            crowded = [(_together(g, gallery), one, two) for g, one, two in asked]
            rows += _rows(model, f"two objects, {among}", [(g, two) for g, _, two in crowded])
            rows += _rows(model, f"one object, {among}", [(g, one) for g, one, _ in crowded])
        captions = sorted({caption for (caption,) in gallery.names})
        questions = [Question(caption, frozenset([caption])) for caption in captions]
        if name.startswith(_CROWD):
            beside = f"single pictures ({len(gallery.names)}) beside scenes ({where})"
            rows += _rows(model, beside, [(g, questions) for g, _, _ in crowded])
        rows += _rows(model, f"{name} (gallery {len(gallery.names)})", [(gallery, questions)])
    return rows


def _scenes(
    parts: Sequence[tuple[str, np.ndarray]], draw: random.Random
) -> Iterator[tuple[tuple[str, ...], Image.Image]]:
    """Names and picture of each scene: four pictures of different names, a quarter each."""
    side = _TILE.size
    for _ in range(_SCENES):
        chosen = draw.sample(parts, 4)
        while len({name for name, _ in chosen}) < 4:
            chosen = draw.sample(parts, 4)
        scene = np.empty((2 * side, 2 * side, 3), np.uint8)
        for place, (_, tile) in enumerate(chosen):
            top, left = place // 2 * side, place % 2 * side
            scene[top : top + side, left : left + side] = tile
        yield tuple(name for name, _ in chosen), Image.fromarray(scene)


def _held_out(
    data: Path, stamps: Sequence[tuple[Picture, Image.Image]]
) -> Iterator[tuple[str, Iterable[tuple[Picture, Image.Image]]]]:
    """The sets of ``builtin-recall`` by name, drawn as they are wanted."""

    def openmoji(split: str) -> Iterator[tuple[Picture, Image.Image]]:
        pictures = corpus.emoji(data, "openmoji", tones=False)
        return render_all(
            (p for p in pictures if p.group != "flags" and p.split == split), _DRAWN_AT
        )

    yield "openmoji, seen concepts, unseen style", openmoji("train")
    yield "openmoji, unseen concepts and style", openmoji("test")
    is_photograph = [corpus.is_photograph(*pair) for pair in stamps]
    photographs = [pair for pair, is_one in zip(stamps, is_photograph) if is_one]
    yield (
        "tuxpaint photographs, unseen concepts",
        [pair for pair in photographs if pair[0].split == "test"],
    )
    yield "tuxpaint photographs, unseen source", photographs
    drawings = [pair for pair, is_one in zip(stamps, is_photograph) if not is_one]
    yield "tuxpaint drawings, unseen source", drawings
    clipart = (picture for picture in corpus.clipart(data) if picture.split == "test")
    yield "openclipart, unseen concepts", render_all(clipart, _DRAWN_AT)


def _encoded(model: Encoder, pictures: Iterable[tuple[tuple[str, ...], Image.Image]]) -> Gallery:
    """Encode through the public encoder, and store as ingestion does."""
    names: list[tuple[str, ...]] = []
    vectors: list[np.ndarray] = []
    parts: dict[str, list[TokenTable]] = {"all patches": [], f"{_MERGED} merged tokens": []}
    remaining = iter(pictures)
    while batch := list(islice(remaining, _BATCH)):
        names += [seen for seen, _ in batch]
        made = model.encode_images([image for _, image in batch], tokens=True)
        assert made.tokens is not None
        assert made.offsets is not None
        vectors.append(made.vectors.cpu().numpy())
        fewer = merge.reduce(made.tokens, made.offsets, _MERGED, sizes=made.sizes)
        every, merged = parts.values()
        every.append(_table(made.tokens, made.offsets, made.sizes))
        merged.append(_table(normalize(fewer.tokens, dim=-1), fewer.offsets, fewer.sizes))
    tables = {kept: _joined(batches) for kept, batches in parts.items()}
    return Gallery(names, np.concatenate(vectors), tables)


def _table(tokens: Tensor, offsets: Tensor, sizes: Tensor | None) -> TokenTable:
    coded = maxsim.Int8Tokens.of(tokens.cpu())
    return TokenTable(
        tokens=coded.values.numpy(),
        scales=coded.scale.numpy(),
        sizes=np.ones(len(tokens), np.float32) if sizes is None else sizes.cpu().numpy(),
        offsets=offsets.cpu().numpy(),
    )


def _joined(batches: Sequence[TokenTable]) -> TokenTable:
    lengths = np.concatenate([np.diff(batch.offsets) for batch in batches])
    return TokenTable(
        tokens=np.concatenate([batch.tokens for batch in batches]),
        scales=np.concatenate([batch.scales for batch in batches]),
        sizes=np.concatenate([batch.sizes for batch in batches]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


def _together(some: Gallery, others: Gallery) -> Gallery:
    return Gallery(
        some.names + others.names,
        np.concatenate([some.vectors, others.vectors]),
        {kept: _joined([some.tables[kept], others.tables[kept]]) for kept in some.tables},
    )


def _rows(
    model: Encoder, case: str, asked: Sequence[tuple[Gallery, Sequence[Question]]]
) -> list[Row]:
    """The figures of one case, over the questions to all its galleries."""
    ranks: dict[str, list[int]] = {}
    for gallery, questions in asked:
        for contender, scores in _scores(model, gallery, [q.text for q in questions]).items():
            ranks.setdefault(contender, []).extend(_ranks(scores, gallery, questions))
    rows: list[Row] = []
    for contender, places in ranks.items():
        rows += held_out.recall_rows(places, benchmark=_BENCHMARK, case=case, contender=contender)
    for kept in asked[0][0].tables:
        mixed = ranks[f"mix, {kept}"]
        for other in ("pooled vector", f"MaxSim, {kept}"):
            rows += _gains(mixed, ranks[other], case=case, contender=f"mix, {kept}", over=other)
    return rows


def _scores(model: Encoder, gallery: Gallery, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Contender -> (Q, N) scores."""
    made = model.encode_text(texts, tokens=True)
    assert made.tokens is not None
    assert made.offsets is not None
    vectors = made.vectors.cpu().numpy()
    bounds = made.offsets.tolist()
    tokens = [made.tokens[first:last].cpu().numpy() for first, last in pairwise(bounds)]
    pooled = vectors @ gallery.vectors.T
    scores = {"pooled vector": pooled}
    everything = np.arange(len(gallery.names))
    for kept, table in gallery.tables.items():
        late = mean_maxsim(tokens, table, everything)
        shares = [
            score.late_shares(model.mix, len(own), found, table.unity)
            for own, found in zip(tokens, late, strict=True)
        ]
        scores[f"MaxSim, {kept}"] = late
        scores[f"mix, {kept}"] = pooled + np.stack(shares) * (late - pooled)
    return scores


def _ranks(scores: np.ndarray, gallery: Gallery, questions: Sequence[Question]) -> list[int]:
    """For each question, how many pictures come before the best of the right ones."""
    seen = [frozenset(names) for names in gallery.names]
    ranks = []
    for row, question in zip(scores, questions, strict=True):
        right = np.array([question.names <= names for names in seen])
        ranks.append(int((row > row[right].max()).sum()))
    return ranks


def _gains(
    mixed: Sequence[int], other: Sequence[int], *, case: str, contender: str, over: str
) -> list[Row]:
    """Points of recall that the mix is ahead, and the 95 % interval over resampled queries."""
    draws = np.random.default_rng(0).integers(len(mixed), size=(_RESAMPLES, len(mixed)))
    rows = []
    for k in (1, 5, 10):
        ahead = 100 * ((np.array(mixed) < k).astype(float) - (np.array(other) < k))
        low, high = np.percentile(ahead[draws].mean(1), (2.5, 97.5))
        rows.append(
            Row(
                _BENCHMARK,
                case,
                contender,
                f"recall@{k} ahead of {over.split(',')[0]}, 95 %",
                round(float(ahead.mean()), 1),
                "points",
                round(float(low), 1),
                round(float(high), 1),
                len(ahead),
            )
        )
    return rows

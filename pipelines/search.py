"""Search: a signed mix of texts, pictures and vectors in, ranked files out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maxsight import settings
from maxsight.errors import MediaError, UsageError
from maxsight.models import compose

if TYPE_CHECKING:
    from maxsight.index.records import Kind, UnitHit
    from maxsight.index.snapshot import Snapshot
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.text_cache import TextCache


@dataclass(frozen=True, eq=False)
class Term:
    """One ingredient of a query: exactly one of ``text``, ``image`` and ``vector``.

    Attributes:
        text: words, not blank.
        image: path of a picture.
        vector: (D,) in the library's space; it is normalised.
        weight: more than one matters more, below zero means *less of this*.
    """

    text: str | None = None
    image: Path | None = None
    vector: np.ndarray | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        given = [v for v in (self.text, self.image, self.vector) if v is not None]
        if len(given) != 1:
            raise UsageError("a term is exactly one of a text, an image and a vector")
        if self.text is not None and not self.text.strip():
            raise UsageError("an empty text finds nothing: describe what you are looking for")
        if not math.isfinite(self.weight) or self.weight == 0:
            raise UsageError(f"a weight must be a finite number other than 0, got {self.weight}")


@dataclass(frozen=True)
class Query:
    """What is looked for, and where.

    Attributes:
        terms: mixed into one vector by ``maxsight.models.compose``.
        k: how many files at most.
        where: SQL over the item columns (docs/storage.md), say ``width > 1000``.
        kinds: restrict to ``image`` or ``video``; None means both.
        include_references: also return the pictures that the query itself names.
    """

    terms: tuple[Term, ...]
    k: int = 10
    where: str | None = None
    kinds: frozenset[Kind] | None = None
    include_references: bool = False

    def __post_init__(self) -> None:
        if not self.terms:
            raise UsageError("an empty query: give a text, an image or a vector")
        if all(term.weight < 0 for term in self.terms):
            raise UsageError("a query of minus terms only: say also what you do want")
        if self.k < 1:
            raise UsageError(f"k must be at least 1, got {self.k}")


@dataclass(frozen=True)
class Hit:
    """One file found. ``start`` and ``end`` (seconds) name a film's best moment."""

    rank: int
    path: str
    kind: Kind
    score: float
    start: float | None
    end: float | None
    item_id: int


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, and where the time went (milliseconds by stage)."""

    hits: list[Hit]
    timing_ms: dict[str, float] = field(default_factory=dict)


def search(
    snapshot: Snapshot,
    query: Query,
    *,
    fingerprint: str,
    encoder: Callable[[], Encoder],
    cache: TextCache,
) -> SearchResult:
    """Find the files nearest to a query.

    Args:
        snapshot: the library to look through.
        query: what to look for.
        fingerprint: of the encoder that made the library's vectors.
        encoder: gives that encoder; called only if something must be encoded.
        cache: of texts encoded before.

    Raises:
        UsageError: a vector of the wrong width, a filter that is not SQL.
        MediaError: a reference picture cannot be read.
    """
    clock = _Clock()
    vector, references = encode_query(
        snapshot, query.terms, fingerprint=fingerprint, encoder=encoder, cache=cache
    )
    clock.lap("encode")
    left_out = () if query.include_references else references
    allowed = snapshot.allowed(where=query.where, kinds=query.kinds, without_items=left_out)
    clock.lap("filter")
    best = _best_units(snapshot, vector, query.k, allowed)
    clock.lap("search")
    hits = [
        Hit(rank, unit.path, unit.kind, unit.score, unit.start, unit.end, unit.item_id)
        for rank, unit in enumerate(best, start=1)
    ]
    return SearchResult(hits, clock.laps)


def encode_query(
    snapshot: Snapshot,
    terms: Sequence[Term],
    *,
    fingerprint: str,
    encoder: Callable[[], Encoder],
    cache: TextCache,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Mix the terms into one vector.

    Returns:
        The (D,) float32 unit vector, and the ids of library items that are the reference
        pictures themselves (the same bytes), whose stored vectors were used.
    """
    texts = list(dict.fromkeys(term.text for term in terms if term.text is not None))
    by_text = cache.get(fingerprint, texts)
    if missing := [text for text in texts if text not in by_text]:
        encoded = encoder().encode_text(missing).vectors.cpu().numpy()
        new = dict(zip(missing, encoded))
        cache.put(fingerprint, new)
        by_text |= new
    references: list[int] = []
    vectors = []
    for term in terms:
        if term.text is not None:
            vectors.append(by_text[term.text])
        elif term.image is not None:
            vector, items = _encode_reference(snapshot, term.image, encoder)
            vectors.append(vector)
            references += items
        else:
            vectors.append(_checked(term.vector, snapshot.dim))
    mixed = compose.mix(
        np.stack(vectors).astype(np.float32),
        weights=[term.weight for term in terms],
        is_text=[term.text is not None for term in terms],
    )
    return mixed, tuple(references)


def _encode_reference(
    snapshot: Snapshot, path: Path, encoder: Callable[[], Encoder]
) -> tuple[np.ndarray, list[int]]:
    """A picture the library already holds needs no encoder: its vector is there."""
    from maxsight.pipelines import content, pictures

    try:
        data, _ = content.read_whole(str(path), max_bytes=content.most_bytes(settings.max_pixels()))
        items = snapshot.find_items(content_hash=content.digest(data))
        if items:
            return snapshot.item_vectors(items[0])[0], items
        model = encoder()
        pixels, _ = pictures.decode_picture(
            data, model.preprocess, max_pixels=settings.max_pixels()
        )
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from None
    import torch

    vectors = model.encode_images(torch.tensor(pixels)[None]).vectors
    return vectors[0].cpu().numpy(), items


def _checked(vector: np.ndarray | None, dim: int) -> np.ndarray:
    array = np.asarray(vector, dtype=np.float32)
    if array.shape != (dim,):
        raise UsageError(f"the library holds vectors of {dim} numbers, got shape {array.shape}")
    norm = float(np.linalg.norm(array))
    if not math.isfinite(norm) or norm == 0:
        raise UsageError("a query vector must be finite and not all zeros")
    return array / norm


def _best_units(
    snapshot: Snapshot, vector: np.ndarray, k: int, allowed: np.ndarray | None
) -> list[UnitHit]:
    """The best unit of each of the k best items.

    The frames of one film may fill all the first places. What was found is then left out and the
    rest searched again: every round finds at least one more item, and none better than the last.
    """
    has_films = snapshot.unit_count > snapshot.item_count
    fetch = 4 * k if has_films else k
    best: dict[int, UnitHit] = {}
    while True:
        units = snapshot.search(vector[None], fetch, allowed=allowed)[0]
        for unit in units:
            best.setdefault(unit.item_id, unit)
        if len(best) >= k or len(units) < fetch:
            return list(best.values())[:k]
        others = snapshot.allowed(without_items=best)
        allowed = others if allowed is None or others is None else allowed & others


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(1000 * (now - self._last), 3)
        self._last = now

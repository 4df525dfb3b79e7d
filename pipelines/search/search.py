"""Search: a signed mix of texts, pictures and vectors in, ranked files out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from maxsight.arguments import choices, is_number, is_text, is_unicode, whole_number
from maxsight.errors import EncoderMismatch, LibraryError, UsageError
from maxsight.index import records
from maxsight.mix import Mix
from maxsight.models import compose
from maxsight.pipelines.query.reference import encode_reference, mean
from maxsight.pipelines.search import score as rescore
from maxsight.shown import shown

if TYPE_CHECKING:
    from maxsight.index.records import Kind, UnitHit
    from maxsight.index.snapshot import Snapshot
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.decoding.lone import LoneDecoder
    from maxsight.pipelines.query.text_cache import TextCache

Rerank = Literal["auto", "on", "off"]


@dataclass(frozen=True, eq=False)
class Term:
    """One ingredient of a query: exactly one of ``text``, ``image`` and ``vector``.

    Attributes:
        text: words, not blank.
        phrases: other words whose vectors' mean stands for the text's
            (pipelines/query/expansion.py).
        image: path of a picture.
        vector: (D,) in the library's space; it is normalised.
        weight: more than one matters more, below zero means *less of this*.
    """

    text: str | None = None
    image: Path | None = None
    vector: np.ndarray | None = None
    weight: float = 1.0
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [v for v in (self.text, self.image, self.vector) if v is not None]
        if len(given) != 1:
            raise UsageError("a term is exactly one of a text, an image and a vector")
        if self.text is not None and not is_text(self.text):
            raise UsageError(f"a text must be a str, got {type(self.text).__name__}")
        for text in (self.text or "", *self.phrases):
            if not is_unicode(text):
                raise UsageError(f"a text must be UTF-8, got {shown(text)}")
        if self.text is not None and not self.text.strip():
            raise UsageError("an empty text finds nothing: describe what you are looking for")
        if not is_number(self.weight) or not math.isfinite(self.weight) or self.weight == 0:
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
        rerank: whether texts are scored by the stored tokens, too (docs/late-interaction.md).
            ``auto``: where there are tokens, of an encoder for which it was measured.
    """

    terms: tuple[Term, ...]
    k: int = 10
    where: str | None = None
    kinds: frozenset[Kind] | None = None
    include_references: bool = False
    rerank: Rerank = "auto"

    def __post_init__(self) -> None:
        if not self.terms:
            raise UsageError("an empty query: give a text, an image or a vector")
        if all(term.weight < 0 for term in self.terms):
            raise UsageError("a query of minus terms only: say also what you do want")
        whole_number(self.k, what="k")
        if self.kinds is not None:
            choices(self.kinds, records.KINDS, what="a kind")
        if self.rerank not in ("auto", "on", "off"):
            raise UsageError(f"rerank must be auto, on or off, got {self.rerank!r}")
        if self.rerank == "on" and not any(term.text is not None for term in self.terms):
            raise UsageError("nothing to rerank: only texts are scored by tokens; add a text")


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


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query's terms, encoded.

    Attributes:
        vector: (D,) float32, the terms mixed; a unit vector.
        references: ids of library items that are the reference pictures themselves (the same
            bytes), whose stored vectors were used.
        late: the same terms for scoring by tokens; None if that was not asked for.
    """

    vector: np.ndarray
    references: tuple[int, ...]
    late: rescore.LateQuery | None = None


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
    decoder: LoneDecoder | None = None,
) -> SearchResult:
    """Find the files nearest to a query.

    Args:
        snapshot: the library to look through.
        query: what to look for.
        fingerprint: of the encoder that made the library's vectors.
        encoder: gives that encoder; called only if something must be encoded.
        cache: of texts encoded before.
        decoder: of reference pictures, kept for other queries; None for one of its own.

    Raises:
        UsageError: a vector of the wrong width, a filter that is not SQL, ``rerank`` on in a
            library without tokens, a reference picture that cannot be read.
    """
    clock = _Clock()
    encoded = encode_query(
        snapshot,
        query.terms,
        fingerprint=fingerprint,
        encoder=encoder,
        cache=cache,
        decoder=decoder,
        late=_is_reranked(snapshot, query),
    )
    clock.lap("encode")
    left_out = () if query.include_references else encoded.references
    allowed = snapshot.allowed(where=query.where, kinds=query.kinds, without_items=left_out)
    clock.lap("filter")
    if encoded.late is None:
        best = _best_units(snapshot, encoded.vector, query.k, allowed)
        clock.lap("search")
    else:
        rows = rescore.candidates(snapshot, encoded.late, encoded.vector, query.k, allowed)
        clock.lap("search")
        scores = rescore.score_rows(snapshot, encoded.late, rows)
        best = snapshot.best_of_each(rows, scores, query.k)
        clock.lap("rerank")
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
    decoder: LoneDecoder | None = None,
    late: bool = False,
) -> EncodedQuery:
    """Encode the terms and mix them.

    Args:
        decoder: as for :func:`search`.
        late: also prepare scoring by tokens. Texts are then scored by theirs; a picture and a
            vector are not, which have one vector in the query.
    """
    said = [term for term in terms if term.text is not None]
    texts = [text for term in said if (text := term.text) and (late or not term.phrases)]
    texts += [phrase for term in said for phrase in term.phrases]
    by_text, tokens_by_text = _encode_texts(
        list(dict.fromkeys(texts)),
        snapshot,
        fingerprint=fingerprint,
        encoder=encoder,
        cache=cache,
        late=late,
    )
    references: list[int] = []
    parts = []
    for term in terms:
        if term.text is not None:
            phrases = term.phrases or (term.text,)
            parts.append(mean(np.stack([by_text[phrase] for phrase in phrases])))
        elif term.image is not None:
            vector, items = encode_reference(snapshot, term.image, encoder=encoder, decoder=decoder)
            parts.append(vector)
            references += items
        else:
            parts.append(_checked(term.vector, snapshot.dim))
    if wrong := {len(part) for part in parts} - {snapshot.dim}:
        raise EncoderMismatch(
            f"the library says that it holds vectors of {snapshot.dim} numbers, and the encoder of "
            f"its fingerprint gives {wrong.pop()}: library.json does not fit it; restore it from a "
            "backup"
        )
    vectors = np.stack(parts).astype(np.float32)
    weights = [term.weight for term in terms]
    is_text = [term.text is not None for term in terms]
    mixed = compose.weighted_sum(vectors, weights=weights, is_text=is_text)
    if not late:
        return EncodedQuery(mixed, tuple(references))
    tokens = [None if term.text is None else tokens_by_text[term.text] for term in terms]
    shares = compose.shares(vectors, weights=weights, is_text=is_text)
    mix = _mix_of(snapshot)
    return EncodedQuery(mixed, tuple(references), rescore.late_query(vectors, shares, tokens, mix))


def _mix_of(snapshot: Snapshot) -> Mix | None:
    """How the library says that vectors and tokens are weighed."""
    given = snapshot.manifest.mix
    try:
        return None if given is None else Mix(**given)
    except (TypeError, ValueError) as error:
        raise LibraryError(
            f"library.json names a mix that cannot be ({error}): restore it from a backup, or "
            "search without tokens (--no-rerank)"
        ) from error


def _encode_texts(
    texts: list[str],
    snapshot: Snapshot,
    *,
    fingerprint: str,
    encoder: Callable[[], Encoder],
    cache: TextCache,
    late: bool,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The (D,) vector of each text and, if ``late``, its (n, d) tokens; from the cache or not."""
    vectors = cache.get(fingerprint, texts, dim=snapshot.manifest.dim)
    width = snapshot.manifest.token_dim if late else None
    tokens = {} if width is None else cache.get_tokens(fingerprint, texts, width=width)
    known = vectors.keys() & tokens.keys() if late else vectors.keys()
    if missing := [text for text in texts if text not in known]:
        encoded = encoder().encode_text(missing, tokens=late)
        new = dict(zip(missing, encoded.vectors.cpu().numpy()))
        cache.put(fingerprint, new)
        vectors |= new
        if encoded.tokens is not None and encoded.offsets is not None:
            bounds = encoded.offsets.tolist()
            packed = encoded.tokens.cpu().numpy()
            own = {text: packed[bounds[i] : bounds[i + 1]] for i, text in enumerate(missing)}
            cache.put_tokens(fingerprint, own)
            tokens |= own
    return vectors, tokens


def _is_reranked(snapshot: Snapshot, query: Query) -> bool:
    manifest = snapshot.manifest
    if query.rerank == "on" and manifest.token_dim is None:
        raise UsageError(
            "the library stores no tokens to rerank by: index into a new one with --tokens, or "
            "leave --rerank away"
        )
    measured = query.rerank == "on" or (query.rerank == "auto" and manifest.mix is not None)
    return measured and manifest.token_dim is not None


def _checked(vector: np.ndarray | None, dim: int) -> np.ndarray:
    try:
        array = np.asarray(np.asarray(vector).astype(np.float32, casting="same_kind"))
    except (TypeError, ValueError):
        raise UsageError(f"a query vector must be numbers, got {type(vector).__name__}") from None
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

"""A query's terms as vectors, and as tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from maxsight.errors import EncoderMismatch, UsageError
from maxsight.models import compose
from maxsight.pipelines.decoding.lone import LoneDecoder
from maxsight.pipelines.query.late_query import LateQuery, late_query
from maxsight.pipelines.query.reference import encode_reference, mean

if TYPE_CHECKING:
    from maxsight.index.snapshot import Snapshot
    from maxsight.index.tables.manifest import Manifest
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.query.language import Rerank, Term
    from maxsight.pipelines.query.text_cache import TextCache


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query's terms, encoded.

    Attributes:
        vector: (D,) float32, the weighted sum of the terms; a unit vector.
        references: ids of library items that are the reference pictures themselves (the same
            bytes), whose stored vectors were used.
        late: the same terms for scoring by tokens; None if none is scored so.
    """

    vector: np.ndarray
    references: tuple[int, ...]
    late: LateQuery | None = None


@dataclass(frozen=True, eq=False)
class QueryEncoder:
    """The encoder of a library, as queries need it: loaded only if something must be encoded.

    Attributes:
        fingerprint: of the encoder that made the library's vectors.
        load: gives that encoder.
        cache: of texts that were encoded before.
        decoder: of reference pictures.
    """

    fingerprint: str
    load: Callable[[], Encoder]
    cache: TextCache
    decoder: LoneDecoder = field(default_factory=LoneDecoder)

    def encode(
        self, snapshot: Snapshot, terms: Sequence[Term], *, rerank: Rerank = "off"
    ) -> EncodedQuery:
        """Encode the terms of one query; see :meth:`encode_many`."""
        return self.encode_many(snapshot, [(terms, rerank)])[0]

    def encode_many(
        self, snapshot: Snapshot, queries: Sequence[tuple[Sequence[Term], Rerank]]
    ) -> list[EncodedQuery]:
        """Encode the terms of each query and sum them by their weights. Texts that nobody has asked
        for before are encoded together.

        Args:
            snapshot: the library to look through; it may hold the pictures of the queries.
            queries: terms, and whether to prepare scoring by tokens, too. Texts are then scored by
                theirs; a picture and a vector are not, which have one vector in the query.
                ``auto``: where the encoder's mix was measured.

        Raises:
            UsageError: a vector of the wrong width, a reference picture that cannot be read,
                ``rerank`` on in a library without tokens.
            EncoderMismatch: ``library.json`` does not fit the encoder.
        """
        late = [_is_reranked(snapshot.manifest, rerank) for _, rerank in queries]
        known: dict[bool, tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]] = {}
        for by_tokens in set(late):
            said = [
                term
                for (terms, _), is_late in zip(queries, late, strict=True)
                for term in (terms if is_late == by_tokens else ())
                if term.text is not None
            ]
            texts = [
                text for term in said if (text := term.text) and (by_tokens or not term.phrases)
            ]
            texts += [phrase for term in said for phrase in term.phrases]
            known[by_tokens] = self._texts(
                list(dict.fromkeys(texts)), snapshot.manifest, late=by_tokens
            )
        return [
            self._encoded(snapshot, terms, *known[is_late])
            for (terms, _), is_late in zip(queries, late, strict=True)
        ]

    def _encoded(
        self,
        snapshot: Snapshot,
        terms: Sequence[Term],
        by_text: Mapping[str, np.ndarray],
        tokens_by_text: Mapping[str, np.ndarray],
    ) -> EncodedQuery:
        references: list[int] = []
        parts = []
        for term in terms:
            if term.text is not None:
                phrases = term.phrases or (term.text,)
                parts.append(mean(np.array([by_text[phrase] for phrase in phrases])))
            elif term.image is not None:
                vector, items = encode_reference(
                    snapshot, term.image, encoder=self.load, decoder=self.decoder
                )
                parts.append(vector)
                references += items
            else:
                parts.append(_checked(term.vector, snapshot.dim))
        if wrong := {len(part) for part in parts} - {snapshot.dim}:
            raise EncoderMismatch(
                f"the library says that it holds vectors of {snapshot.dim} numbers, and the "
                f"encoder of its fingerprint gives {wrong.pop()}: library.json does not fit it; "
                "restore it from a backup"
            )
        vectors = np.array(parts, dtype=np.float32)
        weights = [term.weight for term in terms]
        is_text = [term.text is not None for term in terms]
        tokens = [None if term.text is None else tokens_by_text.get(term.text) for term in terms]
        mix = snapshot.manifest.mix
        scored = late_query(vectors, tokens, mix, weights=weights, is_text=is_text)
        summed = compose.weighted_sum(vectors, weights=weights, is_text=is_text)
        return EncodedQuery(summed, tuple(references), scored)

    def _texts(
        self, texts: list[str], manifest: Manifest, *, late: bool
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The (D,) vector of each text and, if ``late``, its (n, d) tokens; from the cache or
        not."""
        vectors = self.cache.get(self.fingerprint, texts, dim=manifest.dim)
        width = manifest.token_dim if late else None
        tokens = (
            {} if width is None else self.cache.get_tokens(self.fingerprint, texts, width=width)
        )
        known = vectors.keys() & tokens.keys() if late else vectors.keys()
        if missing := [text for text in texts if text not in known]:
            encoded = self.load().encode_text(missing, tokens=late)
            new = dict(zip(missing, encoded.vectors.cpu().numpy()))
            self.cache.put(self.fingerprint, new)
            vectors |= new
            if encoded.tokens is not None and encoded.offsets is not None:
                bounds = encoded.offsets.tolist()
                packed = encoded.tokens.cpu().numpy()
                own = {text: packed[bounds[i] : bounds[i + 1]] for i, text in enumerate(missing)}
                self.cache.put_tokens(self.fingerprint, own)
                tokens |= own
        return vectors, tokens


def _is_reranked(manifest: Manifest, rerank: Rerank) -> bool:
    if rerank == "on" and manifest.token_dim is None:
        raise UsageError(
            "the library stores no tokens to rerank by: index into a new one with --tokens, or "
            "leave --rerank away"
        )
    measured = rerank == "on" or (rerank == "auto" and manifest.mix is not None)
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

"""Texts that an index is fitted to: those asked for, and names of things, encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from colour_grid import DIM, ColourGridEncoder

from maxsight.models.embeddings import Embeddings
from maxsight.pipelines.query.encoder import QueryEncoder
from maxsight.pipelines.query.known_texts import known_texts
from maxsight.pipelines.query.text_cache import TextCache


class Hashing(ColourGridEncoder):
    """Tells texts apart by their hash, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[str] = []

    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        self.encoded += texts
        rows = [
            torch.randn(DIM, generator=torch.Generator().manual_seed(sum(map(ord, text))))
            for text in texts
        ]
        return Embeddings(torch.nn.functional.normalize(torch.stack(rows), dim=1))


def asking(encoder: Hashing, cache: TextCache) -> QueryEncoder:
    return QueryEncoder(encoder.fingerprint, lambda: encoder, cache)


def test_names_of_things_are_encoded_once(tmp_path: Path) -> None:
    encoder = Hashing()
    with closing(TextCache(tmp_path / "texts.sqlite")) as cache:
        first = known_texts(asking(encoder, cache))
        assert first.shape == (len(encoder.encoded), DIM)
        assert len(first) >= 1000
        count = len(encoder.encoded)
        np.testing.assert_array_equal(known_texts(asking(encoder, cache)), first)
        assert len(encoder.encoded) == count
        # They count as nobody's question, and what was asked comes first.
        assert len(cache.newest(encoder.fingerprint, 9)) == 0
        asked = np.eye(DIM, dtype=np.float32)[:2]
        cache.put(encoder.fingerprint, {"a": asked[0], "b": asked[1]})
        np.testing.assert_array_equal(
            known_texts(asking(encoder, cache)), np.concatenate([asked[[0, 1]], first])
        )


def test_who_asked_enough_needs_no_names(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((2100, DIM)).astype(np.float32)
    with closing(TextCache(tmp_path / "texts.sqlite")) as cache:
        encoder = Hashing()
        cache.put(encoder.fingerprint, {str(n): vector for n, vector in enumerate(vectors)})
        assert known_texts(asking(encoder, cache)).shape == (2000, DIM)
        assert encoder.encoded == []


def test_without_a_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    encoder = Hashing()
    with closing(TextCache(tmp_path / "file" / "texts.sqlite")) as cache:
        assert len(known_texts(asking(encoder, cache))) == len(encoder.encoded)

"""Items whose every number follows from their content hash, so that a reader can check them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from maxsight.index.records import EncodedItem, FileState, TokenTable
from maxsight.index.snapshot import Snapshot
from maxsight.index.store import Store

DIM = 24


class Samples:
    """Makes items and recognises them."""

    dim = DIM

    def unit_vectors(self, count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
        vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def item(
        self, path: str, content: str, *, tokens: int | None = None, size: int = 100
    ) -> EncodedItem:
        """``content`` ending in ``*N`` is a film of N units, anything else a picture."""
        _, star, count = content.partition("*")
        units = int(count) if star else 1
        seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")
        table = None
        if tokens is not None:
            random = np.random.default_rng(seed)
            offsets = np.concatenate([[0], np.cumsum(random.integers(0, 5, units))])
            total = int(offsets[-1])
            table = TokenTable(
                tokens=random.integers(-127, 128, (total, tokens)).astype(np.int8),
                scales=random.random(total).astype(np.float32),
                sizes=random.integers(1, 9, total).astype(np.float32),
                offsets=offsets,
            )
        starts = np.arange(units, dtype=np.float64)
        return EncodedItem(
            state=FileState(path, bytes=size, mtime_ns=1_700_000_000_123_456_789 + size),
            kind="video" if star else "image",
            content_hash=content,
            width=640,
            height=480,
            vectors=self.unit_vectors(units, seed),
            spans=np.stack([starts, starts + 1], axis=1) if star else None,
            duration_s=float(units) if star else None,
            tokens=table,
        )

    def check(self, snapshot: Snapshot, expected: dict[int, tuple[str, str]]) -> None:
        """The snapshot holds exactly ``item_id -> (path, content)``, with the right units."""
        assert snapshot.item_count == len(expected)
        contents = {item_id: self.item(*pair) for item_id, pair in expected.items()}
        assert snapshot.unit_count == sum(len(item.vectors) for item in contents.values())
        for item_id, item in contents.items():
            stored = snapshot.item_vectors(item_id)
            np.testing.assert_array_equal(stored, item.vectors.astype(np.float16))
        films = {film.item_id: film for film in snapshot.films()}
        assert set(films) == {i for i, item in contents.items() if item.kind == "video"}
        for item_id, film in films.items():
            item = contents[item_id]
            assert film.path == item.state.path
            np.testing.assert_array_equal(film.spans, item.spans)
            np.testing.assert_array_equal(
                snapshot.vectors(np.arange(film.rows.start, film.rows.stop)),
                item.vectors.astype(np.float16),
            )
        if not expected:
            assert snapshot.search(self.unit_vectors(1), 5) == [[]]
            return
        everything = snapshot.search(self.unit_vectors(1), 10**6)[0]
        assert len(everything) == snapshot.unit_count
        assert len({hit.unit_id for hit in everything}) == snapshot.unit_count
        found = {(hit.item_id, hit.path) for hit in everything}
        assert found == {(item_id, path) for item_id, (path, _) in expected.items()}


@pytest.fixture(scope="session")
def samples() -> Samples:
    return Samples()


@pytest.fixture
def create(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Creates a library under ``tmp_path``, open for writing until the test ends."""
    with ExitStack() as stores:

        def make(name: str = "library", *, dim: int = DIM, token_dim: int | None = None) -> Store:
            path = tmp_path / name
            return stores.enter_context(
                Store.create(
                    path, encoder_uri="test", fingerprint="f00d", dim=dim, token_dim=token_dim
                )
            )

        yield make

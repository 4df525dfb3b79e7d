"""Stored tokens: what a library keeps of them, and what a snapshot says about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maxsight.index.records import Changes, EncodedItem, FileState, TokenTable
from maxsight.index.store import Store

RNG = np.random.default_rng(1)
DIM, TOKEN_DIM = 8, 16


def table(lengths: list[int]) -> TokenTable:
    count = sum(lengths)
    return TokenTable(
        tokens=RNG.integers(-127, 128, size=(count, TOKEN_DIM)).astype(np.int8),
        scales=RNG.uniform(0.001, 0.01, count).astype(np.float32),
        sizes=RNG.integers(1, 9, count).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def item(number: int, lengths: list[int]) -> EncodedItem:
    vectors = RNG.normal(size=(len(lengths), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.arange(len(lengths), dtype=np.float64)
    film = len(lengths) > 1
    return EncodedItem(
        FileState(f"/{number}", 1, 1),
        "video" if film else "image",
        f"hash {number}",
        4,
        4,
        vectors,
        spans=np.stack([starts, starts + 1], axis=1) if film else None,
        tokens=table(lengths),
    )


def test_unity_is_the_length_of_the_mean() -> None:
    lengths = [3, 0, 1, 20]
    made = table(lengths)
    restored = made.tokens * made.scales[:, None]
    for unit, length in enumerate(lengths):
        own = slice(made.offsets[unit], made.offsets[unit + 1])
        expected = 0.0
        if length:
            weighted = restored[own] * made.sizes[own, None]
            expected = float(np.linalg.norm(weighted.sum(0) / made.sizes[own].sum()))
        np.testing.assert_allclose(made.unity[unit], expected, rtol=1e-4, atol=1e-6)
    same = np.tile(np.eye(1, TOKEN_DIM, dtype=np.int8) * 127, (4, 1))
    alike = TokenTable(same, np.full(4, 1 / 127, np.float32), np.ones(4), np.array([0, 4]))
    np.testing.assert_allclose(alike.unity, 1, rtol=1e-5)


def test_all_tokens_follow_the_rows_past_removed_files(tmp_path: Path) -> None:
    items = [item(number, lengths) for number, lengths in enumerate([[2], [1, 4, 3], [0], [5]])]
    with Store.create(
        tmp_path / "s", encoder_uri="none", fingerprint="f", dim=DIM, token_dim=TOKEN_DIM
    ) as store:
        ids = store.apply(Changes(added=items))
        store.apply(Changes(removed=[ids[0]]))
        snapshot = store.snapshot()
        kept = snapshot.tokens.held
        assert len(kept.offsets) == snapshot.row_count + 1
        rows = np.flatnonzero(
            np.ones(snapshot.row_count) if (a := snapshot.allowed()) is None else a
        )
        expected = [
            own.tokens[own.offsets[unit] : own.offsets[unit + 1]]
            for own in (i.tokens for i in items[1:])
            if own is not None
            for unit in range(len(own.offsets) - 1)
        ]
        for row, tokens in zip(rows, expected, strict=True):
            np.testing.assert_array_equal(
                kept.tokens[kept.offsets[row] : kept.offsets[row + 1]], tokens
            )
        some = snapshot.tokens.of_rows(rows[::-1])
        np.testing.assert_array_equal(some.tokens[: len(expected[-1])], expected[-1])
        assert kept.tokens.flags.writeable  # torch takes no other memory
        bytes_held = kept.tokens.nbytes + kept.scales.nbytes + kept.sizes.nbytes
        assert snapshot.tokens.bytes == bytes_held  # all rows are in the sample


def test_what_a_compaction_deleted_has_no_tokens(tmp_path: Path) -> None:
    """A reader keeps rows of removed files for a while, which the table does not hold any more."""
    items = [item(number, [number + 1, 2]) for number in range(20)]
    path = tmp_path / "s"
    with Store.create(
        path, encoder_uri="none", fingerprint="f", dim=DIM, token_dim=TOKEN_DIM
    ) as store:
        store.apply(Changes(added=items))
        with Store.open(path) as reader:
            before = reader.snapshot().tokens.held
            store.apply(Changes(removed=[3, 19]))
            store.compact(grace_seconds=0)
            snapshot = reader.snapshot()
            assert (snapshot.row_count, snapshot.unit_count) == (40, 36)
            kept = snapshot.tokens.held
            assert kept.offsets.shape == (41,)
            for row in range(40):
                own = kept.tokens[kept.offsets[row] : kept.offsets[row + 1]]
                expected = before.tokens[before.offsets[row] : before.offsets[row + 1]]
                gone = row // 2 in (3, 19)
                np.testing.assert_array_equal(own, expected[:0] if gone else expected)
            assert len(kept.unity) == 40
            assert snapshot.tokens.are_held
            assert snapshot.tokens.bytes == len(kept.tokens) * (TOKEN_DIM + 8)
        with Store.open(path) as reader:
            assert reader.snapshot().row_count == 36


def test_tokens_are_held_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    with Store.create(
        path, encoder_uri="none", fingerprint="f", dim=DIM, token_dim=TOKEN_DIM
    ) as store:
        store.apply(Changes(added=[item(number, [5]) for number in range(20)]))
        snapshot = store.snapshot()
    assert snapshot.tokens.are_held
    fits = snapshot.state.plan.peak + snapshot.tokens.bytes
    for limit, expected in ((fits, True), (fits - 1, False)):
        monkeypatch.setenv("MAXSIGHT_MEMORY", str(limit))
        with Store.open(path) as reader:
            assert reader.snapshot().tokens.are_held == expected

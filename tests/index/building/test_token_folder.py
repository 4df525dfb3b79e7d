"""The index of tokens that a library makes by itself once they are many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from maxsight.index import snapshot_tokens
from maxsight.index.building import token_index
from maxsight.index.derived import generations, token_folder
from maxsight.index.records import Changes, EncodedItem
from maxsight.index.snapshot import Snapshot
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify

Create = Callable[..., Store]
WIDTH = 32


@pytest.fixture(autouse=True)
def _tokens_count_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_tokens, "HELD_TOKEN_BYTES", 0)


def item(samples: Any, name: str, content: str) -> EncodedItem:
    """With unit tokens, as encoders give them."""
    made: EncodedItem = samples.item(name, content, tokens=WIDTH)
    assert made.tokens is not None
    lengths = np.linalg.norm(made.tokens.tokens.astype(np.float32), axis=1)
    unit = dataclasses.replace(made.tokens, scales=(1 / lengths).astype(np.float32))
    return dataclasses.replace(made, tokens=unit)


def best(held: Snapshot, query: np.ndarray, k: int, allowed: np.ndarray | None) -> set[int]:
    """By brute force over the stored tokens."""
    table = held.tokens.held
    tokens = table.tokens.astype(np.float32) * table.scales[:, None]
    scores = np.full(held.row_count, -np.inf)
    for row in range(held.row_count):
        own = tokens[table.offsets[row] : table.offsets[row + 1]]
        if len(own) and (allowed is None or allowed[row]):
            scores[row] = (query @ own.T).max(axis=1).sum()
    return set(np.argsort(-scores)[:k].tolist())


def test_it_is_made_extended_and_found_by(create: Create, samples: Any) -> None:
    query = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)
    with create(token_dim=WIDTH) as store:

        def add(names: range, **others: Any) -> None:
            added = [item(samples, f"/{n}", f"{n}*3") for n in names]
            store.apply(Changes(added=added, **others))

        def check(held: Snapshot) -> None:
            for allowed in (held.allowed(), held.allowed(where="item_id % 3 = 0")):
                rows = held.tokens.best_rows([query], 10, allowed=allowed)
                assert rows is not None
                assert (np.diff(rows) > 0).all()
                assert allowed is None or allowed[rows].all()
                missed = best(held, query, 10, allowed) - set(rows.tolist())
                assert len(missed) <= 3

        add(range(100))
        assert store.snapshot().tokens.best_rows([query], 10) is None
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "kept"
        with Store.open(store.path) as reader:
            check(reader.snapshot())
            add(range(100, 101), removed=[7])
            assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "kept"
            check(reader.snapshot())
            rows = reader.snapshot().tokens.best_rows([query], 1)
            assert rows is not None
            assert len(rows) >= 3, "units that the index does not know are all scored"
            add(range(101, 130))
            assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "extended"
        with Store.open(store.path) as reader:
            check(reader.snapshot())
        add(range(130, 300))
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        with Store.open(store.path) as reader:
            check(reader.snapshot())


def test_a_reader_notices_it_without_a_commit(create: Create, samples: Any) -> None:
    """The index is made, and grows, after the commit that a reader has seen."""
    query = [np.ones((1, WIDTH), np.float32)]
    with create(token_dim=WIDTH) as store, Store.open(store.path) as reader:
        store.apply(Changes(added=[item(samples, f"/{n}", f"{n}") for n in range(60)]))
        assert reader.snapshot().tokens.best_rows(query, 1) is None
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        rows = reader.snapshot().tokens.best_rows(query, 1)
        assert rows is not None
        assert len(rows) == 1
        store.apply(Changes(added=[item(samples, f"/n{n}", f"n{n}") for n in range(20)]))
        rows = reader.snapshot().tokens.best_rows(query, 1)
        assert rows is not None
        assert len(rows) >= 20, "of units that the index does not know all"
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "extended"
        rows = reader.snapshot().tokens.best_rows(query, 1)
        assert rows is not None
        assert len(rows) == 1


def test_growing_leaves_no_files_behind(create: Create, samples: Any) -> None:
    with create(token_dim=WIDTH) as store:
        store.apply(Changes(added=[item(samples, f"/{n}", f"{n}") for n in range(200)]))
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        folder = store.path / "indexes" / "tokens-1"
        names = sorted(path.name for path in folder.iterdir())
        for step in range(3):
            new = [item(samples, f"/{step}.{n}", f"{step}.{n}") for n in range(20)]
            store.apply(Changes(added=new))
            assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "extended"
        assert sorted(path.name for path in folder.iterdir()) == names
        built = token_folder.load(store.path, store.manifest)
        assert built is not None
        assert built.unit_ids.tolist() == list(range(260))
        assert verify(store.path).problems == ()


def test_few_tokens_need_none(
    create: Create, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(token_dim=WIDTH) as store:
        store.apply(Changes(added=[item(samples, f"/{n}", f"{n}") for n in range(40)]))
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        monkeypatch.setattr(snapshot_tokens, "HELD_TOKEN_BYTES", 2**20)
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "none"
        assert generations.newest(store.path, token_folder.NAME) is None
    with create("plain") as store:
        store.apply(Changes(added=[samples.item("/1", "1")]))
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "none"


def test_one_of_units_that_are_gone_is_made_anew(create: Create, samples: Any) -> None:
    with create(token_dim=WIDTH) as store:
        store.apply(Changes(added=[item(samples, f"/{n}", f"{n}*2") for n in range(40)]))
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        replaced = [(n, item(samples, f"/{n}", f"{n}b*2")) for n in range(20)]
        store.apply(Changes(replaced=replaced))
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        with Store.open(store.path) as reader:
            built = token_folder.load(reader.path, reader.manifest)
            assert built is not None
            assert built.unit_ids.tolist() == reader.snapshot().state.unit_ids.tolist()


def test_one_that_is_damaged_or_anothers_is_not_used(
    create: Create, samples: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stores = [create(name, token_dim=WIDTH) for name in ("one", "two")]
    for store in stores:
        store.apply(Changes(added=[item(samples, f"/{n}", f"{n}") for n in range(40)]))
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        store.close()
    late = [store.path / "indexes" / "tokens-1" / "late.json" for store in stores]
    for content, told in ((late[0].read_bytes(), "another library"), (b"{}", "damaged")):
        late[1].write_bytes(content)
        with Store.open(stores[1].path) as reader:
            query = [np.ones((1, WIDTH), np.float32)]
            assert reader.snapshot().tokens.best_rows(query, 1) is None
        assert told in caplog.messages[-1]
        assert "--repair" in caplog.messages[-1]
    with Store.open(stores[1].path, write=True) as store:
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
        assert store.snapshot().tokens.best_rows(query, 1) is not None

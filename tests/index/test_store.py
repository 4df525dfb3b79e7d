"""What a library keeps, gives back and refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxsight.errors import (
    LibraryError,
    LibraryLocked,
    LibraryNotFound,
    SchemaTooNew,
    UsageError,
)
from maxsight.index.exact.memory import ExactIndex
from maxsight.index.records import Changes, EncodedItem, Failure, FileState
from maxsight.index.store import Store

Create = Callable[..., Store]


def test_a_library_comes_back_as_it_was(create: Create, samples: Any, tmp_path: Path) -> None:
    taken = datetime(2024, 2, 29, 12, 30, 1, 250_000)
    picture = dataclasses.replace(samples.item("/a.jpg", "one"), captured_at=taken)
    film = samples.item("/films/b.mp4", "two*4")
    with create() as store:
        assert store.apply(Changes(added=[picture, film])) == [0, 1]
        manifest = store.manifest
    with Store.open(tmp_path / "library") as store:
        assert store.manifest == manifest
        samples.check(store.snapshot(), {0: ("/a.jpg", "one"), 1: ("/films/b.mp4", "two*4")})
        known = store.known()
        assert known["/a.jpg"].state == picture.state
        assert known["/films/b.mp4"].kind == "video"
        rows = store.items().to_pylist()
        assert rows[0]["captured_at"] == taken
        assert rows[1]["duration_s"] == 4.0
        hit = store.snapshot().search(film.vectors[2:3], 1)[0][0]
        assert (hit.item_id, hit.path, hit.kind) == (1, "/films/b.mp4", "video")
        assert (hit.start, hit.end) == (2.0, 3.0)
        hit = store.snapshot().search(picture.vectors, 1)[0][0]
        assert (hit.start, hit.end) == (None, None)
        assert hit.score == pytest.approx(1, abs=1e-3)


def test_settings_and_remarks_stay_with_the_file(create: Create, samples: Any) -> None:
    def item(path: str, content: str, **how: str) -> EncodedItem:
        made: EncodedItem = dataclasses.replace(samples.item(path, content), **how)
        return made

    with create() as store:
        cut = item("/cut", "cut*2", settings="fps=2", remark="breaks off\udce9")
        whole = samples.item("/whole", "whole")
        bad = Failure(FileState("/bad", 1, 1), "too slow", "timeout=60")
        store.apply(Changes(added=[cut, whole], failed=[bad]))
        store.apply(Changes(restated=[(0, FileState("/moved", 1, 1))]))
        [copied] = store.copies([(0, FileState("/copy", 1, 1))])
        assert copied is not None
        store.apply(Changes(added=[copied], replaced=[(1, item("/whole", "w", settings=""))]))
        store.compact(grace_seconds=0)
        told = {path: item.settings for path, item in store.known().items()}
        assert told == {"/moved": "fps=2", "/copy": "fps=2", "/whole": ""}
        assert store.remarks() == dict.fromkeys(["/moved", "/copy"], r"breaks off\udce9")
        assert store.failures()["/bad"] == bad
        again = dataclasses.replace(bad, settings="timeout=90")
        store.apply(Changes(failed=[again], replaced=[(0, samples.item("/moved", "mended*3"))]))
        assert store.failures()["/bad"] == again
        assert store.remarks().keys() == {"/copy"}
        assert store.known()["/moved"].settings is None


def test_one_step_may_do_everything(create: Create, samples: Any) -> None:
    store = create()
    store.apply(
        Changes(
            added=[samples.item(f"/{name}", name) for name in "abcd"],
            failed=[Failure(FileState("/bad", 3, 4), "truncated"), failure("/worse")],
        )
    )
    before = store.snapshot()
    added = store.apply(
        Changes(
            added=[samples.item("/bad", "good now"), samples.item("/d", "moved in")],
            replaced=[(0, samples.item("/a", "edited*3"))],
            # Two files that swap names, and one that takes the place of a removed one.
            restated=[(1, FileState("/c", 1, 1)), (2, FileState("/b", 2, 2))],
            removed=[3],
            failed=[failure("/worse", "still bad"), failure("/new")],
        )
    )
    expected = {
        0: ("/a", "edited*3"),
        1: ("/c", "b"),
        2: ("/b", "c"),
        added[0]: ("/bad", "good now"),
        added[1]: ("/d", "moved in"),
    }
    samples.check(store.snapshot(), expected)
    samples.check(before, {n: (f"/{name}", name) for n, name in enumerate("abcd")})
    assert store.failures() == {
        "/worse": failure("/worse", "still bad"),
        "/new": failure("/new"),
    }
    assert store.known()["/c"].state == FileState("/c", 1, 1)
    assert store.known()["/c"].content_hash == "b"
    store.apply(Changes(forgotten=["/worse", "/never heard of"]))
    assert set(store.failures()) == {"/new"}
    store.close()


def failure(path: str, reason: str = "no such codec") -> Failure:
    return Failure(FileState(path, 7, 8), reason)


def test_ids_are_never_used_twice(create: Create, samples: Any, tmp_path: Path) -> None:
    """Not even when the highest ones are removed, compacted away and forgotten by the process."""
    store = create()
    seen_items: set[int] = set()
    seen_units: set[int] = set()
    for round_number in range(4):
        ids = store.apply(
            Changes(
                added=[samples.item(f"/{round_number}-{i}", f"{round_number}{i}*2") for i in "ab"]
            )
        )
        units = {hit.unit_id for hit in store.snapshot().search(samples.unit_vectors(1), 99)[0]}
        assert not seen_items & set(ids)
        assert not seen_units & units
        seen_items |= set(ids)
        seen_units |= units
        # The lower of the two is replaced, so that it owns the highest units, and both go.
        store.apply(Changes(replaced=[(ids[0], samples.item("/late", f"late{round_number}*3"))]))
        units = {hit.unit_id for hit in store.snapshot().search(samples.unit_vectors(1), 99)[0]}
        assert not {unit for unit in units - seen_units if unit < max(seen_units)}
        seen_units |= units
        store.apply(Changes(removed=ids))
        store.compact(grace_seconds=0)
        store.close()
        store = Store.open(tmp_path / "library", write=True)
    samples.check(store.snapshot(), {})
    store.close()


@pytest.mark.parametrize(
    "name",
    [b"/caf\xe9.jpg", b"/\xff\xfe", b"/caf\\xe9.jpg", "/日本.jpg".encode(), b"/a'b\"c\n"],
)
def test_any_file_name_survives(create: Create, samples: Any, name: bytes) -> None:
    path = os.fsdecode(name)
    twin = (
        "/other"
        if b"caf" not in name
        else os.fsdecode(({b"/caf\xe9.jpg", b"/caf\\xe9.jpg"} - {name}).pop())
    )
    with create() as store:
        store.apply(
            Changes(added=[samples.item(path, "x"), samples.item(twin, "y")][: 1 + (path != twin)])
        )
        store.apply(Changes(failed=[failure(path + "-broken")]))
        assert path in store.known()
        assert os.fsencode(store.known()[path].state.path) == name
        assert set(store.failures()) == {path + "-broken"}
        snapshot = store.snapshot()
        assert snapshot.find_items(path=path) == [0]
        hit = snapshot.search(samples.item(path, "x").vectors, 1)[0][0]
        assert hit.path == path
        for text in store.items(columns=["path"])["path"].to_pylist():
            text.encode("utf-8")
        store.apply(Changes(restated=[(0, FileState(path + "2", 1, 1))]))
        assert path not in store.known()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.ones((1, 7), np.float32)}, r"/x\.jpg: vectors must be \(U, 24\)"),
        ({"vectors": np.empty((0, 24), np.float32)}, r"/x\.jpg: vectors must be"),
        ({"vectors": np.full((1, 24), np.nan, np.float32)}, "norm nan.*finite"),
        ({"vectors": np.full((1, 24), np.inf, np.float32)}, "norm inf"),
        ({"vectors": np.ones((1, 24), np.float32)}, r"norm 4\.899"),
        ({"vectors": np.zeros((1, 24), np.float32)}, "norm 0"),
        ({"kind": "sound"}, "kind must be"),
        ({"kind": "video"}, "a video needs spans"),
        ({"spans": np.zeros((1, 2))}, "a picture has none"),
        ({"kind": "video", "spans": np.zeros((2, 2))}, r"spans must be \(1, 2\)"),
        ({"kind": "video", "spans": np.array([[2.0, 1.0]])}, "time order"),
        ({"kind": "video", "spans": np.array([[0.0, np.nan]])}, "finite"),
    ],
)
def test_what_could_not_be_found_is_refused_whole(
    create: Create, samples: Any, change: dict[str, Any], message: str
) -> None:
    bad = dataclasses.replace(samples.item("/x.jpg", "x"), **change)
    with create() as store:
        with pytest.raises(ValueError, match=message):
            store.apply(Changes(added=[samples.item("/good.jpg", "good"), bad]))
        assert store.known() == {}
        assert store.apply(Changes(added=[samples.item("/good.jpg", "good")])) == [0]


def test_contradictions_are_refused_whole(create: Create, samples: Any) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a"), samples.item("/b", "b")]))
        a = samples.item("/a", "again")
        wrong = [
            (Changes(added=[a]), "/a would be in the library twice"),
            (Changes(added=[samples.item("/n", "n")] * 2), "/n would be in the library twice"),
            (Changes(restated=[(0, FileState("/b", 1, 1))]), "/b would be in the library twice"),
            (Changes(failed=[failure("/f")] * 2), "/f would be in the library twice"),
            (Changes(removed=[0], replaced=[(0, a)]), "item 0 is changed twice"),
            (Changes(removed=[5]), "no item 5"),
            (Changes(replaced=[(-1, a)]), "no item -1"),
        ]
        for changes, message in wrong:
            with pytest.raises(ValueError, match=message):
                store.apply(changes)
        samples.check(store.snapshot(), {0: ("/a", "a"), 1: ("/b", "b")})


def test_tokens_come_back_by_unit(create: Create, samples: Any) -> None:
    items = [samples.item(f"/{n}", f"film {n}*{n + 1}", tokens=16) for n in range(6)]
    with create(token_dim=16) as store:
        store.apply(Changes(added=items[:3]))
        store.apply(Changes(added=items[3:], removed=[1]))
        for _ in range(2):
            snapshot = store.snapshot()
            for film in snapshot.films():
                hits = snapshot.search(snapshot.vectors([film.rows.stop - 1]), 1)[0]
                item = items[film.item_id]
                table = snapshot.tokens.of_units([hits[0].unit_id])
                start, end = item.tokens.offsets[-2:]
                np.testing.assert_array_equal(table.tokens, item.tokens.tokens[start:end])
                np.testing.assert_array_equal(table.scales, item.tokens.scales[start:end])
                np.testing.assert_array_equal(table.sizes, item.tokens.sizes[start:end])
                np.testing.assert_array_equal(table.offsets, [0, end - start])
            assert snapshot.tokens.of_units([]).offsets.tolist() == [0]
            with pytest.raises(ValueError, match="units of this snapshot"):
                snapshot.tokens.of_units([999])
            store.compact(grace_seconds=0)
        with pytest.raises(ValueError, match="16-wide tokens"):
            store.apply(Changes(added=[samples.item("/bare", "bare")]))


def test_copies_take_over_everything_but_the_file(create: Create, samples: Any) -> None:
    taken = datetime(2024, 2, 29, 12, 30)
    contents = ["a", "b*3", "c*2", "d"]
    items = [samples.item(f"/{content[0]}", content, tokens=16) for content in contents]
    items[3] = dataclasses.replace(
        items[3], captured_at=taken, settings="fps=2", remark="breaks off"
    )
    states = [FileState(f"/copy of {content[0]}", 9, 9) for content in contents]
    with create(token_dim=16) as store:
        store.apply(Changes(added=items))
        store.apply(Changes(removed=[2]))
        assert [item.item_id for item in store.removed()] == [2]
        order = [2, 1, 3, 0, 1]
        copied = store.copies([(number, states[number]) for number in order])
        for number, copy in zip(order, copied, strict=True):
            assert copy is not None
            assert copy.state == states[number]
            names = ("kind", "content_hash", "width", "height", "duration_s", "captured_at")
            for name in (*names, "settings", "remark"):
                assert getattr(copy, name) == getattr(items[number], name)
            expected = items[number].vectors.astype(np.float16)
            np.testing.assert_array_equal(copy.vectors, expected)
            np.testing.assert_array_equal(copy.spans, items[number].spans)
            for name in ("tokens", "scales", "sizes", "offsets"):
                same = getattr(copy.tokens, name), getattr(items[number].tokens, name)
                np.testing.assert_array_equal(*same)
        store.apply(Changes(added=[copy for copy in copied[:4] if copy is not None]))
        by_path = {item.state.path: item.item_id for item in store.known().values()}
        snapshot = store.snapshot()
        np.testing.assert_array_equal(
            snapshot.item_vectors(by_path["/copy of b"]), snapshot.item_vectors(1)
        )
        store.apply(Changes(removed=[by_path["/copy of a"], 3]))
        store.compact(grace_seconds=0)
        tombstones = [(item.item_id, states[0]) for item in store.removed()]
        assert tombstones
        assert store.copies(tombstones) == [None] * len(tombstones)


def test_a_library_without_tokens_says_so(create: Create, samples: Any) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a")]))
        with pytest.raises(UsageError, match="stores no tokens"):
            store.snapshot().tokens.of_units([0])
        with pytest.raises(ValueError, match="stores no tokens a unit"):
            store.apply(Changes(added=[samples.item("/b", "b", tokens=16)]))


def test_snapshots_are_kept_until_something_is_committed(create: Create, samples: Any) -> None:
    with create() as store, Store.open(store.path) as reader:
        store.apply(Changes(added=[samples.item("/a", "a*9000")]))
        first = reader.snapshot()
        assert reader.snapshot() is first
        # Commits in quick succession: the clock of the file system cannot tell them apart.
        expected = {0: ("/a", "a*9000")}
        for n in range(1, 12):
            store.apply(Changes(added=[samples.item(f"/{n}", str(n))]))
            expected[n] = (f"/{n}", str(n))
            assert reader.snapshot().item_count == n + 1
        latest = reader.snapshot()
        samples.check(latest, expected)
        samples.check(first, {0: ("/a", "a*9000")})
        # The full block of the first snapshot is the same memory.
        new, old = latest.state.vectors, first.state.vectors
        assert isinstance(new, ExactIndex)
        assert isinstance(old, ExactIndex)
        assert new._blocks[0] is old._blocks[0]


def test_compaction(create: Create, samples: Any) -> None:
    with create() as store, Store.open(store.path) as reader:
        for n in range(30):
            store.apply(Changes(added=[samples.item(f"/{n}", f"{n}*3")]))
        store.apply(Changes(removed=list(range(20)), failed=[failure("/f")]))
        before = reader.snapshot()
        kept = {n: (f"/{n}", f"{n}*3") for n in range(20, 30)}
        result = store.compact(grace_seconds=0)
        assert (result.items, result.units) == (20, 60)
        assert result.bytes > 0
        for snapshot in (before, store.snapshot(), reader.snapshot()):
            samples.check(snapshot, kept)
        assert set(store.failures()) == {"/f"}
        again = store.compact(grace_seconds=0)
        assert (again.items, again.units, again.bytes) == (0, 0, 0)
        assert len(list((store.path / "units.lance" / "data").iterdir())) == 1


def test_what_a_reader_opened_stays_readable_for_a_while(create: Create, samples: Any) -> None:
    with create(token_dim=16) as store:
        store.apply(Changes(added=[samples.item("/a", "a", tokens=16)]))
        old = store.snapshot()
        store.apply(Changes(removed=[0], added=[samples.item("/b", "b", tokens=16)]))
        store.compact()
        assert old.allowed(where="path = '/a'").tolist() == [True]  # type: ignore[union-attr]
        assert len(old.tokens.of_units([0]).offsets) == 2
        store.compact(grace_seconds=0)
        samples_hits = old.search(samples.unit_vectors(1), 1)[0]
        assert samples_hits[0].path == "/a"
        with pytest.raises(LibraryError, match="take a new snapshot"):
            old.tokens.of_units([0])


def test_one_writer(create: Create, samples: Any) -> None:
    store = create()
    with pytest.raises(LibraryLocked, match=rf"process {os.getpid()}"):
        Store.open(store.path, write=True)
    with pytest.raises(LibraryLocked):  # the failed attempt did not drop the lock
        Store.open(store.path, write=True)
    with Store.open(store.path) as reader:
        with pytest.raises(LibraryLocked, match="write=True"):
            reader.apply(Changes())
        with pytest.raises(LibraryLocked, match="write=True"):
            reader.compact()
    store.close()
    store.close()
    with pytest.raises(LibraryLocked):
        store.apply(Changes())
    Store.open(store.path, write=True).close()


def test_where_a_library_cannot_be(tmp_path: Path, create: Create) -> None:
    create("there").close()
    with pytest.raises(LibraryError, match="library already"):
        create("there")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    with pytest.raises(LibraryError, match="new or an empty folder"):
        create("full")
    assert (tmp_path / "full" / "diary.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LibraryError):
        create("file")
    with pytest.raises(LibraryError):
        create("file/below")
    (tmp_path / "empty").mkdir()
    create("empty").close()
    with pytest.raises(ValueError, match="dim must be"):
        create("zero", dim=0)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_is_no_library(tmp_path: Path, create: Create) -> None:
    for name in ("missing", "folder", "file"):
        if name == "folder":
            (tmp_path / name).mkdir()
        if name == "file":
            (tmp_path / name).write_text("x")
        with pytest.raises(LibraryNotFound, match=rf"{name} is not a library"):
            Store.open(tmp_path / name)
    create().close()
    manifest = tmp_path / "library" / "library.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"schema": 99, "dim": "whatever is new"}))
    with pytest.raises(SchemaTooNew, match=r"99.*pip install -U"):
        Store.open(tmp_path / "library")
    for text in ("", "{}", "[1]", "nonsense", '{"schema": 1}', '{"schema": "1"}', "\x00"):
        manifest.write_text(text)
        with pytest.raises(LibraryError, match=r"library\.json is damaged"):
            Store.open(tmp_path / "library")


@pytest.mark.parametrize("table", ["items.lance", "units.lance"])
def test_damage_is_named(create: Create, samples: Any, table: str) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a")]))
    for file in (store.path / table / "data").iterdir():
        file.write_bytes(file.read_bytes()[:20])
    with Store.open(store.path) as store, pytest.raises(LibraryError, match=table):
        store.snapshot()
    shutil.rmtree(store.path / table)
    with pytest.raises(LibraryError, match=rf"{table} is missing"):
        Store.open(store.path)
    with pytest.raises(LibraryError, match=rf"{table} is missing"):
        Store.open(store.path, write=True)

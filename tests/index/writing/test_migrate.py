"""Libraries of older schemas."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from maxsight.errors import LibraryError
from maxsight.index.files import checksum
from maxsight.index.records import Changes, Failure, FileState
from maxsight.index.store import Store
from maxsight.index.tables.manifest import SCHEMA, Manifest
from maxsight.index.tables.schema import ITEM_SCHEMA, ITEMS, UNITS
from maxsight.index.verify.verify import verify
from maxsight.index.writing import checksums, migrate

Create = Callable[..., Store]


def make_old(library: Path, schema: int) -> None:
    """Take away what that schema did not have."""
    lance.dataset(str(library / ITEMS)).drop_columns(["settings", "remark"])
    manifest = dataclasses.replace(Manifest.read(library), schema=schema)
    if schema == 2:
        checksums.LedgerWriter(library).rewrite()
        manifest.write(library)
        return
    (library / checksum.FILE_NAME).unlink()
    fields = dataclasses.asdict(manifest) | {"created": manifest.created.isoformat()}
    (library / "library.json").write_text(json.dumps(fields, indent=2))


@pytest.fixture(params=[1, 2])
def schema(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def old(create: Create, samples: Any, schema: int) -> Path:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a"), samples.item("/b", "b*3")]))
        store.apply(Changes(removed=[0], failed=[Failure(FileState("/bad", 1, 1), "cut")]))
    make_old(store.path, schema)
    return store.path


def test_an_old_library_is_read_as_it_is_and_upgraded_by_a_writer(
    old: Path, samples: Any, schema: int
) -> None:
    before = (old / "library.json").read_bytes()
    with Store.open(old) as store:
        samples.check(store.snapshot(), {1: ("/b", "b*3")})
        assert store.manifest.schema == schema
        assert "settings" not in store.items().column_names
        assert store.known()["/b"].settings is None
        assert store.failures()["/bad"].settings is None
        assert store.remarks() == {}
    found = verify(old)
    assert found.problems == ()
    files = len(checksums.table_files(old))
    assert (found.files > 0, found.unrecorded) == ((False, files) if schema == 1 else (True, 0))
    assert (old / "library.json").read_bytes() == before

    with Store.open(old) as reader:
        library_id = reader.manifest.library_id
        with Store.open(old, write=True) as store:
            assert store.manifest.schema == SCHEMA
            assert store.manifest.library_id == library_id
            new = dataclasses.replace(samples.item("/c", "c"), settings="s=1", remark="cut short")
            store.apply(Changes(added=[new]))
            assert {path: item.settings for path, item in store.known().items()} == {
                "/b": None,
                "/c": "s=1",
            }
            assert store.remarks() == {"/c": "cut short"}
            assert store.items(where="remark IS NOT NULL")["path"].to_pylist() == ["/c"]
        samples.check(reader.snapshot(), {1: ("/b", "b*3"), 3: ("/c", "c")})
    found = verify(old)
    assert (found.problems, found.unrecorded) == ((), 0)
    assert Manifest.read(old).schema == SCHEMA


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
def test_a_users_own_column_of_a_new_name_is_kept_under_another(
    create: Create, samples: Any, kind: pa.DataType, caplog: pytest.LogCaptureFixture
) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a"), samples.item("/b", "b*3")]))
        own = pa.table({"path": ["/a"], "own_remark": ["there already"]})
        store.annotate(own)
    make_old(store.path, 2)
    items = lance.dataset(str(store.path / ITEMS))
    items.add_columns(
        {"remark": f"CAST(item_id AS {'STRING' if kind == pa.string() else 'BIGINT'})"}
    )
    checksums.LedgerWriter(store.path).rewrite()
    with Store.open(store.path) as reader:
        own = dict(
            zip(*reader.items(columns=["item_id", "remark"]).to_pydict().values(), strict=True)
        )
        assert own == ({0: "0", 1: "1"} if kind == pa.string() else {0: 0, 1: 1})
    with Store.open(store.path, write=True) as writer:
        rows = {row["item_id"]: row for row in writer.items().to_pylist()}
    assert [rows[i]["remark"] for i in rows] == [None, None]
    assert {i: row["own_remark_2"] for i, row in rows.items()} == own
    assert {i: row["own_remark"] for i, row in rows.items()} == {0: "there already", 1: None}
    assert "remark is called own_remark_2 now" in caplog.text
    assert verify(store.path).problems == ()


def test_an_upgrade_may_end_at_any_step(
    old: Path, samples: Any, schema: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the disk fails once, in turn."""
    done = 0
    for steps in range(100):
        shutil.copytree(old, copy := old.with_name(f"copy{steps}"))
        left = steps

        def step(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                if not left:
                    raise OSError(5, "Input/output error")
                left -= 1
                return function(*arguments, **more)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", step(os.fsync))
            patch.setattr(Path, "replace", step(Path.replace))
            try:
                migrate.upgrade(copy, Manifest.read(copy))
                done += 1
            except (LibraryError, OSError):
                pass
        assert verify(copy).problems == ()
        with Store.open(copy, write=True) as store:
            samples.check(store.snapshot(), {1: ("/b", "b*3")})
            names = lance.dataset(str(copy / ITEMS)).schema.names
            assert names == ITEM_SCHEMA.names
        found = verify(copy)
        assert (found.problems, found.unrecorded) == ((), 0)
        if done:
            break
    assert steps > (10 if schema == 1 else 4)


def test_an_old_library_on_a_read_only_disk(old: Path, samples: Any, schema: int) -> None:
    """Reading never needs an upgrade."""
    for file in sorted(old.rglob("*")):
        file.chmod(0o555 if file.is_dir() else 0o444)
    with Store.open(old) as store:
        samples.check(store.snapshot(), {1: ("/b", "b*3")})
    assert (old / checksum.FILE_NAME).exists() == (schema == 2)


@pytest.mark.parametrize("own_type", [None, pa.string(), pa.int64()])
def test_a_damaged_old_library_is_repaired(
    create: Create, samples: Any, own_type: pa.DataType | None
) -> None:
    """Not even a user's own column of a name that is the library's now is in the way."""
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a")]))
        store.apply(Changes(added=[samples.item("/b", "b*3")]))
    make_old(store.path, 2)
    if own_type is not None:
        items = lance.dataset(str(store.path / ITEMS))
        kind = "STRING" if own_type == pa.string() else "BIGINT"
        own = "NULLIF(CAST(item_id AS STRING), '9')" if kind == "STRING" else "NULLIF(item_id, 9)"
        items.add_columns({"remark": own})
        checksums.LedgerWriter(store.path).rewrite()
    data = max((store.path / UNITS / "data").iterdir(), key=os.path.getmtime)
    content = bytearray(data.read_bytes())
    content[len(content) // 4] ^= 1
    data.write_bytes(content)
    assert verify(store.path).problems
    found = verify(store.path, repair=True)
    assert (found.problems, found.items) == ((), 1)
    with Store.open(store.path, write=True) as store:
        assert store.manifest.schema == SCHEMA
        samples.check(store.snapshot(), {0: ("/a", "a")})
        store.apply(Changes(added=[samples.item("/b", "b*3")]))
        (new,) = {item.item_id for path, item in store.known().items() if path == "/b"}
        assert new > 1, "the lost file's number is given to no other"

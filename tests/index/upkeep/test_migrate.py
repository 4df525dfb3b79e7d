"""Libraries of older schemas."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maxsight.errors import LibraryError
from maxsight.index.manifest import SCHEMA, Manifest
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.upkeep import checksums, migrate
from maxsight.index.upkeep.verify import verify

Create = Callable[..., Store]


def make_old(library: Path) -> None:
    """Take away what schema 1 did not have."""
    (library / checksums.FILE_NAME).unlink()
    file = library / "library.json"
    fields = json.loads(file.read_text())
    del fields["checksum"]
    file.write_text(json.dumps(fields | {"schema": 1}, indent=2))


@pytest.fixture
def old(create: Create, samples: Any) -> Path:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a"), samples.item("/b", "b*3")]))
        store.apply(Changes(removed=[0]))
    make_old(store.path)
    return store.path


def test_an_old_library_is_read_as_it_is_and_upgraded_by_a_writer(old: Path, samples: Any) -> None:
    before = (old / "library.json").read_bytes()
    with Store.open(old) as store:
        samples.check(store.snapshot(), {1: ("/b", "b*3")})
        assert store.manifest.schema == 1
    found = verify(old)
    assert (found.problems, found.files) == ((), 0)
    assert found.unrecorded == len(checksums.table_files(old))
    assert (old / "library.json").read_bytes() == before

    with Store.open(old) as reader:
        library_id = reader.manifest.library_id
        with Store.open(old, write=True) as store:
            assert store.manifest.schema == SCHEMA
            assert store.manifest.library_id == library_id
            store.apply(Changes(added=[samples.item("/c", "c")]))
        samples.check(reader.snapshot(), {1: ("/b", "b*3"), 2: ("/c", "c")})
    found = verify(old)
    assert (found.problems, found.unrecorded) == ((), 0)
    assert Manifest.read(old).schema == SCHEMA


def test_an_upgrade_may_end_at_any_step(
    old: Path, samples: Any, monkeypatch: pytest.MonkeyPatch
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
        found = verify(copy)
        assert (found.problems, found.unrecorded) == ((), 0)
        if done:
            break
    assert steps > 10


def test_an_old_library_on_a_read_only_disk(old: Path, samples: Any) -> None:
    """Reading never needs an upgrade."""
    for file in sorted(old.rglob("*")):
        file.chmod(0o555 if file.is_dir() else 0o444)
    with Store.open(old) as store:
        samples.check(store.snapshot(), {1: ("/b", "b*3")})
    assert not (old / checksums.FILE_NAME).exists()

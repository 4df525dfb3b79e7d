"""Links, pipes and devices inside a library: nothing outside it changes, nothing waits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxsight.errors import LibraryError
from maxsight.index.building import vector_index
from maxsight.index.files.durable import replace
from maxsight.index.late.late_index import LateIndex
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify

WIDTH = 8


@pytest.fixture(scope="module")
def made(samples: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A library with both kinds of indexes."""
    path = tmp_path_factory.mktemp("made") / "library"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maxsight.index.snapshot_tokens.HELD_TOKEN_BYTES", 0)
        with Store.create(
            path, encoder_uri="test", fingerprint="f", dim=samples.dim, token_dim=WIDTH
        ) as store:
            added = [samples.item(f"/{n}", f"{n}*3", tokens=WIDTH) for n in range(40)]
            store.apply(Changes(added=added))
            vector_index.bring_up_to_date(store.snapshot(), spec="IVF4,Flat")
        yield path


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "library"))


def elsewhere(place: Path, *, link: Callable[[Path, Path], None]) -> Path:
    """What stood at ``place``, moved out of the library; ``link`` puts a link there."""
    outside = place.parents[len(place.parts) - 1 - place.parts.index("library")] / "outside"
    outside.mkdir(exist_ok=True)
    moved = outside / place.name
    if place.exists():
        place.rename(moved)
    else:
        moved.write_bytes(b"precious")
    link(place, moved)
    return outside


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def change(library: Path, samples: Any) -> None:
    """All that a writer does."""
    with Store.open(library, write=True) as store:
        known = sorted(item.item_id for item in store.known().values())
        more = [samples.item(f"/more/{n}", f"m{n}*3", tokens=WIDTH) for n in range(9)]
        store.apply(Changes(added=more, removed=known[:9]))
        vector_index.bring_up_to_date(store.snapshot())
        store.compact(grace_seconds=0)


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("name", ["write.lock", "checksums.txt"])
def test_files_written_in_place_are_the_librarys_own(
    library: Path, samples: Any, name: str, link: Callable[[Path, Path], None]
) -> None:
    outside = elsewhere(library / name, link=link)
    before = contents(outside)
    with pytest.raises(LibraryError, match=f"{name}.*link"):
        change(library, samples)
    with pytest.raises(LibraryError, match=f"{name}.*link"):
        verify(library, repair=True)
    assert contents(outside) == before


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("name", ["tokens.bin", "lengths.bin", "labels.bin", "ids.bin"])
def test_a_token_index_does_not_grow_through_links(
    library: Path, samples: Any, name: str, link: Callable[[Path, Path], None]
) -> None:
    (folder,) = (library / "indexes").glob("tokens-*")
    outside = elsewhere(folder / name, link=link)
    before = contents(outside)
    table = samples.item("/x", "x*3", tokens=WIDTH).tokens
    with pytest.raises(OSError, match=r"link"):
        LateIndex.open(folder).add([table], labels=np.arange(1000, 1003))
    assert contents(outside) == before


def test_a_linked_token_index_does_not_grow(library: Path, samples: Any) -> None:
    (folder,) = (library / "indexes").glob("tokens-*")
    outside = elsewhere(folder, link=Path.symlink_to)
    before = contents(outside)
    table = samples.item("/x", "x*3", tokens=WIDTH).tokens
    with pytest.raises(OSError, match="a link, not a folder"):
        LateIndex.open(folder).add([table], labels=np.arange(1000, 1003))
    assert contents(outside) == before


@pytest.mark.parametrize(
    "name",
    [
        "indexes",
        "items.lance",
        "units.lance",
        "units.lance/data",
        "items.lance/_versions",
        "items.lance/_deletions",
        "units.lance/_transactions",
        "units.lance/_indices",
    ],
)
def test_no_folder_leads_a_writer_out(library: Path, samples: Any, name: str) -> None:
    outside = elsewhere(library / name, link=Path.symlink_to)
    before = contents(outside)
    with pytest.raises(LibraryError, match=f"{name}.*a link, not a folder"):
        change(library, samples)
    if name != "indexes":  # all in it can be made again: the link is set aside
        with pytest.raises(LibraryError, match=f"{name}.*a link, not a folder"):
            verify(library, repair=True)
    assert contents(outside) == before


def test_links_under_indexes_go_and_what_they_point_to_stays(
    library: Path, samples: Any, tmp_path: Path
) -> None:
    outside = elsewhere(next((library / "indexes").glob("vectors-*")), link=Path.symlink_to)
    for name in (".draft", ".vectors-9.partial", ".tokens-1.deleted"):
        (library / "indexes" / name).symlink_to(outside)
    (library / "indexes" / ".dangling").symlink_to(tmp_path / "nowhere")
    before = contents(outside)
    with Store.open(library, write=True) as store:
        vector_index.build(store.snapshot(), "IVF8,Flat")
    assert contents(outside) == before
    assert not [path for path in (library / "indexes").iterdir() if path.is_symlink()]
    assert not verify(library).problems


def test_a_library_may_be_linked_to_as_a_whole(library: Path, samples: Any, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(library)
    change(link, samples)
    assert not verify(link, repair=True).problems
    assert link.is_symlink()


def test_a_half_written_file_that_is_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".file.partial").symlink_to("precious")
    replace(tmp_path / "file", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "file").read_bytes() == b"new"
    (tmp_path / "linked").symlink_to("precious")
    replace(tmp_path / "linked", b"new")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    "name", ["library.json", "checksums.txt", "write.lock", "indexes/wanted.json"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_said_and_not_waited_for(
    library: Path, samples: Any, name: str, kind: str
) -> None:
    place = library / name
    place.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/full")
        case "folder":
            place.mkdir()
    if name == "indexes/wanted.json":  # derived: a warning, and the size chooses
        change(library, samples)
        return
    with pytest.raises(LibraryError, match=name):
        change(library, samples)
    if name == "library.json":
        assert name in {problem.place for problem in verify(library).problems}
    elif name == "checksums.txt":
        with pytest.raises(LibraryError, match=name):
            verify(library)


@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_no_file_of_an_index_is_waited_for(library: Path, samples: Any, kind: str) -> None:
    (folder,) = (library / "indexes").glob(f"{kind}-*")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with Store.open(library) as store:  # searched without it, as with any damaged one
            snapshot = store.snapshot()
            assert snapshot.search(samples.unit_vectors(1), 1)
            query = samples.unit_vectors(2, dim=WIDTH)
            assert snapshot.tokens.best_rows([query], 5) is None or kind == "vectors"
        assert [problem.kind for problem in verify(library).problems] == ["index"]
        file.unlink()
        file.write_bytes(content)
    assert not verify(library).problems


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("part", ["_versions", "_deletions", "_transactions", "data"])
def test_no_file_of_a_table_is_waited_for(
    library: Path, samples: Any, part: str, kind: str
) -> None:
    with Store.open(library, write=True) as store:
        store.apply(Changes(removed=[min(item.item_id for item in store.known().values())]))
    folders = list(library.glob(f"*.lance/{part}"))
    assert folders
    for folder in folders:
        file = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        file.rename(library / "kept")
        if kind == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")
        with pytest.raises(LibraryError, match=file.name), Store.open(library) as store:
            store.snapshot()
        with pytest.raises(LibraryError, match=file.name):
            change(library, samples)
        with pytest.raises(LibraryError, match=file.name):
            verify(library)
        file.unlink()
        (library / "kept").rename(file)
    assert not verify(library).problems


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_what_stands_in_the_place_of_the_indexes_is_not_searched(library: Path, kind: str) -> None:
    shutil.rmtree(library / "indexes")
    os.mkfifo(library / "indexes") if kind == "pipe" else (library / "indexes").touch()
    with Store.open(library) as store:
        store.snapshot()
    with pytest.raises(LibraryError, match="indexes"):
        Store.open(library, write=True)


@pytest.mark.parametrize("name", ["indexes", "partial"])
@pytest.mark.parametrize("kind", ["pipe", "file", "link", "dangling link"])
def test_what_stands_in_the_place_of_a_folder_is_said_and_set_aside(
    library: Path, samples: Any, tmp_path: Path, name: str, kind: str
) -> None:
    shutil.rmtree(library / name, ignore_errors=True)
    outside = tmp_path / "outside"
    if kind != "dangling link":
        outside.mkdir()
        (outside / "vectors-1").write_text("mine")
    if kind == "pipe":
        os.mkfifo(library / name)
    elif kind == "file":
        (library / name).write_text("mine")
    else:
        (library / name).symlink_to(outside)
    (library / f"{name}.aside").write_text("also mine")
    (problem,) = verify(library).problems
    assert (problem.kind, problem.place) == ("index" if name == "indexes" else name, name)
    assert f"not a folder; a repair renames it to {name}.aside2" in problem.text
    found = verify(library, repair=True)
    assert not found.problems
    assert f"to {name}.aside2" in found.repaired[0]
    aside = library / f"{name}.aside2"
    assert (library / f"{name}.aside").read_text() == "also mine"
    if kind == "file":
        assert aside.read_text() == "mine"
    elif kind != "pipe":
        assert aside.readlink() == outside
    assert kind == "dangling link" or (outside / "vectors-1").read_text() == "mine"
    with Store.open(library, write=True) as store:
        vector_index.build(store.snapshot(), "IVF8,Flat")
    assert not verify(library).problems


def test_a_hint_of_a_terabyte_takes_no_memory(library: Path) -> None:
    """Lance takes as much memory as the file is long, and its failing ended the process."""
    for table in ("items.lance", "units.lance"):
        hint = library / table / "_versions/latest_version_hint.json"
        before = hint.read_bytes()
        os.truncate(hint, 1 << 40)
        with pytest.raises(LibraryError, match=f"{hint.name} has .*: delete the file"):
            Store.open(library)
        hint.write_bytes(before)
    Store.open(library).close()

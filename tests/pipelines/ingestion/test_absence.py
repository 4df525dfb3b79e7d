"""Folders that are not there for once, and files that have another place or another name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from known_files import learn, write

from maxsight.errors import UsageError
from maxsight.index.records import Failure, FileState, KnownItem
from maxsight.pipelines.ingestion.known_content import Confirmed, confirm
from maxsight.pipelines.ingestion.scan import scan


def settle(known: dict[str, KnownItem], *roots: Path, prune: bool = False) -> Confirmed:
    return confirm(scan(roots, known, {}, prune=prune), held=list(known.values()))


def moves(confirmed: Confirmed, known: dict[str, KnownItem]) -> dict[str, str]:
    """Old path -> new path."""
    places = {item.item_id: path for path, item in known.items()}
    return {places[item_id]: state.path for item_id, state in confirmed.moved}


def _emptied(nas: Path) -> None:
    shutil.rmtree(nas)
    nas.mkdir()


def _with_a_note(nas: Path) -> None:
    _emptied(nas)
    write(nas / "NOT MOUNTED.txt")
    write(nas / ".hidden" / "x.jpg")


def _a_file(nas: Path) -> None:
    shutil.rmtree(nas)
    nas.write_text("a file now")


def _a_dead_link(nas: Path) -> None:
    shutil.rmtree(nas)
    nas.symlink_to("/mnt/nowhere")


def _a_ring(nas: Path) -> None:
    shutil.rmtree(nas)
    nas.symlink_to(nas)


@pytest.mark.parametrize(
    "vanish", [_emptied, shutil.rmtree, _with_a_note, _a_file, _a_dead_link, _a_ring]
)
@pytest.mark.parametrize("depth", ["NAS", "a/b/NAS", ""])
def test_a_folder_that_is_empty_or_gone_loses_nothing(
    tmp_path: Path, vanish: Callable[[Path], None], depth: str
) -> None:
    root = tmp_path / "Pictures"
    nas = root / depth
    write(tmp_path / "other" / "0.jpg", "other")
    for number in range(6):
        write(nas / f"{number % 2}" / f"{number}.jpg", f"{number}")
    write(nas / "top.jpg", "top")
    if depth:
        write(root / "local" / "red.jpg", "red")
    known = learn(root, tmp_path / "other")
    vanish(nas)
    roots = (root, tmp_path / "other")
    if not depth and not root.is_dir():
        if vanish is _a_ring:
            with pytest.raises(UsageError, match="cannot be read"):
                settle(known, *roots)
            return
        if vanish is _a_file:
            return  # given by name, a file is a file
    done = settle(known, *roots)
    assert done.removed == ()
    if vanish is not _a_ring:
        (warning,) = done.warnings
        place = nas if not depth.startswith("a/") else root / "a"
        assert f"{place} " in warning
        assert "knows 7 from there" in warning
    if vanish in (_emptied, shutil.rmtree):
        assert len(settle(known, *roots, prune=True).removed) == 7
        for number in range(6):
            write(nas / f"{number % 2}" / f"{number}.jpg", f"{number}")
        write(nas / "top.jpg", "top")
        back = settle(known, *roots)
        assert (back.removed, back.to_read, back.warnings) == ((), (), ())


def test_files_deleted_from_a_folder_that_is_there_are_gone(tmp_path: Path) -> None:
    for name in ("trip/1.jpg", "trip/2.jpg", "trip/raw/3.jpg", "trip/raw/4.jpg", "home/5.jpg"):
        write(tmp_path / name, name)
    known = learn(tmp_path)
    for name in ("trip/1.jpg", "trip/2.jpg", "trip/raw/3.jpg"):
        (tmp_path / name).unlink()
    done = settle(known, tmp_path)
    assert len(done.removed) == 3
    assert done.warnings == ()
    # A new file shows that a folder is there, too.
    (tmp_path / "home" / "5.jpg").unlink()
    write(tmp_path / "home" / "new.jpg", "new")
    assert len(settle(known, tmp_path).removed) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    write(tmp_path / "locked" / "1.jpg")
    known = learn(tmp_path)
    (tmp_path / "locked").chmod(0)
    done = scan([tmp_path], known, {}, prune=True)
    assert (done.gone, done.absent, len(done.unreadable)) == ((), (), 1)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "old" / "1.jpg", "one")
    write(tmp_path / "here" / "2.jpg", "two")
    known = learn(tmp_path / "old", tmp_path / "here")
    shutil.rmtree(tmp_path / "old")
    with pytest.raises(UsageError, match=r"old does not exist, but .* 1 .*relocate LIBRARY"):
        settle(known, tmp_path / "old")
    done = settle(known, tmp_path / "old", tmp_path / "here")
    assert done.removed == ()
    assert "old does not exist" in done.warnings[0]
    assert len(settle(known, tmp_path / "old", prune=True).removed) == 1
    with pytest.raises(UsageError, match="never does not exist; give"):
        settle(known, tmp_path / "never", tmp_path / "here")


def test_half_of_a_folder_moved(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path / "trip" / f"{number}.jpg", f"{number}")
    write(tmp_path / "anchor.jpg", "anchor")
    known = learn(tmp_path)
    for number in range(3):
        target = tmp_path / "2024" / f"{number}.jpg"
        target.parent.mkdir(exist_ok=True)
        (tmp_path / "trip" / f"{number}.jpg").rename(target)
    done = settle(known, tmp_path)
    assert (len(done.moved), done.removed, done.warnings) == (3, (), ())
    shutil.rmtree(tmp_path / "trip")
    done = settle(known, tmp_path)
    assert (len(done.moved), done.removed) == (3, ())
    assert "trip does not exist, but the library knows 3 from there" in done.warnings[0]


def test_a_renamed_root_has_moved(tmp_path: Path) -> None:
    """Each file is the one whose path ended alike, though all contents are the same."""
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
        write(tmp_path / "Pictures" / name, "the same")
    known = learn(tmp_path / "Pictures")
    (tmp_path / "Pictures").rename(tmp_path / "Bilder")
    done = settle(known, tmp_path / "Bilder")
    assert done.to_read == ()
    assert moves(done, known) == {path: path.replace("Pictures", "Bilder") for path in known}
    both = settle(known, tmp_path / "Pictures", tmp_path / "Bilder")
    assert moves(both, known) == moves(done, known)
    assert both.warnings == ()


def test_a_copy_elsewhere_is_no_move(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.jpg", "one")
    known = learn(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    done = settle(known, tmp_path / "b")
    assert (done.moved, len(done.copied)) == ((), 1)


@pytest.mark.parametrize("first", ["real", "link"])
def test_a_folder_and_a_link_to_it(tmp_path: Path, first: str) -> None:
    real, link = tmp_path / "disk" / "photos", tmp_path / "Photos"
    for name in ("1.jpg", "2.jpg", "deep/3.jpg"):
        write(real / name, name)
    link.symlink_to(real)
    one, other = (real, link) if first == "real" else (link, real)
    known = learn(one)
    assert len(known) == 3
    write(real / "4.jpg", "four")
    write(real / "new folder" / "5.jpg", "five")
    (real / "2.jpg").unlink()
    write(real / "1.jpg", "changed")
    for roots in ((other,), (other, one), (one, other)):
        found = scan(roots, known, {})
        assert sorted(job.path for job in found.new) == [
            str(one / "4.jpg"),
            str(one / "new folder" / "5.jpg"),
        ]
        assert [item.state.path for item, _ in found.changed] == [str(one / "1.jpg")]
        assert [item.state.path for item in found.gone] == [str(one / "2.jpg")]
        assert (found.unchanged, found.absent) == (1, ())
    assert len(learn(one, other)) == 4


def test_a_file_and_a_link_to_it(tmp_path: Path) -> None:
    real = write(tmp_path / "disk" / "1.jpg", "one")
    link = tmp_path / "photos" / "linked.jpg"
    link.parent.mkdir()
    link.symlink_to(real)
    os.link(real, tmp_path / "hard.jpg")
    by_link, by_name = learn(link.parent), learn(real.parent)
    assert (list(by_link), list(by_name)) == ([str(link)], [str(real)])
    for known, root in ((by_link, real.parent), (by_name, link.parent)):
        for roots in ((root,), (link.parent, real.parent), (real.parent, link.parent)):
            found = scan(roots, known, {})
            assert (found.new, found.unchanged, found.gone, found.absent) == ((), 1, (), ())
    # Two hard links are two files.
    assert len(scan([tmp_path / "hard.jpg"], by_name, {}).new) == 1


def test_what_failed_in_a_folder_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "here.jpg")
    bad = str(tmp_path / "gone" / "bad.jpg")
    assert scan([tmp_path], {}, {bad: Failure(FileState(bad, 1, 1), "x")}).forgotten == (bad,)


def test_a_file_out_of_a_hidden_folder_stays(tmp_path: Path) -> None:
    hidden = write(tmp_path / ".secret" / "1.jpg", "one")
    thumbnail = write(tmp_path / "@eaDir" / "2.jpg", "two")
    write(tmp_path / "3.jpg", "three")
    known = learn(hidden, thumbnail, tmp_path)
    found = scan([tmp_path], known, {})
    assert (found.unchanged, found.gone, found.absent) == (3, (), ())
    assert "1 files of the library stand in folders named @eaDir" in found.warnings[0]
    ruled = scan([tmp_path], known, {}, exclude=["@eaDir/"])
    assert [item.state.path for item in ruled.gone] == [str(thumbnail)]
    assert "taken out of the library" in ruled.warnings[0]

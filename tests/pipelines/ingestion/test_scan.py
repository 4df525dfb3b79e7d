"""Scanning real folders, and telling what became of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_files import learn, write

from maxsight.errors import UsageError
from maxsight.index.records import Failure, FileState
from maxsight.pipelines.ingestion.known_content import Confirmed, confirm
from maxsight.pipelines.ingestion.scan import ScanResult, scan
from maxsight.pipelines.media.files import hash_file


def new_names(result: ScanResult, root: Path) -> list[str]:
    return [os.path.relpath(job.path, root) for job in result.new]


def test_what_is_listed_and_in_which_order(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "a/2.png",
        "a/10.webp",
        "a.d/x.mp4",
        "note.txt",
        ".hidden.jpg",
        ".hidden/c.jpg",
        "old.maxsight/thumb.jpg",
        "folder.jpg/in.gif",
        "z.mkv",
    ):
        write(tmp_path / name)
    result = scan([tmp_path], {}, {})
    assert new_names(result, tmp_path) == [
        "b.JPG",
        "z.mkv",
        "a/10.webp",
        "a/2.png",
        "a.d/x.mp4",
        "folder.jpg/in.gif",
    ]
    kinds = {Path(job.path).name: job.kind for job in result.new}
    assert kinds["x.mp4"] == kinds["z.mkv"] == "video"
    assert kinds["b.JPG"] == "image"
    assert result.unreadable == ()


def test_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a" / "1.jpg")
    unnamed = write(tmp_path / "a" / "scan0001")
    hidden = write(tmp_path / ".secret" / "2.jpg")
    result = scan([tmp_path / "a", tmp_path / "a" / "1.jpg", unnamed, hidden.parent], {}, {})
    assert {Path(job.path).name: job.kind for job in result.new} == {
        "1.jpg": "image",
        "scan0001": None,
        "2.jpg": "image",
    }
    monkeypatch.chdir(tmp_path)
    assert [job.path for job in scan(["a/../a"], {}, {}).new] == [str(tmp_path / "a" / "1.jpg")]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [job.path for job in scan(["~/a"], {}, {}).new] == [str(tmp_path / "a" / "1.jpg")]
    with pytest.raises(UsageError, match=r"none does not exist; give folders"):
        scan([tmp_path / "none"], {}, {})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="named pipe"):
        scan([tmp_path / "pipe"], {}, {})


def test_links(tmp_path: Path) -> None:
    real = write(tmp_path / "photos" / "1.jpg")
    other = write(tmp_path / "elsewhere" / "2.jpg")
    (tmp_path / "photos" / "a-loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "deep").mkdir()
    (tmp_path / "photos" / "deep" / "up").symlink_to("../..")
    (tmp_path / "photos" / "away").symlink_to(other.parent)
    (tmp_path / "photos" / "3.jpg").symlink_to(real)
    (tmp_path / "photos" / "4.jpg").symlink_to(write(tmp_path / "hidden" / "x"))
    (tmp_path / "photos" / "5.jpg").symlink_to("4.jpg")
    result = scan([tmp_path / "photos"], {}, {})
    # "up" leads to the parent, and from there to what is not listed yet.
    # A file has one name: of links to what is not listed itself, the first.
    assert new_names(result, tmp_path / "photos") == ["1.jpg", "away/2.jpg", "4.jpg"]
    # Given both, a file is known by its real place, whichever root comes first.
    for roots in ([tmp_path / "photos", other.parent], [other.parent, tmp_path / "photos"]):
        paths = {job.path for job in scan(roots, {}, {}).new}
        assert str(other) in paths
        assert len(paths) == 3


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("never.jpg")
    (tmp_path / "gone.txt").symlink_to("never.txt")
    (tmp_path / "ring.png").symlink_to("ring.png")
    result = scan([tmp_path], {}, {})
    reasons = {Path(f.state.path).name: f.reason for f in result.unreadable}
    assert reasons == {
        "gone.jpg": "a link to never.jpg, which does not exist; mend or remove it",
        "ring.png": "a link that leads back to itself; mend or remove it",
    }


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9-\xff.jpg"
    with open(name, "wb") as file:
        file.write(b"x")
    (job,) = scan([tmp_path], {}, {}).new
    assert os.fsencode(job.path) == name
    known = learn(tmp_path)
    assert scan([tmp_path], known, {}).unchanged == 1


def test_new_changed_unchanged_gone(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.jpg", f"content {number}") for number in range(5)]
    known = learn(tmp_path)
    assert scan([tmp_path], known, {}).unchanged == 5
    write(tmp_path / "5.jpg")
    write(paths[0], "another, longer")
    os.utime(paths[1], ns=(0, 0))
    paths[2].unlink()
    result = scan([tmp_path], known, {})
    assert new_names(result, tmp_path) == ["5.jpg"]
    assert [job.path for _, job in result.changed] == [str(paths[0]), str(paths[1])]
    assert [item.state.path for item in result.gone] == [str(paths[2])]
    assert result.unchanged == 2
    assert confirm(result) == Confirmed(
        moved=(),
        touched=((known[str(paths[1])].item_id, FileState(str(paths[1]), 9, 0)),),
        copied=(),
        alike=(),
        removed=(known[str(paths[2])].item_id,),
        to_read=(result.changed[0][1], result.new[0]),
    )


def test_files_outside_the_roots_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.jpg")
    write(tmp_path / "ab" / "2.jpg").touch()
    known = learn(tmp_path)
    (tmp_path / "ab" / "2.jpg").unlink()
    assert scan([tmp_path / "a"], known, {}).gone == ()
    assert scan([tmp_path], known, {}).gone == ()  # a folder that is empty now
    assert len(scan([tmp_path], known, {}, prune=True).gone) == 1


def test_moves(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "1.jpg", "one")
        write(tmp_path / folder / "2.jpg", "two")
    known = learn(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    write(tmp_path / "copy.jpg", "one")
    write(tmp_path / "same-size.jpg", "thr")
    confirmed = confirm(scan([tmp_path], known, {}))
    moved = {state.path: item_id for item_id, state in confirmed.moved}
    # A copy is new; of two gone files with one content each, names decide nothing and content all.
    assert len(moved) == 2
    assert moved[str(tmp_path / "c" / "2.jpg")] == known[str(tmp_path / "b" / "2.jpg")].item_id
    assert confirmed.removed == ()
    assert len(confirmed.to_read) == 2


def test_twins_moved_together_keep_their_names(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        write(tmp_path / "a" / name, "the same")
    known = learn(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    confirmed = confirm(scan([tmp_path], known, {}))
    ids = {Path(path).name: item.item_id for path, item in known.items()}
    assert {Path(state.path).name: item_id for item_id, state in confirmed.moved} == ids


def test_of_new_files_with_one_content_one_is_read(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg", "3.png", "4.mp4", "5.mp4"):
        write(tmp_path / name, "the same")
    write(tmp_path / "6.jpg", "not same")
    confirmed = confirm(scan([tmp_path], {}, {}))
    assert [Path(job.path).name for job in confirmed.to_read] == ["1.jpg", "4.mp4", "6.jpg"]
    assert [Path(job.path).name for _, job in confirmed.alike] == ["2.jpg", "3.png", "5.mp4"]
    assert {found for found, _ in confirmed.alike} == {hash_file(str(tmp_path / "1.jpg"))[0]}


def test_a_root_that_is_empty_now_removes_nothing(tmp_path: Path) -> None:
    disk, other = tmp_path / "disk", tmp_path / "other"
    write(disk / "1.jpg", "one")
    write(disk / "2.jpg", "two")
    write(other / "3.jpg", "three")
    known = learn(disk, other)
    (disk / "1.jpg").rename(other / "1.jpg")
    (disk / "2.jpg").unlink()
    result = scan([disk, other], known, {})
    confirmed = confirm(result)
    assert confirmed.removed == ()
    assert [state.path for _, state in confirmed.moved] == [str(other / "1.jpg")]
    (warning,) = confirmed.warnings
    assert f"{disk} holds no picture or film now, but the library knows 1 from there" in warning
    assert f"maxsight relocate LIBRARY {disk} NEW" in warning
    assert f"maxsight index LIBRARY {disk} --prune" in warning
    # Named from above, too.
    named = confirm(scan([tmp_path], known, {}))
    assert (named.removed, named.warnings) == ((), confirmed.warnings)
    assert len(confirm(scan([tmp_path], known, {}, prune=True)).removed) == 1


def test_a_file_given_by_itself_stays_known(tmp_path: Path) -> None:
    unnamed = write(tmp_path / "scan0001")
    write(tmp_path / "1.jpg")
    known = learn(tmp_path, unnamed)
    assert scan([tmp_path], known, {}).unchanged == 2
    write(unnamed, "changed")
    assert [job.path for _, job in scan([tmp_path], known, {}).changed] == [str(unnamed)]
    unnamed.unlink()
    assert len(scan([tmp_path], known, {}).gone) == 1


def test_failures_wait_until_their_file_changes(tmp_path: Path) -> None:
    bad, worse = write(tmp_path / "bad.jpg"), write(tmp_path / "worse.jpg")
    states = {job.path: job.state for job in scan([tmp_path], {}, {}).new}
    failures = {
        str(bad): Failure(states[str(bad)], "damaged"),
        str(worse): Failure(FileState(str(worse), 1, -1), "no permission"),
        str(tmp_path / "gone.jpg"): Failure(FileState(str(tmp_path / "gone.jpg"), 1, 1), "cut"),
        "/elsewhere/x.jpg": Failure(FileState("/elsewhere/x.jpg", 1, 1), "cut"),
    }
    result = scan([tmp_path], {}, failures)
    assert result.failing == (failures[str(bad)],)
    assert new_names(result, tmp_path) == ["worse.jpg"]
    assert result.forgotten == (str(tmp_path / "gone.jpg"),)
    write(bad, "mended")
    assert new_names(scan([tmp_path], {}, failures), tmp_path) == ["bad.jpg", "worse.jpg"]


NAMES = st.sampled_from([f"{folder}{name}.jpg" for folder in ("", "a/", "b/") for name in "1234"])
CONTENTS = st.sampled_from(["one", "two", "three", "four"])
WORLD = st.dictionaries(NAMES, CONTENTS, max_size=8)


@given(before=WORLD, after=WORLD)
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_change_is_told_exactly(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, str], after: dict[str, str]
) -> None:
    """Applying what confirm() says to what was known gives what is there."""
    root = tmp_path_factory.mktemp("world")
    anchor = write(root / "anchor.jpg", "an anchor keeps the root from being empty")
    for stamp, world in enumerate((before, after)):
        for path in root.rglob("*.jpg"):
            if path != anchor:
                path.unlink()
        for name, content in world.items():
            # What is the same in both worlds keeps its time; a rewritten file gets another.
            second = 0 if before.get(name) == content else stamp
            os.utime(write(root / name, content), ns=(second, second))
        if stamp == 0:
            known = learn(root)
    # Without --prune, what stood in a folder that is empty now is kept, and nothing else.
    kept = confirm(scan([root], known, {}))
    moved = {item_id for item_id, _ in kept.moved}
    full = {os.path.dirname(name) for name in after} | {""}
    gone = {
        item.item_id: os.path.dirname(os.path.relpath(path, root))
        for path, item in known.items()
        if os.path.relpath(path, root) not in after and path != str(anchor)
    }
    assert set(kept.removed) == {i for i, folder in gone.items() if folder in full} - moved
    assert bool(kept.warnings) == bool({i for i, f in gone.items() if f not in full} - moved)

    result = scan([root], known, {}, prune=True)
    confirmed = confirm(result)
    library = {item.item_id: (item.state.path, item.content_hash) for item in known.values()}
    for item_id in confirmed.removed:
        del library[item_id]
    for item_id, state in (*confirmed.moved, *confirmed.touched):
        library[item_id] = (state.path, library[item_id][1])
    replaced = {item.state.path: item.item_id for item, _ in result.changed}
    for number, job in enumerate(confirmed.to_read, 1000):
        library[replaced.get(job.path, number)] = (job.path, hash_file(job.path)[0])
    for number, (content_hash, job) in enumerate(confirmed.alike, 2000):
        library[number] = (job.path, content_hash)
    there = {str(root / name): hash_file(str(root / name))[0] for name in (*after, "anchor.jpg")}
    assert sorted(library.values()) == sorted(there.items())
    # As many files count as moved as can be: for each content, gone and new ones pair up.
    lost = [item.content_hash for path, item in known.items() if path not in there]
    fresh = [content_hash for path, content_hash in there.items() if path not in known]
    assert len(confirmed.moved) == sum(min(lost.count(h), fresh.count(h)) for h in set(fresh))

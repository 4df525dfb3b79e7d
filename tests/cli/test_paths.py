"""Paths that are none, empty folders and files that are passed over: in a user's words."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from shell import Shell

import maxsight


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (shade, 0, 0)).save(path, "PNG")


def held(shell: Shell) -> int:
    """How many files the library holds."""
    with maxsight.open(shell.folder / "lib.maxsight") as library:
        return len(library.items())


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A library of two pictures, one in a folder of its own."""
    folder = tmp_path_factory.mktemp("paths")
    picture(folder / "pictures" / "a.png", 0)
    picture(folder / "pictures" / "disk" / "b.png", 200)
    shell = Shell(folder)
    assert shell("index", "lib.maxsight", "pictures").code == 0
    return shell


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("remove", "lib.maxsight", ""), "a path is empty, as an unset variable leaves it"),
        (("remove", "lib.maxsight", "a.pgn"), "a.pgn, so nothing was removed"),
        (("index", "lib.maxsight", ""), "a path is empty"),
        (("index", "", "pictures"), "empty"),
        (("index", "lib.maxsight", "s3://bucket/x"), "got the address s3://bucket/x"),
        (("index", "https://x.org/lib", "pictures"), "got the address https://x.org/lib"),
        (("search", "lib.maxsight", "--image", "pictures"), "is a folder: give one picture"),
        (("search", "lib.maxsight", "a card", "--kind", "audio"), "image or video, not 'audio'"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_usage_errors(shell: Shell, arguments: tuple[str, ...], said: str) -> None:
    answer = shell(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert held(shell) == 2
    assert {path.name for path in shell.folder.iterdir()} <= {"pictures", "lib.maxsight", "cache"}


def test_what_is_passed_over_and_left_out_is_counted(tmp_path: Path) -> None:
    for number, name in enumerate(["a.png", "IMG_0001", "drafts/d.png", "@eaDir/thumb.png"]):
        picture(tmp_path / "p" / name, 60 * number)
    picture(tmp_path / "p" / "old" / "o.png", 250)
    (tmp_path / "p" / ".maxsightignore").write_text("old/\n")
    (tmp_path / "p" / "app.ts").write_text("export const answer = 42;\n" * 99)
    (tmp_path / "p" / "notes.txt").write_text("x")
    answer = Shell(tmp_path)("index", "lib.maxsight", "p", "--exclude", "drafts/")
    assert answer.code == 0, answer.err
    assert "2 added" in answer.out
    assert "passed over, as neither picture nor film: 2 (.ts 1, .txt 1)" in answer.out
    assert "left out: 3 (" in answer.out
    assert "--exclude 1" in answer.out


def test_an_empty_folder_is_a_warning_until_it_is_meant(shell: Shell) -> None:
    """Goes last: it removes a picture from the library that all share."""
    (shell.folder / "pictures" / "disk" / "b.png").unlink()
    answer = shell("index", "lib.maxsight", "pictures")
    assert answer.code == 0
    assert "Nothing was removed, in case a disk is not mounted" in answer.err
    assert "--prune" in answer.err
    assert held(shell) == 2
    answer = shell("index", "lib.maxsight", "pictures", "--prune")
    assert (answer.code, "1 removed" in answer.out) == (0, True)
    assert held(shell) == 1

"""A name of a file may stand for something else: it is said, nothing waits, nothing is changed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from maxsight import plain_files


@pytest.fixture(params=["pipe", "socket", "folder", "device", "link", "dangling"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "odd"
    with socket.socket(socket.AF_UNIX) as held:
        match request.param:
            case "pipe":
                os.mkfifo(path)
            case "socket":
                held.bind(str(path))
            case "folder":
                path.mkdir()
            case "device":
                path = Path("/dev/full")
            case "link":
                (tmp_path / "other").write_text("precious")
                path.symlink_to("other")
            case "dangling":
                path.symlink_to("missing")
        yield path


def test_only_files_are_opened_for_writing(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a file"):
        plain_files.open_to_write(odd, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert not (tmp_path / "missing").exists()
    if (other := tmp_path / "other").exists():
        assert other.read_text() == "precious"


def test_a_second_name_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    (tmp_path / "file").hardlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="hard link"):
        plain_files.open_to_write(tmp_path / "file", os.O_WRONLY | os.O_TRUNC)
    assert (tmp_path / "other").read_text() == "precious"


def test_only_files_are_read(odd: Path) -> None:
    if odd.is_file():
        assert plain_files.read_bytes(odd, most=8) == b"precious"
        return
    with pytest.raises(OSError, match=r"not a file|No such file"):
        plain_files.read_bytes(odd, most=8)


def test_a_file_is_written_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for flags in (os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        descriptor = plain_files.open_to_write(file, flags)
        os.write(descriptor, b"ab")
        os.close(descriptor)
        assert file.read_bytes() == b"ab"


def test_a_link_is_no_folder_to_write_in(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    plain_files.require_folder(tmp_path / "folder")
    plain_files.require_folder(tmp_path / "missing")
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(OSError, match="a link, not a folder"):
        plain_files.require_folder(tmp_path / "link")

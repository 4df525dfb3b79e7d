"""Files and folders that appear whole, and survive a power cut, or do not appear at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maxsight.errors import LibraryError


def force(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(file: Path, content: bytes) -> None:
    """Write a file, so that a reader sees all of the old one or all of this one.

    Raises:
        OSError: the disk refused; the old one stands, and nothing lies beside it.
    """
    partial = _partial(file)
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    force(file.parent)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that is filled beside its place, and appears there when the block has ended well.

    Yields:
        Where to fill it: empty, whatever a killed writer left there.

    Raises:
        LibraryError: the folder is there.
        OSError: the disk refused. After this or any other error nothing is left.
    """
    if folder.exists():
        raise LibraryError(f"{folder} is there already: an index is made under a new name")
    partial = _partial(folder)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            force(path)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    force(folder.parent)


def _partial(path: Path) -> Path:
    """Where a file or folder is made. There is one writer at a time: one name is enough."""
    return path.with_name(f".{path.name}.partial")

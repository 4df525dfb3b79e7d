"""Files and folders that appear whole, and survive a power cut, or do not appear at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maxsight import plain_files
from maxsight.errors import LibraryError


def force(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(file: Path, content: bytes) -> None:
    """Write a file, so that a reader sees all of the old one or all of this one.

    Raises:
        OSError: the disk refused; the old one stands, and nothing lies beside it.
    """
    partial = beside(file)
    clear(partial)
    try:
        with partial.open("xb") as stream:  # a new file: not through a link that stands there
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    force(file.parent)


def clear(path: Path) -> None:
    """Delete what stands at ``path``: a folder with all in it, a file, or a link and not its aim.

    Raises:
        OSError: the disk refused. That nothing stands there is no error.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_own_folders(folder: Path) -> None:
    """Look whether a folder and all folders in it are such, for whoever writes and deletes there.

    Raises:
        OSError: one of them is a link, or something else; or ``folder`` itself holds a link.
    """
    plain_files.require_folder(folder)
    for parent, folders, files in os.walk(folder):
        for name in folders + (files if parent == str(folder) else []):
            if (path := Path(parent, name)).is_symlink():
                plain_files.require_folder(path)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that is filled beside its place, and appears there when the block has ended well.

    Yields:
        Where to fill it: empty, whatever a killed writer left there.

    Raises:
        LibraryError: the folder is there.
        OSError: the disk refused. After this or any other error nothing is left.
    """
    if os.path.lexists(folder):
        raise LibraryError(f"{folder} is there already: an index is made under a new name")
    partial = beside(folder)
    clear(partial)
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


def beside(path: Path) -> Path:
    """Where a file or folder is made before it has its name.

    There is one writer at a time: one name is enough.
    """
    return path.with_name(f".{path.name}.partial")

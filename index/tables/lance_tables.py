"""The border to Lance: tables are opened here, and whatever Lance raises leaves as one error."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from maxsight import plain_files
from maxsight.errors import LibraryError, MaxsightError
from maxsight.index.array_types import Rows
from maxsight.index.tables import heaps, version_lists, versions

# File systems that cannot make hard links, by device number: exFAT, FAT, many mounts.
_without_links: set[int] = set()


def create(library: Path, name: str, schema: pa.Schema) -> None:
    """Write a table, empty, into the folder ``library``."""
    with storage_errors(library):
        lance.write_dataset(
            schema.empty_table(), _address(library, name), schema=schema, commit_lock=_lock(library)
        )


def open_table(library: Path, name: str) -> Any:
    """The newest version of one table, as a ``lance.LanceDataset``.

    Its list, and the files of deleted rows that it names, are what was written.

    Raises:
        LibraryError: it is missing or damaged, or takes rows from outside the library.
    """
    opened = open_listed(library, name)
    with storage_errors(library / name):
        deleted = (part.deletion_file() for part in opened.get_fragments())
        version_lists.compare(library, [f"{name}/{file}" for file in deleted if file])
    return opened


def open_listed(library: Path, name: str) -> Any:
    """As :func:`open_table`, whatever became of the files that the version's list names.

    Raises:
        LibraryError: as there.
    """
    table = library / name
    with storage_errors(table):
        manifests = versions.manifests(table)
    if not manifests:
        raise LibraryError(
            f"{table} is missing: the library is incomplete; restore the folder from a "
            "backup, or delete it and index again"
        )
    for file in versions.lists(table, max(manifests)):
        version_lists.look(library, name, file)
    heaps.share()
    with storage_errors(table):
        opened = lance.dataset(_address(library, name), commit_lock=_lock(library))
    if opened.version > max(manifests):  # a writer has just committed it
        newer = versions.lists(table, opened.version)
        for file in newer:
            version_lists.look(library, name, file)
        if newer:
            return opened
    if opened.version != max(manifests):  # as Lance takes a file of zeros
        raise LibraryError(
            f"{manifests[max(manifests)]} is damaged: Lance reads version {opened.version} from "
            f"it; `maxsight verify {library} --repair` goes on with what is sound"
        )
    return opened


def column(opened: Any, name: str) -> Rows:
    """(N,) of a table's column of whole numbers, in the order of its rows."""
    return numbers(opened.to_table(columns=[name]), name)


def numbers(rows: pa.Table | pa.RecordBatch, name: str) -> Rows:
    """(N,) of a column of whole numbers that was read."""
    return np.asarray(rows[name].to_numpy(zero_copy_only=False))


def commit(library: Path, name: str, operation: Any, *, read_version: int) -> None:
    """Make a change of a table that was opened at ``read_version`` its next version."""
    with storage_errors(library / name):
        lance.LanceDataset.commit(
            _address(library, name),
            operation,
            read_version=read_version,
            commit_lock=_lock(library),
        )


def stamp(table: Path) -> int | None:
    """A number that differs when a version was committed since; None while that cannot be told.

    A commit adds a file to a folder, whose time the file system keeps to a few milliseconds, FAT
    to two seconds: a second commit right after the first may leave it the same.
    """
    with storage_errors(table):
        changed = (table / "_versions").stat().st_mtime_ns
    unsure = 2_500_000_000 if changed % 1_000_000_000 == 0 else 100_000_000
    return changed if changed < time.time_ns() - unsure else None


def learn_links(library: Path) -> None:
    """Find out whether the disk can make hard links; for the writer, before its first change.

    Lance commits a version by linking it to its name, which fails where the name is taken. Where
    there are no links it is renamed instead: the library's lock keeps other writers away.

    Raises:
        OSError: the disk refuses to be written.
    """
    device = library.stat().st_dev
    if plain_files.makes_links(library):
        _without_links.discard(device)
    else:
        _without_links.add(device)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what Lance raises while it works on ``path`` into LibraryError."""
    try:
        yield
    except MaxsightError:
        raise
    # Lance has no exception classes of its own; every failure of a read or a write is one of these.
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        raise _refused(path, error) from error
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise LibraryError(
            f"{path} is damaged: Lance gave up reading it ({_reason(error)}); "
            f"`maxsight verify {_library_of(path)} --repair` goes on with what is sound"
        ) from None


def _refused(path: Path, error: Exception) -> LibraryError:
    text = str(error)
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if any(os.strerror(code) in text or f"os error {code})" in text for code in full):
        return LibraryError(
            f"no space left for {path} (disk of {_mount_point(path)}): what was stored "
            "before is safe; free some space and run the same command again"
        )
    if "Not found" in text:
        return LibraryError(
            f"{path} has lost a file: a compaction deleted what this process had open, take a "
            "new snapshot; if that does not help, the library is damaged, and `maxsight verify "
            f"--repair` tells what of it is left ({text[:300]})"
        )
    return LibraryError(
        f"{path} cannot be used: {_reason(error)}; `maxsight verify` tells whether it is damaged"
    )


def _reason(error: BaseException) -> str:
    # Lance goes on with the place in its own source, and its own user's home in it.
    return str(error).partition("\n")[0].partition(", /")[0][:500]


def _is_panic(error: BaseException) -> bool:
    """Whether it is a panic of Lance's. Its class has no name that could be imported."""
    kind = type(error)
    return (kind.__module__, kind.__name__) == ("pyo3_runtime", "PanicException")


def _library_of(path: Path) -> Path:
    return path.parent if path.suffix == ".lance" else path


def _mount_point(path: Path) -> Path:
    path = path.absolute()
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return path


def _address(library: Path, name: str) -> str:
    """A table's path as Lance takes it: not every name of a folder is one for it.

    Lance takes UTF-8 without control characters. Any other folder is held open, and named by its
    descriptor.
    """
    path = str(library / name)
    try:
        path.encode()
        if not any(ord(sign) < 32 or ord(sign) == 127 for sign in path):
            return path
    except UnicodeEncodeError:
        pass
    status = library.stat()
    return f"/proc/self/fd/{_held(str(library), status.st_dev, status.st_ino)}/{name}"


@functools.cache
def _held(library: str, device: int, inode: int) -> int:
    """A descriptor of the folder, until the process ends: open tables are read by it."""
    return os.open(library, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextlib.contextmanager
def _renaming(version: int) -> Iterator[None]:
    """Lets Lance commit by renaming."""
    yield


def _lock(library: Path) -> Any:
    """How Lance is to commit in a library; None: as it does by itself."""
    return _renaming if _without_links and library.stat().st_dev in _without_links else None

"""Derived folders of a library, ``indexes/NAME-N``: N rises by one with each that is made.

The highest is the one that counts. All can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from maxsight import strict_json
from maxsight.errors import LibraryError
from maxsight.index.files import sealed_json
from maxsight.index.files.durable import clear
from maxsight.index.tables import lance_tables

FOLDER = "indexes"
WANTED = "wanted.json"

TOKENS, VECTORS = "tokens", "vectors"

_T = TypeVar("_T")
# The newest folder of a name, and when something in it was last made, deleted or replaced.
Stamp = tuple[Path, int]
_log = logging.getLogger("maxsight.index")


def newest(library: Path, name: str) -> Path | None:
    """The folder with the highest number."""
    return max(folders(library, name), key=_number, default=None)


def folders(library: Path, name: str) -> list[Path]:
    """All of a name; none where something else stands in the place of their folder."""
    try:
        inside = os.listdir(library / FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [library / FOLDER / entry for entry in inside if re.fullmatch(rf"{name}-\d+", entry)]


def load(library: Path, name: str, read: Callable[[Path], _T]) -> _T | None:
    """What ``read`` makes of the newest folder; None if there is none that can be used.

    A library can do without: one that ``read`` refuses with a LibraryError costs a warning.
    """
    while (folder := newest(library, name)) is not None:
        try:
            return read(folder)
        except LibraryError as error:
            # A writer may just have put a newer one in its place.
            if newest(library, name) == folder:
                _warn(
                    f"{library} is searched without its index of {name}: {error}. Nothing of the "
                    f"library is lost: `maxsight verify {library} --repair` takes the index away, "
                    "and the next `maxsight index` makes it anew"
                )
                break
    return None


def stamp(library: Path, name: str) -> Stamp | None:
    """Something that differs when another folder has become the newest, or the same a new one."""
    folder = newest(library, name)
    try:
        return None if folder is None else (folder, folder.stat().st_mtime_ns)
    except OSError:  # a writer has just taken it away
        return None


def following(library: Path, name: str) -> Path:
    """The folder that the next is to be renamed to; its parent is there."""
    (library / FOLDER).mkdir(exist_ok=True)
    last = max(map(_number, folders(library, name)), default=0)
    return library / FOLDER / f"{name}-{last + 1}"


def remove(library: Path, name: str, *, but: Path | None = None) -> None:
    """Delete all of a name, each at once as far as a reader sees. For the writer alone."""
    for folder in folders(library, name):
        if folder != but:
            gone = folder.with_name(f".{folder.name}.deleted")
            clear(gone)
            folder.rename(gone)
            with contextlib.suppress(OSError):  # the next writer clears it away
                clear(gone)


def drafts(library: Path) -> list[Path]:
    """What killed writers left half made. Other programs' files (``.DS_Store``) are not that."""
    return [
        path
        for path in (library / FOLDER).glob(".*")
        if path.is_dir() or path.is_symlink() or path.suffix in (".partial", ".deleted")
    ]


def wanted(library: Path) -> str | None:
    """The index that was asked for by name, also where it is not there any more.

    None if none was; also where that cannot be read, of which a warning tells.
    """
    if (problem := wanted_problem(library)) is not None:
        _warn(f"{library / FOLDER / WANTED} {problem}")
        return None
    try:
        spec = strict_json.read(library / FOLDER / WANTED)["index"]
    except FileNotFoundError:
        return None
    return None if spec is None else str(spec)


def wanted_problem(library: Path) -> str | None:
    """Why that cannot be read; None if it can, or nothing was asked for."""
    try:
        fields = strict_json.read(library / FOLDER / WANTED)
        if not sealed_json.is_sealed(fields):
            raise ValueError("its checksum does not fit what it says")
        if not isinstance(fields["index"], str | None):
            raise ValueError(f"it names {fields['index']!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        return (
            f"cannot be read ({error}), which names the index that was asked for: the index is "
            "chosen by size; `maxsight tune-index --index` asks for another"
        )
    return None


def want(library: Path, spec: str | None) -> None:
    """Remember what was asked for by name; None: nothing, it is chosen by size.

    Raises:
        LibraryError: the disk refused.
    """
    with lance_tables.storage_errors(library / FOLDER):
        (library / FOLDER).mkdir(exist_ok=True)
        sealed_json.write(library / FOLDER / WANTED, {"index": spec})


@functools.cache
def _warn(message: str) -> None:
    """Once, however often the library is read."""
    _log.warning("%s", message)


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])

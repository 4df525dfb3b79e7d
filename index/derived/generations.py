"""Derived folders of a library, ``indexes/NAME-N``: N rises by one with each that is made.

The highest is the one that counts. All can be deleted at any time.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from maxsight.errors import LibraryError

FOLDER = "indexes"
_WANTED = ".wanted"


def newest(library: Path, name: str) -> Path | None:
    """The folder with the highest number."""
    found = _numbered(library, name)
    return found[max(found)] if found else None


def following(library: Path, name: str) -> Path:
    """The folder that the next is to be renamed to; its parent is there."""
    (library / FOLDER).mkdir(exist_ok=True)
    return library / FOLDER / f"{name}-{max(_numbered(library, name), default=0) + 1}"


def remove(library: Path, name: str, *, but: Path | None = None) -> None:
    """Delete all of a name, each at once as far as a reader sees. For the writer alone."""
    for folder in _numbered(library, name).values():
        if folder != but:
            gone = folder.with_name(f".{folder.name}.deleted")
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def wanted(library: Path) -> str | None:
    """The index that was asked for by name, also where it is not there any more."""
    try:
        return (library / FOLDER / _WANTED).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def want(library: Path, spec: str | None) -> None:
    """Remember what was asked for by name; None: nothing, it is chosen by size."""
    (library / FOLDER).mkdir(exist_ok=True)
    partial = library / FOLDER / f"{_WANTED}.partial"
    partial.write_text(f"{spec or ''}\n", encoding="utf-8")
    partial.replace(library / FOLDER / _WANTED)


def damaged(error: LibraryError, library: Path) -> LibraryError:
    """What keeps a library from being searched, and what to do about it."""
    return LibraryError(
        f"{error}. Nothing of the library is lost: `maxsight verify {library} --repair` takes the "
        "index away, and the next `maxsight index` makes it anew"
    )


def _numbered(library: Path, name: str) -> dict[int, Path]:
    try:
        inside = os.listdir(library / FOLDER)
    except FileNotFoundError:
        return {}
    matches = [re.fullmatch(rf"{name}-(\d+)", entry) for entry in inside]
    return {int(match[1]): library / FOLDER / match[0] for match in matches if match}

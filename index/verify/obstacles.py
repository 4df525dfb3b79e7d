"""Something else where the folder of what is derived, or not done, ought to be."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Literal

from maxsight import plain_files
from maxsight.index.derived import generations
from maxsight.index.writing import partial

_FOLDERS: dict[str, Literal["index", "partial"]] = {
    generations.FOLDER: "index",
    partial.FOLDER: "partial",
}


def problems(library: Path) -> list[tuple[Literal["index", "partial"], str, str]]:
    """``(kind of problem, name, what is wrong)`` of each such folder."""
    found = []
    for name, kind in _FOLDERS.items():
        try:
            plain_files.require_folder(library / name)
        except OSError as error:
            aside = _free_name(library, name).name
            text = f"{error.strerror or error}; a repair renames it to {aside}, as it is"
            found.append((kind, name, text))
    return found


def set_aside(library: Path, done: list[str]) -> None:
    """Give what stands there another name: a link still points where it did, a file is whole.

    Args:
        done: to which is added what was done, for people.

    Raises:
        OSError: the disk refused.
    """
    for _, name, _ in problems(library):
        aside = _free_name(library, name)
        (library / name).rename(aside)
        done.append(f"renamed {library / name}, which is no folder, to {aside.name}")


def _free_name(library: Path, name: str) -> Path:
    names = (library / f"{name}.aside{number}" for number in itertools.chain([""], range(2, 10**6)))
    return next(path for path in names if not os.path.lexists(path))

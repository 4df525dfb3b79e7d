"""Which files a version of a table consists of, as Lance names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LAST = 2**64 - 1


@dataclass(frozen=True)
class TableState:
    """The newest version of one table.

    Attributes:
        opened: the ``lance.LanceDataset``; None if it cannot be opened.
        is_behind: newer versions were written than any that is there.
        damaged_manifest: relative to the library; it must go for an older version to show.
        damaged_fragments: ids of those that have lost data.
        files: of each fragment, relative to the table.
    """

    opened: Any
    is_behind: bool
    damaged_manifest: str | None
    damaged_fragments: frozenset[int]
    files: Mapping[int, set[str]] = field(default_factory=dict)


def manifests(table: Path) -> dict[int, Path]:
    """Version -> the file that lists its fragments, of the versions that are there."""
    folder = table / "_versions"
    numbered = {number(file): file for file in folder.iterdir()} if folder.is_dir() else {}
    return {version: file for version, file in numbered.items() if version is not None}


def lists(table: Path, version: int) -> list[Path]:
    """The files that may be the list of a version: Lance has two ways to name it."""
    names = (f"{version}.manifest", f"{_LAST - version:020}.manifest")
    return [file for name in names if (file := table / "_versions" / name).exists()]


def number(manifest: Path) -> int | None:
    """The version whose fragments a file lists; None if it lists none."""
    if manifest.suffix != ".manifest" or not manifest.stem.isdecimal():
        return None
    # Twenty digits count down, so that the newest comes first in a listing.
    return _LAST - int(manifest.stem) if len(manifest.stem) == 20 else int(manifest.stem)


def files_of(fragment: Any) -> set[str]:
    """The data and deletion files of a fragment, relative to the table's folder."""
    files = {f"data/{file.path}" for file in fragment.data_files()}
    deleted = fragment.deletion_file()
    return files | ({str(deleted)} if deleted else set())

"""A vector index in a folder: its files, and ``index.json``, which says what they are.

The folder is derived data: whatever is wrong with it, deleting it and making the index again is
right. It appears whole: files are written beside it, forced to the disk, and the folder renamed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.errors import LibraryError, SchemaTooNew, UsageError
from maxsight.index.ann import auto
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.upkeep.checksums import Checksum, checksum, force
from maxsight.index.upkeep.sealed_json import is_sealed, seal

SCHEMA = 1
FILE = "index.json"


@dataclass(frozen=True)
class IndexRecord:
    """What ``index.json`` says.

    Attributes:
        spec, dim, rows, effort: of the index.
        files: path relative to the folder, with ``/`` -> checksum.
        details: the library's own fields.
    """

    spec: str
    dim: int
    rows: int
    effort: Effort
    files: Mapping[str, Checksum]
    details: Mapping[str, Any] = field(default_factory=dict)


def save(
    index: VectorIndex,
    folder: Path,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    details: Mapping[str, Any] | None = None,
) -> IndexRecord:
    """Write an index into a new folder, which appears complete and durable or not at all.

    Args:
        folder: not there yet.
        arrays: file name, ending in ``.npy`` -> what belongs to the index besides.
        details: what JSON can hold.

    Raises:
        LibraryError: the folder is there.
        OSError: the disk refused.
    """
    if folder.exists():
        raise LibraryError(f"{folder} is there already: an index is saved under a new name")
    partial = folder.with_name(f".{folder.name}.partial")
    _clear(partial)
    partial.mkdir(parents=True)
    try:
        index.save(partial)
        for name, array in (arrays or {}).items():
            np.save(partial / name, array)
        inside = sorted(partial.rglob("*"))
        files = {
            path.relative_to(partial).as_posix(): checksum(path)
            for path in inside
            if path.is_file()
        }
        record = IndexRecord(
            index.spec, index.dim, len(index), index.effort, files, dict(details or {})
        )
        with (partial / FILE).open("w", encoding="utf-8") as stream:
            json.dump(seal({"schema": SCHEMA} | asdict(record)), stream, indent=2)
            stream.write("\n")
        for path in [*inside, partial / FILE, partial]:
            force(path)
        partial.rename(folder)
    except BaseException:
        _clear(partial)
        raise
    force(folder.parent)
    return record


def read(folder: Path) -> IndexRecord:
    """``index.json`` alone.

    Raises:
        SchemaTooNew: a newer maxsight wrote it.
        LibraryError: it is not there, or damaged.
    """
    file = folder / FILE
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise LibraryError(f"{file} cannot be read: {error.strerror or error}") from None
    try:
        fields = json.loads(text)
        schema = int(fields["schema"])
        if schema <= SCHEMA:
            if not is_sealed(fields):
                raise ValueError("its checksum does not fit what it says")
            return IndexRecord(
                spec=str(fields["spec"]),
                dim=int(fields["dim"]),
                rows=int(fields["rows"]),
                effort=Effort(**fields["effort"]),
                files={str(name): Checksum(**sums) for name, sums in fields["files"].items()},
                details=dict(fields["details"]),
            )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LibraryError(f"{file} is damaged ({error!r}): make the index again") from None
    raise SchemaTooNew(
        f"{file} has schema {schema}, and this maxsight knows {SCHEMA}: update maxsight "
        "(pip install -U maxsight), or make the index again"
    )


def load(folder: Path, *, verify: bool = False) -> tuple[VectorIndex, Mapping[str, Any]]:
    """The index of a folder, with the effort it was saved with, and the details.

    Args:
        verify: read every file and compare its hash first. Sizes are compared anyway.

    Raises:
        LibraryError: something is missing or damaged.
        SchemaTooNew: a newer maxsight wrote it.
    """
    record = read(folder)
    if wrong := problems(folder, hashes=verify):
        raise LibraryError(f"{'; '.join(wrong)}: make the index again")
    try:
        index = auto.make(record.spec, record.dim)
    except UsageError as error:
        raise LibraryError(f"{folder / FILE} is damaged ({error}): make the index again") from None
    index.load(folder)
    if len(index) != record.rows:
        raise LibraryError(
            f"{folder} holds {len(index)} rows, {FILE} says {record.rows}: make the index again"
        )
    index.effort = record.effort
    return index, record.details


def problems(folder: Path, *, hashes: bool = True) -> list[str]:
    """What is wrong with the files of an index folder; nothing if they are what was written.

    Args:
        hashes: read the files; else only their sizes are looked at.

    Raises:
        LibraryError: there is no readable ``index.json``.
    """
    found = []
    for name, expected in read(folder).files.items():
        file = folder / name
        try:
            size = file.stat().st_size
            if size != expected.bytes:
                found.append(f"{file} has {size} bytes, not {expected.bytes}")
            elif hashes and checksum(file) != expected:
                found.append(f"{file} is not what was written")
        except OSError as error:
            found.append(f"{file} cannot be read: {error.strerror or error}")
    return found


def _clear(folder: Path) -> None:
    """Remove what a save left behind, this one or one that was killed."""
    if folder.exists():
        shutil.rmtree(folder)

"""A vector index in a folder: its files, and ``index.json``, which says what they are.

The folder is derived data: whatever is wrong with it, deleting it and making the index again is
right. It appears whole: files are written beside it, forced to the disk, and the folder renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.errors import LibraryError, UsageError
from maxsight.index.ann import auto
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.ann.devices import DeviceLike
from maxsight.index.ann.int8_rows import CODES
from maxsight.index.files import sealed_json
from maxsight.index.files.checksum import Checksum, checksum
from maxsight.index.files.durable import new_folder
from maxsight.index.tables.manifest import MOST_DIMENSIONS

SCHEMA = 1
FILE = "index.json"


@dataclass(frozen=True)
class IndexManifest:
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
) -> IndexManifest:
    """Write an index into a new folder, which appears complete and durable or not at all.

    Args:
        folder: not there yet.
        arrays: file name, ending in ``.npy`` -> what belongs to the index besides.
        details: what JSON can hold.

    Raises:
        LibraryError: the folder is there.
        OSError: the disk refused.
    """
    with new_folder(folder) as partial:
        index.save(partial)
        for name, array in (arrays or {}).items():
            np.save(partial / name, array)
        files = {
            path.relative_to(partial).as_posix(): checksum(path)
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        manifest = IndexManifest(
            index.spec, index.dim, len(index), index.effort, files, dict(details or {})
        )
        sealed_json.write(partial / FILE, {"schema": SCHEMA} | asdict(manifest))
    return manifest


def read(folder: Path) -> IndexManifest:
    """``index.json`` alone.

    Raises:
        SchemaTooNew: a newer maxsight wrote it.
        LibraryError: it is not there, or damaged.
    """
    file = folder / FILE
    return sealed_json.read(
        file,
        lambda fields: _checked(
            IndexManifest(
                spec=str(fields["spec"]),
                dim=int(fields["dim"]),
                rows=int(fields["rows"]),
                effort=Effort(**fields["effort"]),
                files={str(name): Checksum(**sums) for name, sums in fields["files"].items()},
                details=dict(fields["details"]),
            )
        ),
        schema=SCHEMA,
        damaged=lambda error: LibraryError(f"{file} is damaged ({error!r}): make the index again"),
    )


def _checked(manifest: IndexManifest) -> IndexManifest:
    """The same, if its numbers can be those of an index. FAISS takes memory by what a spec says.

    Raises:
        ValueError: they cannot.
    """
    effort = [manifest.effort.probes, manifest.effort.shortlist]
    sizes = [*effort, manifest.rows, *(held.bytes for held in manifest.files.values())]
    if not all(type(size) is int and 0 <= size < 2**63 for size in sizes):
        raise ValueError(f"it counts {sizes}")
    if not 1 <= manifest.dim <= MOST_DIMENSIONS:
        raise ValueError(f"rows of {manifest.dim} dimensions")
    most = max(manifest.rows, MOST_DIMENSIONS)
    if len(manifest.spec) > 200 or any(int(n) > most for n in re.findall(r"[0-9]+", manifest.spec)):
        raise ValueError(f"{manifest.spec[:200]!r} makes no index of {manifest.rows:,} rows")
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise ValueError(f"it names {name!r}")
    return manifest


def load(folder: Path, *, device: DeviceLike = "auto") -> tuple[VectorIndex, Mapping[str, Any]]:
    """The index of a folder, with the effort it was saved with, and the details.

    Args:
        device: a GPU searches the index once it was asked often enough, where FAISS can.

    Raises:
        LibraryError: something is missing or damaged.
        SchemaTooNew: a newer maxsight wrote it.
    """
    manifest = read(folder)
    if wrong := problems(folder, hashes=False):
        raise LibraryError(f"{'; '.join(wrong)}: make the index again")
    try:
        index = auto.make(manifest.spec, manifest.dim, device=device)
    except UsageError as error:
        raise LibraryError(f"{folder / FILE} is damaged ({error}): make the index again") from None
    index.load(folder)
    if len(index) != manifest.rows:
        raise LibraryError(
            f"{folder} holds {len(index)} rows, {FILE} says {manifest.rows}: make the index again"
        )
    index.effort = manifest.effort
    return index, manifest.details


def problems(folder: Path, *, hashes: bool = True) -> list[str]:
    """What is wrong with the files of an index folder; nothing if they are what was written.

    Args:
        hashes: of all files. Else of those that loading reads whole, which is what FAISS trusts:
            int8 rows stay in their file, and a damaged one is at worst not found.

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
            elif (hashes or file.name != CODES) and checksum(file) != expected:
                found.append(f"{file} is not what was written")
        except OSError as error:
            found.append(f"{file} cannot be read: {error.strerror or error}")
    return found

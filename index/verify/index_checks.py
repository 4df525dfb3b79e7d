"""Whether a derived index is whole, and belongs to the library in whose folder it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maxsight.errors import LibraryError
from maxsight.index.ann import saved
from maxsight.index.array_types import Rows
from maxsight.index.derived import generations, token_folder, vector_folder
from maxsight.index.files.arrays import read_array
from maxsight.index.late import manifest as late
from maxsight.index.late.manifest import LateManifest
from maxsight.index.late.token_files import LABELS
from maxsight.index.tables.manifest import Manifest


def folders(library: Path) -> list[Path]:
    """The folders of all derived indexes."""
    names = (vector_folder.NAME, token_folder.NAME)
    return sorted(folder for name in names for folder in generations.folders(library, name))


def problem(folder: Path, manifest: Manifest, last_unit: int | None) -> str | None:
    """Why an index cannot be used, None if it can.

    Args:
        last_unit: the highest unit id the library ever gave; None if nobody knows.
    """
    is_of_tokens = folder.name.startswith(token_folder.NAME)
    try:
        return (_of_tokens if is_of_tokens else _of_vectors)(folder, manifest, last_unit)
    except LibraryError as error:
        return str(error)


def _of_vectors(folder: Path, manifest: Manifest, last_unit: int | None) -> str | None:
    if wrong := saved.problems(folder):
        return "; ".join(wrong)
    index = saved.read(folder)
    if index.dim != manifest.dim:
        return f"is of {index.dim} dimensions"
    for name in ("library_id", "fingerprint"):
        if index.details.get(name) != getattr(manifest, name):
            return f"was made for another library: its {name} differs"
    return _units_problem(read_array(folder / vector_folder.UNITS_FILE), index.rows, last_unit)


def _of_tokens(folder: Path, manifest: Manifest, last_unit: int | None) -> str | None:
    def check(index: LateManifest) -> str | None:
        if wrong := late.problems(folder, index):
            raise LibraryError("; ".join(wrong))
        if index.details.get("library_id") != manifest.library_id:
            return "was made for another library: its library_id differs"
        if LABELS not in index.extents:
            return "does not say which units it knows"
        unit_ids = np.fromfile(folder / LABELS, "<i8", count=index.documents)
        return _units_problem(unit_ids, index.documents, last_unit)

    return late.newest(folder, check)


def _units_problem(unit_ids: Rows, rows: int, last_unit: int | None) -> str | None:
    if len(unit_ids) != rows or np.any(np.diff(unit_ids) <= 0):
        return f"its list of {len(unit_ids):,} units does not fit its {rows:,} rows"
    if last_unit is not None and len(unit_ids) and int(unit_ids[-1]) > last_unit:
        return "knows units that the library never held: it was made from another state of it"
    return None

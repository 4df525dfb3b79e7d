"""Whether a derived index is whole, and belongs to the library in whose folder it lies."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from maxsight.errors import LibraryError
from maxsight.index.ann import saved
from maxsight.index.derived import vector_folder
from maxsight.index.late import record as late
from maxsight.index.manifest import Manifest
from maxsight.index.vectors import Rows


def problem(folder: Path, manifest: Manifest, last_unit: int) -> str | None:
    """Why an index cannot be used, None if it can.

    Args:
        last_unit: the highest unit id the library ever gave.
    """
    is_of_tokens = (folder / late.FILE).exists()
    try:
        return (_of_tokens if is_of_tokens else _of_vectors)(folder, manifest, last_unit)
    except LibraryError as error:
        return str(error)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        return f"its list of units cannot be read: {error}"


def _of_vectors(folder: Path, manifest: Manifest, last_unit: int) -> str | None:
    if wrong := saved.problems(folder):
        return "; ".join(wrong)
    record = saved.read(folder)
    for name in ("library_id", "fingerprint"):
        if record.details.get(name) != getattr(manifest, name):
            return f"was made for another library: its {name} differs"
    return _units_problem(np.load(folder / vector_folder.UNITS_FILE), record.rows, last_unit)


def _of_tokens(folder: Path, manifest: Manifest, last_unit: int) -> str | None:
    wrong = late.problems(folder)
    for encodings in sorted(folder.glob("encodings-*")):
        wrong += saved.problems(encodings)
    if wrong:
        return "; ".join(wrong)
    documents = late.LateRecord.read(folder).documents
    with np.load(folder / f"units-{documents}.npz") as units:
        if str(units["library_id"]) != manifest.library_id:
            return "was made for another library: its library_id differs"
        return _units_problem(units["unit_ids"], documents, last_unit)


def _units_problem(unit_ids: Rows, rows: int, last_unit: int) -> str | None:
    if len(unit_ids) != rows or np.any(np.diff(unit_ids) <= 0):
        return f"its list of {len(unit_ids):,} units does not fit its {rows:,} rows"
    if len(unit_ids) and int(unit_ids[-1]) > last_unit:
        return "knows units that the library never held: it was made from another state of it"
    return None

"""Where a library keeps its vector index, and which units the index knows.

It is derived: ``indexes/vectors-N/`` can be deleted at any time, and the library is then searched
exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.errors import LibraryError
from maxsight.index.ann import saved
from maxsight.index.ann.contract import Built, VectorIndex
from maxsight.index.array_types import Rows
from maxsight.index.derived import generations
from maxsight.index.files.arrays import read_array
from maxsight.index.tables import lance_tables
from maxsight.index.tables.manifest import Manifest

NAME = generations.VECTORS
UNITS_FILE = "unit_ids.npy"


def load(library: Path, manifest: Manifest, have: Built | None = None) -> Built | None:
    """The newest index of a library; ``have`` if that is it.

    None if there is none, or it is damaged or another library's, of which a warning tells.
    """

    def read(folder: Path) -> Built:
        return have if have is not None and have.folder == folder else _read(folder, manifest)

    return generations.load(library, NAME, read)


def save(
    library: Path,
    manifest: Manifest,
    index: VectorIndex,
    unit_ids: Rows,
    details: Mapping[str, Any],
) -> Built:
    """Make an index the newest of a library, and delete the others. For the writer alone.

    It appears complete or not at all.

    Raises:
        LibraryError: the disk refused.
    """
    own = {"library_id": manifest.library_id, "fingerprint": manifest.fingerprint}
    with lance_tables.storage_errors(library / generations.FOLDER):
        folder = generations.following(library, NAME)
        saved.save(index, folder, arrays={UNITS_FILE: unit_ids}, details={**details, **own})
        generations.remove(library, NAME, but=folder)
    return Built(folder, index, unit_ids, details)


def _read(folder: Path, manifest: Manifest) -> Built:
    index, details = saved.load(folder)
    if index.dim != manifest.dim:
        raise LibraryError(f"{folder} is of {index.dim} dimensions: make the index again")
    if details.get("library_id") != manifest.library_id:
        raise LibraryError(f"{folder} was made for another library")
    unit_ids = read_array(folder / UNITS_FILE)
    if unit_ids.shape != (len(index),) or unit_ids.dtype != np.int64:
        raise LibraryError(
            f"{folder / UNITS_FILE} holds {unit_ids.shape} {unit_ids.dtype}, not the ids of "
            f"{len(index):,} units: make the index again"
        )
    if np.any(unit_ids[1:] <= unit_ids[:-1]):
        raise LibraryError(f"{folder / UNITS_FILE} is out of order: make the index again")
    return Built(folder, index, unit_ids, details)

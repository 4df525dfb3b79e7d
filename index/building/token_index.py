"""Making the index of a library's tokens, and bringing it up to date."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from maxsight.index.array_types import Rows
from maxsight.index.building.progress import OnProgress, silent
from maxsight.index.derived import generations, token_folder
from maxsight.index.late.late_index import LateIndex
from maxsight.index.records import TokenTable
from maxsight.index.snapshot import Snapshot
from maxsight.index.tables import lance_tables

# An index that has grown by this much since it learned, or of whose rows no more than one in so
# many is left, is made anew.
GROWTH = 2.0
# Units it does not know are all scored; beyond this share of them are added to it.
_TAIL_SHARE = 0.02
# Units read at a time.
_STEP = 4_096


def bring_up_to_date(snapshot: Snapshot, *, recall: float, progress: OnProgress = silent) -> str:
    """Make, extend, leave or delete the index of a library's tokens. For the writer alone.

    Args:
        recall: of the ten best of exact MaxSim, that candidates are chosen for.
        progress: called at each read of units.

    Returns:
        ``built``, ``extended``, ``kept``, or ``none`` where tokens are few, or not stored.

    Raises:
        LibraryError: the disk refused.
    """
    library, manifest = snapshot.state.library, snapshot.manifest
    if snapshot.tokens.are_held:
        generations.remove(library, token_folder.NAME)
        return "none"
    rows = snapshot.live_rows
    unit_ids = snapshot.state.unit_ids[rows]
    built = token_folder.load(library, manifest)
    if built is not None:
        new = np.flatnonzero(unit_ids > built.newest)
        is_grown = len(rows) >= GROWTH * built.learned
        is_hollow = len(built.unit_ids) >= GROWTH * (len(rows) - len(new))
        if not (is_grown or is_hollow):
            if len(new) <= _TAIL_SHARE * len(rows):
                return "kept"
            with lance_tables.storage_errors(built.index.folder):
                built.index.add(_tables(snapshot, rows[new], progress), labels=unit_ids[new])
            return "extended"
    with lance_tables.storage_errors(library / generations.FOLDER):
        folder = generations.following(library, token_folder.NAME)
        LateIndex.build(
            folder,
            _tables(snapshot, rows, progress),
            codes="4bit",
            recall=recall,
            labels=unit_ids,
            details={"library_id": manifest.library_id, "learned": len(rows)},
        )
        generations.remove(library, token_folder.NAME, but=folder)
    return "built"


def _tables(snapshot: Snapshot, rows: Rows, progress: OnProgress) -> Iterator[TokenTable]:
    for start in range(0, len(rows), _STEP):
        progress("tokens", start, len(rows))
        yield snapshot.tokens.of_rows(rows[start : start + _STEP])
    progress("tokens", len(rows), len(rows))

"""Where a library keeps the index of its tokens, and which units that knows.

It is derived: ``indexes/tokens-N/`` can be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maxsight.errors import LibraryError
from maxsight.index.array_types import Rows
from maxsight.index.derived import generations
from maxsight.index.late.late_index import LateIndex
from maxsight.index.records import TokenTable
from maxsight.index.tables import lance_tables
from maxsight.index.tables.manifest import Manifest

if TYPE_CHECKING:
    from maxsight.index.snapshot import Snapshot
    from maxsight.index.store import Store

NAME = generations.TOKENS
# An index that has grown by this much since it learned, or of whose units no more than one in so
# many is left, is made anew.
_GROWTH = 2.0
# Units it does not know are all scored; beyond this share they are added to it.
_TAIL_SHARE = 0.02
# Units read at a time.
_STEP = 4_096

Step = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class BuiltTokens:
    """An index of tokens and what it was made from.

    Attributes:
        index: its document i is the unit ``unit_ids[i]``.
        unit_ids: rising.
        learned: how many of them it learned from.
    """

    index: LateIndex
    unit_ids: Rows
    learned: int

    @property
    def newest(self) -> int:
        """The highest unit id that it knows; -1 if it knows none."""
        return int(self.unit_ids[-1]) if len(self.unit_ids) else -1


def load(library: Path, manifest: Manifest) -> BuiltTokens | None:
    """The newest index of a library's tokens.

    None if there is none, or it is damaged or another library's, of which a warning tells.
    """
    return generations.load(library, NAME, lambda folder: _read(folder, manifest))


def bring_up_to_date(store: Store, *, recall: float, step: Step | None = None) -> str:
    """Make, extend, leave or delete the index of a library's tokens. For the writer alone.

    Args:
        recall: of the ten best of exact MaxSim, that candidates are chosen for.
        step: called with how many units have been read, and how many there are.

    Returns:
        ``built``, ``extended``, ``kept``, or ``none`` where tokens are few, or not stored.

    Raises:
        LibraryError: the disk refused.
    """
    snapshot = store.snapshot()
    if snapshot.holds_tokens:
        generations.remove(store.path, NAME)
        return "none"
    rows = snapshot.live_rows
    unit_ids = snapshot.state.unit_ids[rows]
    built = load(store.path, store.manifest)
    if built is not None:
        new = np.flatnonzero(unit_ids > built.newest)
        is_grown = len(rows) >= _GROWTH * built.learned
        is_hollow = len(built.unit_ids) >= _GROWTH * (len(rows) - len(new))
        if not (is_grown or is_hollow):
            if len(new) <= _TAIL_SHARE * len(rows):
                return "kept"
            with lance_tables.storage_errors(built.index.folder):
                built.index.add(_tables(snapshot, rows[new], step), labels=unit_ids[new])
            return "extended"
    with lance_tables.storage_errors(store.path / generations.FOLDER):
        folder = generations.following(store.path, NAME)
        LateIndex.build(
            folder,
            _tables(snapshot, rows, step),
            codes="4bit",
            recall=recall,
            labels=unit_ids,
            details={"library_id": store.manifest.library_id, "learned": len(rows)},
        )
        generations.remove(store.path, NAME, but=folder)
    return "built"


def _tables(snapshot: Snapshot, rows: Rows, step: Step | None) -> Iterator[TokenTable]:
    for start in range(0, len(rows), _STEP):
        if step is not None:
            step(start, len(rows))
        yield snapshot.row_tokens(rows[start : start + _STEP])
    if step is not None:
        step(len(rows), len(rows))


def _read(folder: Path, manifest: Manifest) -> BuiltTokens:
    index = LateIndex.open(folder)
    details = index.record.details
    if details.get("library_id") != manifest.library_id:
        raise LibraryError(f"{folder} was made for another library")
    if index.labels is None or "learned" not in details:
        raise LibraryError(f"{folder} does not say which units it knows: make the index again")
    learned = details["learned"]
    if type(learned) is not int or np.any(index.labels[1:] <= index.labels[:-1]):
        raise LibraryError(f"{folder} has its units out of order: make the index again")
    return BuiltTokens(index, index.labels, learned)

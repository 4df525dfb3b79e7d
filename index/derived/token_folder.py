"""Where a library keeps the index of its tokens, and which units that knows.

It is derived: ``indexes/tokens-N/`` can be deleted at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maxsight.errors import LibraryError
from maxsight.index.array_types import Rows
from maxsight.index.derived import generations
from maxsight.index.late.late_index import LateIndex
from maxsight.index.tables.manifest import Manifest

NAME = generations.TOKENS


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


def _read(folder: Path, manifest: Manifest) -> BuiltTokens:
    index = LateIndex.open(folder)
    details = index.manifest.details
    if details.get("library_id") != manifest.library_id:
        raise LibraryError(f"{folder} was made for another library")
    if index.labels is None or "learned" not in details:
        raise LibraryError(f"{folder} does not say which units it knows: make the index again")
    learned = details["learned"]
    if type(learned) is not int or np.any(index.labels[1:] <= index.labels[:-1]):
        raise LibraryError(f"{folder} has its units out of order: make the index again")
    return BuiltTokens(index, index.labels, learned)

"""Files that have another place now: their paths change, and nothing is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from maxsight.errors import UsageError
from maxsight.index.records import Changes, Failure, KnownItem
from maxsight.pipelines.ingestion.walk import absolute, is_under

_NAMED = 3


@dataclass(frozen=True)
class Relocation:
    """What became of a relocation.

    Attributes:
        files: how many have another path now.
        missing: how many of them are not where the library looks for them now.
        warnings: what the person should know.
    """

    files: int
    missing: int
    warnings: tuple[str, ...]


def plan(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    known: Mapping[str, KnownItem],
    failures: Mapping[str, Failure],
) -> tuple[Changes, Relocation]:
    """The one step that gives everything at or below ``old`` its place at or below ``new``.

    Args:
        old: a folder or file as the library names it; it need not be there any more.
        new: where it is now.

    Raises:
        UsageError: the library holds nothing there, or something at the new place already.
    """
    old, new = absolute(old), absolute(new)
    moved = {path: _moved(path, old, new) for path in known if is_under(path, old)}
    refused = {path: _moved(path, old, new) for path in failures if is_under(path, old)}
    if not moved and not refused:
        raise UsageError(
            f"the library holds no file at or below {old}: say what it holds (maxsight list), and "
            "where that is now"
        )
    if old == new:
        raise UsageError(f"{old} is its place already: name the old one, and then the new one")
    taken = sorted(path for path in moved.values() if path in known and path not in moved)
    if taken:
        names = ", ".join(taken[:_NAMED]) + (", …" if len(taken) > _NAMED else "")
        raise UsageError(
            f"the library holds {len(taken):,} files twice, below {old} and below {new} ({names}). "
            f"Nothing was changed. What you have written about them stands with one of the two; to "
            f"keep that of {old}, first: maxsight remove LIBRARY {new}"
        )
    changes = Changes(
        restated=[
            (known[path].item_id, replace(known[path].state, path=name))
            for path, name in moved.items()
        ],
        failed=[
            replace(failures[path], state=replace(failures[path].state, path=name))
            for path, name in refused.items()
            if name not in known or name in moved
        ],
        forgotten=[path for path in refused if path not in refused.values()],
    )
    missing = sum(not os.path.exists(name) for name in moved.values())
    warnings = []
    if missing:
        warnings.append(
            f"{missing:,} of {len(moved):,} files are not at their new place; if that is wrong: "
            f"maxsight relocate LIBRARY {new} {old}"
        )
    return changes, Relocation(len(moved), missing, tuple(warnings))


def _moved(path: str, old: str, new: str) -> str:
    return os.path.join(new, path[len(old) :].lstrip("/")) if path != old else new

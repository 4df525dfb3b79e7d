"""Merging small files, and dropping what no file owns any more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from maxsight.index.records import Compaction
from maxsight.index.tables import lance_tables, schema
from maxsight.index.tables.lance_tables import numbers
from maxsight.index.tables.unit_reader import owners
from maxsight.index.writing.checksums import LedgerWriter


def compact(library: Path, ledger: LedgerWriter, grace: timedelta) -> Compaction:
    """Compact both tables, and delete versions older than ``grace``. For the writer alone.

    Killed at any moment, it leaves the library as it was or a part of it compacted.

    Raises:
        OSError, ValueError, RuntimeError: the disk refused; so Lance says.
    """
    items = lance_tables.open_table(library, schema.ITEMS)
    units = lance_tables.open_table(library, schema.UNITS)
    dropped_items = _drop_removed(items)
    dropped_units = _drop_unclaimed(items, units)
    for table in (items, units):
        table.optimize.compact_files()
    # Old files go only when the new ones would survive a power cut.
    ledger.take()
    ledger.commit()
    freed = 0
    for table in (items, units):
        stats = table.cleanup_old_versions(
            older_than=grace,
            # Files no version knows were left by a killed writer: nobody else writes now.
            delete_unverified=True,
        )
        freed += stats.bytes_removed
    ledger.rewrite()
    return Compaction(dropped_items, dropped_units, freed)


def _drop_removed(items: Any) -> int:
    """Delete the rows of removed files, but for the two that hold the highest ids ever given."""
    rows = items.to_table(columns=["item_id", "status", "first_unit", "unit_count"])
    if not len(rows):
        return 0
    ids = numbers(rows, "item_id")
    last_unit = numbers(rows, "first_unit") + numbers(rows, "unit_count")
    keep = {int(ids.max()), int(ids[last_unit.argmax()])}
    dead = f"status = '{schema.REMOVED}' AND item_id NOT IN ({', '.join(map(str, sorted(keep)))})"
    count = int(items.count_rows(filter=dead))
    if count:
        items.delete(dead)
    return count


def _drop_unclaimed(items: Any, units: Any) -> int:
    """Delete the units that no live file claims."""
    claims = items.to_table(
        columns=["first_unit", "unit_count"], filter=f"status = '{schema.LIVE}'"
    ).sort_by("first_unit")
    first, count = (numbers(claims, name) for name in ("first_unit", "unit_count"))
    ids = lance_tables.column(units, "unit_id")
    dead = ids[owners(ids, first, count) < 0]
    for start in range(0, len(dead), 50_000):
        chunk = ", ".join(map(str, dead[start : start + 50_000].tolist()))
        units.delete(f"unit_id IN ({chunk})")
    return len(dead)

"""Putting a damaged library in order: what is derived goes, what is true stays, nothing is guessed.

Every step leaves a library that can be examined again, so that a repair may be killed, too. Files
whose units are lost leave the library, as if they had never been read; the next ``maxsight index``
reads them again.
"""

from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa

from maxsight.errors import LibraryError
from maxsight.index.derived import generations
from maxsight.index.files.durable import clear
from maxsight.index.tables import lance_tables, schema, table_rows, versions
from maxsight.index.verify.examine import Examination, Hashes, Progress, examine
from maxsight.index.writing import checksums, partial
from maxsight.index.writing.ids import Ids

# Above what lost rows may have used: far more than one step ever adds.
_SKIPPED_IDS = 1_000_000


def repair(library: Path, hashes: Hashes, progress: Progress) -> list[str]:
    """Remove what is damaged, for the one process that holds the library's lock.

    Returns:
        What was done, for people.

    Raises:
        LibraryError: what is damaged cannot be made again from the rest; what to do instead.
    """
    done: list[str] = []
    lost_rows = False
    while True:
        found = examine(library, hashes, progress)
        if found.manifest is None:
            raise LibraryError(
                f"{found.problems[0].text}; every other part can be repaired, but not this one"
            )
        if (
            _forget_lost_versions(library, found, done)
            or _drop_damaged_versions(library, found, done)
            or _drop_damaged_fragments(library, found, done)
        ):
            lost_rows = True
        elif found.damaged_remains:
            _drop_remains(library, found, done)
        elif found.broken_items:
            _remove_items(library, found, done)
        else:
            break
    for folder in found.damaged_indexes:
        clear(folder)
        done.append(f"deleted {folder}; the next `maxsight index` makes it again")
    for file in found.damaged_films:
        partial.delete(file)
        done.append(f"deleted {file}; its film is read from the start")
    if generations.wanted_problem(library):
        clear(library / generations.FOLDER / generations.WANTED)
        done.append("deleted the record of the index that was asked for; it is chosen by size")
    if lost_rows:
        _skip_ids(library)
    with lance_tables.storage_errors(library):
        checksums.LedgerWriter(library).rewrite()
    return done


def _forget_lost_versions(library: Path, found: Examination, done: list[str]) -> bool:
    """Take what is there for the newest, where newer versions are gone altogether."""
    gone = [name for name, state in found.states.items() if state.is_behind]
    for name in gone:
        done.append(f"went on with the newest version of {name} that is there")
    if gone:
        with lance_tables.storage_errors(library):
            # The next versions will have the names of the lost: their lines must not outlive them.
            checksums.LedgerWriter(library).rewrite()
    return bool(gone)


def _drop_damaged_versions(library: Path, found: Examination, done: list[str]) -> bool:
    """Fall back to the version before, where the newest one's list of fragments is damaged."""
    dropped = False
    for name, state in found.states.items():
        place = state.damaged_manifest
        if place is None and state.opened is not None:
            continue
        if place is None or len(versions.manifests(library / name)) < 2:
            raise LibraryError(
                f"{library / name} cannot be repaired, no older version of it is left: restore "
                "the folder from a backup, or delete it and index again"
            )
        with lance_tables.storage_errors(library / name):
            (library / place).unlink()
            # The next version will have this name: its line must not outlive it.
            checksums.LedgerWriter(library).rewrite()
        done.append(
            f"dropped {place}, damaged: {name} is as it was one step before, so that what that "
            "step removed is back and what it added is not there"
        )
        dropped = True
    return dropped


def _drop_remains(library: Path, found: Examination, done: list[str]) -> None:
    """Delete damaged files that only older versions need."""
    for place in found.damaged_remains:
        with lance_tables.storage_errors(library):
            (library / place).unlink()
        done.append(f"deleted {place}, damaged and of no more use")


def _drop_damaged_fragments(library: Path, found: Examination, done: list[str]) -> bool:
    dropped = False
    for name, state in found.states.items():
        if not state.damaged_fragments:
            continue
        gone = sorted(state.damaged_fragments)
        rows = sum(
            fragment.metadata.num_rows
            for fragment in state.opened.get_fragments()
            if fragment.fragment_id in state.damaged_fragments
        )
        with lance_tables.storage_errors(library / name):
            operation = lance.LanceOperation.Delete([], gone, "TRUE")
            lance_tables.commit(library, name, operation, read_version=state.opened.version)
        done.append(f"dropped the damaged part of {name}: {rows:,} rows")
        dropped = True
    return dropped


def _remove_items(library: Path, found: Examination, done: list[str]) -> None:
    """Take out the files whose units cannot be trusted."""
    items = lance_tables.open_table(library, schema.ITEMS)
    with lance_tables.storage_errors(library / schema.ITEMS):
        ids = ", ".join(map(str, found.broken_items))
        items.update({"status": f"'{schema.REMOVED}'"}, where=f"item_id IN ({ids})")
    done.append(
        f"took {len(found.broken_items):,} files out of the library whose vectors are lost; "
        "`maxsight index` reads them again"
    )


def _skip_ids(library: Path) -> None:
    """Leave a tombstone above every id that lost rows may have had."""
    ids = Ids.read(library)
    units = lance_tables.open_table(library, schema.UNITS)
    with lance_tables.storage_errors(library):
        owners = lance_tables.column(units, "item_id")
        top = max(ids.next_item, int(owners.max(initial=-1)) + 1) + _SKIPPED_IDS
        first = pa.array([ids.next_unit + _SKIPPED_IDS], pa.int64())
        columns = {"path": pa.array([""]), "first_unit": first}
        rows = table_rows.item_rows([top], schema.REMOVED, columns)
        # Without the empty ones: a library of an older schema has not all of them.
        rows = rows.select([name for name in rows.column_names if not rows[name].null_count])
        lance_tables.open_table(library, schema.ITEMS).insert(rows)

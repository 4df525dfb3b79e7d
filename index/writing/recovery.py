"""After a death or a power cut: clearing away what is half made, dropping a step that is torn.

A commit is forced to the disk before it is acknowledged, so only versions that have no line in
``checksums.txt`` can be torn, and nobody was told that what they hold is stored.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from maxsight.errors import LibraryError
from maxsight.index.derived import generations
from maxsight.index.files.durable import clear, force
from maxsight.index.tables import lance_tables, schema, versions
from maxsight.index.writing import creation

_log = logging.getLogger("maxsight.index")


def leftovers(library: Path) -> list[Path]:
    """What a killed writer left on its way to another name: ours, and those of Lance's files."""
    found = [path for path in library.glob(".*.partial") if path.is_symlink() or path.is_file()]
    for table in (schema.ITEMS, schema.UNITS):
        found += [
            path
            for path in (library / table).glob("*/*")
            if re.fullmatch(r"\.tmp\w+|.+#\d+", path.name)
        ]
    draft = creation.left_draft(library)
    return sorted([*found, *generations.drafts(library), *([draft] if draft else [])])


def clear_leftovers(library: Path) -> None:
    """Delete them. For the writer alone.

    Raises:
        OSError: the disk refused.
    """
    for path in leftovers(library):
        clear(path)


def drop_torn_steps(library: Path, unrecorded: set[str]) -> None:
    """Take out the newest versions that cannot be read, as far as they are in ``unrecorded``.

    Args:
        unrecorded: files of the tables without a line in ``checksums.txt``, relative to the
            library.

    Raises:
        LibraryError: a table is damaged beyond its unrecorded versions, or the disk refuses.
    """
    for name in (schema.UNITS, schema.ITEMS):
        table = library / name
        own = {file.removeprefix(f"{name}/") for file in unrecorded if file.startswith(f"{name}/")}
        manifests = versions.manifests(table)
        whole = [n for n, file in manifests.items() if f"_versions/{file.name}" not in own]
        # Without a version that was whole once, the ledger is at fault and not the table.
        torn = [number for number in manifests if whole and number > max(whole)]
        for number in sorted(torn, reverse=True):
            if _is_readable(table, number, own):
                break
            _log.warning(
                "%s: version %d was not completely written when the machine stopped, and is "
                "dropped; what it held was not acknowledged",
                table,
                number,
            )
            with lance_tables.storage_errors(table):
                manifests[number].unlink()
                force(table / "_versions")


def _is_readable(table: Path, version: int, unrecorded: set[str]) -> bool:
    """Whether the newest version, and the files it has of ``unrecorded``, can be read."""
    try:
        opened = lance_tables.open_table(table.parent, table.name)
        if opened.version != version:  # as Lance takes a file of zeros
            return False
        with lance_tables.storage_errors(table):
            for fragment in opened.get_fragments():
                if versions.files_of(fragment) & unrecorded:
                    for _ in fragment.to_batches(batch_size=1024):  # tokens are wide
                        pass
    except LibraryError:
        return False
    return True

"""Bringing a library that an older maxsight made to the present layout."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa

from maxsight.index.tables import lance_tables, schema
from maxsight.index.tables.manifest import SCHEMA, Manifest
from maxsight.index.writing import checksums

_log = logging.getLogger("maxsight.index")

# What schema 3 added to the items.
_NEW_COLUMNS = ("settings", "remark")


def upgrade(library: Path, manifest: Manifest) -> Manifest:
    """Add what the library's schema lacks; the library's one writer calls it.

    What is new is written before ``library.json`` names the new schema, which is replaced whole:
    killed at any moment before, the library is an old one as it was, and the next writer begins
    again. Readers of this maxsight take either.

    Raises:
        LibraryError: the disk refused; the library is an old one as it was.
    """
    if manifest.schema == SCHEMA:
        return manifest
    upgraded = dataclasses.replace(manifest, schema=SCHEMA)
    with lance_tables.storage_errors(library):
        _add_columns(library)
        ledger = checksums.LedgerWriter(library)
        if manifest.schema < 2:
            # Schema 2 added the checksums of the tables' files, and one to library.json itself.
            ledger.rewrite()
        ledger.take()
        ledger.commit()
        upgraded.write(library)
    _log.info("%s: schema %d is now %d", library, manifest.schema, SCHEMA)
    return upgraded


def _add_columns(library: Path) -> None:
    """Give the items the columns of schema 3, empty; a user's own of that name get another."""
    items = lance_tables.open_table(library, schema.ITEMS)
    taken = set(items.schema.names)
    renamed = []
    for name in _NEW_COLUMNS:
        if name not in taken or _is_empty(items, name):
            continue
        number = next(n for n in range(1, 1000) if _numbered(name, n) not in taken)
        renamed.append({"path": name, "name": _numbered(name, number)})
    if renamed:
        items.alter_columns(*renamed)
        items = lance_tables.open_table(library, schema.ITEMS)
        for change in renamed:
            _log.warning(
                "%s: your column %s is called %s now: this maxsight keeps one of that name itself",
                library,
                change["path"],
                change["name"],
            )
    lacking = [name for name in _NEW_COLUMNS if name not in items.schema.names]
    if lacking:
        items.add_columns(pa.schema([schema.ITEM_SCHEMA.field(name) for name in lacking]))


def _is_empty(items: Any, name: str) -> bool:
    """Whether nothing is lost if the column is the library's own: as a killed upgrade leaves it."""
    is_text = bool(items.schema.field(name).type == pa.string())
    return is_text and items.count_rows(filter=f"{name} IS NOT NULL") == 0


def _numbered(name: str, number: int) -> str:
    return f"own_{name}" if number == 1 else f"own_{name}_{number}"

"""The two Lance tables: their names, their columns, and what a row is.

Lance and Arrow are imported here; import this module only when a library is opened.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa

from maxsight.errors import LibraryError
from maxsight.index.records import EncodedItem
from maxsight.index.tables import lance_tables
from maxsight.index.tables.manifest import Manifest

ITEMS = "items.lance"
UNITS = "units.lance"

LIVE, FAILED, REMOVED = "live", "failed", "removed"

# What a `where` expression may name; docs/storage.md explains each.
PUBLIC_COLUMNS = (
    "item_id",
    "path",
    "kind",
    "content_hash",
    "bytes",
    "mtime",
    "width",
    "height",
    "duration_s",
    "captured_at",
    "settings",
    "remark",
)

ITEM_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("path_bytes", pa.binary()),
        pa.field("kind", pa.string()),
        pa.field("content_hash", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("mtime", pa.timestamp("us", tz="UTC")),
        pa.field("mtime_ns", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("duration_s", pa.float64()),
        pa.field("captured_at", pa.timestamp("us")),
        pa.field("error", pa.string()),
        pa.field("first_unit", pa.int64(), nullable=False),
        pa.field("unit_count", pa.int64(), nullable=False),
        # Schema 3; writing/migrate.py adds them to older libraries.
        pa.field("settings", pa.string()),
        pa.field("remark", pa.string()),
    ]
)

# What comes from a file's content, wherever the file stands.
CONTENT_COLUMNS = [
    field.name for field in dataclasses.fields(EncodedItem) if field.name in ITEM_SCHEMA.names
]


def unit_schema(manifest: Manifest) -> pa.Schema:
    """The columns of ``units.lance`` for this library's dimensions."""
    fields = [
        pa.field("unit_id", pa.int64(), nullable=False),
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("vector", pa.list_(pa.float16(), manifest.dim), nullable=False),
    ]
    if manifest.token_dim is not None:
        fields += [
            pa.field("tokens", pa.large_binary(), nullable=False),
            pa.field("token_scales", pa.list_(pa.float32()), nullable=False),
            pa.field("token_sizes", pa.list_(pa.float32()), nullable=False),
        ]
    return pa.schema(fields)


def require_columns(opened: Any, expected: pa.Schema, path: Path) -> None:
    """Look whether a table has columns of the types that readers take them for.

    Raises:
        LibraryError: one is not there, or of another type.
    """
    there = opened.schema
    for field in expected:
        found = there.field(field.name).type if field.name in there.names else None
        if found != field.type:
            raise LibraryError(
                f"{path} has a column {field.name} of type {found}, not {field.type}: it was not "
                "made by maxsight, or is damaged; `maxsight verify` tells more"
            )


def create(library: Path, manifest: Manifest) -> None:
    """Write both tables, empty, into the folder ``library``."""
    for name, schema in ((ITEMS, ITEM_SCHEMA), (UNITS, unit_schema(manifest))):
        lance_tables.create(library, name, schema)

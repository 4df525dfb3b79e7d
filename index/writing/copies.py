"""Items made from what the library holds of the same content already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maxsight.index.records import EncodedItem, FileState
from maxsight.index.tables import lance_tables, schema, table_rows
from maxsight.index.tables.manifest import Manifest


def copies(
    library: Path, manifest: Manifest, wanted: Sequence[tuple[int, FileState]]
) -> list[EncodedItem | None]:
    """An item for each file, with content and vectors of another.

    Args:
        wanted: ids of items the table holds, removed ones among them, and files that hold the
            same.

    Returns:
        In the order given; None where a compaction has deleted what was removed.
    """
    rows = table_rows.rows_by_id(library, [item_id for item_id, _ in wanted]).to_pylist()
    units = lance_tables.open_table(library, schema.UNITS)
    with lance_tables.storage_errors(library / schema.UNITS):
        ids = lance_tables.column(units, "unit_id")
        first = np.array([row["first_unit"] for row in rows], np.int64)
        count = np.array([row["unit_count"] for row in rows], np.int64)
        starts = np.searchsorted(ids, first)
        there = np.searchsorted(ids, first + count) - starts == count
        spans = [
            np.arange(start, start + n) for start, n in zip(starts, count * there, strict=True)
        ]
        found = units.take(np.concatenate(spans)).combine_chunks()
    items: list[EncodedItem | None] = []
    begin = 0
    for row, (_, state), is_there in zip(rows, wanted, there, strict=True):
        if not is_there:
            items.append(None)
            continue
        own = found.slice(begin, row["unit_count"]).combine_chunks()
        begin += row["unit_count"]
        items.append(_item(row, state, own, manifest))
    return items


def _item(
    row: dict[str, Any], state: FileState, units: pa.Table, manifest: Manifest
) -> EncodedItem:
    column = units["vector"].combine_chunks()
    times = [units[name].to_numpy() for name in ("start_s", "end_s")]
    content = {name: row[name] for name in schema.CONTENT_COLUMNS}
    return EncodedItem(
        state=state,
        vectors=table_rows.vectors_of(column, manifest.dim).copy(),
        spans=np.stack(times, axis=1) if row["kind"] == "video" else None,
        tokens=None
        if manifest.token_dim is None
        else table_rows.token_table(units, manifest.token_dim),
        **content,
    )

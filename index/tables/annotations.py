"""Columns of the user's own, beside those the library fills: read from a table, for ``where``."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from maxsight.errors import UsageError
from maxsight.index.tables import filters, lance_tables, schema, table_rows

# What SQL takes without quotes.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# A leading zero says that it is a label (a postcode, a part number), not a quantity.
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?")
_TIMESTAMP = pa.timestamp("us")


@dataclass(frozen=True)
class Annotation:
    """What became of a table of annotations.

    Attributes:
        columns: name -> type, of those the table filled.
        files: how many files it said something about.
        unknown: its paths that the library does not hold.
    """

    columns: dict[str, str]
    files: int
    unknown: tuple[str, ...]


def read_table(path: Path) -> pa.Table:
    """Read annotations from a CSV file.

    Args:
        path: CSV in UTF-8 with the column ``path``, absolute or relative to the table's folder.
            An empty cell says nothing. A column is one of integers, of floats or of dates
            (``2024-05-01``, ``2024-05-01 12:30:00``) if every cell is one, else of text; numbers
            with leading zeros are text.

    Raises:
        UsageError: no such file, it is no such table, or a column has no name.
    """
    folder = Path(os.path.abspath(path)).parent
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, *rows = [row for row in csv.reader(stream, strict=True) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read annotations from {path}: {error}") from error
    _check_header(header, path)
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UsageError(f"{path}, row {number}: {len(row)} cells under {len(header)} headings")
    cells = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    paths = [table_rows.encode_path(os.path.normpath(folder / p))[0] for p in cells.get("path", [])]
    others = {name: _column(cells.get(name, [])) for name in header if name != "path"}
    return pa.table({"path": pa.array(paths, pa.string())} | others)


def annotate(library: Path, given: pa.Table, item_of: Mapping[str, int]) -> Annotation:
    """Fill columns of the items table; the library's one writer calls it.

    Columns the library does not have are added; all values appear in one commit.

    Args:
        given: the column ``path``, and others.
        item_of: path -> id of the files the library holds.

    Raises:
        UsageError: a column cannot be one, or a path is there twice.
        LibraryError: the disk refused; no value was changed.
    """
    items = lance_tables.open_table(library, schema.ITEMS)
    paths, columns = _checked(given, items.schema)
    unknown = [path for path in paths if path not in item_of]
    with lance_tables.storage_errors(library / schema.ITEMS):
        added = [field for field in columns.schema if field.name not in items.schema.names]
        if added:
            items.add_columns(pa.schema(added))
            items = lance_tables.open_table(library, schema.ITEMS)
        chosen = [row for row, path in enumerate(paths) if path in item_of]
        ids = [item_of[paths[row]] for row in chosen]
        if chosen:
            rows = table_rows.rows_by_id(library, ids)
            values = columns.take(pa.array(chosen, pa.int64()))
            rows = table_rows.changed_rows(
                rows, {name: values[name] for name in values.column_names}
            )
            items.merge_insert("item_id").when_matched_update_all().execute(rows)
    types = {field.name: _type_name(field.type) for field in columns.schema}
    return Annotation(types, len(chosen), tuple(unknown))


def drop_columns(library: Path, names: Sequence[str]) -> None:
    """Take columns out of the items table, in one commit; the library's one writer calls it.

    Raises:
        UsageError: a column is not there, or not the user's. Nothing was changed.
        LibraryError: the disk refused.
    """
    if not names:
        raise UsageError("name the columns to drop")
    items = lance_tables.open_table(library, schema.ITEMS)
    own = filters.own_columns_of(items)
    for name in names:
        if name not in own:
            raise UsageError(
                f"{name} is no column of yours, which alone can be dropped: you have "
                f"{', '.join(own) or 'none'}"
            )
    with lance_tables.storage_errors(library / schema.ITEMS):
        items.drop_columns(list(dict.fromkeys(names)))


def _checked(given: pa.Table, stored: pa.Schema) -> tuple[list[str], pa.Table]:
    """The paths, and the other columns in the types they are stored in."""
    if not isinstance(given, pa.Table):
        raise UsageError(
            f"annotations are a pyarrow.Table or a file's path, got {type(given).__name__}"
        )
    if "path" not in given.column_names or not pa.types.is_string(given.schema.field("path").type):
        raise UsageError("annotations need a column path of text")
    paths: list[str] = given["path"].to_pylist()
    if None in paths:
        raise UsageError("a row of the annotations has no path")
    if len(set(paths)) < len(paths):
        seen: set[str] = set()
        twice = next(path for path in paths if path in seen or seen.add(path))  # type: ignore[func-returns-value]
        raise UsageError(f"the annotations hold {twice} twice: keep one row a file")
    others = given.drop_columns(["path"])
    if len(set(given.column_names)) < given.num_columns or not others.num_columns:
        raise UsageError(
            f"annotations need columns beside path, each once; got {', '.join(given.column_names)}"
        )
    columns = {}
    for name in others.column_names:
        if name in schema.ITEM_SCHEMA.names:
            raise UsageError(
                f"{name} is a column the library fills itself: name yours otherwise; its own are "
                f"{', '.join(schema.ITEM_SCHEMA.names)}"
            )
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"a column cannot be called {name!r}: use letters, digits and _, a letter first"
            )
        held = stored.field(name).type if name in stored.names else None
        columns[name] = _stored(name, others[name], held)
    return paths, pa.table(columns)


def _stored(name: str, column: pa.ChunkedArray, held: pa.DataType | None) -> pa.ChunkedArray:
    """The column as the library keeps it, in the type ``held`` if it has one already."""
    kind = column.type
    if pa.types.is_null(kind) or (held is not None and column.null_count == len(column)):
        return pa.chunked_array([pa.nulls(len(column), held or pa.string())])
    if pa.types.is_integer(kind):
        wanted = pa.int64()
    elif pa.types.is_floating(kind):
        wanted = pa.float64()
    elif pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None):
        wanted = _TIMESTAMP
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        wanted = pa.string()
    elif pa.types.is_boolean(kind):
        wanted = pa.bool_()
    else:
        raise UsageError(
            f"column {name} is {kind}: text, integers, floats, booleans and dates without a time "
            "zone can be kept"
        )
    if held == pa.float64() and wanted == pa.int64():
        wanted = held
    if held is not None and held != wanted:
        raise UsageError(
            f"column {name} holds {_type_name(held)} in this library and {_type_name(wanted)} in "
            "the annotations: make them agree, or name the column otherwise"
        )
    try:
        return column.cast(wanted)
    except pa.ArrowInvalid as error:
        raise UsageError(f"column {name} does not fit {_type_name(wanted)}: {error}") from error


def _check_header(header: Sequence[str], path: Path) -> None:
    if "path" not in header:
        raise UsageError(
            f"{path} has no column path: its first line must name the columns, path among them"
        )
    if len(set(header)) < len(header):
        raise UsageError(f"{path} names a column twice: {', '.join(header)}")


def _column(cells: Sequence[str]) -> pa.Array:
    """Text as what it says: integers, floats, dates, or text after all."""
    filled = [cell for cell in cells if cell]
    values: list[Any] = [cell or None for cell in cells]
    if not filled:
        return pa.nulls(len(cells))
    if all(map(_INTEGER.fullmatch, filled)) and all(-(2**63) <= int(c) < 2**63 for c in filled):
        return pa.array([value and int(value) for value in values], pa.int64())
    # 1e999 has the form of a number and is none that a column of floats can hold.
    if all(map(_FLOAT.fullmatch, filled)) and all(math.isfinite(float(cell)) for cell in filled):
        return pa.array([value and float(value) for value in values], pa.float64())
    if all(map(_DATE.fullmatch, filled)):
        try:
            return pa.array(
                [value and datetime.fromisoformat(value) for value in values], _TIMESTAMP
            )
        except ValueError:  # the 30th of February
            pass
    return pa.array(values, pa.string())


def _type_name(kind: pa.DataType) -> str:
    names = {
        pa.int64(): "integers",
        pa.float64(): "floats",
        _TIMESTAMP: "dates",
        pa.string(): "text",
        pa.bool_(): "booleans",
    }
    return names.get(kind, str(kind))

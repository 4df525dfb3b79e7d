"""``where``: SQL over the item columns."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from maxsight import settings
from maxsight.errors import FilterError, UsageError
from maxsight.index.tables import lance_tables, schema
from maxsight.index.tables.where import parser, vocabulary
from maxsight.index.tables.where.tokens import NoCondition, brief

# What may take this part of the time allowed is looked at between pieces: a guess is that far off.
_UNWATCHED = 0.2
_PIECE_SECONDS = 0.25
# No name of a column.
_HOLDS = "where holds"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def matching_items(items: Any, where: str, columns: list[str], library: Path) -> pa.Table:
    """``columns`` of the live item rows for which ``where`` holds.

    Raises:
        FilterError: it is not a condition over the item columns, or takes longer than
            ``MAXSIGHT_FILTER_TIMEOUT``.
        LibraryError: the rows cannot be read.
    """
    if not isinstance(where, str):
        raise UsageError(f"where must be a text, got {type(where).__name__}")
    extra = [] if "status" in columns else ["status"]
    with lance_tables.storage_errors(library / schema.ITEMS):
        try:
            # Inside the call anything but true, false and null is an error.
            condition = parser.condition(where, _kinds(items))
            sql = f"nullif({condition.sql}, FALSE)"
            seconds = condition.effort * items.count_rows() / vocabulary.WORK_IN_A_SECOND
            if seconds > _UNWATCHED * settings.filter_timeout():
                found = _watched(items, sql, [*columns, *extra], seconds, where)
            else:
                found = items.to_table(columns=[*columns, *extra], filter=sql)
        except UsageError:
            raise
        except ValueError as error:
            is_ours = isinstance(error, NoCondition)
            raise FilterError(
                f"cannot evaluate --where {brief(where)!r}: "
                f"{error if is_ours else _reason(str(error))}; it is SQL over the columns "
                f'{", ".join(columns_of(items))}, for example "width > 1000 AND '
                "glob(path, '**/Rome/*.jpg')\" or \"kind = 'video' AND captured_at > "
                "'2024-05-01'\""
            ) from error
    return found.filter(pc.equal(found["status"], schema.LIVE)).drop_columns(extra)


def _watched(items: Any, sql: str, columns: list[str], seconds: float, where: str) -> pa.Table:
    """The rows for which ``sql`` holds, as ``to_table`` gives them, with an eye on the clock.

    The storage layer returns from a filter only with rows that fit. So here the condition is a
    column, which comes piece by piece whatever it says.

    Args:
        seconds: that it may take, by guess.
    """
    limit = settings.filter_timeout()
    end = time.monotonic() + limit
    pieces = max(1, round(seconds / _PIECE_SECONDS))
    rows = items.count_rows()
    named = {name: f"`{name}`" for name in columns}
    reader = items.scanner(
        columns={**named, _HOLDS: sql}, batch_size=max(16, min(8192, rows // pieces))
    ).to_reader()
    done, found = 0, []
    for batch in reader:
        found.append(batch.filter(batch[_HOLDS].cast(pa.bool_())).select(columns))
        done += len(batch)
        if done < rows and time.monotonic() > end:
            raise FilterError(
                f"--where {brief(where)!r} was stopped after {limit} seconds, at file {done:,} of "
                f"{rows:,}: shorten its patterns, above all what they repeat ({{…}}, %, *), or "
                "allow more seconds with MAXSIGHT_FILTER_TIMEOUT"
            )
    return pa.Table.from_batches(found, pa.schema([reader.schema.field(name) for name in columns]))


def columns_of(items: Any) -> list[str]:
    """Names a ``where`` may use: the library's public columns, and the user's own."""
    there = items.schema.names  # an older library has fewer of them
    return [*(name for name in schema.PUBLIC_COLUMNS if name in there), *own_columns_of(items)]


def own_columns_of(items: Any) -> list[str]:
    """The user's own columns."""
    return [name for name in items.schema.names if name not in schema.ITEM_SCHEMA.names]


def _kinds(items: Any) -> dict[str, parser.ColumnKind]:
    """What each column holds, as far as lists of its values are concerned."""
    kinds: dict[str, parser.ColumnKind] = {}
    for field in items.schema:
        if _NAME.fullmatch(field.name):  # in a library that maxsight made they all are
            is_text, is_integer = pa.types.is_string(field.type), pa.types.is_integer(field.type)
            kinds[field.name] = "text" if is_text else "integer" if is_integer else "other"
    return kinds


def _reason(text: str) -> str:
    """Lance's message without its source files, its layers and our wrapping."""
    if "'nullif'" in text:
        return "it is not one condition that is true or false"
    text = " ".join(text[-20_000:].split(", /")[0].split())
    return re.split(r"\b(?:[Ee]rror|[Ee]rror during planning|Invalid user input): ", text)[-1][:200]

"""``where``: SQL over the item columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from maxsight.errors import FilterError, UsageError
from maxsight.index import lance_tables, tables
from maxsight.index.where import parser
from maxsight.index.where.tokens import NoCondition, brief

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def matching_items(items: Any, where: str, columns: list[str], library: Path) -> pa.Table:
    """``columns`` of the live item rows for which ``where`` holds.

    Raises:
        FilterError: it is not a condition over the item columns.
        LibraryError: the rows cannot be read.
    """
    if not isinstance(where, str):
        raise UsageError(f"where must be a text, got {type(where).__name__}")
    extra = [] if "status" in columns else ["status"]
    with lance_tables.storage_errors(library / tables.ITEMS):
        try:
            # Inside the call anything but true, false and null is an error.
            condition = f"nullif({parser.condition(where, _kinds(items))}, FALSE)"
            found = items.to_table(columns=[*columns, *extra], filter=condition)
        except ValueError as error:
            is_ours = isinstance(error, NoCondition)
            raise FilterError(
                f"cannot evaluate --where {brief(where)!r}: "
                f"{error if is_ours else _reason(str(error))}; it is SQL over the columns "
                f'{", ".join(columns_of(items))}, for example "width > 1000 AND '
                "glob(path, '**/Rome/*.jpg')\" or \"kind = 'video' AND captured_at > "
                "'2024-05-01'\""
            ) from error
    return found.filter(pc.equal(found["status"], tables.LIVE)).drop_columns(extra)


def columns_of(items: Any) -> list[str]:
    """Names a ``where`` may use: the library's public columns, and the user's own."""
    there = items.schema.names  # an older library has fewer of them
    return [*(name for name in tables.PUBLIC_COLUMNS if name in there), *own_columns_of(items)]


def own_columns_of(items: Any) -> list[str]:
    """The user's own columns."""
    return [name for name in items.schema.names if name not in tables.ITEM_SCHEMA.names]


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

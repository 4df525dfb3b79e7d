"""``where``: SQL over the item columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from maxsight.errors import FilterError
from maxsight.index import tables


def matching_items(items: Any, where: str, columns: list[str], library: Path) -> pa.Table:
    """``columns`` of the live item rows for which ``where`` holds.

    Raises:
        FilterError: it is not a condition over the item columns.
        LibraryError: the rows cannot be read.
    """
    # Lance reads one expression and ignores what follows it; inside a function call anything but
    # one whole condition is an error. The status is checked on what comes back, because text
    # joined to another condition could undo it, as `1=1) OR (1=1` would.
    condition = f"nullif(\n{where}\n, FALSE)"
    extra = [] if "status" in columns else ["status"]
    with tables.storage_errors(library / tables.ITEMS):
        try:
            found = items.to_table(columns=[*columns, *extra], filter=condition)
        except ValueError as error:
            raise FilterError(
                f"cannot evaluate --where {where!r}: {_reason(str(error))}; it is SQL over the "
                f'columns {", ".join(tables.PUBLIC_COLUMNS)}, for example "width > 1000 AND path '
                "LIKE '%/Rome/%'\" or \"kind = 'video' AND captured_at > '2024-05-01'\""
            ) from error
    return found.filter(pc.equal(found["status"], tables.LIVE)).drop_columns(extra)


def _reason(text: str) -> str:
    """Lance's message without its source files and our wrapping."""
    if column := re.search(r"No field named \"?([^\s\"]+?)\"?\. ", text):
        return f"there is no column {column[1]}"
    if parser := re.search(r"sql parser error: (.*?)\), /", text, re.DOTALL):
        text = parser[1].replace("found: ,", "found the end")
    elif token := re.search(r"\(([^()]+) at Line[^()]*\)", text):
        text = token[1]
    elif "'nullif'" in text:
        return "it is not one condition that is true or false"
    text = text.split(", /")[0].removeprefix("Invalid user input: ")
    return " ".join(text.split())[:200]

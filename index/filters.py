"""``where``: SQL over the item columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from maxsight.errors import FilterError
from maxsight.index import tables

# A quoted text or name, which is passed over, or glob(column, 'pattern').
_GLOB = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|"""
    r"""\bglob\s*\(\s*(?P<column>\w+|"(?:[^"]|"")*")\s*,\s*'(?P<pattern>(?:[^']|'')*)'\s*\)""",
    re.IGNORECASE,
)
_GLOB_PARTS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matching_items(items: Any, where: str, columns: list[str], library: Path) -> pa.Table:
    """``columns`` of the live item rows for which ``where`` holds.

    Raises:
        FilterError: it is not a condition over the item columns.
        LibraryError: the rows cannot be read.
    """
    # Lance reads one expression and ignores what follows it; inside a function call anything but
    # one whole condition is an error. The status is checked on what comes back, because text
    # joined to another condition could undo it, as `1=1) OR (1=1` would.
    condition = f"nullif(\n{_with_globs(where)}\n, FALSE)"
    extra = [] if "status" in columns else ["status"]
    with tables.storage_errors(library / tables.ITEMS):
        try:
            found = items.to_table(columns=[*columns, *extra], filter=condition)
        except ValueError as error:
            raise FilterError(
                f"cannot evaluate --where {where!r}: {_reason(str(error))}; it is SQL over the "
                f'columns {", ".join(columns_of(items))}, for example "width > 1000 AND '
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


def _with_globs(where: str) -> str:
    """``glob(path, '**/Rome/*.jpg')`` as the regular expression it stands for."""

    def rewrite(match: re.Match[str]) -> str:
        if match["pattern"] is None:  # quoted: not ours
            return match[0]
        pattern = match["pattern"].replace("''", "'")
        expression = glob_expression(pattern).replace("'", "''")
        return f"regexp_like({match['column']}, '{expression}')"

    return _GLOB.sub(rewrite, where)


def glob_expression(pattern: str) -> str:
    """A regular expression for ``*``, ``?`` and ``[a-z]`` within a name and ``**`` across folders.

    ``**/`` stands for any folders or none; ``[!a-z]`` for any other character.
    """
    parts = []
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[(?:!.|[^!])[^\]]*\]|.", pattern, re.DOTALL):
        if len(part) > 1 and part.startswith("["):
            negated, letters = part[1] == "!", part[1:-1].removeprefix("!")
            # A hyphen between two letters is a range, and one at an end is itself.
            escaped = re.sub(r"[\\\[\]^&~]|^-|-$", r"\\\g<0>", letters)
            parts.append(f"[{'^/' if negated else ''}{escaped}]")
        else:
            parts.append(_GLOB_PARTS.get(part) or re.escape(part))
    # (?s): a name may hold a newline.
    return f"(?s)^{''.join(parts)}$"


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

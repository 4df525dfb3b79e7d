"""What is printed, and how: tables for people, JSON for programs, errors for both."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maxsight.shown import in_json, shown

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")]


# The exit code of a program that wrote into a pipe nobody reads: 128 and the number of SIGPIPE.
CUT_OFF = 141


def open_streams() -> None:
    """See that all three standard streams are open, and take every letter.

    A file that is opened while one of them is closed would get its number, and what is printed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that takes ASCII only, say
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Throw away what could not be printed, so that nobody tries it again at the end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def console(*, stderr: bool = False) -> Console:
    """A rich console: colours only on a terminal, width of the terminal or unlimited in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


def say(text: str = "", *, stderr: bool = False, style: str = "") -> None:
    """Print one line, in which no name can give orders to the terminal (``maxsight.shown``)."""
    from rich.text import Text

    console(stderr=stderr).print(Text(shown(text), style))


def print_json(value: Any) -> None:
    """Print one object. Numbers that JSON lacks (NaN, infinities) are null; names as shown."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    text = in_json(text)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:  # whatever stands for a letter there is not what JSON would have
        text = json.dumps(json.loads(text))
    print(text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings; numbers are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    cells = [[shown(str(cell)) for cell in row] for row in rows]
    for number, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[number]) for row in cells)
        table.add_column(
            Text(shown(column)),
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def print_error(error: Exception) -> None:
    """To stderr for people; also as an object on stdout when ``--json`` was asked for."""
    if "--json" in sys.argv[1:]:
        print_json({"error": {"type": type(error).__name__, "message": str(error)}})
    from rich.text import Text

    message = Text("error: ", style="bold red")
    message.append(shown(str(error)), style="not bold default")
    with contextlib.suppress(OSError):  # then only the exit code can tell
        console(stderr=True).print(message)


def seconds(value: float | None) -> str:
    """Seconds as a clock: ``0:07``, ``1:02:33``."""
    if value is None:
        return ""
    whole = int(value)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Bytes in the unit a person would use."""
    value, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _is_number(text: str) -> bool:
    return not text or text[0].isdigit() or text[0] in "-+."


def _finite(value: Any) -> Any:
    """Plain data, in which null stands for NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value if value is None or isinstance(value, str | int) else _finite(_plain(value))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")

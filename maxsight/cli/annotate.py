"""``maxsight annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxsight.cli.search import LibraryArgument
from maxsight.errors import UsageError
from maxsight.output import JsonOption, QuietOption, print_json, say

if TYPE_CHECKING:
    from maxsight.index.tables.annotations import Annotation

_LISTED = 20


def annotate(
    library: LibraryArgument,
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV with the column path, and others.", show_default=False),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(help="Take a column of yours out instead.", metavar="COLUMN"),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Give files columns of your own, to search and list by: --where "place = 'Rome'".

    The table's paths are absolute, or relative to its folder. Columns of whole numbers, of numbers
    and of dates (2024-05-01) are kept as such, all others as text; an empty cell says nothing.
    Exit code 1 if some paths are not in the library. With --drop and without a table, columns leave
    the library with all their values.

    Example: `maxsight annotate photos.maxsight places.csv`
    """
    import maxsight

    if (file is None) == (not drop):
        raise UsageError("give a CSV file with columns to fill, or columns to --drop")
    with maxsight.open(library) as opened:
        if file is None:
            names = drop or []
            opened.drop_columns(*names)
            if json:
                print_json({"dropped": names})
            elif not quiet:
                say(f"dropped: {', '.join(names)}")
            return
        done = opened.annotate(file)
    if json:
        print_json(done)
    else:
        _print(done, quiet=quiet)
    if done.unknown:
        raise typer.Exit(1)


def _print(done: Annotation, *, quiet: bool) -> None:
    if not quiet:
        columns = ", ".join(f"{name} ({kind})" for name, kind in done.columns.items())
        say(f"{done.files:,} files: {columns}")
    for path in done.unknown[:_LISTED]:
        say(f"not in the library: {path}", stderr=True)
    if (more := len(done.unknown) - _LISTED) > 0:
        say(f"not in the library: {more:,} more", stderr=True)

"""``maxsight annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxsight.cli.search import LibraryArgument
from maxsight.output import JsonOption, QuietOption, console, print_json, printable

_LISTED = 20


def annotate(
    library: LibraryArgument,
    file: Annotated[
        Path, typer.Argument(help="CSV with the column path, and others.", show_default=False)
    ],
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Give files columns of your own, to search and list by: --where "place = 'Rome'".

    The table's paths are absolute, or relative to its folder. Columns of whole numbers, of numbers
    and of dates (2024-05-01) are kept as such, all others as text; an empty cell says nothing.
    Exit code 1 if some paths are not in the library.

    Example: `maxsight annotate photos.maxsight places.csv`
    """
    import maxsight

    with maxsight.open(library) as opened:
        done = opened.annotate(file)
    if json:
        print_json(done)
    else:
        if not quiet:
            columns = ", ".join(f"{name} ({kind})" for name, kind in done.columns.items())
            console().print(f"{done.files:,} files: {columns}", markup=False)
        remarks = console(stderr=True)
        for path in done.unknown[:_LISTED]:
            remarks.print(f"not in the library: {printable(path)}", markup=False)
        if (more := len(done.unknown) - _LISTED) > 0:
            remarks.print(f"not in the library: {more:,} more")
    if done.unknown:
        raise typer.Exit(1)

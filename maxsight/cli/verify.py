"""``maxsight verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from maxsight.arguments import one_place
from maxsight.cli.progress import step_progress
from maxsight.cli.search import LibraryArgument
from maxsight.output import JsonOption, QuietOption, print_json, say, size

if TYPE_CHECKING:
    from maxsight.index.verify.verify import Verification

_WORDS = {"checksums": "comparing files", "rows": "comparing rows"}


def verify(
    library: LibraryArgument,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Take out what is damaged, so that it is made again."),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare every file of a library with its checksum, and its parts with each other.

    Exit code 3 if something is damaged. With --repair, indexes that are damaged are deleted, and
    pictures and films whose vectors are lost leave the library: index again to have both back.

    Example: `maxsight verify photos.maxsight`
    """
    # Not through a Library, which can be opened only while its tables can.
    from maxsight.index.verify import verify as checks

    with step_progress(_WORDS, enabled=not (quiet or json)) as progress:
        found = checks.verify(
            one_place(library, what="the library"),
            repair=repair,
            progress=progress,
        )
    if json:
        print_json(found)
    else:
        _print(found, repair=repair, quiet=quiet)
    if found.problems:
        raise typer.Exit(3)


def _print(found: Verification, *, repair: bool, quiet: bool) -> None:
    for done in found.repaired:
        say(f"repaired: {done}")
    for problem in found.problems:
        say(f"{problem.kind}: {problem.place}: {problem.text}")
    if found.problems and not repair:
        say("maxsight verify --repair takes out what is damaged")
    if quiet:
        return
    if not found.problems:
        say(
            f"all is well: {found.items:,} files, {found.units:,} units; {found.files:,} files of "
            f"the library ({size(found.bytes)}) are what was written"
        )
    if found.unrecorded:
        say(f"{found.unrecorded:,} files await their checksum: run maxsight index or compact")
    if found.leftovers:
        say(
            f"{len(found.leftovers):,} files were left half made by a writer that was killed, and "
            f"go with the next index or compact: {', '.join(found.leftovers[:3])}"
        )
    if found.orphans:
        say(f"{found.orphans:,} units of no file await maxsight compact")

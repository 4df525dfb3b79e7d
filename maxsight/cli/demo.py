"""``maxsight demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxsight.cli.progress import ingest_progress
from maxsight.output import JsonOption, QuietOption, print_json, print_table, say, seconds

if TYPE_CHECKING:
    from maxsight.demo import Answer

_TITLES = {
    "text": "Pictures by words",
    "change": "A picture plus a change in words",
    "moment": "Moments in a film",
}


def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where to put pictures, film, library and contact sheet.")
    ] = Path("maxsight-demo"),
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Index a hundred real pictures and a short film, and search them in three ways.

    Example: `maxsight demo`
    """
    from maxsight import demo as module

    with ingest_progress(enabled=not (quiet or json)) as progress:
        done = module.run(folder, progress=progress)
    if json:
        print_json(
            {
                "library": str(done.library),
                "report": done.report,
                "answers": done.answers,
                "sheet": str(done.sheet),
            }
        )
        return
    for kind, title in _TITLES.items():
        say()
        say(title, style="bold")
        for answer in done.answers:
            if answer.kind == kind:
                say()
                say(f"$ maxsight {answer.command}", style="cyan")
                _print_answer(answer)
    say()
    say(f"Contact sheet: {done.sheet}  (open it in a browser)")
    say()
    say("Try next", style="bold")
    for line in (
        f'search {done.library} "something to eat" --sheet food.html',
        f'search {done.library} "a musical instrument" --minus "a guitar"',
        f'moments {done.library} "a castle"',
        "index photos.maxsight ~/Pictures",
    ):
        say(f"  maxsight {line}", style="cyan")


def _print_answer(answer: Answer) -> None:
    has_times = any(hit.start is not None for hit in answer.hits)
    columns = ["score", *(["when"] if has_times else []), "file"]
    rows = []
    for hit in answer.hits:
        when = "" if hit.start is None else f"{seconds(hit.start)} – {seconds(hit.end)}"
        rows.append([f"{hit.score:.3f}", *([when] if has_times else []), Path(hit.path).name])
    print_table(columns, rows)

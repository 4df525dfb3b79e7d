"""``maxsight bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxsight.output import JsonOption, QuietOption, print_json, print_table, say


def bench(
    name: Annotated[
        str | None, typer.Argument(help="Which benchmark; none lists them.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder for fetched material. [default: the cache folder]"),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Append the rows to this CSV file.", metavar="FILE.csv")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure maxsight on this machine. Without a name, list what can be measured.

    Example: `maxsight bench builtin-recall`
    """
    from maxsight import settings
    from maxsight.benchmarks import registry
    from maxsight.benchmarks.command import show
    from maxsight.benchmarks.measure import rows

    if name is None:
        listed = {key: question for key, (_, question) in registry.BENCHMARKS.items()}
        if json:
            print_json({"benchmarks": listed})
        else:
            print_table(["benchmark", "what it answers"], listed.items())
        return
    benchmark = registry.load(name)
    if not quiet:
        say(benchmark.question, stderr=True, style="dim")
    measured = benchmark.run(data or settings.cache_directory() / "bench")
    if save is not None:
        rows.save(measured, save)
    if json:
        print_json({"benchmark": name, "rows": measured})
        return
    show(measured)

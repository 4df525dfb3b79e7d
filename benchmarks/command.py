"""A benchmark as a command, and its rows as a table."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from maxsight import settings
from maxsight.benchmarks.measure import rows
from maxsight.benchmarks.measure.rows import Row
from maxsight.output import print_table

_DATA = Annotated[Path | None, typer.Option(help="Folder for fetched and rendered material.")]
_SAVE = Annotated[Path | None, typer.Option(help="Append the rows to this CSV file.")]


def command(run: Callable[..., list[Row]]) -> None:
    """Run a benchmark; each keyword argument of ``run`` becomes an option of the same name."""

    @functools.wraps(run)
    def wrapped(*, data: Path | None, save: Path | None, **options: Any) -> None:
        measured = run(data or settings.cache_directory() / "bench", **options)
        show(measured)
        if save is not None:
            rows.save(measured, save)

    own = [
        inspect.Parameter("data", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_DATA),
        inspect.Parameter("save", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_SAVE),
    ]
    signature = inspect.signature(run, eval_str=True)
    options = [parameter for name, parameter in signature.parameters.items() if name != "data"]
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=own + options, return_annotation=None
    )
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(wrapped)
    app()


def show(measured: Sequence[Row]) -> None:
    """Print rows as a table."""
    print_table(
        ["case", "contender", "metric", "median", "20–80 %", "unit", "n"],
        (
            [
                row.case,
                row.contender,
                row.metric,
                f"{row.value:.4g}",
                "" if row.low is None else f"{row.low:.4g}–{row.high:.4g}",
                row.unit,
                row.runs,
            ]
            for row in measured
        ),
    )

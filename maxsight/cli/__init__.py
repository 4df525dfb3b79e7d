"""The command line: one module a verb, each importing what it needs only when it runs."""

from __future__ import annotations

import os
import sys

import typer
from typer.exceptions import TyperException

import maxsight
from maxsight import shortage
from maxsight.cli import (
    annotate,
    bench,
    demo,
    doctor,
    encoders,
    evaluate,
    index,
    kernels,
    library,
    moments,
    search,
    tuning,
    verify,
)
from maxsight.errors import MaxsightError, UsageError
from maxsight.output import CUT_OFF, discard_output, open_streams, print_error
from maxsight.shown import log_as_shown

app = typer.Typer(
    name="maxsight",
    help="Find a picture, a changed picture, a moment.",
    epilog=(
        "Exit codes: 0 done · 1 some inputs failed · 2 wrong usage · 3 library or encoder unusable."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("moments")(moments.moments)
app.command("eval")(evaluate.evaluate)
app.command("info")(library.info)
app.command("list")(library.list_items)
app.command("annotate")(annotate.annotate)
app.command("remove")(library.remove)
app.command("relocate")(library.relocate)
app.command("compact")(library.compact)
app.command("verify")(verify.verify)
app.command("tune-index")(tuning.tune_index)
app.command("demo")(demo.demo)
app.command("encoders")(encoders.encoders)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("kernels")(kernels.kernels)
app.command("tune")(kernels.tune)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maxsight {maxsight.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    shortage.require_files()


def main() -> None:
    """Run the command line and leave with an exit code that means something."""
    open_streams()
    log_as_shown()
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        code = CUT_OFF
        discard_output()
    except OSError as error:
        if error.filename is None:  # nothing but writing to standard output is left
            discard_output()
        print_error(_system_error(error))
        code = MaxsightError.exit_code
    sys.exit(code)


def _run() -> int:
    try:
        try:
            return app(standalone_mode=False) or 0
        except TyperException as error:
            if error.format_message():  # else help was asked for by giving no arguments
                raise _usage_error(error) from None
            return 2
        except SystemExit:  # with which Typer and rich answer a pipe that nobody reads
            raise BrokenPipeError from None
    except MaxsightError as error:
        print_error(error)
        return error.exit_code
    except (OSError, RuntimeError, MemoryError, ImportError) as error:
        if (lacking := shortage.named(error)) is None:
            raise
        print_error(lacking)
        return lacking.exit_code


def _system_error(error: OSError) -> MaxsightError:
    """What the system refused, in a sentence."""
    if error.filename is None:
        return MaxsightError(
            f"the output cannot be written: {error.strerror}; give it another place"
        )
    return MaxsightError(
        f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}; maxsight needs the right "
        "to list, read and, for what it changes, write it"
    )


def _usage_error(error: TyperException) -> UsageError:
    """What Typer says of wrong options, in our words and with our exit code."""
    context = getattr(error, "ctx", None)
    command = "maxsight" if context is None else context.command_path
    message = " ".join(error.format_message().split()).rstrip(".")
    return UsageError(f"{message}; see {command} --help")

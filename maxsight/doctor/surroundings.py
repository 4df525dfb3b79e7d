"""Environment variables that change how maxsight runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from maxsight import settings as configured
from maxsight.doctor.finding import Finding
from maxsight.doctor.packages import try_import
from maxsight.errors import UsageError
from maxsight.machine import usable_cores

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def threads() -> Iterator[Finding]:
    """How many threads arithmetic uses, and whether that fits the cores."""
    cores = usable_cores()
    whole = max(1, int(cores))
    said = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    torch = try_import("torch")
    used = f"torch uses {torch.get_num_threads()} threads, " if not isinstance(torch, str) else ""
    shown = ", ".join(f"{name}={value}" for name, value in said.items())
    yield Finding("threads", "ok", f"{used}{cores:g} cores usable{'; ' if shown else ''}{shown}")
    for name, value in said.items():
        if not value.isdecimal() or not int(value):
            yield Finding(
                "threads",
                "warning",
                f"{name}={value!r} is not a positive whole number and is ignored",
                f"unset {name} or set it to {whole}",
            )
        elif int(value) > 2 * whole:
            yield Finding(
                "threads",
                "warning",
                f"{name}={value} starts more threads than the {cores:g} usable cores can run",
                f"unset {name} or set it to {whole}",
            )
        elif int(value) == 1 and whole > 1:
            yield Finding(
                "threads",
                "warning",
                f"{name}=1 leaves {whole - 1} of {whole} cores idle",
                f"unset {name} or set it to {whole}",
            )
    if not said and not isinstance(torch, str) and torch.get_num_threads() > 2 * whole:
        yield Finding(
            "threads",
            "warning",
            f"torch starts {torch.get_num_threads()} threads, but this container may use "
            f"{cores:g} cores",
            f"export OMP_NUM_THREADS={whole}",
        )


def text() -> Iterator[Finding]:
    """Can file names and output hold any character?"""
    names, output = sys.getfilesystemencoding(), sys.stdout.encoding or "none"
    yield Finding("text", "ok", f"file names are {names}, output is {output}")
    if names.lower().replace("-", "") != "utf8":
        yield Finding(
            "text",
            "problem",
            f"file names are read as {names}: those with other characters cannot be shown or found",
            "export PYTHONUTF8=1 (or LC_ALL=C.UTF-8)",
        )
    elif output.lower().replace("-", "") != "utf8":
        yield Finding(
            "text",
            "warning",
            f"output is written as {output}: other characters come out as escapes",
            "export PYTHONUTF8=1 (or PYTHONIOENCODING=utf-8)",
        )


def settings() -> Iterator[Finding]:
    """maxsight's own variables."""
    said = sorted(name for name in os.environ if name.startswith("MAXSIGHT_"))
    yield Finding("settings", "ok", ", ".join(said) + " set" if said else "all at their defaults")
    for read in (configured.max_pixels, configured.decode_timeout, configured.decode_workers):
        try:
            read()
        except UsageError as error:
            name = str(error).partition("=")[0]
            yield Finding("settings", "problem", str(error), f"unset {name}")

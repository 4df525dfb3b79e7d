"""``maxsight doctor``."""

from __future__ import annotations

import typer

from maxsight.output import JsonOption, QuietOption, console, print_json, say
from maxsight.shown import shown

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


def doctor(json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Check this machine: versions, devices, FAISS, codecs, encoders, disk and memory.

    Every problem comes with its remedy. `--quiet` shows only warnings and problems. Exit code 1
    if there is a problem.

    Example: `maxsight doctor`
    """
    from maxsight.doctor import diagnose

    findings = diagnose()
    if json:
        print_json({"findings": findings})
    else:
        from rich.text import Text

        out = console()
        for finding in findings:
            if quiet and finding.status == "ok":
                continue
            mark, colour = _MARKS[finding.status]
            told = shown(f" {finding.area:<12} {finding.what}")
            out.print(Text.assemble((mark, colour), told))
            if finding.remedy:
                say(f"{'':15}→ {finding.remedy}", style="dim")
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)

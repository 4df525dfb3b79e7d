"""The progress of long work: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from maxsight.output import console, seconds

if TYPE_CHECKING:
    from maxsight.pipelines.ingestion.report import Progress

_LOG_EVERY_S = 10.0
_WORDS = {
    "scan": "listing files",
    "compare": "comparing files",
    "load": "loading the encoder",
    "read": "indexing",
    "tokens": "indexing tokens",
    "train": "training the index",
    "fill": "filling the index",
    "truth": "searching exactly",
    "measure": "measuring the index",
    "done": "done",
}
# What is counted, where it is not files.
_COUNTED = {
    "tokens": "units",
    "train": "steps",
    "fill": "vectors",
    "truth": "steps",
    "measure": "settings",
}


@contextmanager
def ingest_progress(*, enabled: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Give a function that shows the progress it is called with on stderr, or None."""
    if not enabled:
        yield None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _log_lines()


@contextmanager
def step_progress(
    words: Mapping[str, str], *, enabled: bool
) -> Iterator[Callable[[str, int, int], None] | None]:
    """Give a function that shows on stderr what is done, how far it is and how far it goes.

    Args:
        words: what to say for each name the function is called with.
    """
    if not enabled:
        yield None
    elif sys.stderr.isatty():
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
        with Bar(*columns, console=console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)

            def show(stage: str, done: int, total: int) -> None:
                bar.update(task, description=words.get(stage, stage), completed=done, total=total)

            yield show
    else:
        last = time.monotonic()

        def log(stage: str, done: int, total: int) -> None:
            nonlocal last
            if total and time.monotonic() - last > _LOG_EVERY_S:
                last = time.monotonic()
                line = f"{words.get(stage, stage)}: {done / total:.0%}"
                print(line, file=sys.stderr, flush=True)

        yield log


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remarks]}"),
    )
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(_WORDS["scan"], total=None, remarks="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=_WORDS[progress.stage],
                completed=progress.done,
                total=progress.total,
                remarks=remarks(progress),
            )

        yield show


def _log_lines() -> Callable[[Progress], None]:
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last < _LOG_EVERY_S:
            return
        last = time.monotonic()
        total = f" of {progress.total:,}" if progress.total is not None else ""
        what = _COUNTED.get(progress.stage, "files")
        print(
            f"{_WORDS[progress.stage]}: {progress.done:,}{total} {what}  {remarks(progress)}",
            file=sys.stderr,
            flush=True,
        )

    return show


def remarks(progress: Progress) -> str:
    """Rate, time left, failures and the device's idle share, as far as they are known."""
    if progress.stage != "read":
        return ""
    parts = [f"{progress.rate:.1f}/s"]
    if progress.eta_s is not None:
        parts.append(f"{seconds(progress.eta_s)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    parts.append(f"device idle {progress.device_idle_share:.0%}")
    return "  ".join(parts)

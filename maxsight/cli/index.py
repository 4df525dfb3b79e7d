"""``maxsight index``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from maxsight.cli.progress import ingest_progress
from maxsight.cli.search import DeviceOption, LibraryArgument, TrustOption
from maxsight.output import JsonOption, QuietOption, print_json, say

if TYPE_CHECKING:
    from maxsight.pipelines.ingestion.report import IngestReport

# Of failures and of remarks.
_LISTED = 20
# Suffixes, and folders that were left out.
_COUNTED = 8


def index(
    library: LibraryArgument,
    path: Annotated[
        list[str], typer.Argument(help="Files, or folders to look through.", show_default=False)
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="builtin, or open_clip:ARCH/PRETRAINED. [default: the library's, or builtin]",
            metavar="URI",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Pictures encoded at once. [default: 256 on a GPU, 8 by each core]",
            min=1,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames a second taken from films; films read with another number are read "
            "again. [default: 1; films that the library holds keep theirs]",
            min=0.01,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out what fits, as in a .gitignore: '*.png', 'drafts/', '/2019/**/raw'; "
            "repeatable. A file .maxsightignore in a folder can say it for good.",
            metavar="PATTERN",
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Also remove files where a whole folder is empty or gone. Without it they are "
            "kept, in case a disk is not mounted.",
        ),
    ] = False,
    tokens: Annotated[
        bool | None,
        typer.Option(
            "--tokens/--no-tokens",
            help="Store patch embeddings, too, to search by them. [default: the library's, or no]",
        ),
    ] = None,
    token_limit: Annotated[
        int | None,
        typer.Option(
            help="Keep at most so many of a picture or square, alike ones merged. "
            "[default: the library's, or all]",
            metavar="N",
            min=1,
        ),
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            "--index",
            help="How vectors are searched: auto, exact, or an index (docs/indexes.md). "
            "[default: as before, or auto]",
            metavar="SPEC",
        ),
    ] = None,
    device: DeviceOption = "auto",
    trust_encoder: TrustOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring a library up to date with files and folders; make it if it is not there yet.

    Only what is new or changed is read. It can be stopped and started again at any time.
    Exit code 1 if some files could not be read; they are listed, and tried again
    once they change, or a limit that they were above is raised.

    Example: `maxsight index photos.maxsight ~/Pictures ~/Films`
    """
    import maxsight
    from maxsight.pipelines.ingestion.report import IngestInterrupted

    with maxsight.open(
        library, encoder=encoder, device=device, trust_encoder=trust_encoder
    ) as opened:
        try:
            with ingest_progress(enabled=not (quiet or json)) as progress:
                report = opened.add(
                    path,
                    fps=fps,
                    exclude=exclude or (),
                    prune=prune,
                    batch_size=batch_size,
                    tokens=tokens,
                    token_limit=token_limit,
                    index=vectors,
                    progress=progress,
                )
        except IngestInterrupted as interrupted:
            report = interrupted.report
    if json:
        failures = [{"path": path, "reason": reason} for path, reason in report.failures]
        remarks = [{"path": path, "remark": remark} for path, remark in report.remarks]
        counts = {name: dict(getattr(report, name)) for name in ("passed_over", "left_out")}
        print_json(asdict(report) | {"failures": failures, "remarks": remarks} | counts)
    else:
        _print_report(report, quiet=quiet)
    if report.interrupted:
        raise typer.Exit(130)
    if report.failed:
        raise typer.Exit(1)


def _print_report(report: IngestReport, *, quiet: bool) -> None:
    for warning in report.warnings:
        say(f"warning: {warning}", stderr=True, style="yellow")
    if not quiet:
        counts = ("added", "updated", "moved", "removed", "unchanged", "touched", "failed")
        words = [f"{getattr(report, name):,} {name}" for name in counts if getattr(report, name)]
        rate = f", {report.units_per_second:.1f} pictures and frames/s" if report.units else ""
        say(f"{', '.join(words) or 'nothing to do'}  ({report.seconds:.1f} s{rate})")
        if report.index is not None and report.index.action in ("built", "extended"):
            made = report.index
            recall = "" if made.point is None else f", recall {made.point.worst:.3f}"
            where = f" on {made.device}" if made.action == "built" else ""
            told = f"index {made.index} {made.action}{where}: {made.rows:,} vectors{recall}"
            say(told)
        _print_counts("passed over, as neither picture nor film", report.passed_over)
        _print_counts("left out", report.left_out)
    for word, listed in (("read", report.remarks), ("failed", report.failures)):
        for path, text in listed[:_LISTED]:
            say(f"{word}: {path}: {text}", stderr=True)
        if (more := len(listed) - _LISTED) > 0:
            say(f"{word}: {more:,} more; maxsight info lists them all", stderr=True)
    if report.interrupted:
        say("interrupted: what was encoded is kept; run it again to go on", stderr=True)


def _print_counts(what: str, counts: Sequence[tuple[str, int]]) -> None:
    if counts:
        most = [f"{name or 'no suffix'} {count:,}" for name, count in counts[:_COUNTED]]
        more = ", …" if len(counts) > _COUNTED else ""
        say(f"{what}: {sum(count for _, count in counts):,} ({', '.join(most)}{more})")

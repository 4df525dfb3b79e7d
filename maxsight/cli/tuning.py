"""``maxsight tune-index``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxsight.cli.progress import ingest_progress
from maxsight.cli.search import DeviceOption, LibraryArgument, TrustOption
from maxsight.output import JsonOption, QuietOption, print_json, print_table, say, size

if TYPE_CHECKING:
    from maxsight.index.building.vector_index import IndexReport


def tune_index(
    library: LibraryArgument,
    recall: Annotated[
        float, typer.Option(help="Share of the true ten best that is to be found.")
    ] = 0.95,
    index: Annotated[
        str | None,
        typer.Option(
            help="Make the index anew: auto, exact, or what docs/indexes.md lists.", metavar="SPEC"
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw recall against speed into this SVG file.")
    ] = None,
    device: DeviceOption = "auto",
    trust_encoder: TrustOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a library's vector index and keep the fastest setting that finds enough.

    Sampled pictures and texts are searched for exactly and by the index, at every setting; of the
    chosen one other queries tell the recall, and near-duplicates how many find their picture first
    (0.999 must). Also tells the intrinsic dimensionality of the vectors, and what the order in
    which they were stored would do to a graph (HNSW) of them. A library without an index gets the
    one that fits its size.
    Exit code 1 if no setting reaches both.

    Example: `maxsight tune-index photos.maxsight --recall 0.98`
    """
    import maxsight

    with (
        maxsight.open(library, device=device, trust_encoder=trust_encoder) as opened,
        ingest_progress(enabled=not (quiet or json)) as progress,
    ):
        report = opened.tune_index(recall=recall, index=index, progress=progress)
    if plot is not None:
        from maxsight.cli.tuning_plot import draw

        plot.write_text(draw(report), encoding="utf-8")
    if json:
        print_json(report)
    else:
        _print(report, quiet=quiet)
    if report.point is not None and not report.point.reaches(recall):
        raise typer.Exit(1)


def _print(report: IndexReport, *, quiet: bool) -> None:
    made = f", made on {report.device}" if report.action == "built" else ""
    say(f"index {report.index}{made}: {report.why}")
    if report.point is not None:
        kinds = list(report.point.recall)
        if not quiet:
            print_table(
                ("probes", "shortlist", *(f"recall, {kind}" for kind in kinds), "queries/CPU s"),
                [
                    (
                        f"{'→ ' if point == report.point else ''}{point.effort.probes}",
                        point.effort.shortlist,
                        *(f"{point.recall[kind]:.3f}" for kind in kinds),
                        f"{point.queries_per_second:,.0f}",
                    )
                    for point in report.points
                ],
            )
        first = "".join(f", {kind} first {share:.4f}" for kind, share in report.point.first.items())
        say(
            f"{report.rows:,} vectors, {size(report.bytes)} in memory; recall "
            f"{report.point.worst:.3f} of {report.target} asked for{first}"
            + ("" if report.point.reaches(report.target) else ": not reached, try another --index")
        )
    if report.order is not None and not quiet:
        order = report.order
        low, high = order.quartiles
        say(
            f"intrinsic dimensionality {order.dimensionality:.1f}, for half of the vectors "
            f"{low:.1f} to {high:.1f}, judged by {order.rows:,}"
        )
        told = ", ".join(f"{name} {share:.3f}" for name, share in order.recall.items())
        say(f"recall of a small graph by the order of insertion: {told}")

"""``maxsight eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxsight.cli.search import (
    DeviceOption,
    LibraryArgument,
    PhrasesOption,
    RerankOption,
    TrustOption,
)
from maxsight.output import JsonOption, QuietOption, console, print_json, print_table, say


def evaluate(
    library: LibraryArgument,
    queries: Annotated[
        Path,
        typer.Argument(help="CSV with the columns text, path and, if wanted, group."),
    ],
    depth: Annotated[
        int, typer.Option(help="How many answers to look at; later ones count as missed.", min=10)
    ] = 100,
    rerank: RerankOption = None,
    phrases: PhrasesOption = None,
    device: DeviceOption = "auto",
    trust_encoder: TrustOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how well a library answers queries of your own whose answers you know.

    Success@k (a right answer is among the first k), R@k (the share of right answers there) and
    nDCG@k for 1, 5 and 10, mean reciprocal rank and, where several texts ask for the same files,
    how much their ranks vary (MRV). Equal scores count as the mean over their possible orders.
    Lists the queries that did worst; `--quiet` leaves them out.

    Example: `maxsight eval photos.maxsight queries.csv`
    """
    from rich.progress import Progress

    import maxsight

    bar = Progress(console=console(stderr=True), transient=True, disable=quiet or json)
    with maxsight.open(library, device=device, trust_encoder=trust_encoder) as opened, bar:
        task = bar.add_task("asking", total=None)
        found = opened.evaluate(
            queries,
            depth=depth,
            rerank="auto" if rerank is None else "on" if rerank else "off",
            phrases=phrases,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json:
        print_json(found)
        return
    rows = [(f"Success@{k}", f"{100 * share:.1f} %") for k, share in found.success.items()]
    rows += [(f"R@{k}", f"{100 * share:.1f} %") for k, share in found.recall_at.items()]
    rows += [(f"nDCG@{k}", f"{share:.3f}") for k, share in found.ndcg.items()]
    rows.append(("mean reciprocal rank", f"{found.mrr:.3f}"))
    rows.append(("median rank", f"{found.median_rank:g}"))
    if found.mrv is not None:
        rows.append((f"mean rank variance of {found.groups} groups", f"{found.mrv:.2f}"))
    say(f"{found.queries} queries")
    print_table(("figure", "value"), rows)
    if quiet:
        return
    worst = sorted(found.ranks, key=lambda query: -(query.rank or depth + 1))[:5]
    print_table(
        ("did worst", "rank"),
        [
            (query.text, f"> {depth}" if query.rank is None else f"{query.rank:g}")
            for query in worst
            if query.rank != 1
        ],
    )

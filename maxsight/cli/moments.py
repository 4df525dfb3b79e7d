"""``maxsight moments``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from maxsight.cli.search import (
    DeviceOption,
    ImageOption,
    LibraryArgument,
    MinusOption,
    PhrasesOption,
    SheetOption,
    TextArgument,
    TrustOption,
    describe,
    make_sheet,
    parse_terms,
)
from maxsight.output import JsonOption, QuietOption, print_json, print_table, say, seconds


def moments(
    library: LibraryArgument,
    text: TextArgument = None,
    image: ImageOption = None,
    minus: MinusOption = None,
    k: Annotated[int, typer.Option("-k", help="How many moments at most.", min=1)] = 5,
    within: Annotated[
        str | None, typer.Option("--in", help="Only in this film.", metavar="FILE")
    ] = None,
    phrases: PhrasesOption = None,
    sheet: SheetOption = None,
    device: DeviceOption = "auto",
    trust_encoder: TrustOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the moments in films at which something is seen, best first.

    Example: `maxsight moments films.maxsight "the dog catches the frisbee" --in park.mp4`
    """
    import maxsight

    terms = parse_terms(text=text, image=image, minus=minus, phrases=phrases)
    with maxsight.open(library, device=device, trust_encoder=trust_encoder) as opened:
        started = time.perf_counter()
        found = opened.moments_of(terms, k=k, within=within)
        elapsed = round(1000 * (time.perf_counter() - started), 3)
    if sheet is not None:
        make_sheet(sheet, found, terms=terms)
    if json:
        query = describe(terms) | {"k": k, "in": within}
        print_json({"query": query, "moments": found, "timing_ms": {"total": elapsed}})
        return
    if not found:
        say("nothing found: there are no films in the library")
        return
    print_table(
        ["#", "score", "from", "to", "film"],
        ([m.rank, f"{m.score:.3f}", seconds(m.start), seconds(m.end), m.path] for m in found),
    )
    if sheet is not None and not quiet:
        say(f"contact sheet: {sheet}", stderr=True)

"""``maxsight search``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxsight.arguments import choices, one_place
from maxsight.errors import UsageError
from maxsight.output import JsonOption, QuietOption, print_json, print_table, say, seconds

if TYPE_CHECKING:
    import numpy as np

    from maxsight.index.records import Kind
    from maxsight.pipelines.moments.windows import Moment
    from maxsight.pipelines.query.language import Term
    from maxsight.pipelines.search.search import Hit, SearchResult

LibraryArgument = Annotated[str, typer.Argument(help="The library's folder.", show_default=False)]
TextArgument = Annotated[str | None, typer.Argument(help="What to find.", show_default=False)]
ImageOption = Annotated[
    list[str] | None,
    typer.Option("--image", "-i", help="A picture to start from.", metavar="FILE[^WEIGHT]"),
]
PlusOption = Annotated[
    list[str] | None,
    typer.Option("--plus", help="What there should also be.", metavar="TEXT[^WEIGHT]"),
]
MinusOption = Annotated[
    list[str] | None,
    typer.Option("--minus", help="What there should be less of.", metavar="TEXT[^WEIGHT]"),
]
RerankOption = Annotated[
    bool | None,
    typer.Option(
        "--rerank/--no-rerank",
        help="Score texts by patch embeddings, too. [default: where the library has them]",
    ),
]
PhrasesOption = Annotated[
    Path | None,
    typer.Option(help="JSON of other words for texts, averaged.", metavar="FILE.json"),
]
SheetOption = Annotated[
    Path | None,
    typer.Option("--sheet", help="Also write a page of thumbnails.", metavar="OUT.html"),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-encoder", help="Load the encoder that the library names, if it is new."),
]


def search(
    library: LibraryArgument,
    text: TextArgument = None,
    image: ImageOption = None,
    plus: PlusOption = None,
    minus: MinusOption = None,
    vector: Annotated[
        Path | None,
        typer.Option(help="A query vector, as saved by numpy.save.", metavar="FILE.npy"),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many files at most.", min=1)] = 10,
    where: Annotated[
        str | None, typer.Option(help="SQL over the item columns, say 'width > 1000'.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only image, or only video.", metavar="KIND")
    ] = None,
    include_reference: Annotated[
        bool, typer.Option("--include-reference", help="Keep the --image itself in the answer.")
    ] = False,
    rerank: RerankOption = None,
    phrases: PhrasesOption = None,
    sheet: SheetOption = None,
    device: DeviceOption = "auto",
    trust_encoder: TrustOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find pictures and films by words, by a picture, or by a picture plus a change in words.

    A weight after `^` makes an ingredient matter more or less: `--image bus.jpg^1.5`. Without
    one, a minus counts half.

    Example: `maxsight search photos.maxsight "at night" --image bus.jpg --minus people`
    """
    import maxsight
    from maxsight.pipelines.query.language import Query

    query = Query(
        parse_terms(text=text, image=image, plus=plus, minus=minus, vector=vector, phrases=phrases),
        k=k,
        where=where,
        kinds=_kinds(kind),
        include_references=include_reference,
        rerank="auto" if rerank is None else "on" if rerank else "off",
    )
    with maxsight.open(library, device=device, trust_encoder=trust_encoder) as opened:
        result = opened.query(query)
    if sheet is not None:
        make_sheet(sheet, result.hits, terms=query.terms)
    if json:
        print_json(
            {
                "query": describe(query.terms) | {"k": k, "where": where, "kinds": kind},
                "hits": result.hits,
                "timing_ms": result.timing_ms,
            }
        )
        return
    _print_hits(result)
    if sheet is not None and not quiet:
        say(f"contact sheet: {sheet}", stderr=True)


def parse_terms(
    *,
    text: str | None,
    image: list[str] | None,
    plus: list[str] | None = None,
    minus: list[str] | None = None,
    vector: Path | None = None,
    phrases: Path | None = None,
) -> tuple[Term, ...]:
    """The query's ingredients as typed, weights split off."""
    from maxsight.models.compose import MINUS_WEIGHT
    from maxsight.pipelines.query.language import Term

    terms = []
    for given in image or ():
        # A file may really be called "a^2": what exists is taken as it stands.
        # Not Path's methods, which raise for a name that is too long or a user who is not there.
        path, weight = (given, 1.0) if os.path.exists(given) else _split_weight(given, 1.0)
        terms.append(Term(image=one_place(path, what="--image"), weight=weight))
    if text is not None:
        terms.append(Term(text=text))
    for given in plus or ():
        phrase, weight = _split_weight(given, 1.0)
        terms.append(Term(text=phrase, weight=weight))
    for given in minus or ():
        phrase, weight = _split_weight(given, MINUS_WEIGHT)
        terms.append(Term(text=phrase, weight=-weight))
    if vector is not None:
        terms.append(Term(vector=_load_vector(vector)))
    if not terms:
        raise UsageError("an empty query: give a TEXT, an --image or a --vector")
    if phrases is None:
        return tuple(terms)
    from maxsight.pipelines.query.expansion import Expansion

    return Expansion.read(phrases).apply(terms)


def make_sheet(path: Path, hits: Sequence[Hit | Moment], *, terms: Sequence[Term]) -> None:
    """Write a contact sheet, and warn of what it cannot show."""
    from maxsight.library.contact_sheet import write_sheet

    missing = write_sheet(path, hits, terms=terms)
    for name, reason in missing.items():
        say(f"warning: not on the contact sheet: {name}: {reason}", stderr=True, style="yellow")


def describe(terms: tuple[Term, ...]) -> dict[str, object]:
    """The terms as plain data for ``--json``."""
    described = []
    for term in terms:
        kind, value = (
            ("text", term.text)
            if term.text is not None
            else ("image", str(term.image))
            if term.image is not None
            else ("vector", "given")
        )
        described.append({kind: value, "weight": term.weight})
    return {"terms": described}


def _split_weight(given: str, default: float) -> tuple[str, float]:
    match = re.fullmatch(r"(.*)\^(\d*\.?\d+)", given, re.DOTALL)
    return (match[1], float(match[2])) if match else (given, default)


def _load_vector(path: Path) -> np.ndarray:
    from maxsight.errors import LibraryError
    from maxsight.index.files.arrays import read_array

    try:
        return read_array(path)
    except LibraryError as error:
        reason = str(error).partition("(")[2].rpartition(")")[0]
        raise UsageError(f"{path} is no vector saved by numpy.save: {reason}") from error


def _kinds(given: list[str] | None) -> frozenset[Kind] | None:
    from maxsight.index.records import KINDS

    return frozenset(choices(given, KINDS, what="--kind")) if given else None


def _print_hits(result: SearchResult) -> None:
    if not result.hits:
        say("nothing found: the library is empty, or --where leaves nothing")
        return
    has_times = any(hit.start is not None for hit in result.hits)
    columns = ["#", "score", *(["at"] if has_times else []), "file"]
    print_table(
        columns,
        (
            [hit.rank, f"{hit.score:.3f}", *([seconds(hit.start)] if has_times else []), hit.path]
            for hit in result.hits
        ),
    )

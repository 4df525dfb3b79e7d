"""``maxsight encoders``."""

from __future__ import annotations

from maxsight.output import JsonOption, QuietOption, print_json, print_table, say, size


def encoders(json: JsonOption = False, quiet: QuietOption = False) -> None:
    """List the encoders to choose from, with size and licence, and which are on this machine.

    What is not here is fetched the first time it is used. `--quiet` lists only what is here. An
    encoder that is not listed may load all the same: docs/encoders.md tells what can be named.

    Example: `maxsight encoders`
    """
    from maxsight.models import catalogue

    listed = [*catalogue.recommended(), *catalogue.others()]
    if quiet:
        listed = [entry for entry in listed if entry.is_here]
    if json:
        print_json({"encoders": listed, "cache": str(catalogue.cache_folder())})
        return
    print_table(
        ("encoder", "here", "size", "licence", "width", "pixels", "languages", "tokens", "for"),
        [
            (
                entry.uri,
                "yes" if entry.is_here else "no",
                size(entry.bytes),
                entry.licence or "?",
                entry.dim or "",
                entry.pixels or "",
                entry.languages,
                entry.tokens,
                entry.purpose,
            )
            for entry in listed
        ],
    )
    if not quiet:
        say(
            "Use one: maxsight index LIBRARY PATH --encoder URI. What is fetched goes to "
            f"{catalogue.cache_folder()}",
            stderr=True,
        )

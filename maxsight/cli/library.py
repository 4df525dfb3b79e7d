"""``maxsight info``, ``list``, ``remove`` and ``compact``."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from maxsight.cli.search import LibraryArgument
from maxsight.output import (
    JsonOption,
    QuietOption,
    print_json,
    print_table,
    say,
    seconds,
    size,
)


def info(library: LibraryArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Show what a library holds, and which files could not be read, or only with a remark.

    Example: `maxsight info photos.maxsight`
    """
    import maxsight

    with maxsight.open(library) as opened:
        held, failures, remarks = opened.info(), opened.failures(), opened.remarks()
    if json:
        listed = [{"path": path, "reason": reason} for path, reason in failures.items()]
        noted = [{"path": path, "remark": remark} for path, remark in remarks.items()]
        print_json({"info": held, "failures": listed, "remarks": noted})
        return
    parts = ", ".join(f"{name} {size(n)}" for name, n in held.bytes_by_part.items() if n)
    say(f"{held.path}  ({size(held.bytes_on_disk)}, made {held.created:%Y-%m-%d})")
    say(f"  pictures {held.images:,}   films {held.videos:,}   units {held.units:,}")
    say(f"  encoder  {held.encoder}, {held.dim} dimensions")
    if held.token_dim is not None:
        kept = f"at most {held.token_limit}" if held.token_limit else "all"
        say(f"  tokens   {kept} of a unit, {held.token_dim} dimensions")
    margin = held.margin or {}
    found = ", ".join(
        f"{kind} {share:.3f}" + (f" ± {margin[kind]:.3f}" if kind in margin else "")
        for kind, share in (held.recall or {}).items()
    )
    first = ", ".join(f"{kind} {share:.4f}" for kind, share in (held.first or {}).items())
    say(
        f"  index    {held.index}"
        + (f", recall@10: {found}" if found else "")
        + (f"; found first: {first}" if first else "")
    )
    where = "in memory" if held.vectors_in_memory else "read from disk"
    say(
        f"  memory   {size(held.memory_estimate)} expected, {size(held.memory_measured)} taken to "
        f"open it now; vectors {where}"
    )
    say(f"  disk     {parts}")
    if failures:
        say(f"  {len(failures)} files could not be read, or not as they are now:")
        for path, reason in failures.items():
            say(f"    {path}: {reason}")
    if remarks:
        say(f"  {len(remarks)} files were read with a remark:")
        for path, remark in remarks.items():
            say(f"    {path}: {remark}")


def list_items(
    library: LibraryArgument,
    where: Annotated[
        str | None, typer.Option(help="SQL over the item columns, say 'width > 1000'.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the files in a library, and which of them changed and cannot be read now.

    Example: `maxsight list photos.maxsight --where "captured_at > '2024-01-01'"`
    """
    import maxsight

    with maxsight.open(library) as opened:
        rows = opened.items(where=where).sort_by("item_id").to_pylist()
        failures = opened.failures()
    # By the names that rows have: bytes that are not UTF-8 stand there as text.
    kept = {
        os.fsencode(path).decode("utf-8", "backslashreplace"): reason
        for path, reason in failures.items()
    }
    kept = {row["path"]: kept[row["path"]] for row in rows if row["path"] in kept}
    if json:
        for row in rows:
            remarks = (row.get("remark"), kept.get(row["path"]))
            row["remark"] = "; ".join(filter(None, remarks)) or None
        print_json({"items": rows})
        return
    print_table(
        ["id", "size", "pixels", "length", "file"],
        (
            [
                row["item_id"],
                size(row["bytes"]),
                f"{row['width']}×{row['height']}",
                seconds(row["duration_s"]),
                row["path"],
            ]
            for row in rows
        ),
    )
    for path, reason in kept.items():
        say(f"{path}: {reason}", stderr=True)


def remove(
    library: LibraryArgument,
    path: Annotated[list[str], typer.Argument(help="Files or folders.", show_default=False)],
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take files out of a library. The files themselves stay where they are.

    Example: `maxsight remove photos.maxsight ~/Pictures/screenshots`
    """
    import maxsight

    with maxsight.open(library) as opened:
        removed = opened.remove(path)
    if json:
        print_json({"removed": removed})
    elif not quiet:
        say(f"removed from the library: {removed:,}")


def relocate(
    library: LibraryArgument,
    old: Annotated[str, typer.Argument(help="A folder or file as the library names it.")],
    new: Annotated[str, typer.Argument(help="Where it is now.")],
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say that a folder, or a file, has another place now. Nothing is read; your columns stay.

    Example: `maxsight relocate photos.maxsight /media/me/DISK /media/me/DISK1`
    """
    import maxsight

    with maxsight.open(library) as opened:
        done = opened.relocate(old, new)
    if json:
        print_json(asdict(done))
        return
    for warning in done.warnings:
        say(f"warning: {warning}", stderr=True, style="yellow")
    if not quiet:
        say(f"have another place now: {done.files:,}")


def compact(library: LibraryArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Give back the disk space of removed and replaced files.

    Example: `maxsight compact photos.maxsight`
    """
    import maxsight
    from maxsight.library.info import bytes_by_part

    with maxsight.open(library) as opened:
        before = sum(bytes_by_part(opened.path).values())
        opened.compact()
        after = sum(bytes_by_part(opened.path).values())
    if json:
        print_json({"bytes_before": before, "bytes_after": after})
    elif not quiet:
        say(f"{size(before)} before, {size(after)} now")

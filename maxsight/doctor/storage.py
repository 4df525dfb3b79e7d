"""Room to write in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from maxsight import plain_files, settings
from maxsight.doctor.finding import Finding

_GIB = 2**30


def cache() -> Iterator[Finding]:
    """Can encoded texts and fetched material be kept?"""
    folder = settings.cache_directory()
    existing = _existing(folder)
    remedy = "set MAXSIGHT_CACHE to a folder that can be written to"
    if not existing.is_dir():
        yield Finding(
            "cache", "problem", f"{folder} cannot be made: {existing} is not a folder", remedy
        )
        return
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield Finding(
            "cache", "problem", f"{folder} cannot be written to: {error.strerror}", remedy
        )
        return
    state = "" if existing == folder else ", made when first used"
    yield Finding("cache", "ok", f"{folder} can be written to{state}")


def disks() -> Iterator[Finding]:
    """Free space where the cache is and where we stand, and whether links can be made there."""
    folders = {"the cache": settings.cache_directory(), "the current folder": Path.cwd()}
    for name, folder in folders.items():
        free = shutil.disk_usage(_existing(folder)).free
        what = f"{free / _GIB:.1f} GiB free for {name} ({folder}){_links(_existing(folder))}"
        if free < _GIB:
            remedy = "free some space"
            if name == "the cache":
                remedy += ", or set MAXSIGHT_CACHE to a folder on another disk"
            yield Finding("disk", "problem" if free < _GIB / 10 else "warning", what, remedy)
        else:
            yield Finding("disk", "ok", what)


def _links(folder: Path) -> str:
    """What is to be said of a disk that makes no hard links."""
    try:
        if plain_files.makes_links(folder):
            return ""
    except OSError:
        return "; it cannot be written to"
    return (
        "; it makes no hard links, as exFAT and FAT: a library there is committed by renaming, and "
        "only one machine may write to it"
    )


def _existing(path: Path) -> Path:
    """The path, or its nearest ancestor that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path

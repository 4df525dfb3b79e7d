"""Small files, and what a library knows once it has read them."""

from __future__ import annotations

from pathlib import Path

from maxsight.index.records import KnownItem
from maxsight.pipelines.ingestion.scan import scan
from maxsight.pipelines.media.files import hash_file


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def learn(*roots: Path) -> dict[str, KnownItem]:
    """A library that has just read everything under the roots."""
    known = {}
    for number, job in enumerate(scan(roots, {}, {}).new):
        content_hash, state = hash_file(job.path)
        known[job.path] = KnownItem(number, state, job.kind or "image", content_hash)
    return known

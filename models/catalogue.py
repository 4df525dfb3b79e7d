"""Encoders to choose from: those that are known to be good, and whatever is on this machine.

Nothing is imported here that takes long: the cache of the hub is read as the folder that it is.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from maxsight import plain_files

_TABLE = Path(__file__).with_name("recommended.toml")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
_MARKS = {
    "open_clip_config.json": "hf-hub",
    "modules.json": "st",
    "config_sentence_transformers.json": "st",
}


@dataclass(frozen=True)
class Listed:
    """An encoder.

    Attributes:
        uri: as ``maxsight.models.encoder.load`` takes it.
        purpose: for whom it is, in a few words.
        licence: of the weights, as their publisher names it; empty where that is not known.
        bytes: of the weights: on disk if they are here, else about what a download takes.
        is_here: whether it loads without a network.
        dim: D, width of the vectors; None where only loading would tell.
        pixels: side of the square it reads; None likewise, or where the shape is kept.
        languages: ``en``, or how many.
        tokens: ``yes``, ``no``, or ``only``: a model of tokens, whose vector is their mean.
        repository: on the Hugging Face hub; None for what comes with maxsight.
    """

    uri: str
    purpose: str
    licence: str
    bytes: int
    is_here: bool = False
    dim: int | None = None
    pixels: int | None = None
    languages: str = ""
    tokens: str = ""
    repository: str | None = None


@cache
def _recommended() -> tuple[Listed, ...]:
    """The table recommended.toml."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["encoder"]
    return tuple(Listed(bytes=row.pop("megabytes") * 1_000_000, **row) for row in table)


def recommended() -> list[Listed]:
    """The encoders that we would choose from, smallest first, with what is here marked so."""
    here_by_name = {entry.repository: entry for entry in cached()}
    found = []
    for entry in _recommended():
        here = here_by_name.get(entry.repository) if entry.repository else None
        found.append(replace(entry, is_here=True, bytes=here.bytes) if here else entry)
    return found


def others() -> list[Listed]:
    """What else the hub's cache holds in a format that maxsight loads."""
    known = {entry.repository for entry in _recommended()}
    return [entry for entry in cached() if entry.uri and entry.repository not in known]


def cache_folder() -> Path:
    """The hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached() -> Iterator[Listed]:
    """Every repository in the hub's cache that has weights; ``uri`` is empty where maxsight does
    not know the format."""
    for folder in sorted(cache_folder().glob("models--*--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/", 1)
        for snapshot in sorted(folder.glob("snapshots/*"), key=_changed, reverse=True):
            files = {
                file.resolve(): file.stat().st_size
                for pattern in _WEIGHTS
                for file in snapshot.glob(pattern)
                if file.exists()
            }
            if files:
                scheme = next((s for mark, s in _MARKS.items() if (snapshot / mark).exists()), "")
                yield Listed(
                    uri=f"{scheme}:{repository}" if scheme else "",
                    purpose="",
                    licence=_licence(snapshot / "README.md"),
                    bytes=sum(files.values()),
                    is_here=True,
                    repository=repository,
                )
                break


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _licence(card: Path) -> str:
    """From the head of a model card, if that was fetched."""
    try:
        with plain_files.open_to_read(card) as stream:
            head = stream.read(4096).decode("utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"^license:\s*['\"]?([\w.-]+)", head, flags=re.MULTILINE)
    return found[1] if found else ""

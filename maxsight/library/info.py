"""What a library holds, in figures."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from maxsight.index import faiss_build
from maxsight.machine import resident_memory

if TYPE_CHECKING:
    from maxsight.index.store import Store


@dataclass(frozen=True)
class LibraryInfo:
    """What a library holds.

    Attributes:
        token_dim: width of the stored tokens; None if it stores none.
        token_limit: how many a unit keeps at most; None if all.
        images, videos: live files of each kind.
        units: searchable units: a picture has one, a long picture several, a film one a sampled
            frame.
        failures: files that could not be read.
        bytes_on_disk: of the library itself.
        bytes_by_part: of ``items``, ``units``, ``indexes`` and the rest.
        index: how vectors are searched; ``exact`` where no index has been made.
        recall: kind of query -> share of the ten best that the index found when it was measured, by
            queries that its setting was not chosen by.
        margin: kind of query -> two standard errors of that recall.
        first: kind of query beside stored vectors -> share that found their own vector first.
        vectors_in_memory: or read from disk.
        memory_estimate: bytes held between searches, by the formula of docs/indexes.md.
        memory_measured: by how much this process grew when it opened the library for searching.
    """

    path: str
    library_id: str
    schema: int
    encoder: str
    fingerprint: str
    dim: int
    token_dim: int | None
    token_limit: int | None
    created: datetime
    images: int
    videos: int
    units: int
    failures: int
    bytes_on_disk: int
    bytes_by_part: dict[str, int]
    index: str
    recall: dict[str, float] | None
    margin: dict[str, float] | None
    first: dict[str, float] | None
    vectors_in_memory: bool
    memory_estimate: int
    memory_measured: int

    @classmethod
    def of(cls, store: Store, path: Path) -> Self:
        """Count what is in the library at ``path``."""
        held = store.items(columns=["kind", "unit_count"])
        kinds = held["kind"].to_pylist()
        manifest = store.manifest
        faiss_build.load()  # which is not the library's
        before = resident_memory()
        state = store.snapshot().state
        measured = resident_memory() - before
        details = {} if state.built is None else state.built.details
        parts = bytes_by_part(path)
        return cls(
            path=str(path),
            library_id=manifest.library_id,
            schema=manifest.schema,
            encoder=manifest.encoder_uri,
            fingerprint=manifest.fingerprint,
            dim=manifest.dim,
            token_dim=manifest.token_dim,
            token_limit=manifest.token_limit,
            created=manifest.created,
            images=kinds.count("image"),
            videos=kinds.count("video"),
            units=sum(held["unit_count"].to_pylist()),
            failures=len(store.failures()),
            bytes_on_disk=sum(parts.values()),
            bytes_by_part=parts,
            index=str(details.get("spec", "exact")),
            recall=details.get("recall"),
            margin=details.get("margin"),
            first=details.get("first"),
            vectors_in_memory=state.plan.in_memory,
            memory_estimate=state.plan.held,
            memory_measured=measured,
        )


def bytes_by_part(library: Path) -> dict[str, int]:
    """On disk, of ``items``, ``units``, ``indexes`` and ``other``."""
    parts = {"items": 0, "units": 0, "indexes": 0, "other": 0}
    for folder, _, names in os.walk(library):
        for file in (Path(folder, name) for name in names):
            top = file.relative_to(library).parts[0].removesuffix(".lance")
            with contextlib.suppress(FileNotFoundError):  # a writer may just have deleted it
                parts[top if top in parts else "other"] += file.stat().st_size
    return parts

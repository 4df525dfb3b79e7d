"""What a library holds, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from maxsight.index.store import Store


@dataclass(frozen=True)
class LibraryInfo:
    """What a library holds.

    Attributes:
        token_dim: width of the stored tokens; None if it stores none.
        token_limit: how many a unit keeps at most; None if all.
        images, videos: live files of each kind.
        units: searchable units: a picture has one, a film one a sampled frame.
        failures: files that could not be read.
        bytes_on_disk: of the library itself.
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

    @classmethod
    def of(cls, store: Store, path: Path) -> Self:
        """Count what is in the library at ``path``."""
        held = store.items(columns=["kind", "unit_count"])
        kinds = held["kind"].to_pylist()
        manifest = store.manifest
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
            bytes_on_disk=sum(f.stat().st_size for f in path.rglob("*") if f.is_file()),
        )

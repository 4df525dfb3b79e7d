"""The values that cross the floor between ingestion, the store and search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["image", "video"]
KINDS: tuple[Kind, ...] = ("image", "video")


@dataclass(frozen=True)
class FileState:
    """What identifies one version of one file without reading it again.

    Attributes:
        path: absolute. Bytes that are not UTF-8 are surrogate escapes, as ``os.fsdecode`` gives.
        bytes: size.
        mtime_ns: modification time in nanoseconds since the epoch.
    """

    path: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class KnownItem:
    """What the library holds about a file: enough to tell whether it changed.

    Attributes:
        settings: those of ``EncodedItem``; None where an older maxsight read the file.
    """

    item_id: int
    state: FileState
    kind: Kind
    content_hash: str
    settings: str | None = None


@dataclass(frozen=True)
class TokenTable:
    """Packed token embeddings of ``U`` units.

    Attributes:
        tokens: (sum L_i, d) int8.
        scales: (sum L_i,) float32; ``tokens * scales[:, None]`` restores the vectors.
        sizes: (sum L_i,) float32: how many source tokens each stands for.
        offsets: (U + 1,) int64.
    """

    tokens: np.ndarray
    scales: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray

    @cached_property
    def unity(self) -> np.ndarray:
        """(U,) float32: how long the mean of a unit's tokens is, each as often as its size.

        1 where all are one unit vector, less the more they differ, 0 where there are none.
        """
        lengths = np.zeros(len(self.offsets) - 1, np.float32)
        factors = (self.scales * self.sizes).astype(np.float32)
        for unit in range(len(lengths)):
            own = slice(self.offsets[unit], self.offsets[unit + 1])
            if own.start < own.stop:
                total = factors[own] @ self.tokens[own].astype(np.float32)
                lengths[unit] = np.linalg.norm(total) / self.sizes[own].sum()
        return lengths


@dataclass(frozen=True, eq=False)
class EncodedItem:
    """One file, read and encoded, ready to be stored.

    Attributes:
        state: the file as it was when it was read.
        content_hash: of the file's bytes (hex).
        width, height: in pixels, upright.
        vectors: (U, D) floating point, rows L2-normalised. A picture has one; of a long picture
            those of its squares follow.
        spans: (U, 2) float64 [start, end) in seconds; None for a picture.
        duration_s: of a video.
        captured_at: when the camera says it was taken, without a time zone.
        tokens: of the same U units, if they are to be stored.
        settings: that decide what is stored of the file, say ``fps=1``; None: not known.
        remark: what a person should know of the file, say that it breaks off; mostly None.
    """

    state: FileState
    kind: Kind
    content_hash: str
    width: int
    height: int
    vectors: np.ndarray
    spans: np.ndarray | None = None
    duration_s: float | None = None
    captured_at: datetime | None = None
    tokens: TokenTable | None = None
    settings: str | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Failure:
    """A file that could not be read. It is tried again when its state changes.

    It may stand beside an item of the same path, which then holds what the file held before.

    Attributes:
        settings: limits and versions under which it failed: with others it is tried again. None:
            not known.
    """

    state: FileState
    reason: str
    settings: str | None = None

    def told(self, *, is_kept: bool) -> str:
        """The reason, and whether the library still holds what the file held before."""
        return f"kept as it was before: {self.reason}" if is_kept else self.reason


@dataclass(frozen=True)
class Changes:
    """One atomic step of a library.

    Attributes:
        added: files the library did not hold. Each gets a new item id.
        replaced: files whose content changed, by the item id they keep.
        restated: items whose file was moved or touched but whose content is the same.
        removed: ids of items to take out.
        failed: files that could not be read; an item that stands there stays, unless it is among
            ``removed``.
        forgotten: paths to strike from the failures (they are gone, or as they were before). Paths
            that get an item by this step are struck without being named.
    """

    added: Sequence[EncodedItem] = ()
    replaced: Sequence[tuple[int, EncodedItem]] = ()
    restated: Sequence[tuple[int, FileState]] = ()
    removed: Sequence[int] = ()
    failed: Sequence[Failure] = ()
    forgotten: Sequence[str] = field(default_factory=tuple)


class UnitHit(NamedTuple):
    """One unit found by a search.

    Attributes:
        item_id, path, kind: the file it belongs to.
        start, end: seconds, None for a picture.
        score: inner product with the query, float32.
    """

    unit_id: int
    item_id: int
    path: str
    kind: Kind
    start: float | None
    end: float | None
    score: float


@dataclass(frozen=True, eq=False)
class Film:
    """The searchable spans of one video, in time order.

    Attributes:
        spans: (U, 2) float64 [start, end) in seconds.
        rows: the snapshot's rows of those U units.
    """

    item_id: int
    path: str
    spans: np.ndarray
    rows: slice


@dataclass(frozen=True)
class Compaction:
    """What a compaction took out.

    Attributes:
        items: rows of removed files and settled failures.
        units: rows no file owned any more.
        bytes: freed on disk; old versions still within the grace period are not.
    """

    items: int
    units: int
    bytes: int

"""The first directory of a TIFF, read without decoding anything."""

from __future__ import annotations

import struct
from dataclasses import dataclass

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
PREDICTOR, EXTRA_SAMPLES = 317, 338
SAMPLE_FORMAT, ICC_PROFILE, DNG_VERSION = 339, 34675, 50706
KIND_OF_PICTURE, MORE_DIRECTORIES = 254, 330

# Type of a value -> its letter for struct, or bytes.
_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 13: "I", 16: "Q"}
_MOST_ENTRIES = 4096


@dataclass(frozen=True)
class Tags:
    """Entries of a directory.

    Attributes:
        data: the file.
        order: "<" or ">".
        entries: tag -> type, count of values, where they stand.
    """

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]

    def count(self, tag: int) -> int:
        """How many values a tag says it has."""
        return self.entries[tag][1] if tag in self.entries else 0

    def values(self, tag: int, *, most: int) -> tuple[int, ...]:
        """At most ``most`` whole numbers; none if they are missing, or no whole numbers."""
        kind, count, offset = self.entries.get(tag, (0, 0, 0))
        letter = _TYPES.get(kind, "s")
        if letter == "s":
            return ()
        form = f"{self.order}{min(count, most)}{letter}"
        if offset + struct.calcsize(form) > len(self.data):
            return ()
        return struct.unpack_from(form, self.data, offset)

    def value(self, tag: int, otherwise: int) -> int:
        """The first value of a tag."""
        return next(iter(self.values(tag, most=1)), otherwise)

    def content(self, tag: int) -> bytes:
        """The bytes of a tag whose values are bytes."""
        kind, count, offset = self.entries.get(tag, (0, 0, 0))
        return self.data[offset : offset + count] if kind in (1, 2, 7) else b""


def first_directory(data: bytes) -> Tags | None:
    """The tags of a TIFF's or BigTIFF's first picture; None if they are not there."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    big = data[2:4] in (b"+\x00", b"\x00+")
    head, number, entry, inline = ("Q", "Q", "HHQ", 8) if big else ("I", "H", "HHI", 4)
    try:
        offset = struct.unpack_from(order + head, data, 8 if big else 4)[0]
        count = struct.unpack_from(order + number, data, offset)[0]
        offset += struct.calcsize(order + number)
        entries = {}
        for _ in range(min(count, _MOST_ENTRIES)):
            tag, kind, many = struct.unpack_from(order + entry, data, offset)
            offset += struct.calcsize(order + entry)
            size = struct.calcsize(f"{order}{_TYPES.get(kind, 'q')}") * many
            where = offset if size <= inline else struct.unpack_from(order + head, data, offset)[0]
            entries[tag] = (kind, many, where)
            offset += inline
    # The latter: an offset beyond what any memory has.
    except (struct.error, OverflowError):
        return None
    return Tags(data, order, entries)

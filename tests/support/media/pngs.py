"""PNG files of every depth and with any chunk, which Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

Chunk = tuple[bytes, bytes]
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes, *, bad_sum: bool = False) -> bytes:
    checksum = zlib.crc32(kind + body) ^ bad_sum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(
    samples: np.ndarray, *, depth: int = 8, colour: int | None = None, notes: Sequence[Chunk] = ()
) -> bytes:
    """A PNG.

    Args:
        samples: (H, W) or (H, W, channels) numbers below 2 ** depth.
        colour: PNG's colour type; by the channels if None.
        notes: chunks that stand before the pixels.
    """
    samples = samples if samples.ndim == 3 else samples[..., None]
    height, width, channels = samples.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour is None else colour
    bits = np.unpackbits(samples.astype(">u2").view(np.uint8).reshape(height, -1, 2), axis=2)
    rows = np.packbits(bits[..., 16 - depth :].reshape(height, -1), axis=1)
    raw = b"".join(b"\x00" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *notes, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*part) for part in parts)

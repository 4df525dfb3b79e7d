"""Rows a few at a time, so that what is made from them stays small."""

from __future__ import annotations

from collections.abc import Iterator

BYTES = 32 << 20

# What several passes over the same rows should take: a core's cache, and no fresh pages each time.
CACHE_BYTES = 2 << 20


def chunks(rows: int, width: int, *, itemsize: int = 4, limit: int = BYTES) -> Iterator[slice]:
    """Slices that cover ``rows`` rows in order, each of at most ``limit`` bytes.

    Args:
        width: elements that a row needs.
        itemsize: bytes of an element.
    """
    step = max(1, limit // max(1, width * itemsize))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))

"""How much memory decoders may take, all together (``MAXSIGHT_MEMORY``)."""

from __future__ import annotations

from dataclasses import dataclass

# Enough for pictures of 80 million pixels and films of 7,680 x 4,320 (measured at a quarter of it:
# 200 MiB, of which 50 are the interpreter's). Where there is less for each, fewer decoders run.
_ORDINARY = 768 << 20

# One decoder may take this much, whatever the setting says.
_LEAST = 256 << 20


@dataclass(frozen=True)
class DecoderMemory:
    """How a budget is shared out.

    Attributes:
        workers: decoders that run side by side.
        each: bytes that each of them may allocate.
        largest: bytes that one may allocate while no other runs.
    """

    workers: int
    each: int
    largest: int


def share(memory: int, *, workers: int, max_pixels: int) -> DecoderMemory:
    """Share out ``memory`` bytes.

    Args:
        memory: for all decoders together.
        workers: how many are wished for.
        max_pixels: of a picture. One takes up to four bytes a pixel, twice where it is converted;
            a gigabyte besides is for the interpreter, and for films, whose decoders hold some
            dozens of frames. No decoder is given more than this.

    >>> share(2 << 30, workers=2, max_pixels=200_000_000).each == 1 << 30
    True
    >>> share(2 << 30, workers=16, max_pixels=200_000_000).workers
    2
    """
    most = 8 * max_pixels + (1 << 30)
    memory = max(memory, _LEAST)
    count = max(1, min(workers, memory // min(_ORDINARY, most)))
    return DecoderMemory(count, each=min(most, memory // count), largest=min(most, memory))

"""Long pictures: what an encoder that reads a square sees of them.

An encoder's own way loses what stands in a part of them: it crops the middle, or makes all of it
small. A picture of two to one and beyond is therefore looked at in squares, too, from end to end;
each is a unit of its own beside the whole (docs/preprocessing.md says what that brings).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from PIL import Image

# Times longer than wide, from which on a picture is long.
LONG = 2

# The most squares of a picture. They overlap by half up to sixteen to one.
MOST = 31


def count(width: int, height: int) -> int:
    """How many squares a picture is looked at in, beside the whole; 0 for one that is not long.

    >>> count(1000, 501), count(1000, 500), count(1080, 2400), count(60_000, 1)
    (0, 3, 5, 31)
    """
    long, short = max(width, height), min(width, height)
    return min(2 * math.ceil(long / short) - 1, MOST) if long >= LONG * short else 0


def cut(image: Image.Image, number: int) -> Iterator[Image.Image]:
    """Pieces along the longer side, evenly spaced, the first and the last at its ends.

    They are squares, and overlap. Where squares would leave gaps they are longer and do not.

    Args:
        image: a long picture.
        number: of pieces: none, or several.
    """
    if not number:
        return
    long, short = max(image.size), min(image.size)
    length = max(short, math.ceil(long / number))
    for piece in range(number):
        start = (long - length) * piece // (number - 1)
        box = (start, 0, start + length, short)
        yield image.crop(box if image.width > image.height else (0, start, short, start + length))

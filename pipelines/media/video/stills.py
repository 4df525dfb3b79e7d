"""Stills: sampled frames that show what the frame before them shows are not worth a unit each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from maxsight.pipelines.media.video.frame import Frame

if TYPE_CHECKING:
    from PIL.Image import Image

# A frame is another one where a block of this many pixels a side differs in one of its colours by
# more than so many levels of 255 on average. Coding noise and a mouse pointer stay below it, lips
# that move do not.
_BLOCK = 16
_CHANGE = 4

# A still is at most this long, in seconds; a longer one is several.
MOST_S = 300.0


def without_stills(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames that show something new; the span of each lasts until the next.

    Each is compared with the last one kept, so that a slow change is seen. Frames of a film that
    moves are all kept, and are what they were.
    """
    kept: Frame | None = None
    for frame in frames:
        if (
            kept is not None
            and frame.end - kept.time <= MOST_S
            and not differ(kept.image, frame.image)
        ):
            kept = replace(kept, end=frame.end, next=frame.next)
            continue
        if kept is not None:
            yield kept
        kept = frame
    if kept is not None:
        yield kept


def differ(one: Image, other: Image) -> bool:
    """Whether two pictures of mode RGB show different things."""
    from PIL import ImageChops

    if one.size != other.size:
        return True
    means = ImageChops.difference(one, other).reduce(_BLOCK)
    bands: list[tuple[int, int]] = list(means.getextrema())  # type: ignore[arg-type]
    return max(most for _, most in bands) > _CHANGE

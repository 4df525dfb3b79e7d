"""What a video decoder gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# Matroska stores whole milliseconds: a frame shown at 1/3 s says 0.333 and must count as due then.
GRACE_S = 0.001


@dataclass(frozen=True)
class VideoInfo:
    """What a film's header says.

    Attributes:
        width, height: of the picture as shown: upright and with square pixels.
        duration_s: seconds, as the container claims; None where it does not say. The sampled frames
            know better: the last one's ``end``.
        frame_rate: frames a second on average; None where the container does not say.
        codec: FFmpeg's name of the coding, say ``h264``, ``hevc``, ``vp9``, ``av1``.
        container: FFmpeg's name of the file format, say ``mov,mp4,m4a,3gp,3g2,mj2``.
    """

    width: int
    height: int
    duration_s: float | None
    frame_rate: float | None
    codec: str
    container: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One sampled picture of a film and the span it stands for.

    The spans of a film's frames follow each other without a gap: a frame ends where the next one
    begins, the last one where the film ends.

    Attributes:
        time: when it is shown, in seconds after the film's first shown frame.
        end: where its span ends, in seconds; always after ``time``.
        image: mode RGB, upright, square pixels.
    """

    time: float
    end: float
    image: Image

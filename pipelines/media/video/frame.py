"""What a video decoder gives back."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Self

from maxsight import strict_json

if TYPE_CHECKING:
    from PIL.Image import Image

# Matroska stores whole milliseconds: a frame shown at 1/3 s says 0.333 and must count as due then.
GRACE_S = 0.001

# A frame that stands for so many samples' time is taken, whenever it is shown. (Two, but times are
# rounded.)
LONG = 1.9


class CannotResume(Exception):
    """A film does not give again the frame that a mark names: it has to be read from its start."""


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
        captured_at: when it was taken, by the camera's own clock where the file knows it, else in
            UTC; None where the file does not say.
    """

    width: int
    height: int
    duration_s: float | None
    frame_rate: float | None
    codec: str
    container: str
    captured_at: datetime | None = None


@dataclass(frozen=True)
class Mark:
    """A sampled frame from which sampling can be taken up again, giving the very same frames.

    Attributes:
        keyframe: number of the packet at which decoding has to begin.
        fed: number of the last packet that was decoded before the frame came out.
        pts, dts: the container's two counts at the frame; one at least is known.
        picture: CRC-32 of its picture: another one means that decoding has gone another way. None
            is not compared.
        clock: what ``Clock`` knew before the frame.
        wanted: when the frame was due, in seconds.
        sparse: whether frames that no other one needs were left out.
    """

    keyframe: int
    fed: int
    pts: int | None
    dts: int | None
    clock: tuple[float | None, ...]
    wanted: float
    sparse: bool
    picture: int | None = None

    def with_picture(self, image: Image) -> Self:
        """The mark, with the picture of its frame."""
        return replace(self, picture=zlib.crc32(image.tobytes()))

    def shows(self, image: Image) -> bool:
        """Whether that is the picture of its frame, or nobody knows."""
        return self.picture in (None, zlib.crc32(image.tobytes()))

    def packed(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def unpacked(cls, text: str) -> Self:
        """From ``packed``.

        Raises:
            ValueError: it was never one.
        """
        packed = strict_json.parse(text)
        names = {field.name for field in fields(cls)}
        if not isinstance(packed, dict) or packed.keys() != names:
            raise ValueError("not the mark of a frame")
        clock = packed["clock"]
        numbers = [packed[name] for name in ("keyframe", "fed", "wanted", "sparse")]
        optional = [packed[name] for name in ("pts", "dts", "picture")]
        optional += clock if isinstance(clock, list) else [""]
        if not all(isinstance(value, int | float) for value in numbers) or not all(
            value is None or isinstance(value, int | float) for value in optional
        ):
            raise ValueError("not the mark of a frame")
        return cls(**{**packed, "clock": tuple(clock)})


@dataclass(frozen=True, eq=False)
class Frame:
    """One sampled picture of a film and the span it stands for.

    The spans of a film's frames follow each other without a gap: a frame ends where the next one
    begins, the last one where the film ends.

    Attributes:
        time: when it is shown, in seconds after the film's first shown frame.
        end: where its span ends, in seconds; always after ``time``.
        image: mode RGB, upright, square pixels.
        next: where the frame after it can be taken up again; None at the last one, and where a
            film gives no hold for it.
    """

    time: float
    end: float
    image: Image
    next: Mark | None = None


def clock_time(seconds: float) -> str:
    """As people write it, ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

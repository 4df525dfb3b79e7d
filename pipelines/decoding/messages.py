"""What passes between the process that indexes and the processes that decode.

A message is a length-prefixed JSON header and, for pictures, raw pixels. Not pickle: the decoder
reads files from strangers, and whoever subverts it must not thereby run code in its parent.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, get_args

import numpy as np

from maxsight import strict_json
from maxsight.index.records import FileState, Kind
from maxsight.pipelines.decoding.orders import Job, Kept, Order, View
from maxsight.pipelines.media.limits import Limit

_LENGTHS = struct.Struct("<II")  # bytes of the header, bytes of pixels


def _none() -> np.ndarray:
    return np.empty((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Opened:
    """A film gives frames; comes before them.

    Attributes:
        seconds: the decoder worked for it.
        content_hash: of the film.
        bytes: its size.
        units: so many frames that are kept of it are not sent again.
    """

    seconds: float
    content_hash: str
    bytes: int
    units: int


@dataclass(frozen=True, eq=False)
class Frames:
    """The next few frames of a film.

    Attributes:
        seconds: the decoder worked for them.
        spans: n pairs [start, end) in seconds.
        pixels: (n, height, width, 3) uint8, a square unless the encoder wants each picture's own
            shape.
        mark: where a later run can go on after them; None where it cannot.
    """

    seconds: float
    spans: tuple[tuple[float, float], ...]
    pixels: np.ndarray = field(default_factory=_none)
    mark: str | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """The file is decoded to its end.

    Attributes:
        seconds: the decoder worked since its last message.
        bytes, mtime_ns: the file as it was when it was read.
        content_hash: of its bytes.
        width, height: in pixels, upright.
        captured_at: when the camera says it was taken.
        spans: of the film's last n frames; empty for a picture.
        remark: what a person should know, say that the file breaks off; mostly None.
        is_cut: the film has more frames than are sent of one.
        pixels: (n, height, width, 3) uint8, the film's last frames; a picture's squares, one for
            most.
    """

    seconds: float
    kind: Kind
    bytes: int
    mtime_ns: int
    content_hash: str
    width: int
    height: int
    captured_at: datetime | None = None
    remark: str | None = None
    is_cut: bool = False
    spans: tuple[tuple[float, float], ...] = ()
    pixels: np.ndarray = field(default_factory=_none)


@dataclass(frozen=True, eq=False)
class Viewed:
    """The picture that was to be shown.

    Attributes:
        seconds: the decoder worked for it.
        pixels: (1, height, width, 3) uint8.
    """

    seconds: float
    pixels: np.ndarray


@dataclass(frozen=True)
class Refused:
    """The file cannot be decoded.

    Attributes:
        reason: in a person's words.
        again: the file is not to blame: try again at the next run even if it stays the same.
        hungry: it takes more memory than the decoder may allocate.
        limit: that it is above: then only when that was raised.
    """

    seconds: float
    reason: str
    again: bool = False
    hungry: bool = False
    limit: Limit | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Alive:
    """Ready for work, or still at it with nothing to show yet."""

    seconds: float = 0.0


Message = Opened | Frames | Finished | Viewed | Refused | Alive
_MESSAGES: dict[str, Callable[..., Message]] = {
    cls.__name__: cls for cls in (Opened, Frames, Finished, Viewed, Refused, Alive)
}


# What a field must hold: its sender may have been subverted, and it goes into the library.
_RIGHT: dict[str, Callable[[Any], bool]] = {
    "seconds": lambda value: type(value) in (int, float) and value >= 0,
    "kind": lambda value: value in ("image", "video"),
    "mtime_ns": lambda value: type(value) is int and abs(value) < 1 << 63,
    **dict.fromkeys(("content_hash", "reason"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("remark", "mark", "captured_at"), lambda value: isinstance(value, str | None)),
    **dict.fromkeys(
        ("bytes", "units", "width", "height"),
        lambda value: type(value) is int and 0 <= value < 1 << 62,
    ),
    **dict.fromkeys(("again", "hungry", "is_cut"), lambda value: isinstance(value, bool)),
}


def write(stream: BinaryIO, header: dict[str, Any], pixels: np.ndarray | None = None) -> None:
    """Write one message."""
    text = json.dumps(header).encode()  # ASCII: file names that are not UTF-8 survive as escapes
    body = pixels.data.cast("B") if pixels is not None and pixels.size else b""
    stream.write(_LENGTHS.pack(len(text), len(body)) + text)
    if body:
        stream.write(body)
    stream.flush()


def read(read_exactly: Callable[[memoryview], bool]) -> tuple[dict[str, Any], np.ndarray] | None:
    """Read one message.

    Args:
        read_exactly: fills a buffer from the stream, False at its end.

    Returns:
        Header and pixels (flat uint8), or None at the end of the stream.

    Raises:
        ValueError: the header is not JSON, or too long; its sender is not to be trusted.
    """
    prefix = bytearray(_LENGTHS.size)
    if not read_exactly(memoryview(prefix)):
        return None
    header_bytes, pixel_bytes = _LENGTHS.unpack(prefix)
    if header_bytes > strict_json.MOST_BYTES:
        raise ValueError(f"a header of {header_bytes} bytes")
    header = bytearray(header_bytes)
    pixels = np.empty(pixel_bytes, np.uint8)
    if not read_exactly(memoryview(header)):
        return None
    if pixel_bytes and not read_exactly(pixels.data):
        return None
    fields = strict_json.parse(header)
    if not isinstance(fields, dict):
        raise ValueError("a header that is no object")
    return fields, pixels


def pack(asked: Order | Job | View) -> dict[str, Any]:
    """The header that ``unpack_order`` and ``unpack_job`` read."""
    return asdict(asked)


def unpack_order(header: dict[str, Any]) -> Order:
    if header["preprocess"] is None:
        return Order(**header)
    from maxsight.models.pixels.preprocess import (
        Preprocess,  # and with it Pillow: only decoders need it
    )

    wishes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["preprocess"].items()
    }
    return Order(**{**header, "preprocess": Preprocess(**wishes)})


def unpack_job(header: dict[str, Any]) -> Job | View:
    if "side" in header:
        return View(**header)
    kept = tuple(Kept(**part) for part in header["kept"])
    return Job(state=FileState(**header["state"]), kind=header["kind"], kept=kept)


def send(stream: BinaryIO, message: Message) -> None:
    """Write a decoder's message."""
    header = {name: value for name, value in vars(message).items() if name != "pixels"}
    if isinstance(message, Finished) and message.captured_at is not None:
        header["captured_at"] = message.captured_at.isoformat()
    header["type"] = type(message).__name__
    if not isinstance(message, Frames | Finished | Viewed):
        write(stream, header)
        return
    header["shape"] = message.pixels.shape[1:3]
    write(stream, header, message.pixels)


def unpack(
    header: dict[str, Any], pixels: np.ndarray, gives: Callable[[int, int], bool]
) -> Message:
    """The message that ``send`` wrote.

    Args:
        gives: whether pixels of that width and height were asked for.

    Raises:
        ValueError, KeyError, TypeError: it makes no sense; its sender is not to be trusted.
    """
    make = _MESSAGES[header.pop("type")]
    if "spans" in header:
        header["spans"] = tuple((float(start), float(end)) for start, end in header["spans"])
        if not np.isfinite(header["spans"]).all():
            raise ValueError("a span that is not finite")
    if "shape" in header:
        height, width = header.pop("shape")
        if len(pixels) and not gives(width, height):
            raise ValueError(f"pixels of {width} x {height}, which nobody asked for")
        header["pixels"] = pixels.reshape(-1, height, width, 3) if len(pixels) else _none()
    if header.get("limit") not in (None, *get_args(Limit)):
        raise ValueError(f"no limit is called {header['limit']!r}"[:200])
    for name in header.keys() & _RIGHT.keys():
        if not _RIGHT[name](header[name]):
            raise ValueError(f"a {name} of {header[name]!r}"[:200])
    if header.get("captured_at"):
        header["captured_at"] = datetime.fromisoformat(header["captured_at"])
    return make(**header)

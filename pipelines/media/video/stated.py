"""What a film's file says of its own length, however much of it is there."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

# Where headers that are searched for stand, in bytes from the file's beginning.
_HEAD = 1 << 16
# An index of fragments has at most 65,535 entries of 12 bytes.
_INDEX = 1 << 20

_SEGMENT = b"\x18\x53\x80\x67"
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


@dataclass(frozen=True)
class Stated:
    """Word of who wrote the file.

    Attributes:
        seconds: the whole film lasts; None where the file does not say.
        is_cut: whether the file ends before what it announces, which need not be pictures where
            ``seconds`` are told; False also where it announces nothing.
    """

    seconds: float | None
    is_cut: bool


def stated(path: str, container: str, seconds: float | None) -> Stated:
    """What the file says.

    Args:
        container: FFmpeg's name of the format.
        seconds: FFmpeg's word, which is a guess from what is there in some formats.
    """
    size = os.path.getsize(path)
    names = container.split(",")
    with open(path, "rb") as file:
        if "mov" in names:
            return _mp4(file, size, seconds)
        head = file.read(_HEAD)
    if "matroska" in names:
        return Stated(seconds, seconds is not None and _segment_end(head) > size)
    if "flv" in names:
        told = _flv_number(head, b"duration") or None
        return Stated(told, told is not None and _flv_number(head, b"filesize") > size)
    if "asf" in names:
        return _asf(head, size)
    if "avi" in names:
        return Stated(max(seconds or 0.0, _avi(head)), is_cut=False)
    # Of a transmission, FFmpeg tells the length of what is there.
    return Stated(None if {"mpegts", "mpeg"} & {*names} else seconds, is_cut=False)


def _mp4(file: BinaryIO, size: int, seconds: float | None) -> Stated:
    """Boxes one after the other; those of fragments come without a word of how many there are, but
    for an index (sidx) that may stand before them."""
    offset, is_cut, indexed = 0, False, 0
    while offset + 8 <= size:
        file.seek(offset)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the file's end, wherever that is
            break
        if kind == b"moof":
            seconds = None
        if kind == b"sidx" and offset + length <= size:
            file.seek(offset + 8)
            indexed = max(indexed, offset + length + _indexed_bytes(file.read(min(length, _INDEX))))
        offset += length
        is_cut = offset > size and kind in (b"moof", b"mdat")
    return Stated(seconds, is_cut or indexed > size)


def _indexed_bytes(index: bytes) -> int:
    """Bytes of the fragments after an index (ISO 14496-12, 8.16.3)."""
    wide = bool(index[:1] > b"\0")
    if len(index) < (32 if wide else 24):
        return 0
    (offset,) = struct.unpack_from(">Q" if wide else ">I", index, 20 if wide else 16)
    first = 32 if wide else 24
    (count,) = struct.unpack_from(">H", index, first - 2)
    count = min(count, (len(index) - first) // 12)
    sizes = (struct.unpack_from(">I", index, first + 12 * n)[0] & 0x7FFFFFFF for n in range(count))
    return int(offset + sum(sizes))


def _segment_end(head: bytes) -> int:
    """Where a Matroska film ends; 0 if it does not say."""
    offset = head.find(_SEGMENT) + len(_SEGMENT)
    if offset < len(_SEGMENT) or offset >= len(head) or not head[offset]:
        return 0
    width = 9 - head[offset].bit_length()
    length = int.from_bytes(head[offset : offset + width], "big") & ((1 << 7 * width) - 1)
    is_open = length == (1 << 7 * width) - 1
    return 0 if is_open else offset + width + length


def _flv_number(head: bytes, name: bytes) -> float:
    """A number from the metadata; 0 if it is not there."""
    key = struct.pack(">H", len(name)) + name + b"\0"
    offset = head.find(key) + len(key)
    if offset < len(key) or offset + 8 > len(head):
        return 0.0
    number: float = struct.unpack_from(">d", head, offset)[0]
    return number if 0 < number < 1e15 else 0.0


def _asf(head: bytes, size: int) -> Stated:
    offset = head.find(_FILE_PROPERTIES)
    if offset < 0 or offset + 92 > len(head):
        return Stated(None, is_cut=False)
    whole, _, _, play, _, preroll, flags = struct.unpack_from("<7Q", head, offset + 40)
    if flags & 1:  # a broadcast: nothing else in it counts
        return Stated(None, is_cut=False)
    told = max(0.0, play / 1e7 - preroll / 1e3) or None
    return Stated(told, told is not None and whole > size)


def _avi(head: bytes) -> float:
    """Seconds by the header, of which FFmpeg makes less where the file is cut short."""
    offset = head.find(b"avih")
    if offset < 0 or len(head) < offset + 28:
        return 0.0
    microseconds, frames = (
        int.from_bytes(head[offset + at : offset + at + 4], "little") for at in (8, 24)
    )
    return microseconds * frames / 1e6

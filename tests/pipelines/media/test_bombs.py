"""Small files that unfold: read or refused within limits of time and memory, and nobody dies."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from decoders import job, pool
from PIL import Image
from pngs import SIGNATURE, chunk

from maxsight.pipelines.decoding.messages import Finished, Refused
from maxsight.settings import max_pixels


def encoded(form: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 90, 20)).save(out, form, **options)
    return out.getvalue()


def rows_of_zeros(width: int, height: int, *, colour: int = 2) -> bytes:
    """A PNG of one colour, compressed to next to nothing."""
    row = bytes(1 + width * {0: 1, 2: 3}[colour])
    inflate, parts = zlib.compressobj(1), []
    block = max(1, (1 << 20) // len(row))
    for first in range(0, height, block):
        parts.append(inflate.compress(row * min(block, height - first)))
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = b"".join([*parts, inflate.flush()])
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def png_with(*notes: tuple[bytes, bytes]) -> bytes:
    data = encoded("PNG")
    return data[:33] + b"".join(chunk(*note) for note in notes) + data[33:]


def _zeros(megabytes: int) -> bytes:
    inflate = zlib.compressobj(9)
    return b"".join(inflate.compress(bytes(1 << 20)) for _ in range(megabytes)) + inflate.flush()


def texts() -> bytes:
    body = b"Comment\x00\x00" + _zeros(15)
    return png_with(*[(b"zTXt", body)] * 40)


def profile() -> bytes:
    return png_with((b"iCCP", b"x\x00\x00" + _zeros(80)))


def exif_that_claims() -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 2, 0xFFFFFFF0, 8) for tag in range(0x9000, 0x9F00))
    ifd = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 0x0F00) + entries + struct.pack("<I", 8)
    return encoded("JPEG", exif=b"Exif\x00\x00" + ifd[:60_000])


def tiff(*entries: tuple[int, int, int, int], behind: bytes = b"") -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries)) + body + bytes(4) + behind


def strips() -> bytes:
    """Three million strips of one row, all at the same place."""
    count, place = 3_000_000, 8 + 2 + 12 * 8 + 4
    return tiff(
        (256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, count, place), (278, 4, 1, 1), (279, 4, count, place),
        behind=struct.pack("<I", 8) * count,
    )  # fmt: skip


def pages() -> bytes:
    """A TIFF whose pages come one after the other, a hundred thousand of them."""
    first = bytearray(encoded("TIFF"))
    count = struct.unpack_from("<H", first, 8)[0]
    struct.pack_into("<I", first, 10 + 12 * count, len(first))
    place, rest = len(first), []
    for _ in range(100_000):
        place += 18
        rest.append(struct.pack("<HHHIII", 1, 256, 3, 1, 1, place))
    return bytes(first) + b"".join(rest)


def frames_of_gif() -> bytes:
    data = encoded("GIF")
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:start] + data[start:-1] * 100_000 + b";"


def frames_of_webp() -> bytes:
    one = encoded("WEBP", lossless=True)[12:]
    area = bytes(6) + struct.pack("<I", 63)[:3] + struct.pack("<I", 47)[:3] + b"\x0a\x00\x00\x00"
    frame = area + one
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\x00\x00\x00\x3f\x00\x00\x2f\x00\x00"
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * 20_000
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icon() -> bytes:
    """An icon of 256 pixels that is a PNG of 400 million."""
    body = rows_of_zeros(20_000, 20_000, colour=0)
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(body), 22) + body


def apple_icon() -> bytes:
    body = rows_of_zeros(20_000, 20_000, colour=0)
    inner = b"ic10" + struct.pack(">I", 8 + len(body)) + body
    return b"icns" + struct.pack(">I", 8 + len(inner)) + inner


def frames_of_avif() -> bytes:
    others = [Image.new("RGB", (64, 48), (shade, 4, 5)) for shade in range(200)]
    return encoded("AVIF", save_all=True, append_images=others)


BOMBS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "wide.png": (lambda: rows_of_zeros(30_000_000, 1), "no picture has a side"),
    "tall.png": (lambda: rows_of_zeros(1, 30_000_000, colour=0), "no picture has a side"),
    "strip.png": (lambda: rows_of_zeros(30_000_000, 5, colour=0), "no picture has a side"),
    "column.png": (lambda: rows_of_zeros(5, 30_000_000, colour=0), "no picture has a side"),
    "long.png": (lambda: rows_of_zeros(1_000_000, 4, colour=0), None),
    "high.png": (lambda: rows_of_zeros(1, 1_000_000, colour=0), None),
    "texts.png": (texts, None),
    "profile.png": (profile, None),
    "exif.jpg": (exif_that_claims, None),
    "strips.tif": (strips, "no picture has a side"),
    "pages.tif": (pages, None),
    "frames.gif": (frames_of_gif, None),
    "frames.webp": (frames_of_webp, None),
    "frames.avif": (frames_of_avif, None),
    "nested.ico": (icon, "an icon picture of 20,000 x 20,000 pixels"),
    "nested.icns": (apple_icon, "an Apple icon picture of 20,000 x 20,000 pixels"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little(name: str, tmp_path: Path) -> None:
    make, reason = BOMBS[name]
    (tmp_path / name).write_bytes(make())
    with pool(timeout_s=20, max_pixels=max_pixels()) as decoders:
        (result,) = (found for found in decoders.decode([job(tmp_path / name)]) if found)
    message = result.message
    assert message.seconds < 5
    if reason is None:
        assert isinstance(message, Finished), message
    else:
        assert isinstance(message, Refused)
        assert reason in message.reason


def test_telephones_of_200_megapixels_are_below_the_limit() -> None:
    assert max_pixels() >= 16_320 * 12_240

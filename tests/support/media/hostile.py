"""Files as the world has them: three hundred bad ones of every kind, three hundred good ones.

Everything is made from a seed, so that a failure can be looked at again. Whether a picture with
flipped bits is bad is asked of Pillow, told to go on where it can: most flips leave a picture.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageFile

# Photographs that come in scikit-image's wheel.
_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)

_ENCODINGS: dict[str, Callable[[Image.Image, io.BytesIO], None]] = {
    "baseline.jpg": lambda image, out: image.save(out, "JPEG", quality=90),
    "progressive.jpg": lambda image, out: image.save(out, "JPEG", progressive=True),
    "cmyk.jpg": lambda image, out: image.convert("CMYK").save(out, "JPEG"),
    "rgb.png": lambda image, out: image.save(out, "PNG"),
    "palette.png": lambda image, out: image.quantize(64).save(out, "PNG"),
    "lossy.webp": lambda image, out: image.save(out, "WEBP"),
    "lossless.webp": lambda image, out: image.save(out, "WEBP", lossless=True),
    "still.gif": lambda image, out: image.save(out, "GIF"),
    "raw.tif": lambda image, out: image.save(out, "TIFF"),
    "lzw.tif": lambda image, out: image.save(out, "TIFF", compression="tiff_lzw"),
    "deflate.tiff": lambda image, out: image.save(out, "TIFF", compression="tiff_adobe_deflate"),
    "plain.bmp": lambda image, out: image.save(out, "BMP"),
    "still.avif": lambda image, out: image.save(out, "AVIF"),
}

_STRANGERS: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"This is a text, and nobody has ever seen it.\n" * 20,
    "page": lambda: b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>",
    "drawing": lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "json": lambda: b'{"error": "no such picture"}',
    "archive": lambda: _zip({"a.txt": b"hello"}),
    "gzip": lambda: gzip.compress(b"hello" * 100, mtime=0),
    "windows": lambda: b"MZ\x90\x00" + bytes(60) + b"PE\x00\x00" + bytes(200),
    "program": lambda: b"\x7fELF\x02\x01\x01" + bytes(200),
    "pdf": lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    "sound": lambda: b"ID3\x04\x00\x00" + bytes(300),
    "wave": lambda: b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40),
    "zeros": lambda: bytes(4096),
    "noise": lambda: random.Random(1).randbytes(4096),
    "photoshop": lambda: b"8BPS\x00\x01" + bytes(100),
    "script": lambda: b"#!/bin/sh\nrm -rf /\n",
}


def photographs() -> list[Image.Image]:
    """Real photographs, RGB, at least 350 pixels wide."""
    folder = Path(skimage.data.__file__).parent
    pictures = [Image.open(folder / name).convert("RGB") for name in _PHOTOGRAPHS]
    # Without their colour profiles, whose loss would not make a cut file unreadable.
    return [Image.fromarray(np.asarray(picture)) for picture in pictures]


def distinct_pictures(count: int, side: int = 80) -> list[Image.Image]:
    """Crops of photographs that show different things, at most some 400."""
    crops = []
    for photograph in photographs():
        columns, rows = photograph.width // side, photograph.height // side
        for position in range(columns * rows):
            left, top = position % columns * side, position // columns * side
            crop = photograph.crop((left, top, left + side, top + side))
            # Night sky and blank background look alike everywhere.
            if np.asarray(crop, np.float32).std(axis=(0, 1)).mean() > 12:
                crops.append(crop)
    if len(crops) < count:
        raise ValueError(f"{count} pictures wanted, there are {len(crops)}")
    return random.Random(0).sample(crops, count)


def write_good(folder: Path, count: int = 300) -> list[Path]:
    """Write good pictures in every encoding, some under misleading names."""
    folder.mkdir(parents=True, exist_ok=True)
    encodings = [*_ENCODINGS.items()]
    paths = []
    for number, picture in enumerate(distinct_pictures(count)):
        name, save = encodings[number % len(encodings)]
        out = io.BytesIO()
        save(picture, out)
        path = folder / f"good-{number:03d}-{name}"
        if number % 10 == 0:
            path = path.with_suffix(".jpg" if path.suffix != ".jpg" else ".png")
        if number % 50 == 1:
            path = Path(os.fsdecode(os.fsencode(path.with_suffix("")) + b"-\xe9\xff" + b".png"))
        path.write_bytes(out.getvalue())
        paths.append(path)
    return paths


def write_bad(folder: Path, *, seed: int = 0) -> list[Path]:
    """Write files that no one can read, or should: all named like pictures or films."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in _bad_files(random.Random(seed)):
        path = folder / name
        path.write_bytes(data)
        paths.append(path)
    paths += _no_files(folder)
    return paths


def _bad_files(dice: random.Random) -> Iterator[tuple[str, bytes]]:
    pictures = distinct_pictures(3)
    for number, picture in enumerate(pictures):
        for name, save in _ENCODINGS.items():
            out = io.BytesIO()
            save(picture, out)
            data = out.getvalue()
            for percent in _cuts(name):
                yield f"cut-{percent:02d}-{number}-{name}", data[: len(data) * percent // 100]
            for flip in range(2):
                yield f"flip-{flip}-{number}-{name}", _broken_by_flips(data, dice)
    for number, (kind, make) in enumerate(_STRANGERS.items()):
        for suffix in (".jpg", ".png", ".webp", ".tif")[number % 2 :: 2]:
            yield f"stranger-{kind}{suffix}", make()
    for suffix in ("jpg", "jpeg", "png", "webp", "gif", "tif", "bmp", "avif", "heic", "mp4", "mkv"):
        yield f"empty.{suffix}", b""
    yield from _crippled()
    yield from _bombs()
    yield from _bad_films()


def _cuts(name: str) -> tuple[int, ...]:
    """Percentages at which what is left of a file shows less than half of its picture."""
    if name == "progressive.jpg":
        return (1, 2, 3)  # its first scan, of a tenth, shows everything
    if name in ("lzw.tif", "deflate.tiff"):
        return (3, 25, 60, 90)  # their directories stand at the end
    return (3, 15, 25, 35)


def _broken_by_flips(data: bytes, dice: random.Random) -> bytes:
    """``data`` with as many bits flipped as it takes for the most tolerant decode to fail."""
    broken = bytearray(data)
    while _decodes(broken):
        # Past the lengths of the whole and its first part, which readers do without.
        broken[dice.randrange(32, len(broken))] ^= 1 << dice.randrange(8)
    return bytes(broken)


def _decodes(data: bytes | bytearray) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        except Exception:  # Pillow's plugins raise many kinds on damaged data
            return False
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    return True


def _crippled() -> Iterator[tuple[str, bytes]]:
    """Files of the right kind that lack what makes a picture."""
    yield from (
        ("magic.jpg", b"\xff\xd8\xff\xe0"),
        ("magic.png", b"\x89PNG\r\n\x1a\n"),
        ("magic.gif", b"GIF89a"),
        ("magic.webp", b"RIFF\x10\x00\x00\x00WEBP"),
        ("magic.tif", b"II*\x00\x08\x00\x00\x00"),
        ("magic.bmp", b"BM"),
        ("magic.avif", b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf"),
        ("magic.heic", b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"),
        ("no-frames.gif", b"GIF89a\x10\x00\x10\x00\x00\x00\x00;"),
        ("no-data.png", _png(8, 8, idat=False)),
        ("no-width.png", _png(0, 8)),
        ("odd-depth.png", _png(8, 8, depth=7)),
        ("wrong-sum.png", _png(8, 8, bad_sum=True)),
        ("no-strips.tif", _tiff([(256, 3, 8), (257, 3, 8)])),
        ("ring.tif", _tiff([(256, 3, 8), (257, 3, 8)], next_ifd=8)),
        ("odd-bits.bmp", _bmp(8, 8, bits=7)),
        ("nested.png", b"\x89PNG\r\n\x1a\n" + b"\xff\xd8\xff\xe0" * 50),
        ("end-only.jpg", b"\xff\xd8\xff\xd9"),
    )


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that unfold into gigabytes."""
    yield "bomb-60000.png", _png(60_000, 60_000)
    yield "bomb-max.png", _png(2**31 - 1, 2**31 - 1)
    yield "bomb-real.png", _png(20_000, 20_000, depth=1, colour=0, rows=bytes(2501 * 20_000))
    yield "bomb-strip.png", _png(1, 300_000_000)
    yield "bomb.gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + _GIF_FRAME
    yield "bomb.bmp", _bmp(60_000, 60_000)
    yield "bomb-long.bmp", _bmp(2**31 - 1, 1)
    yield "bomb.tif", _tiff([(256, 4, 100_000), (257, 4, 100_000), (258, 3, 8), (273, 4, 8)])
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\x00" * 2
    yield "bomb.webp", b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "TIFF", compression="group4")
    yield "bomb-real.tif", out.getvalue()


def _bad_films() -> Iterator[tuple[str, bytes]]:
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv420p"
        for shade in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade * 12, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    film = out.getvalue()
    yield "cut-before-index.mp4", film[: len(film) // 2]
    yield "cut-header.mp4", film[:20]
    yield "head-only.mkv", b"\x1aE\xdf\xa3" + bytes(40)
    yield "text.mp4", b"not a film" * 30
    yield "text.mkv", b"not a film" * 30
    yield "noise.avi", b"RIFF\x00\x10\x00\x00AVI LIST" + random.Random(2).randbytes(500)
    yield "noise.webm", random.Random(3).randbytes(3000)
    yield "page.mov", _STRANGERS["page"]()
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    yield "sound-only.mp4", out.getvalue()


def _no_files(folder: Path) -> list[Path]:
    """Names of pictures at which there is no file."""
    dangling, ring, other_ring = (folder / name for name in ("gone.jpg", "ring.png", "gnir.png"))
    dangling.symlink_to(folder / "never-was.jpg")
    ring.symlink_to(other_ring)
    other_ring.symlink_to(ring)
    pipe = folder / "pipe.jpg"
    os.mkfifo(pipe)
    plug = folder / "socket.png"
    with socket.socket(socket.AF_UNIX) as end:
        # The address has room for about a hundred bytes: bind from within the folder.
        handle = os.open(folder, os.O_RDONLY)
        try:
            end.bind(f"/proc/self/fd/{handle}/{plug.name}")
        finally:
            os.close(handle)
    device = folder / "device.jpg"
    device.symlink_to("/dev/zero")
    return [dangling, ring, other_ring, pipe, plug, device]


_GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 8, 8, 0x80) + bytes(6) + b"\x02\x02\x4c\x01\x00;"


def _png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    rows: bytes = b"",
    idat: bool = True,
    bad_sum: bool = False,
) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body) ^ bad_sum
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows or bytes(200), 9)) if idat else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def _bmp(width: int, height: int, *, bits: int = 24) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + info + bytes(100)


def _tiff(tags: list[tuple[int, int, int]], *, next_ifd: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    count = struct.pack("<H", len(tags))
    return b"II*\x00\x08\x00\x00\x00" + count + entries + struct.pack("<I", next_ifd) + bytes(64)


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()

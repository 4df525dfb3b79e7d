"""Pictures with something missing: what is there, and how much of it.

Viewers show a picture whose last rows never arrived, or beside whose pixels something is broken.
Pillow does so only when told, and then leaves what is missing black or grey without a word. Here a
picture is decoded twice, each time with other filling where nothing comes from the file: pixels
that differ between the two are missing.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile

from maxsight.pipelines.media.formats import (
    AVIF,
    GIF,
    HEIF,
    JPEG,
    JPEG2000,
    PNG,
    TIFF,
    WEBP,
    PictureFormat,
)

# With less of it a picture shows something else than what was taken.
LEAST_SHARE = 0.5

# With as much as this the picture keeps its shape, and what its middle is.
_FILLED_ABOVE = 0.9

_END_OF_JPEG = b"\xff\xd9"
_BLANKS = bytes(512)
_SCAN_OF_JPEG = b"\xff\xda"
_TILE_OF_JPEG2000 = b"\xff\x90\x00\x0a"
_RESTART_OF_JPEG = re.compile(rb"\xff[\xd0-\xd7]")
# Entropy-coded data that means something else wherever a decoder goes on with it.
_OTHER_DATA = bytes(1 + (37 * n * n + 11 * n) % 251 for n in range(4096))
_FILLINGS = (b"\x00", _OTHER_DATA, _OTHER_DATA[::-1], b"\x55", b"\xaa")


@dataclass(frozen=True, eq=False)
class Salvaged:
    """What could be decoded of a broken picture.

    Attributes:
        image: loaded, as Pillow's plugin gives it.
        known: (H, W) bool, the pixels that come from the file.
        coarse: details are missing everywhere (the later scans of a progressive JPEG).
        cause: "truncated" or "damaged".
    """

    image: Image.Image
    known: np.ndarray
    coarse: bool = False
    cause: str = "damaged"

    @property
    def share(self) -> float:
        """How much of the picture is there, 0 to 1."""
        return float(self.known.mean())

    @property
    def remark(self) -> str | None:
        """What a person should know; None if every pixel is there."""
        if self.coarse:
            return f"{self.cause}: shown with less detail than it had; copy it again"
        missing = 100 * (1 - self.share)
        if not missing:
            return None
        percent = f"{missing:.0f}" if missing >= 1 else "less than 1"
        return f"{self.cause}: {percent} % of the picture is missing; copy it again"


def salvage(
    data: bytes, form: PictureFormat, opened: Callable[[bytes], Image.Image]
) -> Salvaged | None:
    """Decode what is there of a picture that Pillow refuses, or whose end is in doubt.

    Args:
        data: the file.
        form: of the file.
        opened: has Pillow open a file, without decoding it.

    Returns:
        None if nothing can be decoded.

    Raises:
        MemoryError: two pictures of that size are more than is allowed.
    """
    files, scans = [data] * 2, 0
    if form is JPEG:
        body = _without_end(data)
        scans = _scans(body)
        files = [body + _END_OF_JPEG, body + _more_of_jpeg(body) + _END_OF_JPEG]
    elif form is PNG:
        files = [_without_notes(data)] * 2
    elif form is WEBP:
        files = [_with_its_size(data, filling) for filling in _FILLINGS]
    elif form is JPEG2000:
        files = [_with_its_tile(data, filling) for filling in (b"\xff", *_FILLINGS)]
    elif form in (AVIF, HEIF):
        files = [_with_its_boxes(data, filling) for filling in _FILLINGS]
    shown: list[Image.Image] = []
    # Told to go on, Pillow says nothing of a JPEG 2000 of which it decodes nothing.
    with nullcontext() if form is JPEG2000 else _tolerant():
        for content in files:
            try:
                shown.append(_filled(opened(content), form, 255 * len(shown)))
            except MemoryError:
                raise
            except Exception:  # plugins raise whatever damaged bytes lead them to
                continue
            if len(shown) == 2:
                break
    if len(shown) < 2:
        return None
    image, other = shown
    known = _same(image, other)
    if form is JPEG2000 and not known.all():  # a tile's data begins with the coarse of all of it
        known[:] = (np.arange(image.height) < image.height * len(data) / len(files[0]))[:, None]
        if known.mean() >= LEAST_SHARE:
            return Salvaged(image, np.ones_like(known), coarse=True)
    if scans > 1 and not known.all():  # the first scan shows everything already
        return Salvaged(image, np.ones_like(known), coarse=True)
    if form in (JPEG, WEBP):
        known = _up_to_the_first_gap(known)
    elif form in (AVIF, HEIF):
        known = _up_to_the_first_gap(known, may_be_turned=True)
    return Salvaged(image, known)


def _up_to_the_first_gap(known: np.ndarray, *, may_be_turned: bool = False) -> np.ndarray:
    """What stands before the first pixel that is missing: behind it is filling in both pictures.

    Files hold pixels row by row; a picture that its decoder has turned lacks other sides.
    """
    best = np.zeros_like(known)
    for turns in range(4 if may_be_turned else 1):
        turned = np.rot90(known, turns)
        gaps = np.flatnonzero(~turned.all(1))
        there = np.zeros_like(turned)
        there[: gaps[0] if len(gaps) else len(turned)] = True
        if there.sum() > best.sum():
            best = np.rot90(there, -turns)
    return best


def _same(image: Image.Image, other: Image.Image) -> np.ndarray:
    """Where two pictures of the same file agree, (H, W) bool."""
    known = np.empty((image.height, image.width), bool)
    rows = max(1, _BLOCK // image.width)
    for top in range(0, image.height, rows):  # a copy of all pixels would double the memory
        box = (0, top, image.width, min(top + rows, image.height))
        same = np.asarray(image.crop(box)) == np.asarray(other.crop(box))
        known[top : box[3]] = same if same.ndim == 2 else same.all(2)
    return known


def without_blanks(data: bytes, form: PictureFormat) -> bytes:
    """A compressed picture without the zeros of a copy that never came to its end.

    Decoders of such formats take zeros for pixels, and show a surface of one colour.
    """
    if form not in (PNG, WEBP, AVIF, HEIF, JPEG2000) or not data.endswith(_BLANKS):
        return data
    return data.rstrip(b"\x00") + bytes(16)


def in_doubt(data: bytes, image: Image.Image) -> bool:
    """Whether a JPEG that Pillow decoded may lack its end: libjpeg fills up without a word.

    Args:
        data: the file.
        image: as decoded.
    """
    end = data.rfind(_END_OF_JPEG, -(1 << 16))
    if end < 0 and data.rfind(_END_OF_JPEG) < data.rfind(_SCAN_OF_JPEG):
        return True
    grey = {"L": 128, "RGB": (128, 128, 128)}.get(image.mode)
    if grey is None or image.getpixel((0, image.height - 1)) != grey:
        return False
    last = image.crop((0, image.height - 1, image.width, image.height))
    return bool((np.asarray(last) == 128).all())


def mended(rgb: Image.Image, known: np.ndarray) -> Image.Image:
    """A picture without the pixels that are missing.

    Many rows missing at one end are cut off; a few, and holes, are filled with what is beside them.
    """
    if not known.any():
        return rgb
    for axis in (0, 1):  # a turned TIFF lacks columns
        whole = np.flatnonzero(known.all(1 - axis))
        touched = np.count_nonzero(known.any(1 - axis))
        if known.mean() >= _FILLED_ABOVE or len(whole) <= 0.9 * touched:
            continue
        first, last = int(whole[0]), int(whole[-1])
        if len(whole) == last - first + 1:
            box = (0, first, rgb.width, last + 1)
            return rgb.crop(box if axis == 0 else (first, 0, last + 1, rgb.height))
    pixels, there = np.array(rgb), known.copy()
    for axis in (0, 1):
        for flipped in (False, True):
            view, mask = np.moveaxis(pixels, axis, 0), np.moveaxis(there, axis, 0)
            if flipped:
                view, mask = view[::-1], mask[::-1]
            for row in range(1, len(view)):
                gap = ~mask[row] & mask[row - 1]
                view[row][gap] = view[row - 1][gap]
                mask[row] |= gap
    return Image.fromarray(pixels)


# ---------------------------------------------------------------- Pillow, told to go on


@contextmanager
def _tolerant() -> Iterator[None]:
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _filled(image: Image.Image, form: PictureFormat, level: int) -> Image.Image:
    """Decode over a picture of one level, which stays where nothing is decoded."""
    if form is GIF and getattr(image, "_frame_transparency", None) is not None:
        image._frame_transparency = level  # type: ignore[attr-defined]  # it fills with that
    else:
        bands = len(image.getbands())
        value: int | tuple[int, ...] = (level,) * bands if bands > 1 else level
        size = getattr(image, "_tile_size", image.size)  # a TIFF's, before it is turned
        image._im = Image.core.fill(image.mode, size, value)  # type: ignore[attr-defined]
    try:
        image.load()
    except Exception:
        if form is not TIFF or not isinstance(image, ImageFile.ImageFile):
            raise
        image.tile = []  # libtiff's rows up to the damage are there
        image.load_end()
    return image


# ---------------------------------------------------------------- files, put in order


def _without_end(data: bytes) -> bytes:
    """A JPEG up to the end of its last scan's data, as far as it is there."""
    scan = data.rfind(_SCAN_OF_JPEG)
    end = data.find(_END_OF_JPEG, scan)
    if end >= 0:
        return data[:end]
    body = data.rstrip(b"\x00")  # blocks of the disk that were never written
    return body + b"\x00" if body.endswith(b"\xff") else body


def _more_of_jpeg(body: bytes) -> bytes:
    """Data that a decoder goes on with, and the restart marker that it may wait for first."""
    restarts = _RESTART_OF_JPEG.findall(body, max(0, body.rfind(_SCAN_OF_JPEG)))
    following = (restarts[-1][1] + 1) % 8 if restarts else 0
    return _OTHER_DATA + bytes((0xFF, 0xD0 + following)) + _OTHER_DATA


def _scans(data: bytes) -> int:
    """Scans that a progressive JPEG begins; 0 for any other."""
    offset = 2
    while data[offset : offset + 1] == b"\xff":
        marker = data[offset + 1]
        if marker == 0xC2:
            return data.count(_SCAN_OF_JPEG, offset)
        if marker == 0xFF:
            offset += 1
            continue
        if marker in (0xC0, 0xC1, 0xDA):
            break
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return 0


_BLOCK = 1 << 20
_PROFILE_OF_PNG = re.compile(rb"[^\x00]*\x00\x00")
_KEPT = frozenset((b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf"))


def _without_notes(data: bytes) -> bytes:
    """A PNG without what is neither its pixels nor their meaning, with right checksums there."""
    parts, pixels, offset = [data[:8]], list[bytes](), 8
    while offset + 8 <= len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        kind, body = data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length]
        if kind == b"IDAT":
            pixels.append(body)
        elif kind == b"IEND":
            break
        elif kind == b"iCCP" and not _PROFILE_OF_PNG.match(body):
            pass  # Pillow refuses the picture for it
        elif kind in _KEPT:  # not the head or the palette, without which browsers show nothing
            parts.append(_chunk(kind, body))
        elif kind[:1].isupper():
            parts.append(data[offset : offset + 12 + length])
        offset += 12 + length
    if pixels:
        parts.append(_chunk(b"IDAT", _with_right_sum(b"".join(pixels))))
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _with_right_sum(stream: bytes) -> bytes:
    """A zlib stream with the checksum its content has, if it has all of its content."""
    inflate, total, left = zlib.decompressobj(-zlib.MAX_WBITS), 1, stream[2:]
    try:
        while left and not inflate.eof:
            total = zlib.adler32(inflate.decompress(left, _BLOCK), total)
            left = inflate.unconsumed_tail
    except zlib.error:
        return stream
    if not inflate.eof:
        return stream
    return stream[: len(stream) - len(inflate.unused_data)] + struct.pack(">I", total)


def size_by_boxes(data: bytes) -> int:
    """How long an AVIF or HEIC is by its own boxes; 0 if the last one ends with the file."""
    offset = 0
    while 0 <= offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size < 8:  # up to the end of the file, or not four bytes long
            return 0
        offset += size
    return offset


def size_by_tiles(data: bytes) -> int:
    """How long a JPEG 2000 is by its own tiles; 0 if that cannot be told."""
    offset = data.find(_TILE_OF_JPEG2000)
    while offset >= 0 and data.startswith(_TILE_OF_JPEG2000, offset):
        length = int.from_bytes(data[offset + 6 : offset + 10], "big")
        offset += length
        if length < 12 or offset > len(data):
            break
    return 0 if offset < 0 else offset + len(_END_OF_JPEG)


def _with_its_tile(data: bytes, filling: bytes) -> bytes:
    """A JPEG 2000 with its last tile as long as it should be."""
    size = size_by_tiles(data)
    if not len(data) < size <= 4 * len(data):
        return data
    return _padded(data, size - len(_END_OF_JPEG), filling)[: size - 2] + _END_OF_JPEG


def _with_its_boxes(data: bytes, filling: bytes) -> bytes:
    """An AVIF or HEIC as long as it says it is."""
    size = size_by_boxes(data)
    return _padded(data, size, filling) if size <= 4 * len(data) else data


def _padded(data: bytes, size: int, filling: bytes) -> bytes:
    missing = max(0, size - len(data))
    return data + (filling * (missing // len(filling) + 1))[:missing]


_PIXELS_OF_WEBP = frozenset((b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"))
_EXIF_OF_WEBP, _XMP_OF_WEBP = 0x08, 0x04


def _with_its_size(data: bytes, filling: bytes) -> bytes:
    """A WebP of the parts it shows that says how long it is; what is missing of them is filled."""
    parts, offset = [], 12
    while offset + 8 <= len(data):
        kind, length = (
            data[offset : offset + 4],
            int.from_bytes(data[offset + 4 : offset + 8], "little"),
        )
        end = offset + 8 + length
        if kind in _PIXELS_OF_WEBP and end <= 4 * len(data):
            if end > len(data) and kind in (b"VP8 ", b"VP8L"):
                length = (
                    3 * length + _BLOCK
                )  # other data may say less a byte, and then be too short
            part = _padded(data[offset:end], 8 + length, filling)
            part = kind + struct.pack("<I", length) + part[8:]
            parts.append(bytearray(part + bytes(length & 1)))
        offset = end + (length & 1)
    if parts and parts[0][:4] == b"VP8X":
        parts[0][8] &= ~(_EXIF_OF_WEBP | _XMP_OF_WEBP)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body

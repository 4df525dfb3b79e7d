"""Whole pictures, and what stands beside their pixels. Run by test_apart.py in its own process."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from fuzzed import edited
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms
from pngs import SIGNATURE, chunk, png

from maxsight.errors import MediaError
from maxsight.models.pixels.preprocess import Preprocess
from maxsight.pipelines.media import codings, formats, notes, salvage
from maxsight.pipelines.media.colour import Meaning, meaning
from maxsight.pipelines.media.pictures import decode_picture, read_picture

# Of Pillow, about what it tolerates; the readers are quiet about it too.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
LONG = np.tile(PIXELS, (1, 4, 1))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description exif:DateTimeOriginal="2024-05-'
    b'01T12:30:00"><xmp:CreateDate>2024-05-02</xmp:CreateDate></rdf:Description></rdf:RDF></x:xmpme'
    b"ta>"
)
IPTC = b"\x1c\x02\x37\x00\x0820240501\x1c\x02\x3c\x00\x06123000"
OUTSIDE = st.sampled_from([0, 1, 2, 7, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1])
WISHES = st.builds(
    Preprocess,
    size=st.sampled_from([1, 8, 32]),
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
)


def exif() -> Image.Exif:
    found = Image.Exif()
    found[ExifTags.Base.Orientation] = 6
    found[ExifTags.Base.DateTime] = "2024:05:01 12:30:00"
    found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:01 12:30:00"
    return found


def saved(form: str, pixels: np.ndarray = PIXELS, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def deep_tiff() -> bytes:
    """Twelve bits a sample, which Pillow does not read."""
    rows = np.unpackbits(np.full((4, 4 * 3, 2), 0x12, np.uint8)).reshape(4, 12, 16)[..., 4:]
    packed = np.packbits(rows.reshape(4, -1), axis=1).tobytes()
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, len(packed))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\x00" + struct.pack("<I", 8 + len(packed)) + packed
    return head + struct.pack("<H", len(tags)) + entries + bytes(4)


def webp_tiff() -> bytes:
    piece = saved("WEBP", lossless=True)
    tags = [(256, 3, 1, 12), (257, 3, 1, 9), (258, 3, 1, 8), (259, 3, 1, 50001), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, 9), (279, 4, 1, len(piece))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\x00" + struct.pack("<I", 8 + len(piece)) + piece
    return head + struct.pack("<H", len(tags)) + entries + bytes(4)


def lossless_jpeg() -> bytes:
    """The frame of one; its scan is nonsense."""
    frame = b"\xff\xc3\x00\x0b\x0c\x00\x04\x00\x04\x01\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00" + bytes(range(1, 40))
    return b"\xff\xd8" + frame + scan + b"\xff\xd9"


def psd(bits: int) -> bytes:
    head = b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, bits, 3)
    return head + bytes(12) + b"\x00\x00" + bytes(3 * 16 * bits // 8)


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved("JPEG", exif=exif(), icc_profile=PROFILE, xmp=XMP),
    "progressive JPEG": lambda: saved("JPEG", LONG, progressive=True),
    "lossless JPEG": lossless_jpeg,
    "CMYK": lambda: saved("JPEG", mode="CMYK"),
    "PNG": lambda: saved("PNG", exif=exif(), icc_profile=PROFILE),
    "PNG of 16 bits": lambda: png(
        np.arange(24).reshape(4, 6) * 2000,
        depth=16,
        notes=[(b"gAMA", struct.pack(">I", 45455)), (b"tRNS", b"\x00\x05"), (b"cICP", bytes(4))],
    ),
    "palette": lambda: saved("PNG", LONG, "P"),
    "GIF": lambda: saved("GIF"),
    "BMP": lambda: saved("BMP"),
    "WebP": lambda: saved("WEBP", exif=exif(), icc_profile=PROFILE),
    "lossless WebP": lambda: saved("WEBP", LONG, lossless=True),
    "TIFF": lambda: saved("TIFF", compression="tiff_lzw", icc_profile=PROFILE),
    "TIFF of 12 bits": deep_tiff,
    "TIFF of WebP": webp_tiff,
    "AVIF": lambda: saved("AVIF", exif=exif()),
    "JPEG 2000": lambda: saved("JPEG2000"),
    "Photoshop": lambda: psd(8),
    "Photoshop of 16 bits": lambda: psd(16),
    "PNM": lambda: saved("PPM"),
    "icon": lambda: saved("ICO", sizes=[(8, 8)]),
    "Targa": lambda: saved("TGA"),
    "DDS": lambda: saved("DDS"),
    "PCX": lambda: saved("PCX"),
    "SGI": lambda: saved("SGI"),
    "QOI": lambda: b"qoif" + struct.pack(">IIBB", 2, 2, 3, 0) + b"\xfe\x01\x02\x03" * 4 + bytes(8),
    "XBM": lambda: b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = {\n0xff};\n",
}


@functools.cache
def file(name: str) -> bytes:
    return FILES[name]()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes changed anywhere, and numbers of two or four bytes where lengths stand."""
    found = bytearray(draw(edited(content)))
    for _ in range(draw(st.integers(0, 3))):
        number = draw(OUTSIDE)
        form = draw(st.sampled_from(["<I", ">I", "<H", ">H"]))
        place = draw(st.integers(0, max(0, min(len(found), 400) - 4)))
        if place + 4 <= len(found):
            struct.pack_into(form, found, place, number & (2 ** (8 * struct.calcsize(form)) - 1))
    if found.startswith(SIGNATURE) and draw(st.booleans()):
        return with_right_sums(bytes(found))
    return bytes(found)


def with_right_sums(content: bytes) -> bytes:
    """A PNG whose chunks a decoder looks into, since their checksums fit."""
    parts, place = [SIGNATURE], 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        body = content[place + 8 : place + 8 + length]
        kind = content[place + 4 : place + 8]
        parts.append(chunk(kind, body) if len(body) == length else content[place:])
        place += 12 + length
    return b"".join(parts)


@given(name=st.sampled_from(sorted(FILES)), wishes=WISHES, data=st.data())
def test_pictures(name: str, wishes: Preprocess, data: st.DataObject) -> None:
    content = data.draw(damaged(file(name)))
    try:
        pixels, upright = decode_picture(content, wishes, max_pixels=1 << 20)
    except MediaError as error:
        assert len(str(error)) < 400
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[1:] == (wishes.size, wishes.size, 3)
    assert upright.image.mode == "RGB"
    assert upright.image.width <= max(upright.width, upright.height) <= 1_000_000
    assert upright.remark is None or 0 < len(upright.remark) < 400
    assert upright.captured_at is None or isinstance(upright.captured_at, datetime)


@given(name=st.sampled_from(sorted(FILES)), side=st.sampled_from([None, 1, 16]), data=st.data())
def test_pictures_for_people(name: str, side: int | None, data: st.DataObject) -> None:
    try:
        upright = read_picture(data.draw(damaged(file(name))), side=side, max_pixels=1 << 20)
    except MediaError:
        return
    assert np.asarray(upright.image).ndim == 3


FORMS = [value for value in vars(formats).values() if isinstance(value, formats.PictureFormat)]
HEADS = st.sampled_from(
    [
        b"RIFF\x00\x00\x00\x00WEBP",
        b"\x00\x00\x00\x20ftypmif1",
        b"P6 12 # ",
        b"BM",
        b"\x28\x00\x00\x00",
    ]
    + [
        b"",
        b"G" + bytes(187),
        b"OggS",
        b"#define ",
        b"<svg ",
        b"\x1aE\xdf\xa3",
        b"\x00\x00\x01\x00",
    ]
    + [b"/*", b"II*\x00", b"\xff\xd8\xff\xc3", b"8BPS\x00\x01", b"\xff\xfe<\x00", b"P7\n#"]
)


@given(head=HEADS, rest=st.binary(max_size=200), times=st.integers(1, 30))
def test_formats(head: bytes, rest: bytes, times: int) -> None:
    """What a file is, by its first bytes."""
    content = (head + rest * times)[: formats.HEAD_BYTES]
    form = formats.picture_format(content)
    assert form is None or form in FORMS
    assert formats.content_kind(content) in (None, "image", "video")
    words = formats.stranger(content)
    assert words.isprintable()
    assert len(words) < 200


ODD = ("lossless JPEG", "JPEG", "TIFF of 12 bits", "TIFF of WebP", "TIFF", "Photoshop of 16 bits")


@given(content=st.sampled_from(ODD).flatmap(lambda name: damaged(file(name))))
@example(lossless_jpeg().replace(b"\xff\xc3\x00\x0b", b"\xff\xc3\x00\x00"))
def test_codings(content: bytes) -> None:
    form = formats.picture_format(content)
    found = codings.coding(content, form) if form is not None else None
    assert found is None or (found.width >= 0 and found.height >= 0 and len(found.words) < 200)


@given(name=st.sampled_from(["AVIF", "JPEG", "PNG"]), data=st.data())
def test_sizes_by_boxes(name: str, data: st.DataObject) -> None:
    content = data.draw(damaged(file(name)))
    assert salvage.size_by_boxes(content) >= 0
    for form in FORMS:
        assert content.startswith(salvage.without_blanks(content, form).rstrip(b"\x00"))


PACKETS = edited(XMP) | edited(XMP.decode().encode("utf-16")) | st.binary(max_size=80)


@given(
    packet=PACKETS | PACKETS.map(lambda packet: packet.decode("latin-1")),
    records=edited(IPTC) | st.binary(max_size=40),
    head=edited(b"Exif\x00\x00" + exif().tobytes()[6:]) | st.binary(max_size=80),
    text=st.text(max_size=24),
)
def test_notes(packet: bytes | str, records: bytes, head: bytes, text: str) -> None:
    image = Image.new("RGB", (2, 2))
    image.info |= {"exif": head, "xmp": packet, "photoshop": {0x0404: records}}
    image.info |= {"Creation Time": text}
    said = notes.read(image)
    assert 1 <= said.orientation <= 8
    assert said.captured_at is None or said.captured_at.tzinfo is None


MODES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "LAB"}


def shown(found: Meaning, mode: str) -> None:
    image = Image.new(mode, (3, 2))
    if found.conversion is not None:
        converted = found.conversion.convert(image)
        assert (converted.mode, converted.size) == ("RGB", image.size)
    assert found.remark is None or found.conversion is None


@given(mode=st.sampled_from(sorted(MODES)), data=st.data())
def test_colour_profiles(mode: str, data: st.DataObject) -> None:
    """An ICC profile with anything in it, of the picture's space and of others."""
    profile = bytearray(data.draw(edited(PROFILE) | st.binary(max_size=200)))
    if len(profile) > 132 and data.draw(st.booleans()):
        place = data.draw(st.integers(0, 132 + 12 * 10))
        struct.pack_into(">H", profile, min(place, len(profile) - 2), data.draw(OUTSIDE) & 0xFFFF)
    image = Image.new(mode, (3, 2))
    image.info["icc_profile"] = bytes(profile)
    shown(meaning(image, b"", adobe_rgb=data.draw(st.booleans())), mode)


@given(
    gamma=OUTSIDE | st.integers(0, 300_000),
    xy=st.lists(OUTSIDE | st.integers(0, 100_000), min_size=8, max_size=8),
    codes=st.binary(min_size=4, max_size=4),
    kinds=st.sets(st.sampled_from([b"gAMA", b"cHRM", b"cICP"]), min_size=1),
)
def test_colours_by_number(gamma: int, xy: list[int], codes: bytes, kinds: set[bytes]) -> None:
    bodies = {b"gAMA": struct.pack(">I", gamma), b"cHRM": struct.pack(">8I", *xy), b"cICP": codes}
    content = png(PIXELS, notes=[(kind, bodies[kind]) for kind in sorted(kinds)])
    upright = read_picture(content, max_pixels=1 << 20)
    assert upright.image.size == (12, 9)

"""When a picture was taken, wherever and however its file says it."""

from __future__ import annotations

import io
import struct
import time
from datetime import datetime, timedelta

import pytest
from decoders import LIMIT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from maxsight.pipelines.media.notes import time_of
from maxsight.pipelines.media.pictures import read_picture

DAY = "2007:02:19 11:22:33"
TAKEN = datetime(2007, 2, 19, 11, 22, 33)
ORIGINAL, DIGITIZED, CHANGED = 0x9003, 0x9004, 0x0132


def encoded(form: str = "JPEG", **options: object) -> bytes:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (10, 90, 200)).save(out, form, **options)
    return out.getvalue()


def exif(camera: dict[int, str] | None = None, base: dict[int, str] | None = None) -> bytes:
    notes = Image.Exif()
    for tag, text in (base or {}).items():
        notes[tag] = text
    notes.get_ifd(0x8769).update(camera or {})
    return notes.tobytes()


def taken(data: bytes) -> datetime | None:
    return read_picture(data, max_pixels=LIMIT).captured_at


@pytest.mark.parametrize(
    "data",
    [
        exif({ORIGINAL: DAY, DIGITIZED: "2011:01:01 00:00:01"}, {CHANGED: "2012:01:01 00:00:01"}),
        exif({DIGITIZED: DAY}, {CHANGED: "2012:01:01 00:00:01"}),
        exif({ORIGINAL: "0000:00:00 00:00:00", DIGITIZED: DAY}),
        exif({ORIGINAL: "    :  :     :  :  ", DIGITIZED: DAY}),
        exif({ORIGINAL: "1970:01:01 00:00:00", DIGITIZED: DAY}),
        exif({ORIGINAL: "2999:01:01 00:00:00", DIGITIZED: DAY}),
        exif({}, {CHANGED: DAY}),
        exif({ORIGINAL: "0000:00:00 00:00:00"}, {CHANGED: DAY}),
    ],
)
def test_the_best_of_exifs_three_times(data: bytes) -> None:
    assert taken(encoded(exif=data)) == TAKEN


@pytest.mark.parametrize("key", ["CreationTime", "create-date", "exif:DateTimeDigitized"])
def test_other_texts_of_a_png(key: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("date:create", "2019-01-01T00:00:00")
    info.add_text(key, DAY)
    assert taken(encoded("PNG", pnginfo=info)) == TAKEN


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_in_every_format(form: str) -> None:
    assert taken(encoded(form, exif=exif({ORIGINAL: DAY, 0x9011: "+05:00", 0x9291: "77"}))) == TAKEN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DAY, TAKEN),
        ("2007-02-19 11:22:33", TAKEN),
        ("2007-02-19T11:22:33", TAKEN),
        ("2007-02-19T11:22:33.45-08:00", TAKEN),
        ("2007/02/19 11:22:33", TAKEN),
        ("2007:02:19 11:22:33+0100", TAKEN),
        ("2007: 2:19 11:22:33", TAKEN),
        ("2007:02:19 11:22:33\x00garbage", TAKEN),
        ("20070219T112233Z", TAKEN),
        ("Mon, 19 Feb 2007 11:22:33 +0000", TAKEN),
        ("Mon Feb 19 11:22:33 2007", TAKEN),
        ("Mon 19 Feb 2007 11:22:33 PM CET", TAKEN + timedelta(hours=12)),
        ("2007:02:19 11:22", TAKEN.replace(second=0)),
        ("2007:02:19", datetime(2007, 2, 19)),
        ("2007:02:19 24:00:05", datetime(2007, 2, 19, 0, 0, 5)),
        ("2007:02:19:11:22:33", TAKEN),
        ("2007-02-19-11-22-33", TAKEN),
        ("2007:02:19;11:22:33", TAKEN),
        ("20070219112233", TAKEN),
        ('"2007:02:19 11:22:33"', TAKEN),
        ("Mon Feb 19 11:22:33 CET 2007", TAKEN),
        ("Monday, February 19, 2007 11:22:33 AM", TAKEN),
        ("19.02.2007 11:22:33", TAKEN),
        ("19/02/2007, 11:22:33", TAKEN),
        ("02/19/2007 11:22:33", TAKEN),
        ("7.2.2007", datetime(2007, 2, 7)),
        ("02/07/2007 11:22:33", None),  # the second of July, or the seventh of February
        ("0000:00:00 00:00:00", None),
        ("2007:02:30 11:22:33", None),
        ("1825:12:31 00:00:00", None),
        ("1904:01:01 00:00:00", None),
        ("2999:01:01 00:00:00", None),
        ("2007", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (b"2007:02:19 11:22:33", TAKEN),
    ],
)
def test_spellings(text: object, expected: datetime | None) -> None:
    assert time_of(text) == expected


@given(st.text(max_size=80) | st.binary(max_size=80) | st.from_regex(r"[0-9]{4}[-:]\d+[-:]\d+T?.*"))
@settings(deadline=None, max_examples=200)
def test_no_text_breaks_it(text: str | bytes) -> None:
    time_of(text)


def test_a_clock_may_be_a_zone_ahead_but_no_more() -> None:
    soon = datetime.now().replace(microsecond=0) + timedelta(hours=14)
    assert time_of(soon.isoformat()) == soon
    assert time_of((soon + timedelta(days=2)).isoformat()) is None


_ATTRIBUTE = '<rdf:Description xmlns:{0}="urn:x" {0}:{1}="2007-02-19T11:22:33.4+01:00"/>'
_ELEMENT = (
    '<rdf:Description xmlns:{0}="urn:x">\n <{0}:{1}>2007-02-19T11:22:33</{0}:{1}></rdf:Description>'
)
_IN_A_LIST = (
    "<rdf:Description><{0}:{1}>\n<rdf:Seq>\n"
    + "<rdf:li>2007-02-19T11:22:33</rdf:li></rdf:Seq></{0}:{1}>"
)


def packet(body: str) -> str:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{body}</rdf:RDF></x:xmpmeta>'


@pytest.mark.parametrize("body", [_ATTRIBUTE, _ELEMENT, _IN_A_LIST])
@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("exif", "DateTimeOriginal"),
        ("photoshop", "DateCreated"),
        ("xmp", "CreateDate"),
        ("xap", "CreateDate"),
        ("exif", "DateTimeDigitized"),
    ],
)
def test_xmp(body: str, prefix: str, name: str) -> None:
    assert taken(encoded(xmp=packet(body.format(prefix, name)).encode())) == TAKEN


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_xmp_in_every_format(form: str) -> None:
    text = packet(_ATTRIBUTE.format("exif", "DateTimeOriginal"))
    if form == "PNG":
        notes = PngImagePlugin.PngInfo()
        notes.add_itxt("XML:com.adobe.xmp", text)
        assert taken(encoded(form, pnginfo=notes)) == TAKEN
    elif form == "TIFF":
        assert taken(encoded(form, tiffinfo={700: text.encode()})) == TAKEN
    else:
        assert taken(encoded(form, xmp=text.encode())) == TAKEN


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-16-le"])
def test_xmp_in_other_codings(coding: str) -> None:
    text = packet(_ATTRIBUTE.format("xmp", "CreateDate"))
    assert taken(encoded(xmp=text.encode(coding))) == TAKEN


def test_what_speaks_of_the_moment_outweighs_what_speaks_of_the_file() -> None:
    text = packet(_ATTRIBUTE.format("photoshop", "DateCreated")).encode()
    scanned = exif({DIGITIZED: "2015:01:01 10:00:00"}, {CHANGED: "2016:01:01 10:00:00"})
    assert taken(encoded(xmp=text, exif=scanned)) == TAKEN
    assert taken(encoded(xmp=text, exif=exif({ORIGINAL: "2006:05:05 01:02:03"}))) == datetime(
        2006, 5, 5, 1, 2, 3
    )


def test_xmp_made_to_harm_takes_no_time() -> None:
    laughs = "".join(
        f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "2007-02-19T11:22:33"}">' for n in range(12)
    )
    bomb = f'<!DOCTYPE x [{laughs}]><x CreateDate="&l11;"/>'
    opened = "<a DateTimeOriginal " * 3000 + "DateTimeOriginal" + " " * 60_000
    for text in (bomb, opened, "CreateDate" * 6000, "CreateDate>" + "<a>" * 20_000):
        since = time.process_time()
        assert taken(encoded(xmp=text.encode()[:65_000])) is None
        assert time.process_time() - since < 1


def _iptc(date: str, clock: str) -> bytes:
    records = [(0, b"\x00\x02"), (5, b"Title"), (55, date.encode()), (60, clock.encode())]
    return b"".join(
        b"\x1c\x02" + struct.pack(">BH", kind, len(text)) + text for kind, text in records
    )


def test_iptc() -> None:
    block = _iptc("20070219", "112233+0100")
    resource = (
        b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(block)) + block + bytes(len(block) % 2)
    )
    data = encoded()
    marker = b"\xff\xed" + struct.pack(">H", 16 + len(resource)) + b"Photoshop 3.0\x00" + resource
    assert taken(data[:2] + marker + data[2:]) == TAKEN
    # IPTC's block in a TIFF is of bytes.
    assert taken(encoded("TIFF", tiffinfo={33723: block})) == TAKEN
    assert taken(data[:2] + marker[:-9] + b"\xff" * 9 + data[2:]) in (TAKEN, datetime(2007, 2, 19))


@pytest.mark.parametrize("key", ["Creation Time", "creation time", "exif:DateTimeOriginal"])
@pytest.mark.parametrize("text", [DAY, "Mon, 19 Feb 2007 11:22:33 GMT", "2007-02-19T11:22:33Z"])
def test_texts_of_a_png(key: str, text: str) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("date:create", "2020-01-01T00:00:00+00:00")  # of the file, by ImageMagick
    notes.add_text(key, text)
    assert taken(encoded("PNG", pnginfo=notes)) == TAKEN
    only_the_files = PngImagePlugin.PngInfo()
    only_the_files.add_text("date:create", "2020-01-01T00:00:00+00:00")
    assert taken(encoded("PNG", pnginfo=only_the_files)) is None

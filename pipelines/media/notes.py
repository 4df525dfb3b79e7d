"""What a picture's file says about the picture: which way is up, when it was taken.

The time is the camera's own clock, without a zone: what the person who took it remembers. Every
field in which cameras and programs write it is asked, those that speak of the moment itself first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from PIL import ExifTags, Image

T = TypeVar("T")

_ADOBE_RGB, _UNCALIBRATED = 2, 65535
_MOST_XMP_BYTES = 1 << 20


@dataclass(frozen=True)
class Notes:
    """What is read here.

    Attributes:
        orientation: EXIF's, 1 to 8; 1 is upright.
        captured_at: when the picture was taken, by the camera's own clock, to the second.
        adobe_rgb: EXIF says that the numbers are those of Adobe RGB.
    """

    orientation: int = 1
    captured_at: datetime | None = None
    adobe_rgb: bool = False


def read(image: Image.Image) -> Notes:
    """The notes of a loaded picture. Damaged ones count as absent."""
    exif = _or(image.getexif, Image.Exif())
    nothing: dict[int, object] = {}
    camera: dict[int, object] = _or(lambda: exif.get_ifd(ExifTags.IFD.Exif), nothing)
    turn: object = _or(lambda: exif.get(ExifTags.Base.Orientation), None)
    times = (parsed for text in _times(image, exif, camera) if (parsed := time_of(text)))
    return Notes(
        turn if isinstance(turn, int) and 1 <= turn <= 8 else 1,
        _or(lambda: next(times, None), None),
        _or(lambda: _is_adobe_rgb(exif, camera.get(ExifTags.Base.ColorSpace)), False),
    )


def _or(look: Callable[[], T], otherwise: T) -> T:
    try:
        return look()
    except Exception:  # a picture is not worse for damaged notes about it
        return otherwise


def _is_adobe_rgb(exif: Image.Exif, space: object) -> bool:
    if space == _ADOBE_RGB:
        return True
    return space == _UNCALIBRATED and exif.get_ifd(ExifTags.IFD.Interop).get(1) == "R03"


# ---------------------------------------------------------------- places


def _times(image: Image.Image, exif: Image.Exif, camera: dict[int, object]) -> Iterator[object]:
    """Everything that may say when, the most trustworthy first."""
    yield camera.get(ExifTags.Base.DateTimeOriginal)
    xmp = _or(lambda: _xmp_text(image), "")
    yield _xmp_value(xmp, "DateTimeOriginal")
    yield _xmp_value(xmp, "DateCreated")
    yield _or(lambda: _iptc_time(image), None)
    yield camera.get(ExifTags.Base.DateTimeDigitized)
    yield _xmp_value(xmp, "DateTimeDigitized")
    yield _xmp_value(xmp, "CreateDate")
    for key, text in image.info.items():
        if isinstance(key, str) and key.lower().replace(" ", "") in _TEXTS_OF_PNG:
            yield text
    yield _or(lambda: exif.get(ExifTags.Base.DateTime), None)


# Not date:create and date:modify, which ImageMagick takes from the file system.
_TEXTS_OF_PNG = {
    "creationtime",
    "exif:datetimeoriginal",
    "datetimeoriginal",
    "exif:datetimedigitized",
    "createdate",
    "create-date",
    "datetaken",
}


def _xmp_text(image: Image.Image) -> str:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or ""
    if isinstance(packet, str):
        return packet[:_MOST_XMP_BYTES]
    packet = bytes(packet[:_MOST_XMP_BYTES])
    if packet.count(b"\x00") > len(packet) // 4:  # UTF-16 or UTF-32, with or without a mark
        packet = packet.replace(b"\x00", b"")
    return packet.decode("utf-8", errors="ignore")


def _xmp_value(xmp: str, name: str) -> str | None:
    """The value of a date, whether it stands as an attribute or as an element.

    Not read by an XML parser: a packet comes from a stranger, and dates are plain in all of them.
    """
    if name not in xmp:
        return None
    attribute = rf"\b{name}\s{{0,9}}=\s{{0,9}}[\"']\s{{0,9}}([0-9][^\"'<>]{{3,40}})"
    opening = rf"\b{name}(?:\s[^<>]{{0,200}})?>(?:\s{{0,99}}<[^<>]{{1,99}}>){{0,4}}"
    element = rf"{opening}\s{{0,99}}([0-9][^<>]{{3,40}})"
    found = re.search(f"{attribute}|{element}", xmp)
    return (found[1] or found[2]) if found else None


_IPTC_DATE, _IPTC_TIME = 55, 60


def _iptc_time(image: Image.Image) -> str | None:
    """IPTC-IIM: records of a marker, two numbers, a length of two bytes and the text."""
    resources = image.info.get("photoshop")
    block = resources.get(0x0404) if isinstance(resources, dict) else None
    if block is None and hasattr(image, "tag_v2"):
        block = image.tag_v2.get(33723)
    if not isinstance(block, bytes):
        return None
    offset, found = 0, dict[int, str]()
    while block[offset : offset + 2] == b"\x1c\x02":
        start = offset + 5
        offset = start + int.from_bytes(block[offset + 3 : offset + 5], "big")
        found[block[start - 3]] = block[start:offset].decode("latin-1")
    date = found.get(_IPTC_DATE)
    return f"{date} {found.get(_IPTC_TIME, '')}" if date else None


# ---------------------------------------------------------------- spellings

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_N = r"(\s?\d{1,2})"
_CLOCK = rf"(?:[T\s:;,_-]\s{{0,3}}{_N}[-:.]{_N}(?:[-:.]{_N})?)?"
_BY_YEAR = re.compile(rf"(\d{{4}})[-:/.\s]{_N}[-:/.\s]{_N}(?!\d){_CLOCK}")
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:[T\s_-]?(\d\d):?(\d\d):?(\d\d)?)?(?!\d)")
_BY_DAY = re.compile(rf"(\d{{1,2}})[\s-]([A-Za-z]{{3}})[a-z]*[\s-](\d{{4}}){_CLOCK}")
_BY_MONTH = re.compile(
    rf"([A-Za-z]{{3}})[a-z]*\s{{1,2}}(\d{{1,2}})\s{_N}:{_N}:{_N}\s(?:[A-Z]{{2,5}}\s)?(\d{{4}})"
)
_AMERICAN = re.compile(rf"([A-Za-z]{{3}})[a-z]*\s(\d{{1,2}}),?\s(\d{{4}}),?{_CLOCK}")
_IN_NUMBERS = re.compile(rf"(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}}),?{_CLOCK}")

# What clocks say that were never set: the first moments that computers count from.
_NEVER_SET = {datetime(1904, 1, 1), datetime(1970, 1, 1), datetime(1980, 1, 1)}
_FIRST_PHOTOGRAPH = 1826


def time_of(text: object) -> datetime | None:
    """A date and time however it is spelled; a zone behind it is not looked at.

    Returns:
        To the second, midnight where no time is given. None for what is no date, for the zeros of
        a clock that never ran, for times before photography and times to come.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not isinstance(text, str):
        return None
    text = text.strip("\x00 \t\r\n\"'")[:64]
    if found := _BY_YEAR.match(text) or _COMPACT.match(text):
        numbers = [int(part or 0) for part in found.groups()]
    elif (found := _BY_DAY.search(text)) and found[2].lower() in _MONTHS:
        day, month, year, *clock = found.groups()
        numbers = [int(year), _MONTHS.index(month.lower()) + 1, int(day)]
        numbers += [int(part or 0) for part in clock]
    elif (found := _BY_MONTH.search(text)) and found[1].lower() in _MONTHS:
        month, day, *clock, year = found.groups()
        numbers = [int(year), _MONTHS.index(month.lower()) + 1, int(day), *map(int, clock)]
    elif (found := _AMERICAN.search(text)) and found[1].lower() in _MONTHS:
        month, day, year, *clock = found.groups()
        numbers = [int(year), _MONTHS.index(month.lower()) + 1, int(day)]
        numbers += [int(part or 0) for part in clock]
    elif found := _IN_NUMBERS.match(text):
        day, sign, month, year, *clock = found.groups()
        if sign != "." and int(month) > 12:  # Americans write the month first, with strokes
            day, month = month, day
        elif sign != "." and int(day) <= 12 and day != month:
            return None  # it may be either
        numbers = [int(year), int(month), int(day), *(int(part or 0) for part in clock)]
    else:
        return None
    if half := re.search(r"\d\s?([AP])M\b", text, re.IGNORECASE):
        numbers[3] = numbers[3] % 12 + (12 if half[1] in "Pp" else 0)
    if numbers[3] == 24:  # some telephones' midnight
        numbers[3] = 0
    year, month_number, day_number, hour, minute, second = numbers
    try:
        time = datetime(year, month_number, day_number, hour, minute, min(second, 59))
    except ValueError:
        return None
    if time in _NEVER_SET or time.year < _FIRST_PHOTOGRAPH:
        return None
    # A day more, for clocks in other zones.
    return time if time < datetime.now() + timedelta(days=1) else None

"""What a file is, by its first bytes. What names promise is in ``suffixes.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from maxsight.index.records import Kind


@dataclass(frozen=True)
class PictureFormat:
    """A picture format Pillow reads.

    Attributes:
        name: as people write it.
        plugin: the module that registers it with Pillow.
        pillow: the name Pillow knows it by.
    """

    name: str
    plugin: str
    pillow: str


JPEG = PictureFormat("JPEG", "PIL.JpegImagePlugin", "JPEG")
PNG = PictureFormat("PNG", "PIL.PngImagePlugin", "PNG")
GIF = PictureFormat("GIF", "PIL.GifImagePlugin", "GIF")
BMP = PictureFormat("BMP", "PIL.BmpImagePlugin", "BMP")
WEBP = PictureFormat("WebP", "PIL.WebPImagePlugin", "WEBP")
TIFF = PictureFormat("TIFF", "PIL.TiffImagePlugin", "TIFF")
AVIF = PictureFormat("AVIF", "PIL.AvifImagePlugin", "AVIF")
HEIF = PictureFormat("HEIC", "pillow_heif", "HEIF")
JPEG2000 = PictureFormat("JPEG 2000", "PIL.Jpeg2KImagePlugin", "JPEG2000")
PPM = PictureFormat("PNM", "PIL.PpmImagePlugin", "PPM")
PSD = PictureFormat("Photoshop", "PIL.PsdImagePlugin", "PSD")
DIB = PictureFormat("DIB", "PIL.BmpImagePlugin", "DIB")
TGA = PictureFormat("Targa", "PIL.TgaImagePlugin", "TGA")
PCX = PictureFormat("PCX", "PIL.PcxImagePlugin", "PCX")
DCX = PictureFormat("DCX", "PIL.DcxImagePlugin", "DCX")
PCD = PictureFormat("Photo CD", "PIL.PcdImagePlugin", "PCD")
SGI = PictureFormat("SGI", "PIL.SgiImagePlugin", "SGI")
DDS = PictureFormat("DDS", "PIL.DdsImagePlugin", "DDS")
QOI = PictureFormat("QOI", "PIL.QoiImagePlugin", "QOI")
XBM = PictureFormat("XBM", "PIL.XbmImagePlugin", "XBM")
XPM = PictureFormat("XPM", "PIL.XpmImagePlugin", "XPM")
SUN = PictureFormat("Sun raster", "PIL.SunImagePlugin", "SUN")
MSP = PictureFormat("Microsoft Paint", "PIL.MspImagePlugin", "MSP")
FITS = PictureFormat("FITS", "PIL.FitsImagePlugin", "FITS")
ICO = PictureFormat("icon", "PIL.IcoImagePlugin", "ICO")
CUR = PictureFormat("cursor", "PIL.CurImagePlugin", "CUR")
ICNS = PictureFormat("Apple icon", "PIL.IcnsImagePlugin", "ICNS")

_BY_PREFIX: tuple[tuple[bytes, PictureFormat], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"II+\x00", TIFF),  # BigTIFF
    (b"MM\x00+", TIFF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG2000),
    (b"\xffO\xffQ", JPEG2000),
    (b"8BPS\0\1", PSD),
    (b"DDS ", DDS),
    (b"qoif", QOI),
    (b"/* XPM */", XPM),
    (b"Y\xa6j\x95", SUN),
    (b"DanM", MSP),
    (b"LinS", MSP),
    (b"SIMPLE  =", FITS),
    (b"icns", ICNS),
    (b"\xb1h\xde:", DCX),
)
_BMP_HEADERS = tuple(bytes([size, 0, 0, 0]) for size in (12, 40, 52, 56, 64, 108, 124))
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")
)


# What is read of a file to tell what it is.
HEAD_BYTES = 4096

# What stands at the begin of formats whose first bytes could be those of other files, too.
_BY_SHAPE: tuple[tuple[re.Pattern[bytes], PictureFormat], ...] = (
    (re.compile(rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]"), PCX),
    (re.compile(rb"\x00\x00\x01\x00[\x01-\xff]\x00"), ICO),
    (re.compile(rb"\x00\x00\x02\x00[\x01-\xff]\x00"), CUR),
    (re.compile(rb"\s{0,99}(?:/\*[^*]{0,400}\*/\s{0,99})?#define\s{1,9}\S{1,80}_width\s"), XBM),
    (
        re.compile(
            rb"(?s).[\x00\x01][\x01-\x03\x09-\x0b].{13}[\x01\x08\x0f\x10\x18\x20][\x00-\x3f]"
        ),
        TGA,
    ),
)
# A header that no text begins with by chance.
_PNM = re.compile(rb"P(?:[1-6Ff][ \t\r\n](?:#[^\n]*\n|\s)*[0-9]+\s|7\n[A-Z#])")


def picture_format(data: bytes) -> PictureFormat | None:
    """The picture format of a file from its first ``HEAD_BYTES``, whatever its name."""
    return _certain_picture(data) or next(
        (form for shape, form in _BY_SHAPE if shape.match(data)), None
    )


def content_kind(head: bytes) -> Kind | None:
    """The kind of a file whose name promises nothing, by its first ``HEAD_BYTES``.

    None for all that could be something else, too.
    """
    if _certain_picture(head) is not None:
        return "image"
    return "video" if is_film(head) else None


def _certain_picture(data: bytes) -> PictureFormat | None:
    for prefix, form in _BY_PREFIX:
        if data.startswith(prefix):
            return form
    match data[:2]:
        case b"BM" if data[14:18] in _BMP_HEADERS:
            return BMP
        case b"\x01\xda" if data[2:3] in (b"\0", b"\1") and data[3:4] in (b"\1", b"\2"):
            return SGI
        case b"P1" | b"P2" | b"P3" | b"P4" | b"P5" | b"P6" | b"PF" | b"Pf" | b"P7":
            return PPM if _PNM.match(data) else None
        case b"\x28\0" if data[2:4] == b"\0\0" and data[12:14] == b"\1\0":
            return DIB
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp":
        # The major brand may be the generic mif1; the compatible brands then say which it is.
        if b"avif" in data[8:32] or b"avis" in data[8:32]:
            return AVIF
        if data[8:12] in _HEIF_BRANDS:
            return HEIF
    return PCD if data[2048:2052] == b"PCD_" else None


_FILM_PREFIXES = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF, WMV
    b"\xb7\xd8\0 7I\xda\x11",  # WTV
    b"\0\0\1\xba",  # MPEG, as on DVDs
    b"\0\0\1\xb3",  # MPEG without sound
    b"\x06\x0e+4\2\5\1\1\x0d\1\2\1\1\2",  # MXF
    b"\0\0\0\0\1\xbc",  # GXF
    b".RMF",
    b"NSVf",
    b"NSVs",
    b"nut/multimedia container\0",
    b"DKIF",
    b"YUV4MPEG2 ",
    b"\x1f\x07\0",  # DV
    b"\0\0\0\1\x67",  # H.264
    b"\0\0\0\1\x09",
    b"\0\0\0\1\x40\1",  # HEVC
    b"BBCD\0",  # Dirac
)
_SOUND_BRANDS = frozenset((b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ", b"crx ", b"jxl "))
_QUICKTIME_ATOMS = frozenset((b"moov", b"mdat", b"wide", b"pnot", b"free", b"skip"))
_OGG_FILMS = (b"\x80theora", b"OVP80", b"BBCD\0", b"\x01video\0")


def is_film(head: bytes) -> bool:
    """Whether a file is a film by its first ``HEAD_BYTES``."""
    if head.startswith(_FILM_PREFIXES):
        return True
    if head[4:8] == b"ftyp":
        return _certain_picture(head) is None and head[8:12] not in _SOUND_BRANDS
    if head[4:8] in _QUICKTIME_ATOMS:
        # Before there was "ftyp", files began with any of these, after its length: no text.
        return not head[:4].isascii() or min(head[:4]) < 32
    if head[:4] == b"RIFF":
        return head[8:12] in (b"AVI ", b"AVIX", b"AMV ", b"CDXA")
    if head[:4] == b"OggS":
        return any(name in head for name in _OGG_FILMS)
    return _is_transport_stream(head)


def _is_transport_stream(head: bytes) -> bool:
    """MPEG-TS: a G every 188 bytes, every 192 on Blu-rays and camcorders, every 204 off air; a
    recording may begin in the middle of a packet."""
    if b"G" not in head[:204]:
        return False
    for size in (188, 192, 204):
        count = min(8, len(head) // size)
        if count < 5:
            continue
        for start in range(size):
            if head[start : start + size * count : size] == b"G" * count:
                return True
    return False


_CONVERT = "convert it to JPEG or PNG to have it indexed"
_UNREAD = f"which nothing here decodes; {_CONVERT}"
_STRANGERS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"%PDF", "a PDF document"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM film"),
    (b"%!PS", "a PostScript document"),
    (b"\0\0\0\x0cJXL ", f"a JPEG XL picture, {_UNREAD}"),
    (b"\xff\n", f"a JPEG XL picture, {_UNREAD}"),
    (b"II\xbc\x01", f"a JPEG XR picture, {_UNREAD}"),
    (b"v/1\x01", f"an OpenEXR picture, {_UNREAD}"),
    (b"#?RADIANCE", f"a Radiance picture, {_UNREAD}"),
    (b"#?RGBE", f"a Radiance picture, {_UNREAD}"),
    (b"SDPX", f"a DPX picture, {_UNREAD}"),
    (b"XPDS", f"a DPX picture, {_UNREAD}"),
    (b"FUJIFILMCCD-RAW", f"a raw photograph of a Fujifilm camera, {_UNREAD}"),
    (b"IIRO", f"a raw photograph of an Olympus camera, {_UNREAD}"),
    (b"IIRS", f"a raw photograph of an Olympus camera, {_UNREAD}"),
    (b"MMOR", f"a raw photograph of an Olympus camera, {_UNREAD}"),
    (b"IIU\0", f"a raw photograph of a Panasonic camera, {_UNREAD}"),
    (b"FOVb", f"a raw photograph of a Sigma camera, {_UNREAD}"),
    (b"\0MRM", f"a raw photograph of a Minolta camera, {_UNREAD}"),
    (b"gimp xcf", f"a GIMP document, {_UNREAD}"),
    (b"8BPS\0\2", f"a large Photoshop document (PSB), {_UNREAD}"),
    (b"AT&TFORM", "a DjVu document"),
    (b"\xd7\xcd\xc6\x9a", f"a Windows metafile, which has no pixels; {_CONVERT}"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording or film"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon file"),
    (b"SQLite format 3\x00", "a database"),
)


def stranger(data: bytes) -> str:
    """What a file that is no picture seems to be, as the end of "not a picture but …"."""
    for prefix, description in _STRANGERS:
        if data.startswith(prefix):
            return description
    if data[4:12] == b"ftypcrx ":
        return f"a raw photograph of a Canon camera, {_UNREAD}"
    if data[4:8] == b"ftyp":
        return "a film or recording (MP4 or MOV)"
    if data[:4] == b"RIFF":
        return "a film or recording (AVI or WAV)"
    if not any(data):
        return "nothing but zeros"
    # A cut in the middle of a UTF-8 character would spoil the test for text.
    head = data[:512]
    text = head.decode("utf-8", errors="ignore")
    if len(text.encode()) >= len(head) - 3 and text.isprintable() | ("\n" in text):
        lowered = text.lstrip("\ufeff \t\r\n").lower()
        if "<svg" in lowered:
            return "an SVG drawing, which has no pixels; convert it to PNG to have it indexed"
        if lowered.startswith(("<!doctype html", "<html")):
            return "a web page, perhaps an error page saved in the picture's place"
        return "a text"
    return "data in no format known here"

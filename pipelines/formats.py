"""Which files are pictures and films: by name in a folder, by content when read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from maxsight.index.records import Kind


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


IMAGE_SUFFIXES = _suffixes(
    "jpg jpeg jpe jfif png apng webp gif tif tiff bmp dib heic heif hif avif"
)
VIDEO_SUFFIXES = _suffixes("mp4 m4v mov mkv webm avi mpg mpeg m2v mts m2ts ts wmv flv 3gp ogv")


def kind_of(path: str) -> Kind | None:
    """The kind a file's name promises, None if it is neither a picture's nor a film's."""
    suffix = PurePath(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


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

_BY_PREFIX: tuple[tuple[bytes, PictureFormat], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"II+\x00", TIFF),  # BigTIFF
    (b"MM\x00+", TIFF),
)
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")
)


def picture_format(data: bytes) -> PictureFormat | None:
    """The picture format of a file from its first 32 bytes, whatever its name."""
    for prefix, form in _BY_PREFIX:
        if data.startswith(prefix):
            return form
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp":
        # The major brand may be the generic mif1; the compatible brands then say which it is.
        if b"avif" in data[8:32] or b"avis" in data[8:32]:
            return AVIF
        if data[8:12] in _HEIF_BRANDS:
            return HEIF
    return None


_FILM_PREFIXES = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"0&\xb2u\x8ef\xcf\x11",  # ASF, WMV
    b".RMF",
    b"OggS",
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"\x06\x0e+4\x02\x05\x01\x01",  # MXF
    b"nut/multimedia container",
)
_ATOMS = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))


def is_film(data: bytes) -> bool:
    """Whether a file's first 32 bytes are those of a container that may hold a film.

    Of MPEG transport streams and raw streams so few bytes do not tell.
    """
    if picture_format(data) is not None:
        return False
    if data.startswith(_FILM_PREFIXES) or data[4:8] in _ATOMS:
        return True
    return data[:4] in (b"RIFF", b"RF64") and data[8:12] in (b"AVI ", b"AVIX")


_STRANGERS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"%PDF", "a PDF document"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM film"),
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
    if data[4:8] == b"ftyp":
        return "a film (MP4 or MOV); give it that suffix to have it indexed"
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

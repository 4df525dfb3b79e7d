"""Sound pictures in codings that Pillow does not decode.

Some are read here (by FFmpeg, or piece by piece); of the others it is said what they are, since no
copy of a file helps when nothing is wrong with it.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, Jpeg2KImagePlugin, WebPImagePlugin

from maxsight.pipelines.media import tiff_numbers, tiff_tags
from maxsight.pipelines.media.formats import JPEG, PPM, PSD, TIFF, PictureFormat
from maxsight.pipelines.media.tiff_tags import Tags

_MOST = 200_000  # strips or tiles that are looked at

Reader = Callable[[], Image.Image]


@dataclass(frozen=True)
class Coding:
    """An unusual coding.

    Attributes:
        words: what the file is, say "a JPEG of 12 bits a channel".
        width, height: in pixels, as the file says.
        read: decodes it to mode L, LA, RGB, RGBA or LAB; None if nothing here does.
            Raises whatever its codec raises.
    """

    words: str
    width: int
    height: int
    read: Reader | None = None


def coding(data: bytes, form: PictureFormat) -> Coding | None:
    """What is unusual about a picture; None if Pillow should have read it."""
    if form is JPEG:
        return _of_jpeg(data)
    if form is TIFF:
        tags = tiff_tags.first_directory(data)
        return _of_tiff(tags) if tags else None
    if form is PPM and data.startswith(b"P7"):
        return _of_pam(data)
    return _of_psd(data) if form is PSD else None


def _by_ffmpeg(codec: str, data: bytes) -> Reader | None:
    try:
        import av
    except ImportError:  # the extra "video" is not installed
        return None

    def read() -> Image.Image:
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, av.VideoCodecContext)
        context.thread_count = 1
        frame = [*context.decode(av.Packet(data)), *context.decode(None)][0]
        if frame.is_corrupt:
            raise ValueError("damaged")
        has_alpha = frame.format.has_palette or any(
            part.is_alpha for part in frame.format.components
        )
        mode = "rgba" if has_alpha else "rgb24"
        return Image.fromarray(frame.to_ndarray(format=mode))

    return read


# ---------------------------------------------------------------- JPEG

_JPEGS = {
    0xC3: "lossless JPEG",
    0xC5: "hierarchical JPEG",
    0xC6: "hierarchical JPEG",
    0xC7: "hierarchical JPEG",
    0xC9: "JPEG with arithmetic coding",
    0xCA: "JPEG with arithmetic coding",
    0xCB: "lossless JPEG with arithmetic coding",
    0xF7: "JPEG-LS picture",
}


def _of_jpeg(data: bytes) -> Coding | None:
    offset, notes = 2, dict[str, bytes]()
    profile: list[bytes] = []
    while offset + 10 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        body = data[offset + 4 : offset + 2 + length]
        if marker == 0xFF:
            offset += 1
            continue
        if marker == 0xE1 and body.startswith(b"Exif\x00\x00"):
            notes["exif"] = body
        if marker == 0xE2 and body.startswith(b"ICC_PROFILE\x00"):
            profile.append(body)
        if marker in (0xC0, 0xC1, 0xC2) or marker in _JPEGS:
            break
        if marker in (0xDA, 0xD9):
            return None
        offset += 2 + max(2, length)
    else:
        return None
    if len(body) < 5:  # a frame that says a length of its own too short for a size
        return None
    bits = body[0]
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if marker not in _JPEGS and bits == 8:
        return None
    words = f"a {_JPEGS.get(marker, 'JPEG')} of {bits} bits a channel"
    codec = {0xC3: "mjpeg", 0xF7: "jpegls"}.get(marker)
    if data.rfind(b"\xff\xd9") < offset:  # FFmpeg fills up what is missing without a word
        return None
    read = _by_ffmpeg(codec, data) if codec else None
    if profile:
        notes["icc_profile"] = b"".join(part[14:] for part in sorted(profile))
    return Coding(words, width, height, _with_notes(read, notes))


def _with_notes(read: Reader | None, notes: dict[str, bytes]) -> Reader | None:
    """The picture with what Pillow would have found beside its pixels."""
    if read is None:
        return None

    def annotated() -> Image.Image:
        image = read()
        image.info.update(notes)
        return image

    return annotated


# ---------------------------------------------------------------- TIFF

_COLOURS = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "L*a*b*",
    9: "L*a*b*", 10: "L*a*b*", 32803: "sensor data (a raw photograph)", 32844: "LogL",
    32845: "LogLuv", 34892: "linear sensor data (a raw photograph)",
}  # fmt: skip
_NUMBERS = {2: "signed ", 3: "floating-point ", 5: "complex whole-number ", 6: "complex "}
_ORDINARY = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)
_COMPRESSIONS = {
    33003: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG", 34676: "SGI LogLuv",
    34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG of DNG",
    34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_WEBP, _JPEG2000 = 50001, (33003, 33005, 34712)


def is_raw(tags: Tags) -> bool:
    """Whether a TIFF is a sensor's data (DNG, NEF, CR2, ARW) that begins with a small preview."""
    if tiff_tags.DNG_VERSION in tags.entries or tags.data[8:10] == b"CR":
        return True
    is_preview = tags.value(tiff_tags.KIND_OF_PICTURE, 0) & 1
    return bool(is_preview and tiff_tags.MORE_DIRECTORIES in tags.entries)


def _of_tiff(tags: Tags) -> Coding | None:
    width, height = tags.value(tiff_tags.WIDTH, 0), tags.value(tiff_tags.HEIGHT, 0)
    samples = tags.value(tiff_tags.SAMPLES, 1)
    bits = tags.values(tiff_tags.BITS, most=16) or (1,)
    numbers = tags.value(tiff_tags.SAMPLE_FORMAT, 1)
    compression = tags.value(tiff_tags.COMPRESSION, 1)
    photometric = tags.value(tiff_tags.PHOTOMETRIC, 1)
    usual = (
        len(set(bits)) == 1
        and (numbers in (1, 4) or (numbers in (2, 3) and samples == 1))
        and (bits[0] in (1, 2, 4, 8, 16) or (bits[0] == 32 and samples == 1))
        and compression in _ORDINARY
        and photometric in (0, 1, 2, 3, 5, 6, 8)
        and not (bits[0] == 16 and (samples == 2 or photometric == 8 or numbers == 3))
        and not (bits[0] == 32 and photometric == 0 and numbers != 3)
    )
    if not width or not height or not _is_whole(tags):
        return None
    if is_raw(tags):
        return Coding("a raw photograph without a preview in a usual coding", width, height)
    if usual:
        return None
    name = _COLOURS.get(photometric, "unknown colours")
    kind = f"{bits[0]}-bit {_NUMBERS.get(numbers, '')}{name}"
    if len(set(bits)) > 1:
        kind = f"{'/'.join(map(str, bits))}-bit {name}"
    packed = (
        "" if compression in _ORDINARY else _COMPRESSIONS.get(compression, f"coding {compression}")
    )
    words = f"a TIFF of {kind}" + (f" packed as {packed}" if packed else "")
    read: Reader | None
    if compression == _WEBP or compression in _JPEG2000:
        read = _in_pieces(
            tags,
            WebPImagePlugin.WebPImageFile
            if compression == _WEBP
            else Jpeg2KImagePlugin.Jpeg2KImageFile,
            (width, height),
        )
    elif compression == 1 and numbers == 1 and photometric in (1, 2) and 8 < bits[0] < 16:
        read = _of_odd_depth(tags, (width, height), samples, bits[0])
    elif (
        len(set(bits)) == 1
        and bits[0] in (16, 32, 64)
        and compression in _ORDINARY
        and (photometric in (0, 1, 2) or (photometric == 8 and bits[0] == 16))
        and numbers in (1, 2, 3)
        and samples <= 5
    ):
        read = functools.partial(_of_numbers, tags)
    elif photometric in (0, 1, 2) and numbers == 1:
        read = _by_ffmpeg("tiff", tags.data)
    else:
        read = None
    notes = {"exif": b"Exif\x00\x00" + tags.data}
    if profile := tags.content(tiff_tags.ICC_PROFILE):
        notes["icc_profile"] = profile
    return Coding(words, width, height, _with_notes(read, notes))


def _of_numbers(tags: Tags) -> Image.Image:
    return tiff_numbers.read(tags, _pieces(tags, _MOST))


def _pieces(tags: Tags, most: int) -> list[bytes]:
    """The strips or tiles, at most so many."""
    tiled = tiff_tags.TILE_OFFSETS in tags.entries
    where = tiff_tags.TILE_OFFSETS if tiled else tiff_tags.STRIP_OFFSETS
    lengths = tags.values(tiff_tags.TILE_BYTES if tiled else tiff_tags.STRIP_BYTES, most=most)
    offsets = tags.values(where, most=most)
    return [tags.data[offset : offset + length] for offset, length in zip(offsets, lengths)]


def _is_whole(tags: Tags) -> bool:
    """Whether all pieces are there: FFmpeg fills up what is missing without a word."""
    tiled = tiff_tags.TILE_OFFSETS in tags.entries
    where = tiff_tags.TILE_OFFSETS if tiled else tiff_tags.STRIP_OFFSETS
    lengths = tags.values(tiff_tags.TILE_BYTES if tiled else tiff_tags.STRIP_BYTES, most=_MOST)
    offsets = tags.values(where, most=_MOST)
    return all(offset + length <= len(tags.data) for offset, length in zip(offsets, lengths))


def _in_pieces(
    tags: Tags, plugin: Callable[[io.BytesIO], Image.Image], size: tuple[int, int]
) -> Reader:
    """Strips or tiles that are files of their own."""

    def read() -> Image.Image:
        width = tags.value(tiff_tags.TILE_WIDTH, size[0])
        height = tags.value(tiff_tags.TILE_HEIGHT, tags.value(tiff_tags.ROWS_PER_STRIP, size[1]))
        height = min(height, size[1])
        across, down = -(-size[0] // width), -(-size[1] // height)
        whole: Image.Image | None = None
        for number, piece in enumerate(_pieces(tags, across * down)):
            part = plugin(io.BytesIO(piece))
            if part.width > max(width, size[0]) or part.height > height:
                raise ValueError(f"a piece of {part.size}")
            part.load()
            whole = whole or Image.new(part.mode, size)
            whole.paste(part, (number % across * width, number // across * height))
        if whole is None:
            raise ValueError("no pieces")
        return whole

    return read


def _of_odd_depth(tags: Tags, size: tuple[int, int], samples: int, bits: int) -> Reader | None:
    """Samples packed bit by bit, the highest bit first: the upper eight of each."""
    if tags.value(tiff_tags.PLANAR, 1) != 1 or samples not in (1, 3):
        return None
    width, height = size

    def read() -> Image.Image:
        stride = -(-width * samples * bits // 8)
        raw = b"".join(_pieces(tags, height))
        rows = np.frombuffer(raw[: stride * height], np.uint8).reshape(height, stride)
        pixels = np.empty((height, width * samples), np.uint8)
        for row, packed in zip(pixels, rows):
            every = np.unpackbits(packed)[: width * samples * bits].reshape(-1, bits)
            row[:] = np.packbits(every[:, :8], axis=1)[:, 0]
        shape = (height, width) if samples == 1 else (height, width, samples)
        return Image.fromarray(pixels.reshape(shape))

    return read


# ---------------------------------------------------------------- Photoshop

_PSD_COLOURS = (
    "black and white",
    "grey",
    "palette",
    "RGB",
    "CMYK",
    "",
    "",
    "multichannel",
    "duotone",
    "L*a*b*",
)


def _of_psd(data: bytes) -> Coding | None:
    height, width, bits, mode = (
        int.from_bytes(data[start:end], "big")
        for start, end in ((14, 18), (18, 22), (22, 24), (24, 26))
    )
    if bits == 8 and mode in (1, 2, 3, 4):
        return None
    name = _PSD_COLOURS[mode] if mode < len(_PSD_COLOURS) else ""
    words = f"a Photoshop document of {bits}-bit {name or 'unknown colours'}"
    if bits == 16 and mode in (1, 3):
        return Coding(words, width, height, functools.partial(_of_deep_psd, data, (width, height)))
    return Coding(words, width, height, _by_ffmpeg("psd", data) if mode in (1, 3) else None)


def _of_deep_psd(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture of all layers together: the upper eight bits of each sample, plane by plane."""
    (width, height), offset = size, 26
    for _ in range(3):  # colours, resources, layers
        offset += 4 + int.from_bytes(data[offset : offset + 4], "big")
    number, is_packed = int.from_bytes(data[12:14], "big"), data[offset : offset + 2] == b"\x00\x01"
    if not is_packed and data[offset : offset + 2] != b"\x00\x00":
        raise ValueError("packed in another way")
    offset += 2
    lengths = np.frombuffer(data, ">u2", number * height * is_packed, offset).astype(int)
    offset += lengths.nbytes // 4
    planes = []
    for channel in range(min(number, 4 if data[25] == 3 else 1)):
        count = int(lengths[channel * height : (channel + 1) * height].sum())
        count = count if is_packed else 2 * width * height
        raw, offset = data[offset : offset + count], offset + count
        row = (2 * width, height)
        plane = Image.frombytes("L", row, raw, *(("packbits", "L") if is_packed else ()))
        planes.append(np.asarray(plane)[:, ::2])
    return Image.fromarray(planes[0] if len(planes) < 3 else np.stack(planes, 2))


# ---------------------------------------------------------------- PAM


def _of_pam(data: bytes) -> Coding | None:
    head = data[: data.find(b"ENDHDR")]
    fields = dict(re.findall(rb"(?m)^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,9})\s", head))
    width, height, depth, most = (
        int(fields.get(name, 0)) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
    )
    needed = width * height * depth * (2 if most > 255 else 1)
    if not needed or len(data) < len(head) + needed:
        return None
    words = f"a PAM picture of {depth} channels up to {most}"
    return Coding(words, width, height, _by_ffmpeg("pam", data))

"""Sound pictures in codings that Pillow lacks: read, or named with what helps; never "damaged"."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from decoders import LIMIT
from hostile import photographs
from PIL import Image, ImageCms
from profiles import P3

from maxsight.errors import MediaError
from maxsight.models.pixels.preprocess import Preprocess
from maxsight.pipelines.media.pictures import decode_picture, read_picture


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return photographs()[0].resize((160, 120))


def error(data: bytes, image: Image.Image) -> float:
    """The mean difference in levels of 255."""
    shown = read_picture(data, max_pixels=LIMIT)
    assert shown.remark is None
    return float(
        np.abs(np.asarray(shown.image, int) - np.asarray(image.convert("RGB"), int)).mean()
    )


def by_ffmpeg(image: Image.Image, codec: str, **options: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = image.size
    context.pix_fmt = options.pop("pix_fmt")
    context.time_base = Fraction(1, 25)
    context.options = options
    image_format = "gray" if image.mode == "L" else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.asarray(image), image_format).reformat(
        format=context.pix_fmt
    )
    packets = [*context.encode(frame), *context.encode(None)]
    return b"".join(map(bytes, packets))


def tiff(
    samples: np.ndarray | bytes,
    size: tuple[int, int],
    *,
    bits: int,
    channels: int = 3,
    number: int = 1,
    photometric: int = 2,
    packed: int = 1,
    more: dict[int, tuple[int, int, bytes]] | None = None,
) -> bytes:
    """A TIFF of one strip, its directory behind its pixels."""
    body = samples if isinstance(samples, bytes) else samples.tobytes()

    def short(*values: int) -> tuple[int, int, bytes]:
        return 3, len(values), struct.pack(f"<{len(values)}H", *values)

    def long(value: int) -> tuple[int, int, bytes]:
        return 4, 1, struct.pack("<I", value)

    entries = {
        256: long(size[0]), 257: long(size[1]), 258: short(*[bits] * channels),
        259: short(packed), 262: short(photometric), 273: long(8), 277: short(channels),
        278: long(size[1]), 279: long(len(body)), 339: short(*[number] * channels), **(more or {}),
    }  # fmt: skip
    data, table = b"II*\x00" + struct.pack("<I", 8 + len(body)) + body, b""
    behind = len(data) + 2 + 12 * len(entries) + 4
    extra = b""
    for tag, (kind, count, value) in sorted(entries.items()):
        if len(value) > 4:
            place = struct.pack("<I", behind + len(extra))
            extra += value + bytes(len(value) % 2)
        else:
            place = value.ljust(4, b"\x00")
        table += struct.pack("<HHI", tag, kind, count) + place
    return data + struct.pack("<H", len(entries)) + table + bytes(4) + extra


def of_depth(image: Image.Image, bits: int) -> bytes:
    """Samples packed bit by bit."""
    top = np.asarray(image).astype(np.uint32) << (bits - 8)
    rows = top.reshape(image.height, -1)
    digits = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(image.height, -1).astype(np.uint8), axis=1).tobytes()


def test_lossless_jpegs(photograph: Image.Image) -> None:
    assert error(by_ffmpeg(photograph, "jpegls", pix_fmt="rgb24"), photograph) == 0
    grey = photograph.convert("L")
    assert error(by_ffmpeg(grey, "jpegls", pix_fmt="gray"), grey) == 0
    lossless = by_ffmpeg(photograph, "ljpeg", pix_fmt="bgr24", strict="-1")
    assert lossless[:2] == b"\xff\xd8"
    assert error(lossless, photograph) <= 1


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiffs_of_odd_depths(bits: int, photograph: Image.Image) -> None:
    data = tiff(of_depth(photograph, bits), photograph.size, bits=bits)
    assert error(data, photograph) == 0
    grey = photograph.convert("L")
    data = tiff(of_depth(grey, bits), grey.size, bits=bits, channels=1, photometric=1)
    assert error(data, grey) < 1


def test_tiffs_of_floating_point(photograph: Image.Image) -> None:
    samples = (np.asarray(photograph) / 255).astype("<f4")
    assert error(tiff(samples, photograph.size, bits=32, number=3), photograph) <= 1


@pytest.mark.parametrize(("bits", "number"), [(8, 1), (16, 1), (32, 1), (16, 3), (32, 3)])
def test_greys_whose_zero_is_white(bits: int, number: int, photograph: Image.Image) -> None:
    grey = photograph.convert("L").point(lambda level: level * 3 // 4)
    grey.putpixel((0, 0), 255)
    whole = 255 - np.asarray(grey).astype(np.uint64)
    samples = (
        (whole / 255).astype(f"<f{bits // 8}")
        if number == 3
        else (whole * (2**bits // 255)).astype(f"<u{bits // 8}")
    )
    data = tiff(samples, grey.size, bits=bits, channels=1, photometric=0, number=number)
    assert error(data, grey) <= 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", "<u2", "<u4"])
def test_tiffs_of_other_numbers(kind: str, channels: int, photograph: Image.Image) -> None:
    image = photograph.convert("RGB" if channels > 2 else "L")
    solid = np.asarray(image).reshape(*image.size[::-1], -1)
    levels = np.concatenate([solid, np.full_like(solid[..., :1], 128)], 2)[..., :channels]
    most = 1.0 if "f" in kind else np.iinfo(kind).max // 255 * 255
    samples = (levels / 255 * most).astype(kind)
    more = {338: (3, 1, struct.pack("<H", 2))} if channels in (2, 4) else {}
    if more:
        image = Image.blend(Image.new(image.mode, image.size, "white"), image, 128 / 255)
    else:
        image = image.copy()
        image.putpixel((0, 0), (255,) * channels if channels > 1 else 255)
        samples[0, 0] = most
    data = tiff(
        samples,
        image.size,
        bits=8 * int(kind[2]),
        channels=channels,
        photometric=2 if channels > 2 else 1,
        number=3 if "f" in kind else 1,
        more=more,
    )
    assert error(data, image) <= 1.5


def test_differences_of_half_numbers_in_planes(photograph: Image.Image) -> None:
    """As photographers' programs pack them: predictor 3, Deflate."""
    halves = (np.asarray(photograph) / 255).astype(">f2").view(np.uint8)
    rows = (
        halves.reshape(photograph.height, -1, 2).transpose(0, 2, 1).reshape(photograph.height, -1)
    )
    cells = rows.reshape(photograph.height, -1, 3)
    steps = np.diff(cells, axis=1, prepend=np.zeros_like(cells[:, :1]))
    more = {317: (3, 1, struct.pack("<H", 3))}
    body = zlib.compress(steps.tobytes())
    data = tiff(body, photograph.size, bits=16, number=3, packed=8, more=more)
    assert error(data, photograph) <= 1


def test_lab_of_sixteen_bits(photograph: Image.Image) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(photograph, to_lab)
    assert lab is not None
    samples = np.frombuffer(lab.tobytes("raw", "LAB"), np.uint8).astype("<u2") << 8
    data = tiff(samples, photograph.size, bits=16, photometric=8)
    assert error(data, photograph) <= 4


def test_a_pam_of_sixteen_bits(photograph: Image.Image) -> None:
    head = b"P7\nWIDTH 160\nHEIGHT 120\nDEPTH 3\nMAXVAL 65535\nTUPLTYPE RGB\nENDHDR\n"
    data = head + (np.asarray(photograph).astype(">u2") * 257).tobytes()
    assert error(data, photograph) <= 1
    with pytest.raises(MediaError, match="copy it again"):
        read_picture(data[:-5000], max_pixels=LIMIT)


def test_greys_of_32_bits_have_no_sign(photograph: Image.Image) -> None:
    grey = photograph.convert("L")
    grey.putpixel((0, 0), 255)
    samples = np.asarray(grey).astype("<u4") * 0x01010101
    assert error(tiff(samples, grey.size, bits=32, channels=1, photometric=1), grey) <= 1


def test_a_strip_of_webp_in_a_tiff(photograph: Image.Image) -> None:
    out = io.BytesIO()
    photograph.save(out, "WEBP", lossless=True)
    assert error(tiff(out.getvalue(), photograph.size, bits=8, packed=50001), photograph) == 0


def test_a_strip_of_jpeg_2000_in_a_tiff(photograph: Image.Image) -> None:
    out = io.BytesIO()
    photograph.save(out, "JPEG2000", no_jp2=True)
    assert error(tiff(out.getvalue(), photograph.size, bits=8, packed=34712), photograph) <= 1


def test_their_turns_and_colours_count(photograph: Image.Image) -> None:
    profile = P3.profile()
    more = {274: (3, 1, struct.pack("<H", 6)), 34675: (7, len(profile), profile)}
    numbers = Image.fromarray(P3.of_srgb(np.asarray(photograph)))
    data = tiff(of_depth(numbers, 12), photograph.size, bits=12, more=more)
    turned = photograph.transpose(Image.Transpose.ROTATE_270)
    assert error(data, turned) < 2
    shown = read_picture(data, max_pixels=LIMIT)
    assert (shown.width, shown.height) == (120, 160)


def psd(image: Image.Image, *, bits: int, mode: int = 3, packed: bool = False) -> bytes:
    planes = np.moveaxis(np.asarray(image), 2, 0).astype(">u2") * 257
    head = (
        b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, image.height, image.width, bits, mode)
    )
    if not packed:
        return head + bytes(4 + 4 + 4) + b"\x00\x00" + planes.tobytes()
    rows = [
        b"".join(bytes([1]) + row[i : i + 2] for i in range(0, len(row), 2))
        for row in (row.tobytes() for plane in planes for row in plane)
    ]
    lengths = struct.pack(f">{len(rows)}H", *map(len, rows))
    return head + bytes(4 + 4 + 4) + b"\x00\x01" + lengths + b"".join(rows)


def test_a_photoshop_document_of_sixteen_bits(photograph: Image.Image) -> None:
    assert error(psd(photograph, bits=16), photograph) <= 1
    assert error(psd(photograph, bits=16, packed=True), photograph) <= 1


def _patched_jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_patched_jpeg(), "a JPEG of 12 bits a channel"),
        (tiff(bytes(48), (4, 4), bits=8, packed=34887), "a TIFF of 8-bit RGB packed as LERC"),
        (tiff(bytes(48), (4, 4), bits=8, packed=50002), "packed as JPEG XL"),
        (tiff(bytes(48), (4, 4), bits=8, packed=4711), "packed as coding 4711"),
        (tiff(bytes(256), (4, 4), bits=64, number=6), "a TIFF of 64-bit complex RGB"),
        (
            tiff(bytes(32), (4, 4), bits=16, channels=1, photometric=32803),
            "16-bit sensor data (a raw photograph)",
        ),
        (tiff(bytes(96), (4, 4), bits=24), "a TIFF of 24-bit RGB"),
        (psd(Image.new("RGB", (4, 4)), bits=16, mode=9), "a Photoshop document of 16-bit L*a*b*"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, words: str) -> None:
    with pytest.raises(MediaError) as caught:
        read_picture(data, max_pixels=LIMIT)
    assert words in str(caught.value)
    assert "convert it to" in str(caught.value)


def pam(width: int, height: int, most: int) -> bytes:
    words = f"WIDTH {width}\nHEIGHT {height}\nDEPTH 3\nMAXVAL {most}\nTUPLTYPE RGB"
    return f"P7\n{words}\nENDHDR\n".encode()


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash", "fit"])
@pytest.mark.parametrize("size", [(4, 0), (0, 4)])
def test_a_picture_without_pixels_is_refused(mode: Any, size: tuple[int, int]) -> None:
    empty = Image.new("RGB", size)
    files = [psd(empty, bits=bits, packed=packed) for bits in (8, 16) for packed in (False, True)]
    files += [pam(*size, most) for most in (255, 65535)]
    files += [tiff(b"", size, bits=bits) for bits in (8, 12, 16)]
    files.append(b"qoif" + struct.pack(">IIBB", *size, 3, 0) + bytes(7) + b"\1")
    files.append(b"P6 %d %d 255\n" % size)
    files.append(bytes((0, 0, 2, *bytes(9))) + struct.pack("<HHBB", *size, 24, 0))
    for file in files:
        with pytest.raises(MediaError):
            decode_picture(file, Preprocess(size=8, resize_mode=mode), max_pixels=LIMIT)


def test_a_raw_photograph_says_that_its_preview_was_read() -> None:
    preview = np.full((12, 16, 3), 90, np.uint8)
    for more in (
        {50706: (1, 4, b"\x01\x04\x00\x00")},
        {254: (4, 1, b"\x01\x00\x00\x00"), 330: (4, 1, struct.pack("<I", 8))},
    ):
        shown = read_picture(tiff(preview, (16, 12), bits=8, more=more), max_pixels=LIMIT)
        assert shown.remark == ("a raw photograph: what was read is its preview of 16 x 12 pixels")
        data = tiff(bytes(1000), (16, 12), bits=14, packed=34713, more=more)
        with pytest.raises(MediaError, match=r"a raw photograph.*convert it to"):
            read_picture(data, max_pixels=LIMIT)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"\xff\x0a\x00\x10", "a JPEG XL picture"),
        (b"v/1\x01\x02", "an OpenEXR picture"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "a Radiance picture"),
        (b"SDPX\x00\x00", "a DPX picture"),
        (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01", "a raw photograph of a Canon camera"),
        (b"FUJIFILMCCD-RAW 0201", "a raw photograph of a Fujifilm camera"),
        (b"IIRO\x08\x00", "a raw photograph of an Olympus camera"),
        (b"IIU\x00\x08\x00", "a raw photograph of a Panasonic camera"),
        (b"8BPS\x00\x02" + bytes(20), "a large Photoshop document"),
        (b"gimp xcf v011", "a GIMP document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    ],
)
def test_formats_that_nothing_here_decodes(head: bytes, words: str) -> None:
    with pytest.raises(MediaError, match=f"not a picture but {words}.*convert it to"):
        read_picture(head.ljust(100), max_pixels=LIMIT)


def test_a_damaged_odd_coding_is_not_called_sound(photograph: Image.Image) -> None:
    whole = by_ffmpeg(photograph, "jpegls", pix_fmt="rgb24")
    with pytest.raises(MediaError, match="copy it again"):
        read_picture(whole[:200], max_pixels=LIMIT)
    with pytest.raises(MediaError, match="copy it again"):
        read_picture(tiff(b"RIFF", photograph.size, bits=8, packed=50001), max_pixels=LIMIT)

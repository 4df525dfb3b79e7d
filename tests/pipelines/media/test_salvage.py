"""Pictures with something missing: shown as far as they are there, and never without a word."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from decoders import LIMIT, job, pool
from hostile import photographs
from PIL import Image, ImageFile
from pngs import SIGNATURE, chunk

from maxsight.errors import MediaError
from maxsight.models.pixels.preprocess import Preprocess
from maxsight.pipelines.decoding.messages import Finished, Refused
from maxsight.pipelines.media.pictures import UprightImage, decode_picture, read_picture

WIDTH, HEIGHT = 320, 240
WISHES = Preprocess(size=64)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return photographs()[0].resize((WIDTH, HEIGHT))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def shown(data: bytes) -> UprightImage:
    return read_picture(data, max_pixels=LIMIT)


def likeness(data: bytes, image: Image.Image) -> float:
    """Correlation of what an encoder reads of a file and of a picture."""
    pixels = decode_picture(data, WISHES, max_pixels=LIMIT)[0].astype(float).ravel()
    truth = decode_picture(encoded(image, "PNG"), WISHES, max_pixels=LIMIT)[0].astype(float).ravel()
    return float(np.corrcoef(pixels, truth)[0, 1])


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length


def png_of(parts: list[tuple[bytes, bytes]], bad: bytes = b"") -> bytes:
    return SIGNATURE + b"".join(chunk(kind, body, bad_sum=kind == bad) for kind, body in parts)


def _jpeg(image: Image.Image) -> bytes:
    return encoded(image, "JPEG", quality=92)


def _scans(image: Image.Image) -> bytes:
    return encoded(image, "JPEG", quality=92, progressive=True)


def _png_with(kind: bytes, body: bytes, **bad: bytes) -> Callable[[Image.Image], bytes]:
    def make(image: Image.Image) -> bytes:
        first, *rest = chunks(encoded(image, "PNG"))
        return png_of([first, (kind, body), *rest], **bad)

    return make


def _png_with_wrong_sum_of_pixels(image: Image.Image) -> bytes:
    parts = list(chunks(encoded(image, "PNG")))
    pixels = b"".join(body for kind, body in parts if kind == b"IDAT")
    return png_of([parts[0], (b"IDAT", pixels[:-4] + bytes(4)), (b"IEND", b"")])


def _webp(image: Image.Image) -> bytes:
    return encoded(image, "WEBP", quality=95)


def _webp_with_half_a_note(image: Image.Image) -> bytes:
    return encoded(image, "WEBP", quality=95, exif=b"Exif\x00\x00" + bytes(600))[:-300]


WHOLE: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg without its end": lambda image: _jpeg(image)[:-2],
    "progressive jpeg without its end": lambda image: _scans(image)[:-2],
    "jpeg with a block of zeros for its end": lambda image: _jpeg(image)[:-2] + bytes(4096),
    "jpeg with zeros behind": lambda image: _jpeg(image) + bytes(70_000),
    "jpeg with a film behind": lambda image: _jpeg(image) + b"\x00\x00\x00\x18ftypmp42" * 9000,
    "jpeg with fill bytes": lambda image: b"\xff\xd8" + b"\xff" * 7 + _jpeg(image)[2:],
    "png without its end": lambda image: encoded(image, "PNG")[:-12],
    "png with a wrong checksum of a text": _png_with(b"tEXt", b"Comment\x00hello", bad=b"tEXt"),
    "png with a wrong checksum of a time": _png_with(b"tIME", bytes(7), bad=b"tIME"),
    "png with a chunk that is none": _png_with(b"abCd", b"?" * 50, bad=b"abCd"),
    "png with a text of 40 MB": _png_with(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(40_000_000))),
    "png with a broken profile": _png_with(b"iCCP", b"x\x00\x00nonsense"),
    "png with an empty profile": _png_with(b"iCCP", b""),
    "png with a short gamma": _png_with(b"gAMA", b"\x00"),
    "png with a wrong checksum of its pixels": _png_with_wrong_sum_of_pixels,
    "png with junk behind": lambda image: encoded(image, "PNG") + b"junk" * 2000,
    "png with zeros behind": lambda image: encoded(image, "PNG") + bytes(5000),
    "gif without its trailer": lambda image: encoded(image, "GIF")[:-1],
    "webp that is too long": lambda image: (
        _webp(image)[:4] + b"\xff\xff\x0f\x00" + _webp(image)[8:]
    ),
    "webp of no length": lambda image: _webp(image)[:4] + bytes(4) + _webp(image)[8:],
    "webp with half a note": _webp_with_half_a_note,
    "webp with zeros behind": lambda image: _webp(image) + bytes(5000),
    "avif with zeros behind": lambda image: encoded(image, "AVIF", quality=95) + bytes(5000),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pictures_with_something_wrong_beside_them(
    name: str, photograph: Image.Image
) -> None:
    data = WHOLE[name](photograph)
    picture = shown(data)
    assert picture.image.size == (WIDTH, HEIGHT)
    assert likeness(data, photograph) > 0.99
    assert picture.remark is None or "profile" in picture.remark


NEARLY: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 92, "subsampling": 0},
    "GIF": {"interlace": False},
    "PNG": {},
    "BMP": {},
    "TIFF": {},
}


@pytest.mark.parametrize("form", NEARLY)
def test_missing_rows_are_counted_and_said(form: str, photograph: Image.Image) -> None:
    data = encoded(photograph, form, **NEARLY[form])
    picture = shown(data[: len(data) * 99 // 100])
    assert (picture.remark or "").startswith("truncated: ")
    assert likeness(data[: len(data) * 99 // 100], photograph) > 0.98
    # A tenth cut off: the picture ends where its rows do.
    picture = shown(data[: len(data) * 85 // 100])
    assert (picture.width, picture.height) == (WIDTH, HEIGHT)
    missing = int((picture.remark or "").split()[1])
    assert 10 <= missing <= 22
    assert picture.image.height == pytest.approx(HEIGHT * (1 - missing / 100), abs=10)
    there = photograph.crop((0, 0, WIDTH, picture.image.height))
    if form == "BMP":  # its rows go upwards
        there = photograph.crop((0, HEIGHT - picture.image.height, WIDTH, HEIGHT))
    assert likeness(encoded(picture.image, "PNG"), there) > 0.98
    # With less than half it is another picture.
    with pytest.raises(MediaError, match=r"truncated: only \d+ % of the .* copy it again"):
        shown(data[: len(data) // 3])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF"])
def test_a_copy_whose_end_is_zeros_is_a_copy_cut_off(form: str, photograph: Image.Image) -> None:
    data = encoded(photograph, form, **NEARLY[form])
    zeros = data[: len(data) * 80 // 100].ljust(len(data), b"\x00")
    picture = shown(zeros)
    assert 10 <= int((picture.remark or "").split()[1]) <= 30
    assert (
        likeness(encoded(picture.image, "PNG"), photograph.crop((0, 0, *picture.image.size))) > 0.98
    )


@pytest.mark.parametrize("form", ["WEBP", "HEIF"])
def test_formats_whose_decoders_give_all_or_nothing(form: str, photograph: Image.Image) -> None:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    large = photograph.resize((640, 480))
    data = encoded(large, form, quality=85)
    picture = shown(data[: len(data) * 80 // 100])
    assert 10 <= int((picture.remark or "").split()[1]) <= 40
    assert (picture.width, picture.height) == (640, 480)
    there = large.crop((0, 0, 640, picture.image.height))
    assert likeness(encoded(picture.image, "PNG"), there) > 0.98
    with pytest.raises(MediaError, match="truncated"):
        shown(data[: len(data) // 4])


@pytest.mark.parametrize("quality", [20, 80, 95])
@pytest.mark.parametrize("share", [0.9, 0.99])
def test_webps_of_every_quality(share: float, quality: int, photograph: Image.Image) -> None:
    data = encoded(photograph, "WEBP", quality=quality)
    picture = shown(data[: int(len(data) * share)])
    assert "% of the picture is missing" in (picture.remark or "")
    there = photograph.crop((0, 0, *picture.image.size))
    assert likeness(encoded(picture.image, "PNG"), there) > 0.97


@pytest.mark.parametrize("lossy", [False, True])
def test_a_jpeg_2000_cut_off_shows_less_detail(lossy: bool, photograph: Image.Image) -> None:
    data = encoded(photograph, "JPEG2000", irreversible=lossy, quality_layers=[10 * lossy])
    for share in (0.8, 0.99):
        for cut in (b"", bytes(2000)):
            picture = shown(data[: int(len(data) * share)] + cut)
            remark = "truncated: shown with less detail than it had; copy it again"
            assert (picture.image.size, picture.remark) == ((WIDTH, HEIGHT), remark)
            assert likeness(encoded(picture.image, "PNG"), photograph) > 0.98
    with pytest.raises(MediaError, match="truncated"):
        shown(data[: len(data) // 4])


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_no_surface_of_one_colour_for_zeros(form: str, photograph: Image.Image) -> None:
    data = encoded(photograph, form)
    with pytest.raises(MediaError, match="truncated"):
        shown(data[: len(data) // 4].ljust(len(data), b"\x00"))


def test_a_jpeg_cut_off_and_closed_again_does_not_pass_for_whole(photograph: Image.Image) -> None:
    """libjpeg fills up with grey and says nothing."""
    data = _jpeg(photograph)
    picture = shown(data[: len(data) * 3 // 4] + b"\xff\xd9")
    assert "% of the picture is missing" in (picture.remark or "")
    with pytest.raises(MediaError, match="only"):
        shown(data[: len(data) // 4] + b"\xff\xd9")
    grey = photograph.copy()  # one that ends in that very grey is whole
    grey.paste((128, 128, 128), (0, HEIGHT - 32, WIDTH, HEIGHT))
    assert shown(_jpeg(grey)).remark is None
    assert shown(_jpeg(grey)).image.height == HEIGHT


@pytest.mark.parametrize("restarts", [0, 5])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.42])
def test_the_grey_below_a_short_jpeg_is_not_taken_for_it(
    restarts: int, share: float, photograph: Image.Image
) -> None:
    data = encoded(photograph, "JPEG", quality=92, restart_marker_blocks=restarts)
    with pytest.raises(MediaError, match="truncated: only ") as refused:
        shown(data[: int(len(data) * share)] + b"\xff\xd9" * 2)
    assert int(str(refused.value).split()[2]) <= 100 * share + 8


def test_a_jpeg_that_ends_where_a_restart_was_due(photograph: Image.Image) -> None:
    data = encoded(photograph, "JPEG", quality=92, restart_marker_blocks=5)
    places = [
        at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in range(0xD0, 0xD8)
    ]
    place = places[len(places) * 3 // 4]
    picture = shown(data[:place] + b"\xff\xd9" + data[place + 2 :])
    assert 10 <= int((picture.remark or "truncated: 0").split()[1]) <= 40


def test_a_progressive_jpeg_shows_less_detail(photograph: Image.Image) -> None:
    data = _scans(photograph)
    half = data[: len(data) // 2]
    assert shown(half).image.size == (WIDTH, HEIGHT)
    assert shown(half).remark == "truncated: shown with less detail than it had; copy it again"
    assert likeness(half, photograph) > 0.98


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_interlaced_pictures_are_filled_from_beside(form: str, photograph: Image.Image) -> None:
    data = encoded(photograph, "GIF", interlace=True) if form == "GIF" else _adam7(photograph)
    part = data[: len(data) * 70 // 100]
    picture = shown(part)
    assert picture.image.size == (WIDTH, HEIGHT)
    assert "missing" in (picture.remark or "")
    assert likeness(part, photograph) > 0.97


def _adam7(image: Image.Image) -> bytes:
    pixels, raw = np.asarray(image), b""
    for top, left, down, right in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):  # fmt: skip
        raw += b"".join(b"\x00" + row.tobytes() for row in pixels[top::down, left::right])
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
    return png_of([(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "I;16", "LA"])
def test_every_mode(mode: str, photograph: Image.Image) -> None:
    grey = photograph.convert("L")
    image = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        if mode == "I;16"
        else grey.convert(mode)
    )
    data = encoded(image, "PNG")
    picture = shown(data[: len(data) * 80 // 100])
    assert "truncated" in (picture.remark or "")
    assert 0.6 * HEIGHT < picture.image.height < 0.95 * HEIGHT


def test_turned_pictures_lose_what_is_missing_before_they_are_turned(
    photograph: Image.Image,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("JPEG", "TIFF"):
        data = encoded(photograph, form, exif=exif)
        picture = shown(data[: len(data) * 80 // 100])
        assert (picture.width, picture.height) == (HEIGHT, WIDTH)
        assert picture.image.height == WIDTH
        assert picture.image.width < HEIGHT * 0.9


def test_pillow_stays_strict_for_the_next_file(photograph: Image.Image) -> None:
    data = encoded(photograph, "PNG")
    shown(data[: len(data) * 80 // 100])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_what_random_damage_leaves_has_the_right_shape(photograph: Image.Image) -> None:
    dice = random.Random(0)
    small = photograph.resize((96, 64))
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        for _ in range(25):
            data = bytearray(encoded(small, form))
            for _ in range(dice.randint(1, 6)):
                data[dice.randrange(8, len(data))] = dice.randrange(256)
            try:
                picture = shown(bytes(data[: dice.randint(len(data) // 2, len(data))]))
            except MediaError:
                continue
            assert picture.image.mode == "RGB"
            assert picture.remark or picture.image.size == (picture.width, picture.height)


def test_the_remark_reaches_the_parent(tmp_path: Path, photograph: Image.Image) -> None:
    data = _jpeg(photograph)
    (tmp_path / "nearly.jpg").write_bytes(data[: len(data) * 9 // 10])
    (tmp_path / "hardly.jpg").write_bytes(data[: len(data) // 5])
    with pool() as decoders:
        found = {
            Path(result.job.path).name: result.message
            for result in decoders.decode([job(path) for path in sorted(tmp_path.iterdir())])
            if result is not None
        }
    nearly, hardly = found["nearly.jpg"], found["hardly.jpg"]
    assert isinstance(nearly, Finished)
    assert "of the picture is missing" in (nearly.remark or "")
    assert isinstance(hardly, Refused)
    assert not hardly.again

"""Decoding: pixels against independent arithmetic, and files that are none."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from decoders import LIMIT, PREPROCESS
from hostile import photographs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from maxsight.errors import MediaError
from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.pipelines.ingestion.walk import Walk
from maxsight.pipelines.media import squares
from maxsight.pipelines.media.files import NotNow, hash_file, read_whole
from maxsight.pipelines.media.pictures import decode_picture, read_picture


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """All pixels, (H, W, 3) float."""
    return np.asarray(read_picture(data, max_pixels=LIMIT).image, np.float64)


# ---------------------------------------------------------------- modes and formats


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 90}, 4),
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True}, 3),
        ("AVIF", {"quality": 90}, 4),
        ("GIF", {}, 12),
    ],
)
def test_formats(
    photograph: Image.Image, form: str, options: dict[str, object], tolerance: float
) -> None:
    error = np.abs(decoded(encoded(photograph, form, **options)) - np.asarray(photograph))
    assert error.mean() <= tolerance


def test_heic_where_its_codec_is_installed(photograph: Image.Image) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(photograph).save(out, quality=90)
    assert np.abs(decoded(out.getvalue()) - np.asarray(photograph)).mean() < 4


def test_first_frame_of_an_animation(photograph: Image.Image) -> None:
    other = ImageOps.invert(photograph)
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(photograph, form, save_all=True, append_images=[other])
        assert np.abs(decoded(data) - np.asarray(photograph)).mean() < 12, form


def test_transparency_lies_on_white() -> None:
    red = Image.new("RGBA", (4, 4), (200, 0, 0, 128))
    expected = [200 * 128 / 255 + 127, 127, 127]
    for form in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        assert decoded(encoded(red, form, **options))[0, 0] == pytest.approx(expected, abs=1.5)
    grey = Image.new("LA", (4, 4), (0, 64))
    assert decoded(encoded(grey, "PNG"))[0, 0] == pytest.approx([191] * 3, abs=1.5)


def test_hidden_colour_does_not_show_through() -> None:
    # Clear pixels often carry black: scaled before they lie on white they would grey the edges.
    pixels = np.zeros((1200, 1200, 4), np.uint8)
    pixels[:, 601:] = (255, 255, 255, 255)
    data = encoded(Image.fromarray(pixels), "PNG")
    assert decode_picture(data, PREPROCESS, max_pixels=LIMIT)[0].min() >= 254


def test_the_ground_beside_a_small_first_frame_is_open() -> None:
    data = bytearray(encoded(Image.new("P", (4, 3), 0), "GIF"))
    table = 13 + 3 * (2 << (data[10] & 7))
    frame = data.index(b",", table)
    data[13:16] = (0, 90, 200)
    data[6:10] = struct.pack("<HH", 8, 6)  # the canvas
    data[frame + 1 : frame + 5] = struct.pack("<HH", 2, 1)
    expected = np.full((6, 8, 3), 255)
    expected[1:4, 2:6] = (0, 90, 200)
    assert (decoded(bytes(data)) == expected).all()


def test_palette_and_key_colour_transparency() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decoded(encoded(palette, "PNG"))[0, 0].tolist() == [10, 20, 30]
    assert decoded(encoded(palette, "PNG", transparency=1))[0, 0].tolist() == [255] * 3
    assert decoded(encoded(palette, "PNG", transparency=b"\x00\x80"))[0, 0] == pytest.approx(
        [132, 137, 142], abs=1.5
    )
    solid = Image.new("RGB", (4, 4), (10, 20, 30))
    assert decoded(encoded(solid, "PNG", transparency=(10, 20, 30)))[0, 0].tolist() == [255] * 3


def test_one_bit() -> None:
    board = Image.fromarray((np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)).convert("1")
    for form in ("PNG", "TIFF", "BMP"):
        assert (decoded(encoded(board, form))[..., 0] == np.asarray(board) * 255).all(), form


def test_cmyk_with_and_without_adobes_marker() -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))  # cyan
    data = encoded(ink, "JPEG", quality=100)
    assert b"Adobe" in data[:64]
    assert decoded(data)[8, 8] == pytest.approx([0, 255, 255], abs=3)
    # Without the marker the numbers are not inverted: those of red come out as cyan.
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    plain = data[:start] + data[start + 2 + length :]
    assert decoded(plain)[8, 8] == pytest.approx([0, 0, 0], abs=3)
    assert decoded(encoded(ink, "TIFF"))[8, 8].tolist() == [0, 255, 255]


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)
    expected = np.rint(ramp / 257)
    for form in ("PNG", "TIFF"):
        grey = decoded(encoded(Image.fromarray(ramp), form))
        assert np.abs(grey[..., 0] - expected).max() <= 1, form
    colour = decoded(_png_16_bit(np.stack([ramp, ramp.T, 65535 - ramp], 2)))
    assert np.abs(colour - np.stack([expected, expected.T, 255 - expected], 2)).max() <= 1


def _png_16_bit(pixels: np.ndarray) -> bytes:
    """Pillow does not write 16 bits of colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    height, width, _ = pixels.shape
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([0.0, 100.0, 255.0]), [0, 100, 255]),
        (np.array([-10.0, 0.0, 10.0]), [0, 128, 255]),
        (np.array([0.0, 500.0, 1000.0]), [0, 128, 255]),
        (np.array([np.nan, 0.5, 1.0]), [0, 128, 255]),
        (np.array([np.nan, np.inf, -np.inf]), [0, 0, 0]),
        (np.array([7.0, 7.0, 7.0]), [7, 7, 7]),
    ],
)
def test_floating_point_tiff(values: np.ndarray, expected: list[int]) -> None:
    image = Image.fromarray(values[None].astype(np.float32))
    assert decoded(encoded(image, "TIFF"))[0, :, 0] == pytest.approx(expected, abs=1)


def test_whole_numbers_of_32_bits() -> None:
    image = Image.fromarray(np.array([[0, 32768, 65535]], np.int32))
    assert decoded(encoded(image, "TIFF"))[0, :, 0] == pytest.approx([0, 128, 255], abs=1)


# ---------------------------------------------------------------- orientation and EXIF


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(form: str, orientation: int) -> None:
    corners = np.zeros((40, 60, 3), np.uint8)
    corners[:20, :30] = (250, 0, 0)
    corners[20:, 30:] = (0, 0, 250)
    upright = Image.fromarray(corners)
    # The inverse of what a viewer does: five and seven are their own, six and eight swap.
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(encoded(stored, form, exif=exif), max_pixels=LIMIT)
    assert picture.image.size == (60, 40)
    assert (picture.width, picture.height) == (60, 40)
    assert np.abs(np.asarray(picture.image, float)[5:15, 5:25] - (250, 0, 0)).mean() < 12
    assert np.abs(np.asarray(picture.image, float)[25:35, 35:55] - (0, 0, 250)).mean() < 12


def test_time_of_capture(photograph: Image.Image) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:02:29 13:14:15"
    picture = read_picture(encoded(photograph, "JPEG", exif=exif), max_pixels=LIMIT)
    assert picture.captured_at == datetime(2024, 2, 29, 13, 14, 15)
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    picture = read_picture(encoded(photograph, "JPEG", exif=exif), max_pixels=LIMIT)
    assert picture.captured_at is None


@given(st.binary(max_size=80))
@settings(deadline=None, max_examples=60)
def test_broken_exif_never_spoils_a_picture(noise: bytes) -> None:
    data = encoded(Image.new("RGB", (8, 8), "red"), "JPEG", exif=b"Exif\x00\x00" + noise)
    assert read_picture(data, max_pixels=LIMIT).image.size == (8, 8)


# ---------------------------------------------------------------- size


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_a_draft_changes_nothing_that_counts(mode: str) -> None:
    """A JPEG decoded at a fraction of its size against a full decode."""
    preprocess = Preprocess(size=64, resize_mode=mode)  # type: ignore[arg-type]
    for number, photograph in enumerate(photographs()[:3]):
        # Sides that 8 does not divide leave a part of a pixel at the edge of a draft.
        size = (1600, 1200) if number else (1597, 1205)
        data = encoded(photograph.resize(size, Image.Resampling.LANCZOS), "JPEG")
        full = resize(Image.open(io.BytesIO(data)), preprocess).astype(float)
        pixels, picture = decode_picture(data, preprocess, max_pixels=LIMIT)
        assert picture.image.width < 1000
        assert (picture.width, picture.height) == size
        assert np.abs(pixels - full).mean() < (0.3 if number else 3.0)
        one, other = pixels.ravel() - pixels.mean(), full.ravel() - full.mean()
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert cosine > (0.9999 if number else 0.995)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_other_pictures_are_scaled_from_all_their_pixels(form: str, mode: str) -> None:
    preprocess = Preprocess(size=64, resize_mode=mode)  # type: ignore[arg-type]
    data = encoded(photographs()[0].resize((701, 433)), form)
    full = resize(Image.open(io.BytesIO(data)).convert("RGB"), preprocess)
    assert np.array_equal(decode_picture(data, preprocess, max_pixels=LIMIT)[0][0], full)


def test_sides_of_60000_pixels() -> None:
    jpeg = encoded(Image.new("L", (60_000, 400), 99), "JPEG")
    pixels, picture = decode_picture(jpeg, PREPROCESS, max_pixels=LIMIT)
    assert pixels.shape == (1 + squares.MOST, 64, 64, 3)
    assert (picture.width, picture.height) == (60_000, 400)
    # 3.6 thousand million pixels fit the limit only because an eighth of each side is decoded.
    giant = Image.new("1", (60_000, 3_100))
    with pytest.raises(NotNow, match=r"60,000 x 3,100 pixels.*MAXSIGHT_MAX_PIXELS"):
        decode_picture(encoded(giant, "PNG"), PREPROCESS, max_pixels=LIMIT)
    draft = encoded(giant.convert("L"), "JPEG")
    assert decode_picture(draft, PREPROCESS, max_pixels=LIMIT)[1].width == 60_000


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (40_000, 1), (1, 40_000)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_odd_shapes(size: tuple[int, int], mode: str) -> None:
    preprocess = Preprocess(size=64, resize_mode=mode)  # type: ignore[arg-type]
    data = encoded(Image.new("RGB", size, (9, 90, 200)), "PNG")
    pixels, picture = decode_picture(data, preprocess, max_pixels=LIMIT)
    assert pixels.shape == (1 + squares.count(*size), 64, 64, 3)
    assert (picture.width, picture.height) == size
    seen = pixels[1:] if mode == "longest" else pixels
    assert (seen == (9, 90, 200)).all()


# ---------------------------------------------------------------- files


def test_files_that_are_none_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, reason in (
        (tmp_path / "pipe.jpg", "a named pipe"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a device"),
        (tmp_path / "none.jpg", "vanished"),
    ):
        with pytest.raises(NotNow, match=reason):
            read_whole(str(path), max_bytes=1000)
        with pytest.raises(NotNow, match=reason):
            hash_file(str(path))


def test_limits_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.touch()
    with pytest.raises(MediaError, match="empty"):
        read_whole(str(path), max_bytes=10)
    os.truncate(path, 10**12)  # sparse
    with pytest.raises(NotNow, match=r"1000\.0 GB"):
        read_whole(str(path), max_bytes=10**9)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "growing.mp4"
    path.write_bytes(bytes(9 << 20))

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(NotNow, match="changed while it was read"):
        hash_file(str(path), grow)


def test_unreadable_files_and_folders() -> None:
    """Run as an ordinary user, for whom rights exist."""
    program = (
        "import os, sys\n"
        "from maxsight.pipelines.ingestion.walk import Walk\n"
        "from maxsight.pipelines.media.files import read_whole, NotNow\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "walk = Walk([sys.argv[1]], lambda count: None)\n"
        "print(*(f'{f.state.path}: {f.reason}' for f in walk.unreadable), sep='\\n')\n"
        "print(walk.is_out_of_sight(sys.argv[1] + '/shut/a.jpg'))\n"
        "try: read_whole(sys.argv[1] + '/b.jpg', max_bytes=9)\n"
        "except NotNow as error: print(error)\n"
    )
    # Not pytest's folder, which stands in one that only its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "shut").mkdir()
        (folder / "shut" / "a.jpg").write_bytes(b"x")
        (folder / "b.jpg").write_bytes(b"x")
        (folder / "b.jpg").chmod(0)
        (folder / "shut").chmod(0)
        try:
            done = subprocess.run(
                [sys.executable, "-c", program, name], capture_output=True, text=True
            )
        finally:
            (folder / "shut").chmod(0o755)
        assert done.returncode == 0, done.stderr
        listed, out_of_sight, read = done.stdout.splitlines()
        assert "/shut: a folder that cannot be listed: no permission" in listed
        assert out_of_sight == "True"
        assert "chmod" in read
        (folder / "b.jpg").chmod(0o644)
        assert Walk([name], lambda count: None).unreadable == []


def test_a_progressive_jpeg_is_measured_whole() -> None:
    # All its coefficients are held at once: 60,000 x 60,000 of them take twenty gigabytes.
    data = bytearray(encoded(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True))
    place = data.index(b"\xff\xc2") + 5
    data[place : place + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(NotNow, match="JPEG picture of 60,000 x 60,000 pixels"):
        decode_picture(bytes(data), PREPROCESS, max_pixels=LIMIT)

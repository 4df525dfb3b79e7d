"""Colours: what a file's numbers mean is decided by the file, and sRGB comes out."""

from __future__ import annotations

import base64
import io
import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from decoders import LIMIT
from hostile import photographs
from PIL import Image, ImageCms
from pngs import png
from profiles import ADOBE_RGB, BT2020, P3, PROPHOTO, SRGB, SWAPPED, Space, grey_profile, written

from maxsight.library.contact_sheet import write_sheet
from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.pipelines.media.pictures import decode_picture, read_picture
from maxsight.pipelines.query.language import Term
from maxsight.pipelines.search.search import Hit

ORANGE = np.array([230, 120, 40], np.uint8)
# Colours that lie in every one of the spaces, and the ends of the grey scale.
PATCHES = np.array(
    [ORANGE, (40, 150, 60), (60, 90, 190), (224, 172, 140), (128, 128, 128), (255, 255, 255)],
    np.uint8,
)
SPACES = {
    "P3": P3,
    "Adobe RGB": ADOBE_RGB,
    "ProPhoto": PROPHOTO,
    "BT.2020": BT2020,
    "swapped": SWAPPED,
}


def picture(colours: np.ndarray = PATCHES) -> Image.Image:
    """Patches of 32 x 32 pixels, side by side."""
    return Image.fromarray(np.repeat(np.repeat(colours[None], 32, 0), 32, 1))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def patches(data: bytes, count: int = len(PATCHES)) -> np.ndarray:
    """The colours in the middle of the patches, (N, 3)."""
    pixels = np.asarray(read_picture(data, max_pixels=LIMIT).image, int)
    return pixels[16, 16 :: pixels.shape[1] // count]


EXACT: dict[str, dict[str, object]] = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True, "exact": True},
    "JPEG": {"quality": 100, "subsampling": 0},
}


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("name", SPACES)
def test_an_orange_is_the_same_in_every_space(form: str, name: str) -> None:
    space = SPACES[name]
    data = encoded(
        picture(space.of_srgb(PATCHES)), form, icc_profile=space.profile(), **EXACT[form]
    )
    # One step of a wide space is more than one step of sRGB.
    step = 3 if name in ("BT.2020", "ProPhoto") else 2
    shown = patches(data)
    assert np.abs(shown[0] - ORANGE).max() <= 2
    assert np.abs(shown - PATCHES).max() <= (step + 2 if form == "JPEG" else step)


@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
def test_profiles_of_lossy_formats(form: str) -> None:
    data = encoded(picture(P3.of_srgb(PATCHES)), form, icc_profile=P3.profile(), quality=95)
    assert np.abs(patches(data) - PATCHES).max() <= 6


@pytest.mark.parametrize("mode", ["RGBA", "P", "alpha and palette"])
def test_transparent_and_palette_pictures(mode: str) -> None:
    image = picture(P3.of_srgb(PATCHES))
    if mode == "RGBA":
        image = image.convert("RGBA")
        image.paste((0, 0, 0, 0), (0, 0, 32, 8))
    else:
        image = image.quantize(16)
    options = {"transparency": 200} if mode == "alpha and palette" else {}
    data = encoded(image, "PNG", icc_profile=P3.profile(), **options)
    assert np.abs(patches(data) - PATCHES).max() <= 2
    if mode == "RGBA":
        assert (np.asarray(read_picture(data, max_pixels=LIMIT).image)[4, 4] == 255).all()


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_pictures(gamma: float, mode: str) -> None:
    levels = np.array([0, 60, 128, 200, 255], np.uint8)
    numbers = SRGB.light(levels / 255) ** (1 / gamma)
    image = Image.fromarray(
        np.repeat(np.repeat(np.rint(numbers * 255)[None], 32, 0), 32, 1).astype(np.uint8)
    )
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif mode == "LA":
        image = image.convert("LA")
    data = encoded(image, "PNG", icc_profile=grey_profile(gamma))
    assert np.abs(patches(data, 5) - levels[:, None]).max() <= 2


def test_sixteen_bits_of_colour() -> None:
    profile = P3.profile()
    body = b"P3\x00\x00" + zlib.compress(profile)
    numbers = np.asarray(picture(P3.of_srgb(PATCHES))).astype(np.uint16) * 257
    data = png(numbers, depth=16, notes=[(b"iCCP", body)])
    assert np.abs(patches(data) - PATCHES).max() <= 2


def test_lab_and_a_profile_of_inks() -> None:
    srgb = ImageCms.createProfile("sRGB")
    lab = ImageCms.profileToProfile(
        picture(), srgb, ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    # Eight bits of L*a*b* are coarse where a colour is strong.
    assert np.abs(patches(encoded(lab, "TIFF")) - PATCHES).mean() < 2
    # Inks that are nothing like the naive ones: cyan's table prints red.
    inks = Image.new("CMYK", (192, 32), (255, 0, 0, 0))
    for form in ("TIFF", "JPEG"):
        data = encoded(inks, form, icc_profile=_inks_profile(), quality=100)
        assert np.abs(patches(data) - (200, 30, 20)).max() <= 4
    assert (patches(encoded(inks, "TIFF")) == (0, 255, 255)).all()


def _inks_profile() -> bytes:
    """Two points an ink: full cyan is a red, everything else white."""
    point = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), (200, 30, 20)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    red = point.getpixel((0, 0)) if point else None
    white = (255, 128, 128)
    assert isinstance(red, tuple)
    corners = [red if corner & 8 else white for corner in range(16)]
    # Type lut8 of version 2: inputs, outputs, points, the matrix, curves, points, curves.
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    table += np.rint(np.eye(3) * 65536).astype(">i4").tobytes()
    table += bytes(range(256)) * 4
    table += b"".join(bytes(corner) for corner in corners)
    table += bytes(range(256)) * 3
    profile = bytearray(written(b"CMYK", "inks", {b"A2B0": table, b"A2B1": table}))
    profile[12:16], profile[20:24] = b"prtr", b"Lab "
    return bytes(profile)


def test_srgb_by_any_profile_stays_to_the_bit() -> None:
    photograph = photographs()[0].resize((300, 200))
    raw = decode_picture(encoded(photograph, "PNG"), Preprocess(size=64), max_pixels=LIMIT)[0]
    littlecms = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (littlecms, SRGB.profile("sRGB IEC61966-2.1"), SRGB.profile("nameless")):
        data = encoded(photograph, "PNG", icc_profile=profile)
        assert (decode_picture(data, Preprocess(size=64), max_pixels=LIMIT)[0] == raw).all()
        shown = read_picture(data, max_pixels=LIMIT)
        assert (np.asarray(shown.image) == np.asarray(photograph)).all()
        assert shown.remark is None


def _chromaticities(space: Space) -> bytes:
    places = (space.white, *space.primaries)
    return struct.pack(">8I", *(round(value * 100_000) for place in places for value in place))


@pytest.mark.parametrize(
    ("notes", "space"),
    [
        ([(b"sRGB", b"\x00"), (b"gAMA", struct.pack(">I", 100_000))], SRGB),
        ([(b"gAMA", struct.pack(">I", 45_455))], SRGB),
        ([(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", _chromaticities(SRGB))], SRGB),
        ([(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", _chromaticities(P3))], P3),
        ([(b"gAMA", struct.pack(">I", 55_556))], Space(SRGB.primaries, gamma=1.8)),
        ([(b"gAMA", struct.pack(">I", 100_000))], Space(SRGB.primaries, gamma=1.0)),
        ([(b"gAMA", bytes(4)), (b"cHRM", bytes(32))], SRGB),
        (
            [(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", struct.pack(">8I", *[33_333] * 8))],
            SRGB,
        ),
        ([(b"cICP", bytes([12, 13, 0, 1]))], P3),
        ([(b"cICP", bytes([9, 13, 0, 1]))], BT2020),
        ([(b"cICP", bytes([1, 13, 0, 1]))], SRGB),
    ],
)
def test_what_chunks_of_a_png_say(notes: list[tuple[bytes, bytes]], space: Space) -> None:
    data = png(np.asarray(picture(space.of_srgb(PATCHES))), notes=notes)
    off = np.abs(patches(data) - PATCHES).max()
    assert off == 0 if space is SRGB else off <= (6 if space.gamma == 1.0 else 3)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_the_gamma_of_a_grey_png(gamma: float, depth: int) -> None:
    levels = np.array([0, 60, 128, 200, 230, 255])
    numbers = np.rint(SRGB.light(levels / 255) ** (1 / gamma) * (2**depth - 1))
    pixels = np.repeat(np.repeat(numbers[None], 32, 0), 32, 1).astype(f"u{depth // 8}")
    note = (b"gAMA", struct.pack(">I", round(100_000 / gamma)))
    shown = patches(png(pixels, depth=depth, colour=0, notes=[note]))
    assert np.abs(shown - levels[:, None]).max() <= 6


@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
@pytest.mark.parametrize(("code", "space"), [(12, P3), (9, BT2020), (1, SRGB)])
def test_code_points_of_avif_and_heic(form: str, code: int, space: Space) -> None:
    image = picture(space.of_srgb(PATCHES))
    data = bytearray(encoded(image, form, quality=95))
    place = data.find(b"colrnclx")
    if place < 0:
        pytest.skip("this encoder writes none")
    data[place + 8 : place + 12] = struct.pack(">HH", code, 13)
    assert np.abs(patches(bytes(data)) - PATCHES).max() <= 12


def _pq(wide: np.ndarray) -> np.ndarray:
    power = (wide * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def _hlg(wide: np.ndarray) -> np.ndarray:
    shown = wide * 0.203
    luminance = np.maximum(shown @ (0.2627, 0.6780, 0.0593), 1e-6)[..., None]
    scene = shown * luminance ** (1 / 1.2 - 1)
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


@pytest.mark.parametrize(("code", "curve"), [(16, _pq), (18, _hlg)])
def test_pictures_brighter_than_paper(code: int, curve: Callable[[np.ndarray], np.ndarray]) -> None:
    xyz = SRGB.light(np.asarray(picture()) / 255) @ SRGB.matrix().T
    wide = np.clip(xyz @ np.linalg.inv(BT2020.matrix()).T, 0, 1)
    numbers = np.rint(curve(wide) * 65535).astype(np.uint16)
    shown = patches(png(numbers, depth=16, notes=[(b"cICP", bytes([9, code, 0, 1]))]))
    # Pillow decodes to eight bits, which are coarse in the shades of PQ.
    assert np.abs(shown[:-1] - PATCHES[:-1]).mean() < 2
    assert np.abs(shown[0] - ORANGE).max() <= 2
    # White itself makes room for what is brighter.
    assert (shown[-1] > 240).all()
    glare = np.rint(curve(np.full((32, 192, 3), 4.0)) * 65535).astype(np.uint16)
    assert (patches(png(glare, depth=16, notes=[(b"cICP", bytes([9, code, 0, 1]))])) > 250).all()


@pytest.mark.parametrize(("space", "index"), [(65535, "R03"), (2, "R98")])
def test_adobe_rgb_by_exif_alone(space: int, index: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = space
    exif.get_ifd(0x8769)[0xA005] = {1: index}
    image = picture(ADOBE_RGB.of_srgb(PATCHES))
    data = encoded(image, "JPEG", exif=exif, **EXACT["JPEG"])
    assert np.abs(patches(data) - PATCHES).max() <= 3
    exif.get_ifd(0x8769)[0xA001], exif.get_ifd(0x8769)[0xA005] = 65535, {1: "R98"}
    data = encoded(picture(), "JPEG", exif=exif, **EXACT["JPEG"])
    assert np.abs(patches(data) - PATCHES).max() <= 2


@pytest.mark.parametrize("mode", ["shortest", "longest"])
def test_conversion_after_scaling_hardly_differs(mode: str) -> None:
    """What encoders read of a photograph, converted before and after it is scaled."""
    wishes = Preprocess(size=64, resize_mode=mode, fill=(90, 120, 200))  # type: ignore[arg-type]
    for space in (P3, ADOBE_RGB, PROPHOTO):
        data = encoded(photographs()[0].resize((400, 300)), "TIFF", icc_profile=space.profile())
        first = read_picture(data, max_pixels=LIMIT).image
        truth = resize(first, wishes).astype(int)
        pixels = decode_picture(data, wishes, max_pixels=LIMIT)[0][0].astype(int)
        assert np.abs(pixels - truth).mean() < 0.8
        assert np.percentile(np.abs(pixels - truth), 99) <= 8
        if mode == "longest":  # the padding is no part of the picture
            assert (pixels[0, 0] == (90, 120, 200)).all()


def test_profiles_that_are_none_are_said_and_ignored() -> None:
    good = P3.profile()
    without_light = bytearray(good)  # a sound profile of no primaries: all is black by it
    for tag in (b"rXYZ", b"gXYZ", b"bXYZ"):
        entry = good.index(tag, 128)
        place = int.from_bytes(good[entry + 4 : entry + 8], "big")
        without_light[place + 8 : place + 20] = bytes(12)
    torn = good[:132] + bytes(len(good) - 132)
    for broken in (b"\x00", b"nonsense" * 40, good[:200], torn, bytes(without_light)):
        shown = read_picture(encoded(picture(), "PNG", icc_profile=broken), max_pixels=LIMIT)
        assert (np.asarray(shown.image) == np.asarray(picture())).all()
        assert "colour profile cannot be read" in (shown.remark or "")
    # Of another kind of colour than the pixels.
    shown = read_picture(encoded(picture(), "PNG", icc_profile=grey_profile(1.0)), max_pixels=LIMIT)
    assert (np.asarray(shown.image) == np.asarray(picture())).all()
    assert "is for GRAY" in (shown.remark or "")
    grey = picture().convert("L")
    shown = read_picture(encoded(grey, "PNG", icc_profile=good), max_pixels=LIMIT)
    assert (np.asarray(shown.image.convert("L")) == np.asarray(grey)).all()


def test_profiles_with_flipped_bits_never_cost_the_picture() -> None:
    dice = random.Random(0)
    for source in (P3.profile(), grey_profile(1.0), _inks_profile()):
        mode = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}[source[16:20]]
        image = picture().convert(mode)
        for _ in range(20):
            flipped = bytearray(source)
            for _ in range(dice.randint(1, 8)):
                flipped[dice.randrange(len(flipped))] = dice.randrange(256)
            data = encoded(image, "TIFF", icc_profile=bytes(flipped))
            assert read_picture(data, max_pixels=LIMIT).image.size == image.size


def test_a_profile_in_parts_and_one_of_megabytes() -> None:
    large = bytearray(P3.profile())
    large += random.Random(0).randbytes(2 << 20)  # as a table that nobody reads
    large[:4] = struct.pack(">I", len(large))
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = encoded(picture(P3.of_srgb(PATCHES)), form, icc_profile=bytes(large), **EXACT[form])
        assert np.abs(patches(data) - PATCHES).max() <= 3, form


def test_thumbnails_show_the_same_colours(tmp_path: Path) -> None:
    image = picture(P3.of_srgb(PATCHES))
    (tmp_path / "a.png").write_bytes(encoded(image, "PNG", icc_profile=P3.profile()))
    hit = Hit(1, str(tmp_path / "a.png"), "image", 0.5, None, None, 7)
    write_sheet(tmp_path / "sheet.html", [hit], terms=[Term(text="orange")])
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", (tmp_path / "sheet.html").read_text())
    assert found
    shown = Image.open(io.BytesIO(base64.b64decode(found[1])))
    assert np.abs(np.asarray(shown.convert("RGB"), int)[16, 16] - ORANGE).max() <= 6


# ---------------------------------------------------------------- transparent colours of PNG


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth(depth: int) -> None:
    top = 2**depth - 1
    for key in {0, top // 2, top}:
        data = png(
            np.array([[0, top // 2, top]]), depth=depth, notes=[(b"tRNS", struct.pack(">H", key))]
        )
        expected = [255 if v == key else round(v * 255 / top) for v in (0, top // 2, top)]
        shown = np.asarray(read_picture(data, max_pixels=LIMIT).image)[0, :, 0]
        assert np.abs(shown - np.array(expected)).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_and_alpha_of_any_depth(depth: int) -> None:
    top = 2**depth - 1
    colours = np.array([[(top, 0, 0), (top // 2, top, 0)]])
    key = struct.pack(">HHH", top // 2, top, 0)
    data = png(colours, depth=depth, notes=[(b"tRNS", key)])
    assert np.asarray(read_picture(data, max_pixels=LIMIT).image)[0].tolist() == [
        [255, 0, 0],
        [255] * 3,
    ]
    alpha = np.concatenate([colours, [[[0], [top]]]], 2)
    shown = np.asarray(read_picture(png(alpha, depth=depth), max_pixels=LIMIT).image)[0]
    assert shown.tolist() == [[255] * 3, [127, 255, 0]]


def test_colour_multiplied_by_its_alpha() -> None:
    """As TIFF may hold it: half transparent red is (100, 0, 0, 128), and light red on white."""
    image = Image.new("RGBA", (8, 8), (100, 0, 0, 128))
    data = encoded(image, "TIFF").replace(
        struct.pack("<HHII", 338, 3, 1, 2), struct.pack("<HHII", 338, 3, 1, 1)
    )
    assert read_picture(data, max_pixels=LIMIT).image.getpixel((4, 4)) == pytest.approx(
        (227, 127, 127), abs=2
    )


def test_profiles_that_pillow_does_not_hand_on() -> None:
    profile, image = P3.profile(), picture(P3.of_srgb(PATCHES))
    plain = encoded(image, "BMP")
    pixels = plain[int.from_bytes(plain[10:14], "little") :]
    head = bytearray(plain[14:54]).ljust(124, b"\x00")
    head[:4], head[56:60] = struct.pack("<I", 124), b"DEBM"
    head[112:120] = struct.pack("<II", 124 + len(pixels), len(profile))
    size = 14 + 124 + len(pixels) + len(profile)
    front = b"BM" + struct.pack("<IHHI", size, 0, 0, 138)
    assert np.abs(patches(front + head + pixels + profile) - PATCHES).max() <= 2
    jp2 = encoded(image, "JPEG2000")
    place = jp2.index(b"colr") - 4
    length = int.from_bytes(jp2[place : place + 4], "big")
    box = b"colr\x02\x00\x00" + profile
    box = struct.pack(">I", 4 + len(box)) + box
    above = jp2.index(b"jp2h") - 4
    grown = int.from_bytes(jp2[above : above + 4], "big") - length + len(box)
    data = (
        jp2[:above]
        + struct.pack(">I", grown)
        + jp2[above + 4 : place]
        + box
        + jp2[place + length :]
    )
    assert np.abs(patches(data) - PATCHES).max() <= 2


ORDINARY = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000"]
ORDINARY += ["PPM", "TGA", "PCX", "SGI"]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("form", ORDINARY)
def test_nothing_is_remarked_upon_in_ordinary_pictures(form: str, mode: str) -> None:
    upright = read_picture(encoded(picture().convert(mode), form), max_pixels=LIMIT)
    assert (upright.remark, upright.to_srgb) == (None, None)

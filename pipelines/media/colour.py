"""What a picture's numbers mean: everything becomes sRGB, which encoders were trained on.

A file says its colour space by an ICC profile, by code points (CICP: ``nclx`` of AVIF and HEIC,
``cICP`` of PNG), by primaries and gamma (PNG), or by EXIF's sign for Adobe RGB. littleCMS converts
with relative colorimetric intent and black point compensation; pictures brighter than paper white
(PQ, HLG) are tone-mapped. Numbers that are sRGB's by any of these stay as they are, to the bit.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from maxsight.pipelines.media import icc

if TYPE_CHECKING:
    from PIL import ImageCms

# Profiles of printing presses take up to ten megabytes; more than this is none.
_MOST_PROFILE_BYTES = 1 << 24
_CACHED = 64

# Profiles that move no colour further than this many levels of 255 are sRGB, rounded by makers.
_ROUNDING = 2
# A curve that takes the middle grey no further than this scales pictures as sRGB's does: mixing
# neighbours before or after the conversion is the same to about a level.
_NEAR = 8
_MIDDLE = 128

Space = Literal["RGB", "GRAY", "CMYK", "Lab"]

_BROKEN = "its colour profile cannot be read; its colours are taken for sRGB"


@dataclass(frozen=True, eq=False)
class Conversion:
    """How numbers become sRGB.

    Attributes:
        convert: from a picture of the space's mode to one of mode RGB.
        late: the picture may be laid on white and scaled first. True of spaces like sRGB: three
            primaries, white at 255, a curve near sRGB's.
    """

    convert: Callable[[Image.Image], Image.Image]
    late: bool

    def pixels(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to the same."""
        return np.asarray(self.convert(Image.fromarray(np.ascontiguousarray(rgb))))


@dataclass(frozen=True, eq=False)
class Meaning:
    """What was found out about a picture's colours.

    Attributes:
        conversion: None if its numbers are sRGB's.
        remark: what a person should know.
    """

    conversion: Conversion | None = None
    remark: str | None = None


def meaning(image: Image.Image, data: bytes, *, adobe_rgb: bool) -> Meaning:
    """What the numbers of a picture mean.

    Args:
        image: as Pillow opened and loaded it.
        data: its file.
        adobe_rgb: EXIF says so.
    """
    space = _space(image)
    if space is None:
        return Meaning()
    cicp = _png_cicp(data) if image.format == "PNG" else None
    if cicp is not None and space == "RGB":
        return Meaning(by_code_points(*cicp))
    profile = image.info.get("icc_profile") or _profile_within(image, data)
    if profile:
        return _by_profile(bytes(profile), space)
    if space == "Lab":
        return _by_profile(_lab(), space)
    if space != "RGB" and space != "GRAY":
        return Meaning()
    if image.format == "PNG":
        return Meaning(_by_gamma(image.info))
    if image.format in ("AVIF", "HEIF"):
        nclx = _nclx(image, data)
        return Meaning(by_code_points(*nclx) if nclx else None)
    return Meaning(_adobe_rgb() if adobe_rgb and space == "RGB" else None)


def _space(image: Image.Image) -> Space | None:
    """The colour space a profile of that picture must have; None where no profile applies."""
    mode = image.mode
    if mode in ("RGB", "RGBA", "RGBX", "P", "PA"):
        return "RGB"
    if mode in ("L", "LA", "I") or mode.startswith("I;16"):
        return "GRAY"
    return {"CMYK": "CMYK", "LAB": "Lab"}.get(mode)  # type: ignore[return-value]


# ---------------------------------------------------------------- profiles

_known: dict[tuple[bytes, Space], Meaning] = {}


def _by_profile(profile: bytes, space: Space) -> Meaning:
    if len(profile) > _MOST_PROFILE_BYTES:
        return Meaning(remark=_BROKEN)
    key = hashlib.sha256(profile).digest(), space
    if key not in _known:
        if len(_known) >= _CACHED:
            _known.clear()
        _known[key] = _read(profile, space)
    return _known[key]


def _read(profile: bytes, space: Space) -> Meaning:
    from PIL import ImageCms

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        named = opened.profile.xcolor_space.strip()
        if named != space:
            # Grey pictures often carry the profile of the colour picture they were made from.
            odd = named != "RGB" or space != "GRAY"
            return Meaning(
                remark=f"its colour profile is for {named} and its pixels are {space}; "
                "its colours are taken for sRGB"
                if odd
                else None
            )
        mode = {"GRAY": "L", "Lab": "LAB"}.get(space, space)
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        match space:
            case "GRAY":
                return Meaning(_grey(transform))
            case "RGB":
                return Meaning(_three(transform, opened.profile.is_matrix_shaper))
        return Meaning(Conversion(transform.apply, late=False))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return Meaning(remark=_BROKEN)


def _three(transform: ImageCms.ImageCmsTransform, is_matrix: bool) -> Conversion | None:
    probe = _probe()
    shown = np.asarray(transform.apply(Image.fromarray(probe)), np.int16)
    _require_light_and_dark(shown[0, 0], shown[0, -1])
    moved = np.abs(shown - probe)
    if moved.max() <= _ROUNDING:
        return None
    # The last two of the probe are the middle grey and white.
    late = is_matrix and moved[0, -2].max() <= _NEAR and moved[0, -1].max() <= _ROUNDING
    return Conversion(transform.apply, late=bool(late))


@functools.cache
def _probe() -> np.ndarray:
    """Colours all over the cube and every 5th grey, (1, N, 3)."""
    levels = np.linspace(0, 255, 6).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    greys = np.repeat(np.arange(0, 256, 5)[:, None], 3, 1)
    return np.concatenate([cube, greys, [[128] * 3], [[255] * 3]])[None].astype(np.uint8)


def _grey(transform: ImageCms.ImageCmsTransform) -> Conversion | None:
    ramp = np.arange(256, dtype=np.uint8)
    table = np.asarray(transform.apply(Image.fromarray(ramp[None])))[0, :, 1]
    _require_light_and_dark(table[:1], table[-1:])
    moved = np.abs(table.astype(np.int16) - ramp)
    if moved.max() <= _ROUNDING:
        return None
    levels = table.tolist()

    def convert(image: Image.Image) -> Image.Image:
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return rgb.point(levels * 3)

    return Conversion(convert, late=bool(moved[128] <= _NEAR and moved[255] <= _ROUNDING))


def _require_light_and_dark(black: np.ndarray, white: np.ndarray) -> None:
    """Raises ValueError for a profile of zeros, say, by which everything is black or white."""
    if black.max() > _MIDDLE or white.min() < _MIDDLE:
        raise ValueError("it shows white dark, or black light")


def _lab() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


# ---------------------------------------------------------------- code points and gammas

PRIMARIES = {9: icc.BT2020, 11: icc.DCI_P3, 12: icc.DISPLAY_P3}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_PQ, _HLG = 16, 18


@functools.cache
def by_code_points(primaries: int, transfer: int) -> Conversion | None:
    """Code points of ITU-T H.273; unknown ones, and those of standard television, mean sRGB."""
    if transfer in (_PQ, _HLG):
        return _tone_mapped(PRIMARIES.get(primaries, icc.SRGB), transfer)
    if primaries not in PRIMARIES and transfer not in _GAMMAS:
        return None
    # BT.709's curve is that of cameras; viewers show it as they show sRGB.
    curve = _GAMMAS.get(transfer, icc.linear_srgb)
    found = icc.matrix_profile(PRIMARIES.get(primaries, icc.SRGB), curve)
    return _by_profile(found, "RGB").conversion


@functools.cache
def _adobe_rgb() -> Conversion | None:
    return _by_profile(icc.matrix_profile(icc.ADOBE_RGB, icc.ADOBE_GAMMA), "RGB").conversion


def _by_gamma(info: dict[str | tuple[int, int], object]) -> Conversion | None:
    """What the chunks sRGB, gAMA and cHRM of a PNG say; the first one outweighs the others."""
    gamma, xy = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or not isinstance(gamma, float):
        return None
    if not 0.1 <= gamma <= 2:
        return None
    # Within libpng's 5 % of 1/2.2 sRGB's own curve is meant.
    curve = icc.linear_srgb if abs(gamma * 2.2 - 1) < 0.05 else 1 / gamma
    primaries = icc.SRGB
    if isinstance(xy, tuple) and len(xy) == 8:
        white, *rest = ((float(xy[i]), float(xy[i + 1])) for i in range(0, 8, 2))
        primaries = rest[0], rest[1], rest[2], white
    try:
        return _by_profile(icc.matrix_profile(primaries, curve), "RGB").conversion
    except ValueError:  # impossible primaries
        return None


def _profile_within(image: Image.Image, data: bytes) -> bytes:
    """The profile of a format of which Pillow does not hand it on."""
    if image.format == "BMP" and data[70:74] == b"DEBM":  # PROFILE_EMBEDDED
        offset, size = (int.from_bytes(data[i : i + 4], "little") for i in (126, 130))
        return data[14 + offset : 14 + offset + size] if data[14] >= 124 else b""
    if image.format == "JPEG2000":
        offset = data.find(b"colr\x02", 0, 1 << 16)  # method 2: a restricted profile
        if offset < 4:  # most name sRGB or grey by a number
            return b""
        return data[offset + 7 : offset - 4 + int.from_bytes(data[offset - 4 : offset], "big")]
    return b""


def _png_cicp(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of a PNG's chunk cICP, which stands before its pixels."""
    offset = data.find(b"\x00\x00\x00\x04cICP", 8, 1 << 16)
    if not 0 <= offset < data.find(b"IDAT", 8):
        return None
    return data[offset + 8], data[offset + 9]


def _nclx(image: Image.Image, data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of an AVIF or HEIC."""
    named = image.info.get("nclx_profile")
    if isinstance(named, dict):
        return int(named["color_primaries"]), int(named["transfer_characteristics"])
    # Pillow keeps these of an AVIF to itself. The first box is that of the picture shown.
    offset = data.find(b"colrnclx", 0, 1 << 16)
    if offset < 0 or len(data) < offset + 12:
        return None
    codes = data[offset + 8 : offset + 12]
    return int.from_bytes(codes[:2], "big"), int.from_bytes(codes[2:], "big")


# ---------------------------------------------------------------- brighter than paper

# Light of reference white: 203 cd/m² (ITU-R BT.2408). HLG is shown as on a display of 1,000 cd/m².
_WHITE_NITS = 203.0
_HLG_NITS = 1000.0
_KNEE = 0.8
# Steps of light that are told apart, and pixels that are converted in one go.
_FINE = 1 << 16
_AT_A_TIME = 1 << 18


def _tone_mapped(primaries: icc.Primaries, transfer: int) -> Conversion:
    def convert(image: Image.Image) -> Image.Image:
        return Image.fromarray(tone_mapped(np.asarray(image), primaries, transfer))

    return Conversion(convert, late=True)


def tone_mapped(pixels: np.ndarray, primaries: icc.Primaries, transfer: int) -> np.ndarray:
    """From PQ or HLG: light up to 0.8 of reference white stays, what is brighter is rolled off.

    Args:
        pixels: (H, W, 3) uint8 or uint16.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    to_srgb = (np.linalg.inv(icc.to_xyz(icc.SRGB)) @ icc.to_xyz(primaries)).T.astype(np.float32)
    most = np.float32(np.iinfo(pixels.dtype).max)
    shown = np.empty(pixels.shape, np.uint8)
    rows = max(1, _AT_A_TIME // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        numbers = pixels[top : top + rows].astype(np.float32) / most
        light = rolled_off(light_of(numbers, transfer, primaries)) @ to_srgb
        shown[top : top + rows] = _levels()[
            (np.clip(light, 0, 1) * (_FINE - 1) + 0.5).astype(np.int32)
        ]
    return shown


@functools.cache
def _levels() -> np.ndarray:
    """sRGB's levels of light in fine steps, (_FINE,) uint8."""
    levels: np.ndarray = np.rint(255 * numbers_of(np.linspace(0, 1, _FINE))).astype(np.uint8)
    return levels


def light_of(numbers: np.ndarray, transfer: int, primaries: icc.Primaries) -> np.ndarray:
    """Light of a display, 1 is reference white, from PQ's or HLG's numbers in [0, 1], (..., 3)."""
    if transfer == _PQ:
        power = numbers ** (1 / 78.84375)
        ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        light: np.ndarray = 10000 / _WHITE_NITS * ratio ** (1 / 0.1593017578125)
        return light
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene: np.ndarray = np.where(
        numbers <= 0.5, numbers**2 / 3, (np.exp((numbers - c) / a) + b) / 12
    )
    luminance = scene @ icc.to_xyz(primaries)[1].astype(scene.dtype)
    shown: np.ndarray = scene * luminance[..., None] ** 0.2 * (_HLG_NITS / _WHITE_NITS)
    return shown


def rolled_off(light: np.ndarray) -> np.ndarray:
    """Light of any brightness within [0, 1]; hues stay."""
    peak = light.max(-1, keepdims=True)
    rest = 1 - _KNEE
    soft = _KNEE + rest * (1 - np.exp(-(np.maximum(peak, _KNEE) - _KNEE) / rest))
    shown: np.ndarray = light * np.where(peak > _KNEE, soft / np.maximum(peak, _KNEE), 1.0)
    return shown


def numbers_of(light: np.ndarray) -> np.ndarray:
    """sRGB's numbers from light, both in [0, 1]."""
    numbers: np.ndarray = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    )
    return numbers

"""From the bytes of a picture file to upright RGB pixels.

Runs in decoder processes on whatever the world has put into files: every failure of Pillow or of a
codec below it becomes a ``MediaError`` in a person's words.
"""

from __future__ import annotations

import importlib
import io
import math
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin

from maxsight.errors import MediaError
from maxsight.models.pixels.preprocess import Preprocess, resize, strip
from maxsight.pipelines.media import codings, colour, modes, notes, salvage, squares, tiff_tags
from maxsight.pipelines.media.files import AboveLimit, NotNow, TooHungry
from maxsight.pipelines.media.formats import (
    AVIF,
    CUR,
    HEIF,
    ICNS,
    ICO,
    JPEG,
    JPEG2000,
    PNG,
    TIFF,
    WEBP,
    PictureFormat,
    picture_format,
    stranger,
)

# A JPEG is decoded at a fraction of its size (1/2, 1/4, 1/8) that is still this many times what is
# asked for; the last step is the encoder's own filter. For photographs of 4,000 x 3,000 pixels
# and 224 this changes pixels by 0.12 of 255 grey levels on average and 2 at most, the built-in
# encoder's vectors by a cosine of 0.9996 at least, and takes 0.4 of the time.
_DRAFT_GAP = 3

Side = Literal["short", "long"]

# A row that long, or as many rows, takes codecs more memory and time than its pixels are worth.
_LONGEST_SIDE = 1_000_000

_NESTED_PNG = re.compile(rb"\x89PNG\r\n\x1a\n(?s:.{4})IHDR(?=(?s:.{8}))")

# A TIFF's strips or tiles.
_MOST_PIECES = 200_000

# A text or a colour profile in a PNG may take this much; Pillow's own limit, of 1 MiB, is below
# that of some profiles and refuses the whole picture.
_MOST_NOTE_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class UprightImage:
    """A decoded picture.

    Attributes:
        image: mode RGB, upright, transparency on white, possibly smaller than the file's picture.
        width, height: of the file's picture, upright, in pixels.
        captured_at: when the camera says it was taken.
        remark: what a person should know of a picture that was not read as it stands.
        to_srgb: makes the image's numbers sRGB's; None if they are.
        is_part: the image is what is left of a damaged picture, of another shape.
    """

    image: Image.Image
    width: int
    height: int
    captured_at: datetime | None
    remark: str | None = None
    to_srgb: colour.Conversion | None = None
    is_part: bool = False


def decode_picture(
    data: bytes, preprocess: Preprocess, *, max_pixels: int
) -> tuple[np.ndarray, UprightImage]:
    """Decode a file and scale it for an encoder.

    Args:
        data: the whole file.
        preprocess: the encoder's wishes.
        max_pixels: refuse what would have to be decoded at more pixels than this.

    Returns:
        (n, size, size, 3) uint8 pixels, sRGB, and the picture they were made from. The first is the
        whole picture as the encoder wants it; of a long one its squares follow.

    Raises:
        MediaError: not a picture, or damaged.
        NotNow: too large for the limits, or its codec is not installed.
    """
    fits = preprocess.resize_mode == "fit"  # such an encoder reads long pictures as they are

    def side_that_counts(width: int, height: int) -> Side:
        whole = squares.count(width, height) == 0 and preprocess.resize_mode == "longest"
        return "long" if whole else "short"

    upright = _read(data, preprocess.size, side_that_counts, max_pixels)
    image = upright.image
    full = image.size if upright.is_part else (upright.width, upright.height)
    number = 0 if fits else squares.count(*full)
    recolour = upright.to_srgb.pixels if upright.to_srgb else None
    squashing = replace(preprocess, resize_mode="squash")
    pieces = [resize(piece, squashing, recolour=recolour) for piece in squares.cut(image, number)]
    if preprocess.resize_mode == "shortest":
        image, full = _middle_of_strip(image), strip(*full)
    whole = resize(image, preprocess, full=full, recolour=recolour)
    return np.stack([whole, *pieces]), upright


def read_picture(
    data: bytes,
    *,
    side: int | None = None,
    max_pixels: int,
) -> UprightImage:
    """Decode a file to sRGB.

    Args:
        data: the whole file.
        side: pixels that will be needed of the longer side; a larger picture may be returned
            smaller, but never below three times this. None decodes at full size.
        max_pixels: refuse what would have to be decoded at more pixels than this.

    Raises:
        MediaError: not a picture, or damaged.
        NotNow: too large for the limits, or its codec is not installed.
    """
    upright = _read(data, side, lambda width, height: "long", max_pixels)
    if upright.to_srgb is None:
        return upright
    return replace(upright, image=upright.to_srgb.convert(upright.image), to_srgb=None)


def _read(
    data: bytes, side: int | None, of: Callable[[int, int], Side], max_pixels: int
) -> UprightImage:
    form = picture_format(data)
    if form is None:
        raise MediaError(f"not a picture but {stranger(data)}")
    data = salvage.without_blanks(data, form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused or tolerated here
        image, full, kept = _decoded_or_salvaged(data, form, side, of, max_pixels)
        try:
            modes.scale_key(image, data)
            said = notes.read(image)
            meaning = colour.meaning(image, data, adobe_rgb=said.adobe_rgb)
            late = meaning.conversion
            if late is not None and not late.late:
                rgb, late = modes.on_white(modes.converted(image, late)), None
            else:
                rgb = modes.on_white(modes.eight_bits(image))
            if kept is not None and kept.share < 1:
                rgb = salvage.mended(rgb, kept.known)
            if said.orientation in _TURNS:
                rgb = rgb.transpose(_TURNS[said.orientation])
        except MediaError:
            raise
        except Exception as error:  # what Pillow cannot convert
            raise _refusal(error, full, form, data) from None
    remarks = [meaning.remark]
    is_part = kept is not None and kept.share < 1
    if kept is not None:
        remarks.insert(0, kept.remark)
    if form is TIFF and (tags := tiff_tags.first_directory(data)) and codings.is_raw(tags):
        remarks.append(
            f"a raw photograph: what was read is its preview of {full[0]:,} x {full[1]:,} pixels"
        )
    # A TIFF is turned by Pillow itself, on loading; its size then already is the upright one.
    width, height = full if said.orientation < 5 else (full[1], full[0])
    remark = "; ".join(filter(None, remarks)) or None
    return UprightImage(rgb, width, height, said.captured_at, remark, late, is_part)


def _decoded_or_salvaged(
    data: bytes,
    form: PictureFormat,
    side: int | None,
    of: Callable[[int, int], Side],
    max_pixels: int,
) -> tuple[Image.Image, tuple[int, int], salvage.Salvaged | None]:
    """A loaded picture, the file's size, and what is known of it if it is not whole."""
    full = (0, 0)

    def opened(content: bytes) -> Image.Image:
        nonlocal full
        image = _open(content, form, max_pixels)
        full = image.size
        _refuse_nothing(full, form)
        if form is JPEG and side is not None:
            image.draft(None, _scaled(full, side * _DRAFT_GAP, of(*full)))
        # A progressive JPEG is held in memory whole, however small the draft made from it.
        _refuse_giant(full if "progressive" in image.info else image.size, full, form, max_pixels)
        return image

    trouble: MediaError | None = None
    try:
        image = opened(data)
        image.load()
        if form is not JPEG or not salvage.in_doubt(data, image):
            return image, full, None
    except NotNow:
        raise
    except MediaError as error:
        trouble = error
    except Exception as error:  # plugins raise whatever damaged bytes lead them to
        trouble = _refusal(error, full, form, data)
        if isinstance(trouble, NotNow):
            raise trouble from None
    if trouble is not None and (odd := codings.coding(data, form)):
        full = (odd.width, odd.height)
        _refuse_nothing(full, form)
        _refuse_giant(full, full, form, max_pixels)
        return _oddly_coded(odd, form), full, None
    try:
        kept = salvage.salvage(data, form, opened)
    except MemoryError:
        raise _too_hungry(full, form) from None
    if trouble is None and kept is None:
        return image, full, None
    if trouble is not None and (kept is None or not kept.known.any()):
        raise trouble from None
    assert kept is not None
    cause = "truncated" if trouble is None else str(trouble).partition(":")[0]
    if kept.share < salvage.LEAST_SHARE:
        raise MediaError(
            f"{cause}: only {100 * kept.share:.0f} % of the {form.name} picture can be decoded; "
            "copy it again"
        )
    return kept.image, full, replace(kept, cause=cause)


def _oddly_coded(odd: codings.Coding, form: PictureFormat) -> Image.Image:
    if odd.read is not None:
        try:
            image = odd.read()
            if image.size == (odd.width, odd.height):
                return image
        except MemoryError:
            raise _too_hungry((odd.width, odd.height), form) from None
        except Exception:  # codecs raise whatever the bytes lead them to
            raise MediaError(
                f"{odd.words}, and cannot be decoded: damaged, or of a kind that is not read here; "
                "convert it to PNG, or copy it again"
            ) from None
    raise MediaError(
        f"{odd.words}, which cannot be read here; convert it to PNG or JPEG to have it indexed"
    )


def _open(data: bytes, form: PictureFormat, max_pixels: int) -> Image.Image:
    try:
        plugin = importlib.import_module(form.plugin)
    except ImportError:
        raise NotNow(
            f"{_named(form)}, and no codec for it is installed; "
            "pip install 'maxsight[heif]' and run again"
        ) from None
    if form is HEIF:
        plugin.register_heif_opener(thumbnails=False)
    if form is PNG:
        PngImagePlugin.MAX_TEXT_CHUNK = _MOST_NOTE_BYTES
    if form is TIFF:
        _refuse_pieces(data, form, max_pixels)
    if form in (ICO, CUR, ICNS):
        _refuse_nested(data, form, max_pixels)
    if form is WEBP and data[12:16] == b"VP8X":
        # libwebp reserves the whole canvas on opening, before Pillow can tell its size.
        canvas = tuple(int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        _refuse_giant(canvas, canvas, form, max_pixels)
    try:
        # Not Image.open: its limit on pixels comes before JPEG draft scaling.
        make, _ = Image.OPEN[form.pillow]
        return make(io.BytesIO(data), "")
    except MemoryError:
        raise _too_hungry(None, form) from None
    except Exception as error:  # as above
        raise _damage(error, form, data) from None


def _refuse_pieces(data: bytes, form: PictureFormat, max_pixels: int) -> None:
    """Refuse a TIFF by its directory, before Pillow makes an object for each of its pieces."""
    tags = tiff_tags.first_directory(data)
    if tags is None:
        return
    size = tags.value(tiff_tags.WIDTH, 0), tags.value(tiff_tags.HEIGHT, 0)
    _refuse_giant(size, size, form, max_pixels)
    pieces = max(tags.count(tiff_tags.STRIP_OFFSETS), tags.count(tiff_tags.TILE_OFFSETS))
    if pieces > _MOST_PIECES:
        raise MediaError(f"a TIFF picture in {pieces:,} pieces; save it anew from another program")


def _named(form: PictureFormat) -> str:
    article = "an" if form.name[0] in "AEIOaeio" or form.name in ("SGI", "XBM", "XPM") else "a"
    return f"{article} {form.name} picture"


def _refuse_nested(data: bytes, form: PictureFormat, max_pixels: int) -> None:
    """Refuse an icon by the PNGs in it, which Pillow decodes to tell their size."""
    for found in _NESTED_PNG.finditer(data):
        size = struct.unpack_from(">II", data, found.end())
        _refuse_giant(size, size, form, max_pixels)


def _refusal(
    error: Exception, size: tuple[int, int], form: PictureFormat, data: bytes
) -> MediaError:
    """What stands in a person's report for an error of Pillow."""
    # Pillow's code for an allocation that failed is -9.
    if isinstance(error, MemoryError) or "decoder error -9" in str(error):
        return _too_hungry(size, form)
    return _damage(error, form, data)


def _refuse_nothing(size: tuple[int, int], form: PictureFormat) -> None:
    if min(size) < 1:
        raise MediaError(f"{_named(form)} of {size[0]:,} x {size[1]:,} pixels shows nothing")


def _refuse_giant(
    size: tuple[int, ...], full: tuple[int, ...], form: PictureFormat, max_pixels: int
) -> None:
    if max(full) > _LONGEST_SIDE:
        raise MediaError(
            f"{_named(form)} of {full[0]:,} x {full[1]:,} pixels; no picture has a side of "
            f"more than {_LONGEST_SIDE:,}; cut it into pieces"
        )
    if math.prod(size) > max_pixels:
        raise AboveLimit(
            f"{_named(form)} of {full[0]:,} x {full[1]:,} pixels, above the limit of "
            f"{max_pixels / 1e6:,.0f} million pixels; scale it down, or raise MAXSIGHT_MAX_PIXELS "
            "and run again",
            "pixels",
        )


def _too_hungry(size: tuple[int, int] | None, form: PictureFormat) -> MediaError:
    extent = f" of {size[0]:,} x {size[1]:,} pixels" if size else ""
    return TooHungry(
        f"{_named(form)}{extent} that takes more memory to decode than is allowed; "
        "scale it down, or raise MAXSIGHT_MEMORY or MAXSIGHT_MAX_PIXELS and run again"
    )


def _damage(error: Exception, form: PictureFormat, data: bytes) -> MediaError:
    words = str(error).lower()
    if "truncated" in words or "end of file" in words or _ends_early(data, form):
        return MediaError(f"truncated: the {form.name} data ends too early; copy it again")
    return MediaError(f"damaged: its {form.name} data cannot be decoded; copy it again")


def _ends_early(data: bytes, form: PictureFormat) -> bool:
    """Whether a file is shorter than its own table of contents says."""
    if form is WEBP:
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if form is TIFF:
        return int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") >= len(data)
    if form is JPEG2000:
        return salvage.size_by_tiles(data) > len(data)
    return form in (AVIF, HEIF) and salvage.size_by_boxes(data) > len(data)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _scaled(size: tuple[int, int], side: int, of: Side) -> tuple[int, int]:
    """``size`` scaled until its ``of`` side is ``side`` pixels."""
    scale = side / (min(size) if of == "short" else max(size))
    return max(1, math.ceil(size[0] * scale)), max(1, math.ceil(size[1] * scale))


def _middle_of_strip(image: Image.Image) -> Image.Image:
    width, height = strip(*image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))

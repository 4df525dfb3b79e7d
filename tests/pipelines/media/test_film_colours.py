"""Films as viewers show them: HDR tone-mapped, transparency on white, ranges and matrices read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("av")

import av

from maxsight.pipelines.media.video import frame_at, sample_frames

WIDTH, HEIGHT = 192, 128
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.088, 0.8956]])
BT2020 = (0.2627, 0.0593)
COLOURS = [
    (200, 40, 40),
    (50, 150, 60),
    (40, 70, 190),
    (224, 172, 140),
    (120, 180, 235),
    (130, 130, 130),
]


def scene() -> np.ndarray:
    """Six colours below reference white, (H, W, 3) uint8."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        row, column = divmod(number, 3)
        pixels[row * 64 : (row + 1) * 64, column * 64 : (column + 1) * 64] = colour
    return pixels


def patches(image: Image.Image | np.ndarray) -> np.ndarray:
    """The mean colour in the middle of each of the six, (6, 3)."""
    pixels = np.asarray(image, float).reshape(2, 64, 3, 64, 3)[:, 20:44, :, 20:44]
    found: np.ndarray = pixels.mean(axis=(1, 3)).reshape(6, 3)
    return found


def light(pixels: np.ndarray) -> np.ndarray:
    values = pixels / 255.0
    found: np.ndarray = np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )
    return found


def pq(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10000) ** 0.1593017578125
    found: np.ndarray = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    return found


def hlg(nits: np.ndarray) -> np.ndarray:
    """As on a display of 1,000 cd/m²."""
    shown = nits / 1000
    luminance = np.maximum(shown @ np.array([0.2627, 0.678, 0.0593]), 1e-6)
    scene_light = shown * luminance[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    high = a * np.log(np.maximum(12 * scene_light - b, 1e-9)) + c
    found: np.ndarray = np.where(scene_light <= 1 / 12, np.sqrt(3 * scene_light), high)
    return found


def planes(
    numbers: np.ndarray, *, weights: tuple[float, float], bits: int, full: bool = False
) -> list[np.ndarray]:
    """Y, Cb, Cr of (H, W, 3) R'G'B' in [0, 1], not subsampled."""
    red, blue = weights
    y = numbers @ np.array([red, 1 - red - blue, blue])
    chroma = [(numbers[..., 2] - y) / (2 - 2 * blue), (numbers[..., 0] - y) / (2 - 2 * red)]
    scale, most = 1 << bits - 8, (1 << bits) - 1
    if full:
        found = [y * most, *(c * most + (most + 1) / 2 for c in chroma)]
    else:
        found = [(y * 219 + 16) * scale, *((c * 224 + 128) * scale for c in chroma)]
    kind = np.uint8 if bits == 8 else np.uint16
    return [np.clip(np.round(part), 0, most).astype(kind) for part in found]


def write(
    path: Path, parts: list[np.ndarray], *, primaries: int, transfer: int, matrix: int, full: int
) -> Path:
    """A film of one still whose code points are those of ITU-T H.273."""
    pixels = "yuv444p" if parts[0].dtype == np.uint8 else "yuv444p10le"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        frame = av.VideoFrame(WIDTH, HEIGHT, pixels)
        for plane, part in zip(frame.planes, parts, strict=True):
            padded = np.zeros((HEIGHT, plane.line_size), np.uint8)
            raw = part.view(np.uint8).reshape(HEIGHT, -1)
            padded[:, : raw.shape[1]] = raw
            plane.update(padded.tobytes())
        for holder in (frame, stream.codec_context):
            holder.color_primaries, holder.color_trc = primaries, transfer
            holder.colorspace, holder.color_range = matrix, full
        for number in range(5):
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("curve", ["pq", "hlg"])
@pytest.mark.parametrize("primaries", [9, 2])
def test_films_brighter_than_paper_look_like_others(
    curve: str, primaries: int, tmp_path: Path
) -> None:
    nits = 203 * (light(scene()) @ TO_BT2020.T)
    numbers, transfer = (pq(nits), 16) if curve == "pq" else (hlg(nits), 18)
    path = write(
        tmp_path / "bright.mkv",
        planes(numbers, weights=BT2020, bits=10),
        primaries=primaries,
        transfer=transfer,
        matrix=9,
        full=1,
    )
    assert np.abs(patches(frame_at(path, 0)) - patches(scene())).max() < 7.65  # 3 %
    (frame,) = sample_frames(path, size=64)
    assert frame.image.size == (96, 64)


def test_light_above_white_is_rolled_off(tmp_path: Path) -> None:
    nits = (
        np.zeros((HEIGHT, WIDTH, 3))
        + np.array([100, 203, 600, 2000])[np.arange(WIDTH) // 48][None, :, None]
    )
    path = write(
        tmp_path / "ramp.mkv",
        planes(pq(nits), weights=BT2020, bits=10),
        primaries=9,
        transfer=16,
        matrix=9,
        full=1,
    )
    levels = np.asarray(frame_at(path, 0), float).reshape(HEIGHT, 4, 48, 3).mean(axis=(0, 2, 3))
    assert levels[0] == pytest.approx(184, abs=3)  # half of white's light
    assert 235 < levels[1] < levels[2] <= levels[3] <= 255


def test_wide_primaries_become_standard_ones(tmp_path: Path) -> None:
    wide = np.clip(light(scene()) @ TO_BT2020.T, 0, 1)
    numbers = np.where(wide <= 0.0031308, 12.92 * wide, 1.055 * wide ** (1 / 2.4) - 0.055)
    path = write(
        tmp_path / "wide.mkv",
        planes(numbers, weights=BT2020, bits=10),
        primaries=9,
        transfer=14,
        matrix=9,
        full=1,
    )
    assert np.abs(patches(frame_at(path, 0)) - patches(scene())).max() < 6


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize(
    ("matrix", "weights"), [(1, (0.2126, 0.0722)), (6, (0.299, 0.114)), (5, (0.299, 0.114))]
)
def test_ranges_and_matrices_of_ordinary_films(
    matrix: int, weights: tuple[float, float], bits: int, full: bool, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "ordinary.mkv",
        planes(scene() / 255.0, weights=weights, bits=bits, full=full),
        primaries=matrix,
        transfer=matrix,
        matrix=matrix,
        full=2 if full else 1,
    )
    assert np.abs(patches(frame_at(path, 0)) - patches(scene())).max() < 4


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_hidden_colours_of_transparent_films_stay_hidden(codec: str, tmp_path: Path) -> None:
    """FFmpeg's own decoders of VP8 and VP9 drop the transparency."""
    disc = Image.new("RGBA", (160, 120), (0, 255, 0, 0))
    ImageDraw.Draw(disc).ellipse((40, 20, 120, 100), fill=(200, 30, 30, 255))
    path = tmp_path / "sticker.webm"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuva420p"
        for _ in range(15):
            frame = av.VideoFrame.from_ndarray(np.asarray(disc), format="rgba")
            container.mux(stream.encode(frame.reformat(format="yuva420p")))
        container.mux(stream.encode(None))
    shown = Image.new("RGB", disc.size, "white")
    shown.paste(disc, mask=disc.getchannel("A"))
    frames = [frame.image for frame in sample_frames(path, fps=2)]
    assert len(frames) == 3
    for image in [*frames, frame_at(path, 1.2)]:
        assert np.abs(np.asarray(image, float) - np.asarray(shown, float)).mean() < 4

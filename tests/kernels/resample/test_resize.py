"""Scaled pictures against Pillow's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from maxsight.kernels import resample
from maxsight.kernels.resample import batched
from maxsight.kernels.resample.weights import Filter

FILTERS: dict[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def by_pillow(pixels: np.ndarray, width: int, height: int, filter_: Filter) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[filter_]))


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Black and white points: every overshoot of the filter is cut off."""
    draw = np.random.default_rng(height * 1000 + width)
    shape = (height, width, channels)
    return (draw.integers(0, 2, shape) * 255).astype(np.uint8)


sides = st.integers(1, 150)


def test_it_is_compiled_here() -> None:
    # Else the tests below would compare Pillow with itself.
    assert resample.available()


@given(sides, sides, sides, sides, st.sampled_from(list(FILTERS)))
def test_bit_for_bit(height: int, width: int, rows: int, columns: int, filter_: Filter) -> None:
    pixels = noise(height, width)
    scaled = resample.resize(pixels, columns, rows, filter_)
    assert np.array_equal(scaled, by_pillow(pixels, columns, rows, filter_))


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(4000, 3, 2, 224), (3, 4000, 224, 1), (1, 1, 224, 224), (2000, 3000, 224, 336)],
)
def test_extreme_shapes(height: int, width: int, rows: int, columns: int) -> None:
    pixels = noise(height, width)
    scaled = resample.resize(pixels, columns, rows, "bicubic")
    assert np.array_equal(scaled, by_pillow(pixels, columns, rows, "bicubic"))


@given(sides, sides, sides, sides, st.data())
def test_a_window_is_a_part_of_the_whole(
    height: int, width: int, rows: int, columns: int, draw: st.DataObject
) -> None:
    left, top = draw.draw(st.integers(0, columns - 1)), draw.draw(st.integers(0, rows - 1))
    right = draw.draw(st.integers(left + 1, columns))
    bottom = draw.draw(st.integers(top + 1, rows))
    pixels = noise(height, width)
    whole = resample.resize(pixels, columns, rows, "bicubic")
    part = resample.resize(pixels, columns, rows, "bicubic", window=(left, top, right, bottom))
    assert np.array_equal(part, whole[top:bottom, left:right])


def test_memory_may_have_a_fourth_byte_and_gaps() -> None:
    padded = noise(90, 80, 4)
    expected = resample.resize(np.ascontiguousarray(padded[..., :3]), 33, 21, "bicubic")
    assert np.array_equal(resample.resize(padded, 33, 21, "bicubic"), expected)
    part = noise(120, 100, 4)[7:97, 11:91]
    expected = by_pillow(np.ascontiguousarray(part[..., :3]), 33, 21, "bicubic")
    assert np.array_equal(resample.resize(part, 33, 21, "bicubic"), expected)
    mirrored = noise(90, 80)[:, ::-1]
    expected = by_pillow(np.ascontiguousarray(mirrored), 33, 21, "bicubic")
    assert np.array_equal(resample.resize(mirrored, 33, 21, "bicubic"), expected)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_cannot_be_scaled(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8|without pixels"):
        resample.resize(pixels, 2, 2, "bicubic")


def test_a_window_outside() -> None:
    with pytest.raises(ValueError, match="window"):
        resample.resize(noise(9, 9), 5, 5, "bicubic", window=(0, 0, 6, 5))


@pytest.mark.parametrize("filter_", list(FILTERS))
def test_matrix_products_are_at_most_a_grey_level_apart(filter_: Filter) -> None:
    astronaut = data.astronaut()  # type: ignore[no-untyped-call]
    pictures = np.stack([astronaut, astronaut[::-1]])
    scaled = batched.resize(
        torch.from_numpy(pictures), 300, 224, filter_, window=(38, 0, 262, 224)
    ).numpy()
    for picture, got in zip(pictures, scaled):
        expected = by_pillow(picture, 300, 224, filter_)[:, 38:262]
        difference = np.abs(got.astype(int) - expected)
        assert difference.max() <= 1
        # 512 pixels to 224 by triangles: many sums lie at a half.
        assert (difference > 0).mean() < (1e-2 if filter_ == "bilinear" else 1e-4)


def test_decoders_need_no_torch() -> None:
    code = "import sys, maxsight.models.pixels.preprocess; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""From a picture to the square that an encoder reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from launches import counted
from PIL import Image
from skimage import data

from maxsight.models.pixels import pillow_memory
from maxsight.models.pixels.preprocess import (
    Preprocess,
    normalize,
    resize,
    resize_batch,
    resize_by_products,
)

CPU = torch.device("cpu")
MODES = ["shortest", "longest", "squash"]


def pictures() -> list[Image.Image]:
    coffee = Image.fromarray(data.coffee())  # type: ignore[no-untyped-call]
    return [
        coffee,
        coffee.crop((10, 0, 130, 390)),
        coffee.resize((70, 55)),
        coffee.resize((64, 64)),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_matrix_products_give_the_same_square(mode: str) -> None:
    """What a GPU computes, in the same places and with the same borders."""
    preprocess = Preprocess(64, resize_mode=mode, fill=(9, 90, 200))  # type: ignore[arg-type]
    for picture in pictures():
        expected = resize(picture, preprocess).astype(int)
        got = resize_by_products(picture, preprocess, device=CPU).numpy()
        assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_its_pictures(mode: str) -> None:
    preprocess = Preprocess(64, resize_mode=mode)  # type: ignore[arg-type]
    some = [*pictures(), pictures()[0].convert("L"), pictures()[0].convert("RGBA")]
    batch = resize_batch(some, preprocess, device=CPU)
    assert batch.shape == (6, 64, 64, 3)
    for square, picture in zip(batch.numpy(), some):
        assert np.array_equal(square, resize(picture.convert("RGB"), preprocess))


def test_edges_lie_where_the_full_picture_has_them() -> None:
    """A draft's rounded sides must not move the borders of a letterbox."""
    preprocess = Preprocess(100, resize_mode="longest", fill=(255, 0, 0))
    full = Image.new("RGB", (1000, 333), "white")
    draft = full.resize((250, 84))
    borders = (resize(draft, preprocess, full=full.size) == (255, 0, 0)).all(2)
    assert np.array_equal(borders, (resize(full, preprocess) == (255, 0, 0)).all(2))
    assert not np.array_equal(borders, (resize(draft, preprocess) == (255, 0, 0)).all(2))


@pytest.mark.parametrize("size", [(5, 3), (2500, 2000)])
def test_pillows_memory_is_read_in_place_or_copied(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    pixels = pillow_memory.pixels(picture)
    del picture  # the array must keep what it shows alive
    assert np.array_equal(pixels[..., :3], noise)


def test_normalising_brings_no_numbers_from_the_host() -> None:
    """On a GPU such a copy waits for what was asked before; the numbers are the same to the bit."""
    preprocess = Preprocess(size=4, mean=(0.48, 0.45, 0.4), std=(0.26, 0.27, 0.275))
    pixels = torch.arange(48, dtype=torch.uint8).view(1, 4, 4, 3)
    found: list[torch.Tensor] = []
    seen = counted(lambda: found.append(normalize(pixels, preprocess)))
    assert seen
    assert not [name for name in seen if "lift_fresh" in name]
    scale = torch.tensor([255.0 * s for s in preprocess.std])
    shift = torch.tensor([m / s for m, s in zip(preprocess.mean, preprocess.std)])
    assert torch.equal(found[0], (pixels / scale - shift).permute(0, 3, 1, 2))

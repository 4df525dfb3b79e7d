"""Half precision beside float32: how far results move, and what they are handed on as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maxsight.models.open_clip.encoder import load
from maxsight.models.options import Options
from maxsight.models.precision import arithmetic, unit

# Of a network in half precision to itself in float32, at least (maxsight.models.precision).
COSINE_TO_FLOAT32 = {torch.float16: 0.999, torch.bfloat16: 0.99}
TEXTS = ["a red bus in the rain", "two dogs", "one " * 30]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "dtype", "source"),
    [
        ("tiny-vit-l-14", torch.bfloat16, None),
        ("tiny-vit-l-14", torch.float16, None),
        ("tiny-vit-l-14", torch.bfloat16, "value"),
        ("tiny-vit-l-14", torch.float16, "value"),
        ("tiny-vit-l-14", torch.bfloat16, "self"),
        ("tiny-vit-l-14", torch.float16, "self"),
        ("tiny-siglip", torch.bfloat16, None),
        ("tiny-siglip", torch.float16, None),
        ("tiny-eva", torch.bfloat16, None),
    ],
)
def test_half_precision_stays_within_the_bound(
    name: str, dtype: torch.dtype, source: str | None, folders: dict[str, Path]
) -> None:
    place, options = f"local-dir:{folders[name]}", Options(tokens=source)
    exact = load(place, options=options, device="cpu")
    half = load(place, options=options, device="cpu", dtype=dtype)
    assert exact.dtype == torch.float32
    assert half.dtype == dtype
    assert half.fingerprint == exact.fingerprint
    size = exact.preprocess.size
    pixels = torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8)
    pairs = [
        (half.encode_images(pixels, tokens=True), exact.encode_images(pixels, tokens=True)),
        (half.encode_text(TEXTS, tokens=True), exact.encode_text(TEXTS, tokens=True)),
    ]
    for low, full in pairs:
        assert low.tokens is not None
        assert full.tokens is not None
        for found, expected in ((low.vectors, full.vectors), (low.tokens, full.tokens)):
            assert found.dtype == torch.float32
            assert (found * expected).sum(1).min() >= COSINE_TO_FLOAT32[dtype]


def test_merging_in_half_precision_keeps_whole_sizes(folders: dict[str, Path]) -> None:
    """Sizes are counted in float32: bfloat16 knows no 257."""
    place, options = f"local-dir:{folders['tiny-eva']}", Options(merge="21")
    encoder = load(place, options=options, device="cpu", dtype=torch.bfloat16)
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    found = encoder.encode_images(pixels, tokens=True)
    assert found.sizes is not None
    assert found.sizes.dtype == torch.float32
    assert found.sizes.sum() == 2 * 256
    assert found.sizes.equal(found.sizes.round())


def test_storing_moves_a_vector_by_less_than_a_millionth() -> None:
    vectors = unit(torch.randn(1000, 512, generator=torch.Generator().manual_seed(0)))
    stored = vectors.to(torch.float16).double()
    cosine = (stored * vectors.double()).sum(1) / stored.norm(dim=1) / vectors.double().norm(dim=1)
    assert cosine.min() > 1 - 1e-6


def test_unit_rows_whatever_they_came_as() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        rows = unit((100 * torch.randn(9, 64)).to(dtype))
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(9))
    assert unit(torch.zeros(2, 3)).equal(torch.zeros(2, 3))


def test_the_policy() -> None:
    for fits in (True, False):
        assert arithmetic(torch.device("cpu"), fits_float16=fits) == torch.float32
    assert arithmetic(torch.device("cuda"), fits_float16=True) == torch.float16
    assert arithmetic(torch.device("cuda"), fits_float16=False) == torch.bfloat16

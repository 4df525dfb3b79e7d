"""Bitmaps of allowed rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from launches import counted

from maxsight.kernels import bitmap

masks = st.integers(0, 130).flatmap(
    lambda rows: st.lists(st.booleans(), min_size=rows, max_size=rows)
)


@given(masks)
def test_unpack_undoes_pack(mask: list[bool]) -> None:
    rows = torch.tensor(mask, dtype=torch.bool)
    packed = bitmap.pack(rows)
    assert packed.dtype == torch.uint8
    assert packed.shape == (-(-len(mask) // 8),)
    assert torch.equal(bitmap.unpack(packed, len(mask)), rows)


@given(masks)
def test_bits_stand_where_the_docstring_says(mask: list[bool]) -> None:
    packed = bitmap.pack(torch.tensor(mask, dtype=torch.bool)).tolist()
    for row, wanted in enumerate(mask):
        assert bool(packed[row // 8] >> row % 8 & 1) == wanted
    assert sum(byte.bit_count() for byte in packed) == sum(mask), "bits past the rows are zero"


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 63, 123])
def test_a_row_a_query(rows: int) -> None:
    mask = torch.rand(5, rows, generator=torch.Generator().manual_seed(rows)) < 0.5
    packed = bitmap.pack(mask)
    assert packed.shape == (5, -(-rows // 8))
    assert torch.equal(bitmap.unpack(packed, rows), mask)


def test_checked_takes_masks_and_bitmaps_alike() -> None:
    mask = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) < 0.5
    for given_mask in (mask, mask[0]):
        packed = bitmap.pack(given_mask)
        for form in (given_mask, packed, packed.repeat_interleave(2, dim=-1)[..., ::2]):
            found = bitmap.checked(form, rows=20, queries=3)
            assert found is not None
            assert found.is_contiguous()
            assert torch.equal(found, packed)
    assert bitmap.checked(None, rows=20, queries=3) is None


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(19, dtype=torch.bool),
        torch.ones(2, 20, dtype=torch.bool),
        torch.ones(4, dtype=torch.uint8),
        torch.ones(20, dtype=torch.uint8),
        torch.ones(20),
        torch.ones(20, dtype=torch.int64),
    ],
)
def test_checked_names_what_is_wrong(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"\(20,\) or \(3, 20\).*3 bytes") as raised:
        bitmap.checked(wrong, rows=20, queries=3)
    assert str(wrong.dtype) in str(raised.value)


def test_no_numbers_come_from_the_host() -> None:
    """On a GPU such a copy waits for the device, and no graph can hold it."""
    mask = torch.ones(16, dtype=torch.bool)
    packed = bitmap.pack(mask)
    for seen in (counted(lambda: bitmap.pack(mask)), counted(lambda: bitmap.unpack(packed, 11))):
        assert seen
        assert not [name for name in seen if "lift_fresh" in name]

"""Ball carving against loops."""

from __future__ import annotations

import fde_naive
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from topics import topic_documents
from torch import Tensor
from torch.nn.functional import normalize

from maxsight.kernels import fde


def unit(count: int, dim: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dim, generator=generator), dim=1)


@pytest.mark.parametrize("room", ["reference", "cpu"])
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.sampled_from([0.3, 0.7, 0.95]),
    st.integers(0, 1000),
)
def test_equals_the_loops(room: str, lengths: list[int], threshold: float, seed: int) -> None:
    offsets = torch.nn.functional.pad(torch.tensor(lengths).cumsum(0), (1, 0))
    tokens = unit(sum(lengths), 3, seed=seed).double()  # float64: no product is near the threshold
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXSIGHT_KERNELS", room)
        sums, ends, source = fde.carve(tokens, offsets, threshold=threshold)
    groups = fde_naive.groups(tokens.numpy(), offsets.tolist(), threshold)
    assert len(sums) == len(groups)
    for place, group in enumerate(groups):
        torch.testing.assert_close(sums[place], tokens[group].sum(0))
        assert source[group].eq(place).all()
    owners = torch.bucketize(torch.tensor([group[0] for group in groups]), offsets, right=True) - 1
    assert ends.diff().tolist() == torch.bincount(owners.long(), minlength=len(lengths)).tolist()


def test_extremes() -> None:
    tokens = unit(9, 16)
    offsets = torch.tensor([0, 0, 4, 9])
    sums, ends, source = fde.carve(tokens, offsets, threshold=1.1)
    assert torch.equal(sums, tokens)
    assert torch.equal(ends, offsets)
    assert torch.equal(source, torch.arange(9))
    sums, ends, _ = fde.carve(tokens, offsets, threshold=-1.1)
    assert ends.tolist() == [0, 0, 1, 2]
    torch.testing.assert_close(sums, torch.stack([tokens[:4].sum(0), tokens[4:].sum(0)]))
    sums, ends, source = fde.carve(tokens[:0], torch.tensor([0]))
    assert (sums.shape, ends.tolist(), source.shape) == ((0, 16), [0], (0,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype: torch.dtype) -> None:
    tokens = torch.full((3000, 4), 0.5, dtype=dtype)
    sums, _, _ = fde.carve(tokens, torch.tensor([0, 3000]))
    assert sums.dtype == dtype
    assert torch.equal(sums, torch.full((1, 4), 1500, dtype=dtype))


def test_maxsim_of_sums_is_nearly_that_of_tokens() -> None:
    queries, documents = topic_documents(100)
    offsets = torch.arange(101) * queries.shape[1]
    sums, ends, _ = fde.carve(queries.flatten(0, 1), offsets, threshold=0.5)
    assert len(sums) < 0.7 * offsets[-1]
    exact = torch.einsum("qad,nbd->qnab", queries, documents).amax(3).sum(2)
    products = torch.einsum("gd,nbd->gnb", sums, documents).amax(2)
    lengths = ends.diff()
    found = torch.segment_reduce(products, "sum", lengths=lengths)
    assert (found.argmax(1) == exact.argmax(1)).float().mean() > 0.95
    assert (found <= exact + 1e-4).all()  # one answer for a group cannot beat one for each token


def test_is_a_proper_operator() -> None:
    arguments = (unit(20, 8), torch.tensor([0, 12, 12, 20]), 0.5)
    torch.library.opcheck(torch.ops.maxsight.fde_carve.default, arguments)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="sum L, d"):
        fde.carve(torch.ones(3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="rise"):
        fde.carve(torch.ones(3, 2), torch.tensor([0, 4]))

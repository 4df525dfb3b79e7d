"""Merging of batches against ToMe written as loops, and what must hold of any merging."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tome import assert_is_tome, one_hot

from maxsight.kernels import merge

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 63])
@pytest.mark.parametrize("protected", [0, 1, 2, 5])
def test_is_tome(dtype: torch.dtype, count: int, protected: int) -> None:
    draw = torch.Generator().manual_seed(count)
    tokens = torch.randn(2, count, 48, generator=draw).to(dtype)
    metric = torch.randn(2, count, 16, generator=draw).to(dtype)
    sizes = torch.randint(1, 9, (2, count), generator=draw).float()
    for r in (0, 13, 1000):
        assert_is_tome(tokens, r, metric=metric, sizes=sizes, protected=protected)
    assert_is_tome(tokens, 13, protected=protected, weighted=False)


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize(("count", "dim"), [(123, 512), (197, 64), (197, 96)])
def test_is_tome_at_the_sizes_of_transformers(count: int, dim: int) -> None:
    draw = torch.Generator().manual_seed(count)
    tokens, metric = torch.randn(1, count, 48), torch.randn(1, count, dim, generator=draw)
    assert_is_tome(tokens, 13, metric=metric)


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("protected", [0, 1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_ties_go_to_the_lower_place(protected: int, seed: int) -> None:
    metric = one_hot(3, 41, 3, seed=seed)
    tokens = torch.randn(3, 41, 5, generator=torch.Generator().manual_seed(seed))
    for r in (1, 7, 20):
        assert_is_tome(tokens, r, metric=metric, protected=protected)


@pytest.mark.usefixtures("room")
def test_tokens_of_size_zero_are_averaged_plainly() -> None:
    metric = torch.ones(1, 4, 1)
    tokens = torch.tensor([[[1.0], [3.0], [5.0], [9.0]]])
    assert_is_tome(
        tokens, 2, metric=metric, sizes=torch.tensor([[0.0, 0.0, 0.0, 1.0]]), protected=0
    )


@pytest.mark.usefixtures("room")
def test_what_is_not_a_number_is_nobodys_partner() -> None:
    metric = torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(0))
    metric[0, 5], metric[0, 6] = math.nan, math.inf
    source = merge.merge(torch.randn(1, 12, 3), 4, metric=metric, protected=1).source[0].tolist()
    assert source.count(source[5]) == 1
    assert source.count(source[6]) == 1
    # With every A asked to merge, it joins the first it may.
    full = merge.merge(torch.randn(1, 12, 3), 5, metric=metric, protected=2).source[0].tolist()
    assert full[6] == full[3]


def test_empty_batches_and_channels() -> None:
    assert merge.merge(torch.ones(0, 9, 4), 3).tokens.shape == (0, 6, 4)
    assert merge.merge(torch.ones(0, 9, 4), 3).source.shape == (0, 9)
    merged = merge.merge(torch.ones(2, 9, 0), 3, metric=torch.randn(2, 9, 4))
    assert merged.tokens.shape == (2, 6, 0)
    assert merge.merge(torch.randn(2, 9, 4), 3, metric=torch.ones(2, 9, 0)).sizes.sum() == 18


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(0, 60),
    r=st.integers(0, 40),
    protected=st.integers(0, 4),
    seed=st.integers(0, 2**20),
)
def test_what_always_holds(count: int, r: int, protected: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, count, 3, generator=draw)
    sizes = torch.randint(1, 5, (2, count), generator=draw).float()
    merged = merge.merge(tokens, r, sizes=sizes, protected=protected)
    assert torch.equal(merged.sizes.sum(1), sizes.sum(1))
    total = (merged.tokens * merged.sizes[..., None]).sum(1)
    torch.testing.assert_close(total, (tokens * sizes[..., None]).sum(1), atol=1e-4, rtol=1e-5)
    heads = min(protected, count)
    assert torch.equal(merged.tokens[:, :heads], tokens[:, :heads])
    assert torch.equal(merged.source[:, :heads], torch.arange(heads).expand(2, heads))

    back = merged.tokens.gather(1, merged.source[..., None].expand_as(tokens))
    group = torch.zeros_like(merged.sizes).scatter_add_(
        1, merged.source, torch.ones(merged.source.shape)
    )
    alone = group.gather(1, merged.source) == 1
    assert torch.equal(back[alone], tokens[alone])
    assert int((~alone).sum()) <= 2 * 2 * min(r, max(count - protected, 0) // 2)


def test_the_same_bits_whatever_the_threads() -> None:
    tokens = torch.randn(8, 197, 64, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = merge.merge(tokens, 98)
        torch.set_num_threads(3)
        three = merge.merge(tokens, 98)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.tokens, three.tokens)
    assert torch.equal(one.source, three.source)


def test_strides_are_free() -> None:
    tokens = torch.randn(48, 3, 40, generator=torch.Generator().manual_seed(0)).permute(1, 2, 0)
    assert_is_tome(tokens, 9, metric=tokens[..., ::3])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((torch.ones(3, 4), 1), {}),
        ((torch.ones(1, 3, 4, dtype=torch.int64), 1), {}),
        ((torch.ones(1, 3, 4), -1), {}),
        ((torch.ones(1, 3, 4), 1), {"protected": -1}),
        ((torch.ones(1, 3, 4), 1), {"sizes": torch.ones(1, 4)}),
        ((torch.ones(1, 3, 4), 1), {"metric": torch.ones(1, 4, 4)}),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple, options: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="must be"):
        merge.merge(*arguments, **options)

"""Proportional attention against plain attention over repeated tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxsight.kernels import merge
from maxsight.kernels.check.tolerance import assert_close


def repeated(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    """Plain softmax attention in float64, every key and value ``sizes`` times over."""
    rows = []
    for image, counts in enumerate(sizes.long()):
        k, v = (x[image].double().repeat_interleave(counts, dim=1) for x in (key, value))
        logits = query[image].double() @ k.transpose(-1, -2) / query.shape[-1] ** 0.5
        rows.append(logits.softmax(-1) @ v)
    return torch.stack(rows)


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("queries", "keys", "dim"), [(1, 1, 48), (63, 123, 64), (5, 197, 96), (7, 2, 1)]
)
def test_counts_keys_as_often_as_they_stand(
    dtype: torch.dtype, queries: int, keys: int, dim: int
) -> None:
    draw = torch.Generator().manual_seed(keys)
    query = torch.randn(2, 3, queries, dim, generator=draw).to(dtype)
    key, value = torch.randn(2, 2, 3, keys, dim, generator=draw).to(dtype)
    sizes = torch.randint(1, 12, (2, keys), generator=draw)
    found = merge.attention(query, key, value, sizes)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert_close("attention", found, repeated(query, key, value, sizes), dtype)


@settings(deadline=None, max_examples=25)
@given(
    pairs=st.integers(1, 20),
    copies=st.integers(1, 20),
    protected=st.integers(0, 2),
    seed=st.integers(0, 2**20),
)
def test_merging_exact_duplicates_changes_nothing(
    pairs: int, copies: int, protected: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    count = protected + 2 * pairs
    tokens = torch.randn(2, count, 16, generator=draw)
    a = [place for place in range(protected, count) if place % 2 == 0]
    b = [place for place in range(protected, count) if place % 2 == 1]
    copies = min(copies, len(a))
    for place in torch.randperm(len(a), generator=draw)[:copies].tolist():
        tokens[:, a[place]] = tokens[:, b[int(torch.randint(len(b), (), generator=draw))]]
    layer = torch.randn(3, 16, 16, generator=draw) / 4

    def heads(x: Tensor, weight: Tensor) -> Tensor:
        return (x @ weight).view(*x.shape[:2], 2, 8).transpose(1, 2)

    def attended(x: Tensor, sizes: Tensor) -> Tensor:
        query, key, value = (heads(x, weight) for weight in layer)
        return merge.attention(query, key, value, sizes)

    before = attended(tokens, torch.ones(2, count))
    merged = merge.merge(tokens, copies, protected=protected)
    after = attended(merged.tokens, merged.sizes)
    joined = after.transpose(1, 2).flatten(2)
    after = joined.gather(1, merged.source[..., None].expand(-1, -1, joined.shape[2]))
    torch.testing.assert_close(after, before.transpose(1, 2).flatten(2), atol=2e-5, rtol=1e-4)


@pytest.mark.usefixtures("room")
def test_size_zero_hides_a_key() -> None:
    query, key, value = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[1.0, 2.0, 0.0, 1.0, 0.0, 3.0, 1.0, 1.0, 0.0]])
    value[:, :, sizes[0] == 0] = 1e9
    found = merge.attention(query, key, value, sizes)
    assert_close("attention", found, repeated(query, key, value, sizes), torch.float32)
    assert torch.equal(merge.attention(query, key, value, 0 * sizes), torch.zeros(1, 2, 9, 8))


@pytest.mark.usefixtures("room")
def test_nothing_to_attend_to() -> None:
    query, none = torch.ones(2, 3, 5, 8), torch.ones(2, 3, 0, 8)
    assert torch.equal(
        merge.attention(query, none, none, torch.ones(2, 0)), torch.zeros(2, 3, 5, 8)
    )
    assert merge.attention(none, query, query, torch.ones(2, 5)).shape == none.shape
    empty = torch.ones(0, 3, 5, 8)
    assert merge.attention(empty, empty, empty, torch.ones(0, 5)).shape == empty.shape


@pytest.mark.usefixtures("room")
def test_strides_are_free_and_the_scale_is_given() -> None:
    packed = torch.randn(2, 33, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    sizes = torch.randint(1, 5, (2, 33), generator=torch.Generator().manual_seed(1))
    found = merge.attention(query, key, value, sizes, scale=0.5)
    expected = repeated(query * (0.5 * 8**0.5), key, value, sizes)
    assert_close("attention", found, expected, torch.float32)


@pytest.mark.parametrize(
    ("key", "sizes", "match"),
    [
        (torch.ones(1, 2, 3, 5), torch.ones(1, 3), "must be"),
        (torch.ones(1, 2, 3, 4).double(), torch.ones(1, 3), "one floating dtype"),
        (torch.ones(1, 2, 3, 4), torch.ones(1, 4), "sizes must be"),
        (torch.ones(2, 3, 4), torch.ones(1, 3), "must be"),
    ],
)
def test_wrong_arguments_are_refused(key: Tensor, sizes: Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        merge.attention(torch.ones(1, 2, 3, 4), key, key, sizes)

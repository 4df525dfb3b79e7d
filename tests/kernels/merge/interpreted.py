"""The Triton room in the interpreter, against the truths of the other rooms.

tests/kernels/merge/test_gpu.py starts this file.
"""

from __future__ import annotations

import pytest
import torch
from tome import assert_is_tome, one_hot

from maxsight.errors import BackendError
from maxsight.kernels import merge
from maxsight.kernels.check.tolerance import assert_close
from maxsight.kernels.merge import reference

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 150])
def test_is_tome(dtype: torch.dtype, count: int) -> None:
    draw = torch.Generator().manual_seed(count)
    tokens = torch.randn(2, count, 48, generator=draw).to(dtype)
    metric = torch.randn(2, count, 64, generator=draw).to(dtype)
    sizes = torch.randint(1, 9, (2, count), generator=draw).float()
    for r in (1, 1000):
        assert_is_tome(tokens, r, metric=metric, sizes=sizes)


@pytest.mark.parametrize("protected", [0, 1, 2, 5])
@pytest.mark.parametrize("weighted", [True, False])
def test_protected_tokens_and_several_blocks_of_channels(protected: int, weighted: bool) -> None:
    tokens = torch.randn(1, 150, 300, generator=torch.Generator().manual_seed(0))
    assert_is_tome(tokens, 40, protected=protected, weighted=weighted)


@pytest.mark.parametrize("protected", [0, 1, 2])
def test_ties_go_to_the_lower_place(protected: int) -> None:
    metric = one_hot(1, 271, 3, seed=protected)
    tokens = torch.randn(1, 271, 5, generator=torch.Generator().manual_seed(0))
    for r in (60, 135):
        assert_is_tome(tokens, r, metric=metric, protected=protected)


def test_sizes_of_zero_and_what_is_not_a_number() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [5.0], [9.0]]])
    sizes = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert_is_tome(tokens, 2, metric=torch.ones(1, 4, 1), sizes=sizes, protected=0)
    metric = torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(0))
    metric[0, 5], metric[0, 6] = torch.nan, torch.inf
    source = merge.merge(torch.randn(1, 12, 3), 4, metric=metric).source[0].tolist()
    assert source.count(source[5]) == source.count(source[6]) == 1


@pytest.mark.parametrize("protected", [0, 3])
def test_documents_of_any_length(protected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [0, 1, 63, 2, 300, 0, 17, 16, 5]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    tokens = torch.randn(sum(lengths), 80, generator=torch.Generator().manual_seed(0))
    found = merge.reduce(tokens, offsets, 16, protected=protected)
    monkeypatch.setenv("MAXSIGHT_KERNELS", "reference")
    expected = merge.reduce(tokens, offsets, 16, protected=protected)
    assert torch.equal(found.source, expected.source)
    assert torch.equal(found.offsets, expected.offsets)
    assert torch.equal(found.sizes, expected.sizes)
    assert_close("tokens", found.tokens, expected.tokens, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("queries", "keys", "dim"), [(1, 1, 48), (63, 123, 64), (70, 33, 80), (5, 40, 128)]
)
def test_attention(dtype: torch.dtype, queries: int, keys: int, dim: int) -> None:
    draw = torch.Generator().manual_seed(keys)
    query = torch.randn(2, queries, 2, dim, generator=draw).to(dtype).transpose(1, 2)
    key, value = torch.randn(2, 2, 2, keys, dim, generator=draw).to(dtype)
    sizes = torch.randint(0, 12, (2, keys), generator=draw).float()
    sizes[:, 0] = 2
    found = merge.attention(query, key, value, sizes)
    wide = (query.double(), key.double(), value.double(), sizes.double())
    assert_close("attention", found, reference.attention(*wide, dim**-0.5), dtype)


def test_attention_of_wide_heads() -> None:
    query, key, value = torch.randn(3, 1, 1, 9, 200).bfloat16().unbind()
    sizes = torch.randint(1, 5, (1, 9))
    found = merge.attention(query, key, value, sizes)
    wide = (query.double(), key.double(), value.double(), sizes.double())
    assert_close("attention", found, reference.attention(*wide, 200**-0.5), torch.bfloat16)


def test_attention_to_nothing_is_zero() -> None:
    query = torch.randn(1, 2, 9, 8)
    assert not merge.attention(query, query, query, torch.zeros(1, 9)).any()
    none = torch.ones(1, 2, 0, 8)
    assert not merge.attention(query, none, none, torch.ones(1, 0)).any()


def test_gradients_flow() -> None:
    tokens = torch.randn(2, 9, 4, requires_grad=True)
    merged = merge.merge(tokens, 3, weighted=False)
    merged.tokens.sum().backward()  # type: ignore[no-untyped-call]
    counts = torch.zeros(2, 6).scatter_add_(1, merged.source, torch.ones(2, 9))
    assert tokens.grad is not None
    expected = counts.gather(1, merged.source).reciprocal()[..., None].expand(2, 9, 4)
    torch.testing.assert_close(tokens.grad, expected)


def test_other_dtypes_and_wide_heads_are_refused() -> None:
    with pytest.raises(BackendError, match="float64"):
        merge.merge(torch.randn(1, 9, 4, dtype=torch.float64), 3)
    for dtype, dim, most in ((torch.float32, 129, 128), (torch.float16, 257, 256)):
        wide = torch.ones(1, 1, 2, dim, dtype=dtype)
        with pytest.raises(BackendError, match=f"up to {most}"):
            merge.attention(wide, wide, wide, torch.ones(1, 2))

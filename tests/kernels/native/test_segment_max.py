"""Segment maxima on every instruction set, against products in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxsight.errors import BackendError
from maxsight.kernels import native
from maxsight.kernels.check.tolerance import assert_close
from maxsight.kernels.native import binding

LENGTHS = (0, 1, 63, 123, 5, 0, 12, 13, 25, 700)
INFINITY = float("inf")


def case(dtype: torch.dtype, dim: int, queries: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, offsets and queries."""
    generator = torch.Generator().manual_seed(dim * 100 + queries)
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    shapes = [(int(offsets[-1]), dim), (queries, dim)]
    if dtype == torch.int8:
        rows, query = (torch.randint(-128, 128, shape, generator=generator) for shape in shapes)
    else:
        rows, query = (torch.randn(shape, generator=generator) for shape in shapes)
    return rows.to(dtype), offsets, query.to(dtype)


def maxima(
    rows: Tensor,
    offsets: Tensor,
    queries: Tensor,
    *,
    row_scale: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """(S, Q): the sums over groups of one query each."""
    each = torch.arange(len(queries) + 1)
    return native.segment_max_sum(
        rows, offsets, queries, each, row_scale=row_scale, segments=segments
    )


def truth(rows: Tensor, offsets: Tensor, queries: Tensor, scale: Tensor | None) -> Tensor:
    scores = rows.double() @ queries.double().T
    if scale is not None:
        scores *= scale.double()[:, None]
    edges = offsets.tolist()
    none = torch.full((1, len(queries)), -INFINITY, dtype=torch.float64)
    return torch.stack(
        [torch.cat([scores[a:b], none]).amax(0) for a, b in itertools.pairwise(edges)]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("dim", [1, 3, 48, 96, 123, 128, 512, 2048])
@pytest.mark.parametrize("queries", [1, 17, 33, 77])
def test_equals_the_products(engine: str, dtype: torch.dtype, dim: int, queries: int) -> None:
    rows, offsets, query = case(dtype, dim, queries)
    scale = torch.randn(len(rows), generator=torch.Generator().manual_seed(1))
    for factor in (None, scale):
        found = maxima(rows, offsets, query, row_scale=factor)
        assert_close("maxima", found, truth(rows, offsets, query, factor), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_sums_over_groups_of_chosen_segments(engine: str, dtype: torch.dtype) -> None:
    rows, offsets, query = case(dtype, 48, 37)
    segments = torch.tensor([3, 0, 1, 3])
    groups = torch.tensor([0, 0, 1, 20, 37])
    weight = torch.randn(37, generator=torch.Generator().manual_seed(2))
    found = native.segment_max_sum(
        rows, offsets, query, groups, query_weight=weight, segments=segments
    )
    weighed = truth(rows, offsets, query, None)[segments] * weight
    weighed[1] = -torch.inf  # no rows, whatever the weights
    expected = torch.stack([weighed[:, a:b].sum(1) for a, b in itertools.pairwise(groups)], 1)
    assert expected[1].tolist() == [0, -torch.inf, -torch.inf, -torch.inf]
    assert_close("sums", found, expected, torch.float32)
    chosen = maxima(rows, offsets, query, segments=segments)
    assert torch.equal(chosen, maxima(rows, offsets, query)[segments])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_places_are_the_first_of_the_largest(engine: str, dtype: torch.dtype) -> None:
    rows, offsets, queries = case(dtype, 48, 37)
    rows[100:150] = rows[50:100].clone()  # equals, in one document and across a border
    count = len(LENGTHS)
    places = torch.full((37, count + 1), 99, dtype=torch.int32)
    groups = torch.tensor([0, 37])
    scores = native.segment_max_sum(rows, offsets, queries, groups, places=places[:, :count])
    assert torch.equal(scores, native.segment_max_sum(rows, offsets, queries, groups))
    assert (places[:, count] == 99).all()
    products = maxima(rows, torch.arange(len(rows) + 1), queries)
    for number, (first, last) in enumerate(itertools.pairwise(offsets.tolist())):
        if first == last:
            assert (places[:, number] == -1).all()
            continue
        best = (products[first:last] == products[first:last].amax(0)).int().argmax(0)
        assert torch.equal(places[:, number].long(), best)
    chosen = torch.tensor([6, 0, 2])
    some = torch.empty(37, 3, dtype=torch.int32)
    native.segment_max_sum(rows, offsets, queries, groups, segments=chosen, places=some)
    assert torch.equal(some, places[:, chosen])


def test_the_largest_int8_numbers_do_not_overflow(engine: str) -> None:
    rows = torch.full((5, 4096), -128, dtype=torch.int8)
    found = maxima(rows, torch.tensor([0, 5]), rows[:1])
    assert found.tolist() == [[128.0 * 128 * 4096]]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_threads_and_panels_change_nothing(engine: str, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 2500), min_size=1, max_size=6))
    threads = data.draw(st.sampled_from([1, 2, 3]))
    dim = data.draw(st.sampled_from([2, 31, 128]))
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = torch.randint(-3, 4, (sum(lengths), dim), generator=generator).float()
    query = torch.randint(-3, 4, (5, dim), generator=generator).float()
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = maxima(rows, offsets, query)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.double(), truth(rows, offsets, query, None))


def test_wrong_arguments_are_refused() -> None:
    rows, offsets, query = case(torch.float32, 8, 3)
    with pytest.raises(ValueError, match="rows must be"):
        maxima(rows.half(), offsets, query)
    with pytest.raises(ValueError, match="queries must be"):
        maxima(rows, offsets, query.bfloat16())
    with pytest.raises(ValueError, match="offsets must be"):
        maxima(rows, offsets.int(), query)
    with pytest.raises(ValueError, match="row_scale must be"):
        maxima(rows, offsets, query, row_scale=torch.ones(3))
    wide, across = (torch.empty(shape, dtype=torch.int32) for shape in ((3, 4), (len(LENGTHS), 3)))
    groups = torch.tensor([0, 3])
    with pytest.raises(ValueError, match="places must be"):
        native.segment_max_sum(rows, offsets, query, groups, places=wide)
    with pytest.raises(ValueError, match="adjacent"):
        native.segment_max_sum(rows, offsets, query, groups, places=across.T)


def test_offsets_outside_the_rows_are_refused() -> None:
    rows, _, query = case(torch.float32, 8, 3)
    for offsets in ([0, len(rows) + 1], [-1, 3], [0, 5, 3]):
        with pytest.raises(ValueError, match="offsets"):
            maxima(rows, torch.tensor(offsets), query)
    with pytest.raises(ValueError, match="segments"):
        maxima(rows, torch.tensor([0, 3]), query, segments=torch.tensor([1]))
    with pytest.raises(ValueError, match="query_offsets"):
        native.segment_max_sum(rows, torch.tensor([0, 3]), query, torch.tensor([0, 4]))


def test_without_the_library_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "find_library", lambda: None)
    binding.engine.cache_clear()
    try:
        assert native.available() is None
        with pytest.raises(BackendError, match="compiler"):
            maxima(torch.ones(1, 1), torch.tensor([0, 1]), torch.ones(1, 1))
    finally:
        binding.engine.cache_clear()

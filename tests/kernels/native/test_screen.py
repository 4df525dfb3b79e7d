"""What a MaxSim screen is made of, on every instruction set: rounding, bounds and the search."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxsight.kernels import native

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8]


def tokens(count: int, dim: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, dim, generator=generator)
    return (drawn * 40).clamp(-127, 127).to(dtype) if dtype == torch.int8 else drawn.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 31, 128, 200])
def test_dithering_rounds_to_a_neighbour(engine: str, dtype: torch.dtype, dim: int) -> None:
    rows = tokens(50, dim, dtype)
    scale = torch.randn(50)
    rows[7] = 0
    values, step, norm = native.dither(rows, 3, scale=scale)
    given = rows.double() * scale.double()[:, None]
    assert torch.allclose(step.double(), given.abs().amax(1) / 127, rtol=1e-6)
    rounded = values.double() * step.double()[:, None]
    assert ((rounded - given).abs() <= step.double()[:, None] * (1 + 1e-4)).all()
    assert torch.allclose(norm.double(), rounded.norm(dim=1), rtol=1e-5)
    again = native.dither(rows, 3, scale=scale)
    assert torch.equal(values, again[0])
    if dim > 1 and dtype == torch.float32:
        assert not torch.equal(values, native.dither(rows, 4, scale=scale)[0])


def test_dithering_is_right_in_the_mean_and_independent(engine: str) -> None:
    one = torch.tensor([127.0, 0.25, -0.25, 3.5, -7.9, 0.0, 60.01])
    values, step, _ = native.dither(one.repeat(40_000, 1), 9)
    assert (step == 1).all()
    error = values.double() - one.double()
    # Of 40,000 draws of standard deviation below 0.5 each, the mean is within six of its own.
    assert error.mean(0).abs().max() < 6 * 0.5 / 200
    spread = error[:, [1, 2, 3, 4]]
    assert torch.allclose(
        spread.var(0), torch.tensor([0.1875, 0.1875, 0.25, 0.09]).double(), atol=0.01
    )
    near = torch.corrcoef(torch.cat([spread[:-1], spread[1:]], 1).T)
    assert (near - torch.eye(8).double()).abs().max() < 0.04


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 48, 128])
def test_the_gram_bound_is_above_the_largest_eigenvalue_and_near_it(
    engine: str, dtype: torch.dtype, dim: int
) -> None:
    lengths = [0, 1, 5, 32, 77, 300]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows, scale = tokens(sum(lengths), dim, dtype), torch.rand(sum(lengths))
    scale[1:3] = 0
    bound = native.gram_bound(rows, offsets, scale=scale)
    for number, (first, last) in enumerate(itertools.pairwise(offsets.tolist())):
        given = rows[first:last].double() * scale[first:last].double()[:, None]
        top = float(torch.linalg.matrix_norm(given, 2)) ** 2 if last > first else 0.0
        assert top <= float(bound[number]) <= 1.11 * top


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_places_are_the_first_of_the_largest(engine: str, dtype: torch.dtype) -> None:
    lengths = [0, 1, 63, 123, 5, 0, 700]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows, queries = tokens(sum(lengths), 48, dtype), tokens(37, 48, dtype, seed=1)
    rows[100:150] = rows[50:100].clone()  # equals, in one document and across a border
    places = torch.full((37, 8), 99, dtype=torch.int32)
    groups = torch.tensor([0, 37])
    scores = native.segment_max_sum(rows, offsets, queries, groups, places=places[:, :7])
    assert torch.equal(scores, native.segment_max_sum(rows, offsets, queries, groups))
    assert (places[:, 7] == 99).all()
    products = native.segment_max(rows, torch.arange(len(rows) + 1), queries)
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


def test_a_rise_is_added_to_products_of_int8_numbers(engine: str) -> None:
    rows, queries = tokens(100, 31, torch.int8), tokens(5, 31, torch.int8, seed=1)
    offsets, scale = torch.tensor([0, 40, 100]), torch.rand(100)
    groups, sums = torch.arange(6), rows.sum(1, dtype=torch.int32)
    products = rows.double() @ queries.double().T
    for known in (None, sums):
        for rise in (0.0, 300.0):
            found = native.segment_max_sum(
                rows, offsets, queries, groups, row_scale=scale, row_sums=known, rise=rise
            )
            raised = (products + rise * scale.double()[:, None]) * scale.double()[:, None]
            least = torch.stack([raised[:40].amax(0), raised[40:].amax(0)])
            assert (found.double() >= least - 1e-3).all()
            assert (found.double() <= least + (1 + 1e-3 if rise else 1e-3)).all()
    with pytest.raises(ValueError, match="int8 rows"):
        native.segment_max_sum(rows.float(), offsets, queries.float(), groups, rise=1.0)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_the_screened_search_equals_a_sort(engine: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int8]))
    lengths = data.draw(st.lists(st.sampled_from([0, 1, 7, 40]), min_size=1, max_size=60))
    asked = data.draw(st.lists(st.sampled_from([0, 1, 9, 40]), min_size=1, max_size=3))
    k = data.draw(st.integers(1, len(lengths)))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    query_offsets = torch.tensor([0, *asked]).cumsum(0)
    rows, queries = tokens(sum(lengths), 24, dtype), tokens(sum(asked), 24, dtype, seed=1)
    weight = torch.rand(sum(asked)) if data.draw(st.booleans()) else None
    shape = data.draw(st.sampled_from([None, (len(lengths),), (len(asked), len(lengths))]))
    allowed = None if shape is None else torch.rand(shape) < data.draw(st.sampled_from([0.1, 0.7]))
    values, step, norm = native.dither(rows, 5)
    largest = torch.zeros(2, len(lengths))
    for number, (first, last) in enumerate(itertools.pairwise(offsets.tolist())):
        if last > first:
            largest[:, number] = torch.stack([step[first:last], norm[first:last]]).amax(1)
    sums = values.sum(1, dtype=torch.int32)
    coarse = native.Coarse(values, step, sums, offsets, largest[0], largest[1])
    scores, indices = native.screened_topk(
        queries,
        query_offsets,
        rows,
        coarse,
        k,
        allowed=allowed,
        weight=weight,
        row_scale=None,
        seed=6,
        certainty=27.7,
    )
    exact = native.segment_max_sum(rows, offsets, queries, query_offsets, query_weight=weight).T
    if allowed is not None:
        exact = exact.masked_fill(~allowed.expand_as(exact), -torch.inf)
    best, order = exact.sort(dim=1, descending=True, stable=True)
    assert torch.equal(scores, best[:, :k])
    assert torch.equal(indices, order[:, :k].masked_fill(best[:, :k] == -torch.inf, -1))


@pytest.mark.parametrize("k", [0, 3, -1])
def test_as_many_as_there_are(k: int) -> None:
    rows, offsets = tokens(9, 8, torch.float32), torch.tensor([0, 4, 9])
    values, step, _ = native.dither(rows, 5)
    sums = values.sum(1, dtype=torch.int32)
    coarse = native.Coarse(values, step, sums, offsets, torch.ones(2), torch.ones(2))

    def search() -> tuple[torch.Tensor, torch.Tensor]:
        return native.screened_topk(
            rows,
            offsets,
            rows,
            coarse,
            k,
            allowed=None,
            weight=None,
            row_scale=None,
            seed=6,
            certainty=27.7,
        )

    if k == 0:
        assert search()[0].shape == (2, 0)
        return
    with pytest.raises(ValueError, match="between 0 and the 2 documents"):
        search()


def test_wrong_arguments_are_refused() -> None:
    rows, offsets = tokens(9, 8, torch.float32), torch.tensor([0, 4, 9])
    with pytest.raises(ValueError, match="rows must be"):
        native.dither(rows.double(), 1)
    with pytest.raises(ValueError, match="scale must be"):
        native.dither(rows, 1, scale=torch.ones(3))
    with pytest.raises(ValueError, match="offsets"):
        native.gram_bound(rows, torch.tensor([0, 10]))
    wide, across = (torch.empty(shape, dtype=torch.int32) for shape in ((9, 3), (2, 9)))
    with pytest.raises(ValueError, match="places must be"):
        native.segment_max_sum(rows, offsets, rows, offsets, places=wide)
    with pytest.raises(ValueError, match="adjacent"):
        native.segment_max_sum(rows, offsets, rows, offsets, places=across.T)

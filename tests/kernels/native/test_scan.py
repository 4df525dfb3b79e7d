"""Scans on every instruction set: what a screen passes over must not belong to the answer.

A pair has one score, bit for bit, however it was found. With k = N nothing can be passed over, so
the first of those scores are what any smaller k must find.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxsight.kernels import bitmap, int8, native
from maxsight.kernels.native import binding, search

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int8]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def database(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Rows in a dtype, with their scales where it is int8."""
    if dtype != torch.int8:
        return rows.to(dtype), None
    return int8.rounded(rows)


def check(
    queries: Tensor, rows: Tensor, k: int, allowed: Tensor | None, scale: Tensor | None
) -> None:
    """The k best are the first of all, and these are in order and right."""
    mask = None if allowed is None else bitmap.pack(allowed)
    scores, indices = native.topk(queries, rows, len(rows), allowed=mask, scale=scale)
    truth = queries.double() @ rows.double().T
    reach = queries.double().abs() @ rows.double().abs().T
    if scale is not None:
        truth, reach = truth * scale.double(), reach * scale.double().abs()
    inside = torch.ones(truth.shape, dtype=torch.bool)
    if allowed is not None:
        inside &= allowed
    for query in range(len(queries)):
        found = int(inside[query].sum())
        row, score = indices[query, :found], scores[query, :found]
        assert row.sort().values.tolist() == inside[query].nonzero().flatten().tolist()
        assert indices[query, found:].eq(-1).all()
        assert scores[query, found:].eq(-torch.inf).all()
        tolerance = 1e-6 * reach[query][row] + 1e-37
        assert ((score.double() - truth[query][row]).abs() <= tolerance).all()
        falls = score[1:] < score[:-1]
        assert (falls | ((score[1:] == score[:-1]) & (row[1:] > row[:-1]))).all()
    few = native.topk(queries, rows, k, allowed=mask, scale=scale)
    assert torch.equal(few[0], scores[:, :k])
    assert torch.equal(few[1], indices[:, :k])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 31, 64, 123, 130, 512])
def test_nothing_is_missed(engine: str, dtype: torch.dtype, dim: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    rows, scale = database(torch.randn(301, dim, generator=generator), dtype)
    for turn, queries in enumerate((1, 2, 3, 4, 7, 9, 50)):
        left = torch.randn(queries, dim, generator=generator)
        masks = [
            None,
            torch.rand(301, generator=generator) < 0.4,
            torch.rand(queries, 301, generator=generator) < 0.4,
        ]
        check(left, rows, 10, masks[(dim + turn) % 3], scale)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_ties_and_scales_of_either_sign(engine: str, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**20)))
    count, dim, queries = (data.draw(st.sampled_from(of)) for of in ((1, 7, 300), (5, 48), (1, 3)))
    rows = torch.randint(-2, 3, (count, dim), generator=generator)
    left = torch.randint(-2, 3, (queries, dim), generator=generator).float()
    scale = torch.randint(-2, 3, (count,), generator=generator).float()
    dtype = data.draw(st.sampled_from(DTYPES))
    check(left, rows.to(dtype), data.draw(st.sampled_from([1, 10, 400])), None, scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 60])
@pytest.mark.parametrize("spread", [1e-2, 1e-4, 0.0])
def test_rows_that_rounding_cannot_tell_apart(
    engine: str, dtype: torch.dtype, queries: int, spread: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    centre = torch.randn(1, 40, generator=generator)
    near = centre + spread * torch.randn(6000, 40, generator=generator)
    rows, scale = database(near, dtype)
    left = centre + spread * torch.randn(queries, 40, generator=generator)
    full = native.topk(left, rows, 6000, allowed=None, scale=scale)
    few = native.topk(left, rows, 10, allowed=None, scale=scale)
    assert torch.equal(few[0], full[0][:, :10])
    assert torch.equal(few[1], full[1][:, :10])


@pytest.mark.parametrize(
    ("dtype", "spread"),
    [(torch.float32, 0.05), (torch.bfloat16, 0.05), (torch.float16, 0.05), (torch.int8, 0.02)],
)
def test_a_screen_that_leaves_most_rows_open_gives_way(
    engine: str, dtype: torch.dtype, spread: float
) -> None:
    generator = torch.Generator().manual_seed(2)
    centre = torch.randn(1, 64, generator=generator)
    rows = centre + spread * torch.randn(20_000, 64, generator=generator)
    rows, scale = database(rows, dtype)
    left = centre + spread * torch.randn(64, 64, generator=generator)
    (task,), kept = search.scans(left, rows, None, scale)
    scores, indices = torch.empty(64, 10), torch.empty(64, 10, dtype=torch.int64)
    task.k, task.scores, task.indices = 10, scores.data_ptr(), indices.data_ptr()
    screen = task.kind
    binding.run(binding.library().maxsight_scan, [task])
    del kept
    assert task.rescored < 0.2 * scores.shape[0] * len(rows)
    assert screen == 0 or task.kind < screen
    full = native.topk(left, rows, 20_000, allowed=None, scale=scale)
    assert torch.equal(indices, full[1][:, :10])
    assert torch.equal(scores, full[0][:, :10])


@pytest.mark.parametrize("size", [1e-41, 1e-30, 1.0, 1e15, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("queries", [1, 3])
def test_numbers_of_any_size(engine: str, size: float, dtype: torch.dtype, queries: int) -> None:
    generator = torch.Generator().manual_seed(3)
    rows, scale = database(torch.randn(500, 70, generator=generator), dtype)
    left = torch.randn(queries, 70, generator=generator) * size
    check(left, rows, 10, None, scale)
    if scale is not None:
        check(left / size, rows, 10, None, scale * size)
        # Some rows a million times as long as others.
        check(left, rows, 10, None, scale * 10 ** (6 * torch.rand(500, generator=generator) - 3))


@pytest.mark.parametrize("size", [1e-40, 4e-38, 1e-30, 1e-22, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("queries", [20, 60])
def test_rows_of_any_size_pass_the_screen(
    engine: str, size: float, dtype: torch.dtype, queries: int
) -> None:
    # Squares of their rounding errors are too small for a float32 below 1e-19.
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(2000, 70, generator=generator) * size
    left = torch.randn(queries, 70, generator=generator)
    check(left, rows.to(dtype), 10, None, None)


@pytest.mark.parametrize("dim", [512, 5000, 70_000])
def test_the_largest_numbers_do_not_overflow(engine: str, dim: int) -> None:
    # The best come last, when there is something to pass them over for.
    rows = torch.zeros((20, dim), dtype=torch.int8)
    rows[15:], rows[18] = -128, 127
    left = torch.full((2, dim), -3.0)
    left[1] = 3
    left[:, 0] = 1e-3
    scores, indices = native.topk(left, rows, 2, allowed=None, scale=None)
    assert indices.tolist() == [[15, 16], [18, 0]]
    truth = (left.double() @ rows.double().T).gather(1, indices)
    torch.testing.assert_close(scores.double(), truth, rtol=1e-5, atol=0)


def test_numbers_that_rounding_a_query_loses(engine: str) -> None:
    left = torch.full((1, 8), 0.49 / 32767)
    left[0, 0] = 1
    rows = torch.zeros((20, 8), dtype=torch.int8)
    rows[:, 0] = 100
    rows[17, 1:] = 127
    scale = torch.ones(20)
    scale[17] = 0.9999  # behind by a hundredth without what was lost, ahead with it
    assert native.topk(left, rows, 1, allowed=None, scale=scale)[1].tolist() == [[17]]


def test_a_query_of_zeros(engine: str) -> None:
    rows = torch.randint(-128, 128, (50, 33)).to(torch.int8)
    scores, indices = native.topk(torch.zeros(1, 33), rows, 3, allowed=None, scale=None)
    assert scores.eq(0).all()
    assert indices.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_shortlist_is_scored_as_a_scan_scores(engine: str, threads: int) -> None:
    generator = torch.Generator().manual_seed(4)
    rows, factors = database(torch.randn(300, 45, generator=generator), torch.int8)
    scale = torch.ones(300) if factors is None else factors
    left = torch.randn(90, 45, generator=generator)
    full = native.topk(left, rows, 300, allowed=None, scale=scale)
    shortlist = full[1][:, torch.randperm(80, generator=generator)]
    shortlist[::2, 1] = -1
    shortlist[1, :] = -1

    def rescored(k: int) -> tuple[Tensor, Tensor]:
        queries, codes, steps, listed = (
            tensor.numpy() for tensor in (left, rows, scale, shortlist)
        )
        scores, found = native.rescore_rows(queries, codes, steps, listed, k, threads=threads)
        return torch.from_numpy(scores), torch.from_numpy(found)

    scores, indices = rescored(100)
    assert scores.shape == indices.shape == (90, 80)
    for query in range(90):
        kept = torch.isin(full[1][query], shortlist[query])
        missing = 80 - int(kept.sum())
        assert indices[query].tolist() == full[1][query][kept].tolist() + [-1] * missing
        assert scores[query].tolist() == full[0][query][kept].tolist() + [-torch.inf] * missing
    assert torch.equal(rescored(5)[1], indices[:, :5])
    # What is no row of the database is never read.
    shortlist[:, 0] = 300
    shortlist[:, 2] = -9
    assert rescored(5)[1].amax() < 300

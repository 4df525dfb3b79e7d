"""similarity.topk against a sort of every score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxsight.kernels import bitmap, int8, native, similarity
from maxsight.kernels.similarity import reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int8]


def brute_force(
    queries: Tensor, database: Tensor, allowed: Tensor | None, scale: Tensor | None
) -> list[list[tuple[float, int]]]:
    """Every allowed row of each query, best first."""
    answers = []
    for row, query in enumerate(queries.double()):
        pairs = []
        for index, vector in enumerate(database.double()):
            mask = allowed if allowed is None or allowed.ndim == 1 else allowed[row]
            if mask is None or mask[index]:
                factor = 1.0 if scale is None else float(scale[index])
                pairs.append((float((query * vector).sum()) * factor, index))
        answers.append(sorted(pairs, key=lambda pair: (-pair[0], pair[1])))
    return answers


def masks(kind: str, queries: int, rows: int, generator: torch.Generator) -> Tensor | None:
    return {
        "none": None,
        "shared": torch.rand(rows, generator=generator) < 0.3,
        "each": torch.rand(queries, rows, generator=generator) < 0.3,
        "nothing": torch.zeros(rows, dtype=torch.bool),
    }[kind]


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_equals_brute_force_with_many_ties(room: str, data: st.DataObject) -> None:
    # 12: screened in bfloat16; 50: in int8.
    queries = data.draw(st.sampled_from([0, 1, 3, 12, 50]))
    rows = data.draw(st.sampled_from([0, 1, 7, 63, 123]))
    dim = data.draw(st.sampled_from([1, 5, 48]))
    k = data.draw(st.sampled_from([1, 3, 10, 200]))
    dtype = data.draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**20)))
    # Small whole numbers: every sum is exact, and ties are everywhere.
    left = torch.randint(-2, 3, (queries, dim), generator=generator).float()
    right = torch.randint(-2, 3, (rows, dim), generator=generator).to(dtype)
    kind = data.draw(st.sampled_from(["none", "shared", "each", "nothing"]))
    allowed = masks(kind, queries, rows, generator)
    scaled = data.draw(st.booleans())
    scale = torch.randint(-2, 3, (rows,), generator=generator).float() if scaled else None

    expected = brute_force(left, right, allowed, scale)
    scores, indices = similarity.topk(left, right, k, allowed=allowed, scale=scale)
    assert scores.shape == indices.shape == (queries, min(k, rows))
    assert (scores.dtype, indices.dtype) == (torch.float32, torch.int64)
    for row, pairs in enumerate(expected):
        best = pairs[:k]
        found = list(zip(scores[row].tolist(), indices[row].tolist()))
        assert found[: len(best)] == best
        assert all(pair == (-torch.inf, -1) for pair in found[len(best) :])

    scores, indices = similarity.topk(left, right, k, allowed=allowed, scale=scale, largest=False)
    for row, pairs in enumerate(expected):
        best = sorted(pairs, key=lambda pair: (pair[0], pair[1]))[:k]
        found = list(zip(scores[row].tolist(), indices[row].tolist()))
        assert found[: len(best)] == best
        assert all(pair == (torch.inf, -1) for pair in found[len(best) :])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 12, 50])
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_a_screen_loses_no_row(dtype: torch.dtype, queries: int, spread: float) -> None:
    """Also where all rows lie so near each other that the screen's rounding reorders them."""
    generator = torch.Generator().manual_seed(queries)
    centre = torch.randn(1, 96, generator=generator)
    rows = torch.nn.functional.normalize(
        centre + spread * torch.randn(6000, 96, generator=generator)
    )
    left = torch.nn.functional.normalize(
        centre + spread * torch.randn(queries, 96, generator=generator)
    )
    scale = None
    if dtype == torch.int8:
        rows, scale = int8.rounded(rows)
    rows = rows.to(dtype)
    scores, indices = similarity.topk(left, rows, 20, scale=scale)
    factors = torch.ones(6000) if scale is None else scale
    every = (left.double() @ rows.double().T) * factors.double()
    best = every.topk(20).values
    torch.testing.assert_close(scores.double(), best, atol=3e-6, rtol=0)
    torch.testing.assert_close(every.gather(1, indices), best, atol=3e-6, rtol=0)


def test_a_score_depends_on_its_pair_alone() -> None:
    if native.available() is None:
        pytest.skip("the compiled scan is not there")
    generator = torch.Generator().manual_seed(3)
    rows, left = (torch.randn(count, 100, generator=generator) for count in (5000, 60))
    together = similarity.topk(left, rows, 7)
    for one in range(60):
        alone = similarity.topk(left[one : one + 1], rows, 7)
        assert torch.equal(together[0][one], alone[0][0])
        assert torch.equal(together[1][one], alone[1][0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads: int) -> None:
    generator = torch.Generator().manual_seed(4)
    rows = torch.randint(-2, 3, (7001, 16), generator=generator).float()
    left = torch.randint(-2, 3, (9, 16), generator=generator).float()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = similarity.topk(left, rows, 50)
    finally:
        torch.set_num_threads(before)
    expected = reference.topk(left, rows, 50, allowed=None, scale=None)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_normalize_is_the_cosine(room: str) -> None:
    generator = torch.Generator().manual_seed(5)
    rows, left = (torch.randn(count, 32, generator=generator) for count in (300, 6))
    rows[7] = 0
    scores, _ = similarity.topk(left, rows * 9, 300, normalize=True)
    cosine = torch.nn.functional.cosine_similarity(left[:, None], rows[None], dim=2)
    torch.testing.assert_close(scores, cosine.sort(descending=True).values, atol=1e-5, rtol=0)


def test_operators_are_sound() -> None:
    generator = torch.Generator().manual_seed(6)
    rows, left = (torch.randn(count, 8, generator=generator) for count in (40, 3))
    allowed = bitmap.pack(torch.rand(40, generator=generator) < 0.5)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch.ops.maxsight.similarity_topk.default,
        (left, rows, 4, allowed, None),
        test_utils=checks,
    )
    compiled = torch.compile(similarity.topk, backend="eager", fullgraph=True)
    for a, b in zip(compiled(left, rows, 4), similarity.topk(left, rows, 4)):
        assert torch.equal(a, b)
    with torch.inference_mode():
        assert torch.equal(similarity.topk(left, rows, 4)[1], compiled(left, rows, 4)[1])


def test_input_need_not_be_contiguous(room: str) -> None:
    generator = torch.Generator().manual_seed(7)
    rows, left = (torch.randn(16, count, generator=generator).T for count in (50, 6))
    found = similarity.topk(left, rows, 5)
    assert torch.equal(found[1], similarity.topk(left.clone(), rows.contiguous(), 5)[1])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((torch.ones(2, 3), torch.ones(4, 5), 1), {}),
        ((torch.ones(3), torch.ones(4, 3), 1), {}),
        ((torch.ones(2, 3), torch.ones(4, 3), 0), {}),
        ((torch.ones(2, 3).int(), torch.ones(4, 3), 1), {}),
        ((torch.ones(2, 3), torch.ones(4, 3).int(), 1), {}),
        ((torch.ones(2, 3), torch.ones(4, 3), 1), {"allowed": torch.ones(3, dtype=torch.bool)}),
        ((torch.ones(2, 3), torch.ones(4, 3), 1), {"scale": torch.ones(3)}),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        similarity.topk(*arguments, **options)

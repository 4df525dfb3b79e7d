"""kernels.similarity.topk against a sort of every score."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxsight.kernels.similarity import topk


def brute_force(
    queries: torch.Tensor, database: torch.Tensor, k: int, allowed: torch.Tensor | None
) -> list[list[tuple[float, int]]]:
    answers = []
    for row, query in enumerate(queries.double()):
        pairs = []
        for index, vector in enumerate(database.double()):
            if allowed is not None:
                mask = allowed if allowed.ndim == 1 else allowed[row]
                if not mask[index]:
                    continue
            pairs.append((float((query * vector).sum()), index))
        answers.append(sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:k])
    return answers


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_brute_force_with_many_ties(data: st.DataObject) -> None:
    queries = data.draw(st.integers(0, 3))
    rows = data.draw(st.sampled_from([0, 1, 7, 63, 123]))
    dim = data.draw(st.sampled_from([1, 5, 48]))
    k = data.draw(st.sampled_from([1, 3, 10, 200]))
    block = data.draw(st.sampled_from([1, 8, 50, 1000]))
    mask = data.draw(st.sampled_from(["none", "shared", "each", "nothing"]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**20)))
    # Small whole numbers: every sum is exact, and ties are everywhere.
    left = torch.randint(-2, 3, (queries, dim), generator=generator).float()
    right = torch.randint(-2, 3, (rows, dim), generator=generator).float()
    allowed = {
        "none": None,
        "shared": torch.rand(rows, generator=generator) < 0.3,
        "each": torch.rand(queries, rows, generator=generator) < 0.3,
        "nothing": torch.zeros(rows, dtype=torch.bool),
    }[mask]
    scores, indices = topk(left, right, k, allowed=allowed, block=block)
    assert scores.shape == indices.shape == (queries, min(k, rows))
    assert scores.dtype == torch.float32
    assert indices.dtype == torch.int64
    for row, expected in enumerate(brute_force(left, right, k, allowed)):
        count = len(expected)
        found = list(zip(scores[row].tolist(), indices[row].tolist(), strict=True))
        assert found[:count] == expected
        assert all(pair == (-torch.inf, -1) for pair in found[count:])


def test_half_precision_database_is_multiplied_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    database = torch.nn.functional.normalize(torch.randn(500, 96, generator=generator)).half()
    queries = torch.nn.functional.normalize(torch.randn(3, 96, generator=generator))
    scores, indices = topk(queries, database, 5)
    exact = (queries.double() @ database.double().T).topk(5)
    assert torch.equal(indices, exact.indices)
    torch.testing.assert_close(scores.double(), exact.values, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((torch.ones(2, 3), torch.ones(4, 5), 1), {}),
        ((torch.ones(3), torch.ones(4, 3), 1), {}),
        ((torch.ones(2, 3), torch.ones(4, 3), 0), {}),
        ((torch.ones(2, 3), torch.ones(4, 3), 1), {"allowed": torch.ones(3, dtype=torch.bool)}),
        ((torch.ones(2, 3), torch.ones(4, 3), 1), {"block": 0}),
    ],
)
def test_wrong_shapes_are_refused(arguments: tuple, options: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="must"):
        topk(*arguments, **options)

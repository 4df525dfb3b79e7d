"""The Triton room in the interpreter; test_gpu_interpreted.py runs this in a process of its own."""

from __future__ import annotations

import pytest
import torch

from maxsight.kernels import bitmap, dispatch, similarity
from maxsight.kernels.check.tolerance import assert_close
from maxsight.kernels.similarity import reference

FILTERS = ["none", "shared", "each", "nothing"]


def rows(kind: str, count: int, dim: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A database and its scale."""
    generator = torch.Generator().manual_seed(count + dim)
    if kind == "int8":
        values = torch.randint(-127, 128, (count, dim), generator=generator, dtype=torch.int8)
        return values, torch.rand(count, generator=generator)
    if kind == "ties":
        return torch.randint(-2, 3, (count, dim), generator=generator).float(), None
    return torch.randn(count, dim, generator=generator).to(getattr(torch, kind)), None


def questions(kind: str, count: int, dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    if kind == "ties":
        return torch.randint(-2, 3, (count, dim), generator=generator).float()
    # Large and small queries: float16's range must not matter.
    sizes = torch.tensor([1e-6, 1.0, 1e6])[torch.arange(count) % 3]
    return torch.randn(count, dim, generator=generator) * sizes[:, None]


def mask(kind: str, queries: int, count: int) -> torch.Tensor | None:
    generator = torch.Generator().manual_seed(3)
    return {
        "none": None,
        "shared": torch.rand(count, generator=generator) < 0.3,
        "each": torch.rand(queries, count, generator=generator) < 0.3,
        "nothing": torch.zeros(count, dtype=torch.bool),
    }[kind]


@pytest.mark.parametrize("filtered", FILTERS)
@pytest.mark.parametrize(
    ("kind", "queries", "count", "dim", "k"),
    [
        ("float32", 3, 123, 48, 5),
        ("float16", 2, 700, 96, 1),
        ("bfloat16", 18, 130, 128, 10),
        ("int8", 3, 300, 130, 4),
        ("ties", 3, 400, 4, 12),
        ("float32", 1, 63, 20, 200),
        ("float64", 2, 63, 20, 4),
        ("float32", 2, 0, 8, 1),
        ("float32", 0, 9, 8, 1),
    ],
)
def test_topk(kind: str, queries: int, count: int, dim: int, k: int, filtered: str) -> None:
    assert dispatch.interprets()
    database, scale = rows(kind, count, dim)
    left = questions(kind, queries, dim)
    allowed = mask(filtered, queries, count)
    scores, indices = similarity.topk(left, database, k, allowed=allowed, scale=scale)
    packed = None if allowed is None else bitmap.pack(allowed)
    expected = reference.topk(left, database, k, allowed=packed, scale=scale)
    assert torch.equal(indices, expected[1])
    assert scores.dtype == torch.float32
    for found, right in zip(scores, expected[0]):
        assert_close("scores", found, right, torch.float32)


@pytest.mark.parametrize("size", [3e38, 1e-38, 1e-44])
def test_queries_at_the_ends_of_float32(size: float) -> None:
    database = torch.tensor([[0.25, 0.0], [0.5, 0.0], [0.0, 0.5]], dtype=torch.float16)
    queries = torch.tensor([[size, 0.0]])
    scores, indices = similarity.topk(queries, database, 2)
    assert indices.tolist() == [[1, 0]]
    assert torch.equal(scores, queries[:, :1] * torch.tensor([[0.5, 0.25]]))

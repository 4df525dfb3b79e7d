"""Operators that step aside for plain calls, and only for those."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maxsight.kernels import maxsim

OFFSETS = torch.tensor([0, 3])


def sides() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(3, 8, generator=draw), OFFSETS, torch.randn(3, 8, generator=draw), OFFSETS


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the operators that pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_the_operator() -> None:
    plain = maxsim.score(*sides())
    with Watching() as watching:
        seen = maxsim.score(*sides())
    assert any("maxsim_score" in name for name in watching.seen)
    assert torch.equal(plain, seen)


def test_a_gradient_goes_through_the_operator() -> None:
    queries, *rest = sides()
    queries.requires_grad_()
    scores = maxsim.score(queries, *rest)
    assert scores.requires_grad
    (gradient,) = torch.autograd.grad(scores.sum(), [queries])
    assert gradient.shape == queries.shape
    with torch.no_grad():
        assert torch.equal(maxsim.score(queries, *rest), scores)


def test_a_plain_call_does_not_load_the_compiler() -> None:
    code = """
import sys, torch
from maxsight.kernels import maxsim, similarity
rows, offsets = torch.randn(6, 8), torch.tensor([0, 3, 6])
maxsim.score(rows[:2], torch.tensor([0, 2]), rows, offsets)
maxsim.topk(rows[:2], torch.tensor([0, 2]), rows, offsets, 1)
similarity.topk(rows[:2], rows, 1)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

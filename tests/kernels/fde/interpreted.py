"""The Triton room in the interpreter; test_gpu_interpreted.py runs this in a process of its own."""

from __future__ import annotations

import fde_naive
import numpy as np
import pytest
import torch

from maxsight.kernels import dispatch, fde
from maxsight.kernels.fde import gpu, simhash

OFFSETS = torch.tensor([0, 0, 5, 6, 6, 11])


def unit_tokens(dim: int, dtype: torch.dtype) -> torch.Tensor:
    rows = torch.randn(11, dim, generator=torch.Generator().manual_seed(dim))
    return torch.nn.functional.normalize(rows, dim=1).to(dtype)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(
    ("dtype", "config", "weighted"),
    [
        (torch.float32, fde.Config(token_dim=48, repetitions=2, k_sim=3, projection_dim=5), False),
        (torch.bfloat16, fde.Config(token_dim=96, repetitions=2, k_sim=2, projection_dim=8), True),
        (
            torch.float16,
            fde.Config(token_dim=20, repetitions=3, k_sim=5, projection_dim=None, final_dim=33),
            True,
        ),
        (
            torch.float64,
            fde.Config(token_dim=40, repetitions=1, k_sim=0, projection_dim=None, fill_empty=False),
            False,
        ),
        (
            torch.float32,
            fde.Config(token_dim=130, repetitions=1, k_sim=3, projection_dim=7, fill_empty=False),
            True,
        ),
    ],
    ids=str,
)
def test_equals_the_loops(
    dtype: torch.dtype, config: fde.Config, weighted: bool, documents: bool
) -> None:
    tokens = unit_tokens(config.token_dim, dtype)
    weights = torch.tensor([1, 0, 2, 0.5, 1, 3, 1, 0, 0.25, 1, 1]) if weighted else None
    encode = fde.encode_documents if documents else fde.encode_queries
    assert dispatch.room_of("fde", tokens) is gpu
    found = encode(tokens, OFFSETS, config, weights=weights)
    naive = fde_naive.encode(
        tokens.double().numpy(),
        OFFSETS.tolist(),
        None if weights is None else weights.double().numpy(),
        config,
        documents=documents,
    )
    np.testing.assert_allclose(found.numpy(), naive, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 48, 128, 512])
def test_patterns_are_the_same_to_the_bit(dim: int) -> None:
    config = fde.Config(token_dim=dim, repetitions=7, k_sim=4)
    tokens = unit_tokens(dim, torch.float32) * torch.logspace(-30, 30, 11).unsqueeze(1)
    tokens[3] = 0
    found = gpu._patterns(tokens, config)
    planes = torch.from_numpy(fde.randomness.planes(config)).float()
    assert torch.equal(found, simhash.patterns(tokens, planes))


def test_no_documents_and_no_tokens() -> None:
    config = fde.Config(token_dim=8, repetitions=2, k_sim=2, projection_dim=4)
    none = torch.empty((0, 8))
    assert fde.encode_documents(none, torch.tensor([0]), config).shape == (0, config.dim)
    assert not fde.encode_documents(none, torch.tensor([0, 0, 0]), config).any()

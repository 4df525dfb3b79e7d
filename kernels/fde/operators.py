"""Fixed-dimensional encodings as a torch operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maxsight.kernels.dispatch import room_of
from maxsight.kernels.fde.values import Config
from maxsight.kernels.operator import operator


def encode(
    tokens: Tensor, offsets: Tensor, weights: Tensor | None, config: Config, *, documents: bool
) -> Tensor:
    """(B, config.dim) float32; see ``encode_queries`` and ``encode_documents`` in __init__.py."""
    found: Tensor = _encode(tokens, offsets, weights, _numbers(config), documents)
    return found


@operator("maxsight::fde_encode")
def _encode(
    tokens: Tensor, offsets: Tensor, weights: Tensor | None, config: Sequence[int], documents: bool
) -> Tensor:
    _check_values(tokens, offsets, weights)
    room = room_of("fde", tokens, offsets, weights)
    found: Tensor = room.encode(tokens, offsets, weights, _config(config), documents=documents)
    return found


@_encode.register_fake
def _(
    tokens: Tensor, offsets: Tensor, weights: Tensor | None, config: Sequence[int], documents: bool
) -> Tensor:
    return tokens.new_empty((offsets.shape[0] - 1, _config(config).dim), dtype=torch.float32)


def _check_values(tokens: Tensor, offsets: Tensor, weights: Tensor | None) -> None:
    """On the CPU alone: elsewhere reading them would make the caller wait for the device."""
    if tokens.device.type != "cpu":
        return
    if offsets[0] != 0 or offsets[-1] != len(tokens) or bool((offsets.diff() < 0).any()):
        raise ValueError(
            f"offsets must rise from 0 to the number of tokens, {len(tokens)}; got "
            f"{int(offsets[0])} to {int(offsets[-1])}"
        )
    if weights is not None and not bool((weights >= 0).all()):
        raise ValueError("weights must not be negative or NaN")


def _numbers(config: Config) -> list[int]:
    """A config as an operator can take it; 0 for None."""
    return [
        config.token_dim,
        config.repetitions,
        config.k_sim,
        config.projection_dim or 0,
        config.final_dim or 0,
        int(config.fill_empty),
        config.seed,
    ]


def _config(numbers: Sequence[int]) -> Config:
    token_dim, repetitions, k_sim, projection_dim, final_dim, fill_empty, seed = numbers
    return Config(
        token_dim=token_dim,
        repetitions=repetitions,
        k_sim=k_sim,
        projection_dim=projection_dim or None,
        final_dim=final_dim or None,
        fill_empty=bool(fill_empty),
        seed=seed,
    )

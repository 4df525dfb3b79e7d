"""What does merging tokens cost, against the transformer block that it is meant to shorten?

A block of ViT-B on 32 images of 197 tokens in plain torch, beside the matching (mean over heads of
the keys) and merging of 13 tokens of each. Parity with the reference room is asserted first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from maxsight.benchmarks.measure.interleave import interleave, ratio, stopwatch
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row, timed
from maxsight.kernels import merge
from maxsight.kernels.shapes import VIT_B

_BENCHMARK = "token-merging"
_TOKENS, _CHANNELS, _HEADS, _REMOVED = VIT_B.tokens, VIT_B.dim, VIT_B.heads, VIT_B.removed


def run(data: Path, *, rounds: int = 9, batch: int = 32, cores: int = 1) -> list[Row]:
    """Measure in float32 and bfloat16.

    Args:
        data: not used; every benchmark takes it.
        rounds: how often each contender runs.
        batch: images.
        cores: threads of torch.

    Returns:
        Time of the block, of merging and of proportional attention; merging against the block, and
        proportional attention against plain.
    """
    rows = []
    with threads(cores):
        for dtype in (torch.float32, torch.bfloat16):
            rows += _measure(dtype, rounds=rounds, batch=batch, cores=cores)
    return rows


@torch.inference_mode()
def _measure(dtype: torch.dtype, *, rounds: int, batch: int, cores: int) -> list[Row]:
    name = str(dtype).removeprefix("torch.")
    case = f"ViT-B, {batch} x {_TOKENS}, r={_REMOVED}, {name}, {cores} threads"
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randn(batch, _TOKENS, _CHANNELS, generator=draw).to(dtype)
    block = _Block(draw, dtype)
    query, key, value = block.heads(tokens)
    metric, sizes = key.mean(1), torch.ones(batch, _TOKENS)
    _assert_parity(tokens, metric)

    def once(work: Callable[[], object]) -> Callable[[int], float]:
        work()
        return stopwatch(lambda _: work())

    seconds = interleave(
        {
            "block": once(lambda: block.forward(tokens)),
            "maxsight": once(lambda: merge.merge(tokens, _REMOVED, metric=key.mean(1))),
            "attention": once(lambda: scaled_dot_product_attention(query, key, value)),
            "proportional": once(lambda: merge.attention(query, key, value, sizes)),
        },
        rounds=rounds,
    )
    contenders = {
        "block": "torch, block of ViT-B",
        "maxsight": "maxsight, match and merge",
        "attention": "torch, plain attention",
        "proportional": "maxsight, proportional attention",
    }
    rows = [
        timed(seconds[key_], benchmark=_BENCHMARK, case=case, contender=contender)
        for key_, contender in contenders.items()
    ]
    for mine, base, metric_name in (
        ("maxsight", "block", "time of the block"),
        ("proportional", "attention", "time of plain attention"),
    ):
        rows.append(
            ratio(
                seconds[mine],
                seconds[base],
                benchmark=_BENCHMARK,
                case=case,
                contender=contenders[mine],
                metric=metric_name,
            )
        )
    return rows


class _Block:
    """A pre-norm transformer block, weights drawn at random."""

    def __init__(self, draw: torch.Generator, dtype: torch.dtype) -> None:
        def weight(rows: int, columns: int) -> Tensor:
            values = torch.empty(rows, columns)
            return nn.init.trunc_normal_(values, std=0.02, generator=draw).to(dtype)

        self.qkv = weight(3 * _CHANNELS, _CHANNELS)
        self.out = weight(_CHANNELS, _CHANNELS)
        self.up = weight(4 * _CHANNELS, _CHANNELS)
        self.down = weight(_CHANNELS, 4 * _CHANNELS)

    def heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value: (B, H, N, D) each."""
        packed = linear(layer_norm(tokens, (_CHANNELS,)), self.qkv)
        packed = packed.view(*tokens.shape[:2], 3, _HEADS, _CHANNELS // _HEADS)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind()
        return query, key, value

    def forward(self, tokens: Tensor) -> Tensor:
        """Attention, then the MLP."""
        attended = scaled_dot_product_attention(*self.heads(tokens))
        tokens = tokens + linear(attended.transpose(1, 2).flatten(2), self.out)
        inner = gelu(linear(layer_norm(tokens, (_CHANNELS,)), self.up))
        return tokens + linear(inner, self.down)


def _assert_parity(tokens: Tensor, metric: Tensor) -> None:
    """That the room measured gives what the reference gives."""
    found = merge.merge(tokens, _REMOVED, metric=metric)
    before = os.environ.get("MAXSIGHT_KERNELS")
    os.environ["MAXSIGHT_KERNELS"] = "reference"
    try:
        expected = merge.merge(tokens, _REMOVED, metric=metric)
    finally:
        os.environ.pop("MAXSIGHT_KERNELS")
        if before is not None:
            os.environ["MAXSIGHT_KERNELS"] = before
    assert torch.equal(found.source, expected.source)
    torch.testing.assert_close(found.tokens, expected.tokens)

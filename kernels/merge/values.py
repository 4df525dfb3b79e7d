"""Tokens after merging."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Merged:
    """Tokens after merging.

    Attributes:
        tokens: (B, N - r, C), of the dtype that came in.
        sizes: (B, N - r) float32 (float64 for float64 tokens): how many each stands for.
        source: (B, N) int64: which output every input went to. Composed over layers by
            ``second.source.gather(1, first.source)``.
    """

    tokens: Tensor
    sizes: Tensor
    source: Tensor


@dataclass(frozen=True, eq=False)
class Reduced:
    """Packed documents after merging.

    Attributes:
        tokens: (sum M, C), of the dtype that came in; means, not normalised.
        offsets: (S + 1,) int64.
        sizes: (sum M,) float32 (float64 for float64 tokens): how many each stands for.
        source: (sum L,) int64: which row of ``tokens`` every input went to, so that
            ``tokens[source]`` undoes the merging.
    """

    tokens: Tensor
    offsets: Tensor
    sizes: Tensor
    source: Tensor

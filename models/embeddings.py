"""The value every encoder returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of ``B`` inputs, on the encoder's device.

    Attributes:
        vectors: (B, D) float32, rows L2-normalised: the pooled embedding.
        tokens: (sum L_i, d) float32, rows L2-normalised, packed; None unless asked for.
        offsets: (B + 1,) int64; input ``i`` owns ``tokens[offsets[i]:offsets[i + 1]]``.
        sizes: (sum L_i,) float32: how many source tokens each stands for. None means one each.
    """

    vectors: Tensor
    tokens: Tensor | None = None
    offsets: Tensor | None = None
    sizes: Tensor | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise ValueError(f"vectors must be (B, D), got {tuple(self.vectors.shape)}")
        if (self.tokens is None) != (self.offsets is None):
            raise ValueError("tokens and offsets come together")
        if self.offsets is not None and self.tokens is not None:
            batch, count = len(self.vectors), len(self.tokens)
            if tuple(self.offsets.shape) != (batch + 1,) or int(self.offsets[-1]) != count:
                raise ValueError(
                    f"offsets must be ({batch + 1},) and end at {count} tokens, "
                    f"got {tuple(self.offsets.shape)} ending at {int(self.offsets[-1])}"
                )
            if self.sizes is not None and len(self.sizes) != count:
                raise ValueError(
                    f"sizes must hold one value a token: {len(self.sizes)} for {count}"
                )

    def __len__(self) -> int:
        return len(self.vectors)


def offsets_of(lengths: Tensor) -> Tensor:
    """Where packed sequences begin and end: (B,) whole numbers -> (B + 1,) int64, same device."""
    import torch

    return torch.nn.functional.pad(lengths.to(torch.int64).cumsum(0), (1, 0))

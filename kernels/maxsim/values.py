"""What MaxSim is given: tokens in int8, packings, one side of an interaction. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from maxsight.kernels import int8
from maxsight.kernels.coded_tokens import CodedTokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Int8Tokens:
    """Tokens as int8, each with a scale: ``token = values * scale``.

    Given for both queries and documents, their product is exact in integers, and as fast as the
    machine's int8 product. d + 4 bytes a token.

    Attributes:
        values: (T, d) int8.
        scale: (T,) float32.
    """

    values: Tensor
    scale: Tensor

    @staticmethod
    def of(tokens: Tensor) -> Int8Tokens:
        """Tokens (T, d) rounded to 255 levels, the largest component of each token at +-127.

        Example:
            >>> Int8Tokens.of(torch.tensor([[0.5, -1.27]])).values.tolist()
            [[50, -127]]
        """
        return Int8Tokens(*int8.rounded(tokens))


@dataclass(frozen=True)
class Packing:
    """Where packed sequences begin, looked at once; given instead of offsets, call after call.

    Offsets are asked on every call whether they cut the tokens: on a GPU ten small launches a
    side, beside the one that computes. A packing was asked when it was made.

    Attributes:
        offsets: (B + 1,) int64, of which nobody writes.
        owner: (sum L,) int32, the sequence of each token.
    """

    offsets: Tensor
    owner: Tensor

    @staticmethod
    def of(offsets: Tensor, rows: int) -> Packing:
        """A packing of ``rows`` tokens; keeps a copy of the offsets.

        Raises:
            ValueError: they are not (B + 1,) int64 that rise from 0 to ``rows``. On a GPU nothing
                waits: offsets that do not rise so fail a later call.

        Example:
            >>> Packing.of(torch.tensor([0, 2, 2, 3]), 3).owner.tolist()
            [0, 0, 2]
        """
        from maxsight.kernels.maxsim.offsets import check_offsets, owners

        check_offsets(offsets, rows, "packed")
        offsets = offsets.clone().contiguous()
        return Packing(offsets, owners(offsets, rows))


@dataclass(frozen=True)
class Side:
    """The queries or the documents of an interaction, packed one after the other.

    Attributes:
        tokens: (sum L, d).
        offsets: (B + 1,) int64; sequence b has the tokens ``offsets[b]:offsets[b + 1]``.
        weight: (sum L,) float, a factor a token, or None.
        owner: (sum L,) int32, of a :class:`Packing`; None: the offsets were given without one.
    """

    tokens: Tensor | Int8Tokens | CodedTokens
    offsets: Tensor
    weight: Tensor | None = None
    owner: Tensor | None = None

    @property
    def owners(self) -> Tensor:
        """(sum L,) int32, the sequence of each token."""
        from maxsight.kernels.maxsim.offsets import owners

        return owners(self.offsets, self.rows) if self.owner is None else self.owner

    @property
    def count(self) -> int:
        """B."""
        return self.offsets.shape[0] - 1

    @property
    def rows(self) -> int:
        """sum L."""
        tokens = self.tokens
        if isinstance(tokens, CodedTokens):
            return len(tokens.data)
        return (tokens.values if isinstance(tokens, Int8Tokens) else tokens).shape[0]

    @property
    def dim(self) -> int:
        """d."""
        tokens = self.tokens
        if isinstance(tokens, CodedTokens):
            return tokens.dim
        return (tokens.values if isinstance(tokens, Int8Tokens) else tokens).shape[1]

"""Tokens as a CPU's product takes them: which type it runs in, and documents a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels.chunks import BYTES, CACHE_BYTES
from maxsight.kernels.maxsim.codes import Documents, decode, inverse_norm, sum_dtype
from maxsight.kernels.maxsim.values import Int8Tokens, Side


@dataclass(frozen=True)
class Read:
    """Some documents as the product takes them.

    Attributes:
        rows: (T, d) in the product's dtype.
        scale: (T,) what a row's products are multiplied by, or None.
        offsets: (S + 1,).
        segments: the numbers of the documents that count, in order, or None for all.
    """

    rows: Tensor
    scale: Tensor | None
    offsets: Tensor
    segments: Tensor | None = None

    def packed(self) -> Read:
        """The same with the documents that count alone."""
        if self.segments is None:
            return self
        rows, offsets = spread(self.offsets, self.segments)
        return Read(self.rows[rows], None if self.scale is None else self.scale[rows], offsets)


@dataclass(frozen=True)
class Archive:
    """Tokens, read a few at a time as the product takes them."""

    documents: Side
    normalize: bool
    dtype: torch.dtype

    @property
    def offsets(self) -> Tensor:
        return self.documents.offsets

    def parts(self, limit: int) -> Iterator[slice]:
        """Documents in order, at most ``limit`` at a time and few enough tokens."""
        tokens = self._limit()
        start, count = 0, len(self.offsets) - 1
        while start < count:
            reach = torch.searchsorted(self.offsets, self.offsets[start] + tokens, right=True)
            stop = min(count, start + limit, max(start + 1, int(reach) - 1))
            yield slice(start, stop)
            start = stop

    def groups(self, chosen: Tensor) -> Iterator[slice]:
        """A list of documents in order, few enough tokens at a time."""
        if self._lies():
            yield slice(0, len(chosen))
            return
        ends = self.offsets.diff()[chosen].cumsum(0)
        tokens = BYTES // 4 // max(1, self.documents.dim)
        start = 0
        while start < len(chosen):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(torch.searchsorted(ends, before + tokens, right=True)))
            yield slice(start, stop)
            start = stop

    def read(self, part: slice) -> Read:
        """A slice of the documents."""
        offsets = self.offsets[part.start : part.stop + 1]
        rows, scale = self._rows(slice(int(offsets[0]), int(offsets[-1])))
        return Read(rows, scale, offsets - offsets[0])

    def gather(self, chosen: Tensor) -> Read:
        """A list of the documents."""
        if self._lies():
            return Read(*self._rows(slice(None)), self.offsets, chosen)
        select, offsets = spread(self.offsets, chosen)
        return Read(*self._rows(select), offsets)

    def _rows(self, select: slice | Tensor) -> tuple[Tensor, Tensor | None]:
        rows, scale = as_product(self.documents.tokens, select, self.dtype)
        weight = self.documents.weight
        weight = None if weight is None else weight[select]
        return rows, factor(rows, scale, weight, self.normalize)

    def _lies(self) -> bool:
        """Whether tokens are read as they lie in memory, with nothing to compute for each first."""
        tokens = self.documents.tokens
        rows = tokens.values if isinstance(tokens, Int8Tokens) else tokens
        return (
            isinstance(rows, Tensor)
            and rows.dtype == self.dtype
            and rows.is_contiguous()
            and not self.normalize
            and not (rows is not tokens and self.documents.weight is not None)
        )

    def _limit(self) -> int:
        """Tokens at a time: what is made to be read must stay small."""
        if self._lies():
            return max(1, int(self.offsets[-1]))
        return max(1, CACHE_BYTES // 4 // max(1, self.documents.dim))


def product_dtype(queries: Side, documents: Side) -> torch.dtype:
    sides = (queries.tokens, documents.tokens)
    if all(isinstance(side, Int8Tokens) for side in sides):
        return torch.int8
    if all(
        isinstance(side, Int8Tokens) or (isinstance(side, Tensor) and side.dtype == torch.bfloat16)
        for side in sides
    ):
        return torch.bfloat16
    return sum_dtype(queries, documents)


def as_product(
    tokens: Documents, rows: slice | Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Some tokens in the product's dtype, and their scale."""
    if isinstance(tokens, Int8Tokens):
        return tokens.values[rows].to(dtype).contiguous(), tokens.scale[rows]
    return decode(tokens, rows, dtype).contiguous(), None


def factor(
    rows: Tensor, scale: Tensor | None, weight: Tensor | None, normalize: bool
) -> Tensor | None:
    """By what a token's products are multiplied: scale, 1 / norm and weight, all positive but the
    weight, so that they commute with the maximum.
    """
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    if normalize:
        # The scale of an int8 token cancels out in its norm.
        scale = inverse_norm(rows.to(dtype))
    if weight is None:
        return scale
    weight = weight.to(dtype)
    return weight if scale is None else weight * scale


def spread(offsets: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of some segments, one after the other, and the offsets that they then have."""
    lengths = offsets.diff()[chosen]
    packed = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    shift = torch.repeat_interleave(offsets[chosen] - packed[:-1], lengths)
    return shift + torch.arange(len(shift)), packed

"""Query tokens as a CPU multiplies them with documents: in native code, else in torch in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels import native
from maxsight.kernels.maxsim.archive import Read, as_product, factor, product_dtype
from maxsight.kernels.maxsim.reference import unanswered
from maxsight.kernels.maxsim.values import Side

# Tokens in a block of the product in torch: with 32 query tokens its scores stay in cache.
_BLOCK = 8192


@dataclass(frozen=True)
class Queries:
    """Query tokens as the product takes them.

    Attributes:
        rows: (Q, d) in the product's dtype.
        offsets: (B + 1,).
        weight: (Q,) what each token's maximum is multiplied by, or None.
    """

    rows: Tensor
    offsets: Tensor
    weight: Tensor | None

    @staticmethod
    def of(queries: Side, documents: Side, normalize: bool) -> Queries:
        dtype = product_dtype(queries, documents)
        rows, scale = as_product(queries.tokens, slice(None), dtype)
        return Queries(rows, queries.offsets, factor(rows, scale, queries.weight, normalize))

    @property
    def count(self) -> int:
        return self.offsets.shape[0] - 1

    def one(self, number: int) -> Queries:
        if self.count == 1:
            return self
        start, end = self.offsets[number : number + 2].tolist()
        weight = None if self.weight is None else self.weight[start:end]
        return Queries(self.rows[start:end], torch.tensor([0, end - start]), weight)

    def scores(self, read: Read, *, places: Tensor | None = None) -> Tensor:
        """Scores (B, S) with S documents.

        Args:
            places: (Q, S) int32, written: the arg-max of each token.
        """
        if native.available() is not None and read.rows.dtype != torch.float64:
            return native.segment_max_sum(
                read.rows,
                read.offsets,
                self.rows,
                self.offsets,
                query_weight=self.weight,
                row_scale=read.scale,
                segments=read.segments,
                places=places,
            ).T
        read = read.packed()
        best = self._maxima(read, places)
        if self.weight is not None:
            best *= self.weight[:, None]
        if len(best) == 0:
            return best.new_zeros((self.count, best.shape[1]))
        sums = torch.segment_reduce(best, "sum", offsets=self.offsets, axis=0, initial=0)
        return sums.masked_fill_(unanswered(self.offsets, read.offsets), -torch.inf)

    def _maxima(self, read: Read, places: Tensor | None) -> Tensor:
        """Maxima (Q, S) of the products over each document, 0 in an empty one, in torch."""
        rows = read.rows
        bounds = read.offsets.tolist()
        count = len(bounds) - 1
        dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
        best = torch.zeros((self.rows.shape[0], count), dtype=dtype)
        if places is not None:
            places.fill_(-1)
        start = 0
        while start < count:
            stop = start + 1
            while stop < count and bounds[stop + 1] - bounds[start] <= _BLOCK:
                stop += 1
            block = slice(bounds[start], bounds[stop])
            product = _product(rows[block], self.rows)
            if read.scale is not None:
                product *= read.scale[block, None]
            for document in range(start, stop):
                first, last = (bounds[document + end] - bounds[start] for end in (0, 1))
                if first == last:
                    continue
                if places is None:
                    best[:, document] = product[first:last].amax(0)
                else:
                    best[:, document], places[:, document] = product[first:last].max(0)
            start = stop
        return best


def _product(rows: Tensor, queries: Tensor) -> Tensor:
    """Inner products (L, Q) in float32 or float64."""
    if rows.dtype == torch.int8:
        return torch._int_mm(rows, queries.T).to(torch.float32)
    # torch rounds a bfloat16 product to bfloat16, which loses ranks.
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return rows.to(dtype) @ queries.to(dtype).T

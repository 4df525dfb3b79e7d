"""MaxSim on a CPU: native code where it is built, else torch in blocks that stay in cache.

Both keep products in float32. The product runs in int8 when both sides are int8, in bfloat16 when
both are exact in it (int8 values are, their scale comes after), else in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels import bitmap, native
from maxsight.kernels.chunks import BYTES
from maxsight.kernels.maxsim.archive import Archive, Read, as_product, factor, product_dtype
from maxsight.kernels.maxsim.codes import (
    Documents,
    Int8Tokens,
    Tokens,
    decode,
    inverse_norm,
    sum_dtype,
)

# Plain torch is as fast as it gets there: gathers and sums.
from maxsight.kernels.maxsim.reference import score_backward, score_pairs_backward
from maxsight.kernels.maxsim.screen import Int8Screen, ScreenQueries

__all__ = ["score", "score_backward", "score_pairs", "score_pairs_backward", "topk"]

# Tokens in a block of the product in torch: with 32 query tokens its scores stay in cache.
_BLOCK = 8192


def score(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Documents,
    document_offsets: Tensor,
    *,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """As :func:`reference.score`."""
    given = _Queries.of(queries, query_offsets, documents, query_weight, normalize)
    archive = Archive(documents, document_offsets, document_weight, normalize, given.rows.dtype)
    count = len(document_offsets) - 1
    scores = torch.empty((given.count, count), dtype=sum_dtype(queries, documents))
    shape = (len(given.rows), count) if with_argmax else (0, 0)
    argmax = torch.empty(shape, dtype=torch.int32)
    for part in archive.parts(count):
        sums, places = given.scores(archive.read(part), with_argmax=with_argmax)
        scores[:, part] = sums
        if places is not None:
            argmax[:, part] = places
    return scores, argmax


def score_pairs(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Documents,
    document_offsets: Tensor,
    *,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """As :func:`reference.score_pairs`."""
    given = _Queries.of(queries, query_offsets, documents, query_weight, normalize)
    archive = Archive(documents, document_offsets, document_weight, normalize, given.rows.dtype)
    if pairs is None:
        pairs = torch.arange(given.count)[:, None].expand(-1, 2)
    lengths = query_offsets.diff()[pairs[:, 0]]
    first = lengths.cumsum(0) - lengths
    scores = torch.empty(len(pairs), dtype=sum_dtype(queries, documents))
    argmax = torch.empty(int(lengths.sum()) if with_argmax else 0, dtype=torch.int32)
    # The pairs of a query together: its tokens are packed for the product once.
    order = pairs[:, 0].argsort(stable=True)
    numbers, counts = torch.unique_consecutive(pairs[order, 0], return_counts=True)
    for number, of_query in zip(numbers.tolist(), torch.split(order, counts.tolist())):
        one = given.one(number)
        for part in archive.groups(pairs[of_query, 1]):
            chosen = of_query[part]
            read = archive.gather(pairs[chosen, 1])
            sums, places = one.scores(read, with_argmax=with_argmax)
            scores[chosen] = sums[0]
            if places is not None:
                argmax[first[chosen][:, None] + torch.arange(len(places))] = places.T
    return scores, argmax


def topk(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Documents,
    document_offsets: Tensor,
    k: int,
    *,
    allowed: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    screen: Int8Screen | None,
) -> tuple[Tensor, Tensor]:
    """As :func:`reference.topk`, the screen deciding which documents are read.

    A negative query weight turns a maximum into a minimum, which the screen does not bound: then it
    is not used.
    """
    given = _Queries.of(queries, query_offsets, documents, query_weight, normalize)
    archive = Archive(documents, document_offsets, document_weight, normalize, given.rows.dtype)
    count = len(document_offsets) - 1
    keep = None if allowed is None else bitmap.unpack(allowed, count)
    dtype = sum_dtype(queries, documents)
    best = _Best.empty(given.count, min(k, count), dtype)
    if screen is None or (query_weight is not None and bool((query_weight < 0).any())):
        for part in archive.parts(max(1, BYTES // 32 // max(1, given.count))):
            scores, _ = given.scores(archive.read(part), with_argmax=False)
            best.add(scores, torch.arange(part.start, part.stop), keep, in_order=True)
    else:
        tokens = decode(queries, slice(None), torch.float32)
        if normalize:
            tokens = tokens * inverse_norm(tokens)[:, None]
        if query_weight is not None:
            tokens = tokens * query_weight.to(torch.float32)[:, None]
        _screened(given, archive, ScreenQueries.of(tokens, query_offsets), screen, keep, best)
    return best.scores, best.indices


def _screened(
    given: _Queries,
    archive: Archive,
    rounded: ScreenQueries,
    screen: Int8Screen,
    keep: Tensor | None,
    best: _Best,
) -> None:
    """Puts the best documents into ``best``, reading those alone whose bound reaches the k-th."""
    approximate = _Queries(rounded.values, given.offsets, rounded.scale)
    coded = Int8Tokens(screen.values, screen.scale)
    copy = Archive(coded, archive.offsets, None, False, torch.int8)
    for part in copy.parts(max(1, BYTES // 32 // max(1, given.count))):
        bounds, _ = approximate.scores(copy.read(part), with_argmax=False)
        bounds += rounded.error(screen.step[part], screen.length[part])
        if keep is not None:
            bounds.masked_fill_(~keep[..., part], -torch.inf)
        bounds, order = bounds.sort(dim=1, descending=True)
        order += part.start
        for number in range(given.count):
            _rescored(given.one(number), archive, bounds[number], order[number], best.of(number))


def _rescored(
    query: _Queries, archive: Archive, bounds: Tensor, order: Tensor, best: _Best
) -> None:
    """Scores documents in the order of their bound until no bound reaches the k-th score."""
    start, size = 0, best.scores.shape[1]
    while start < len(bounds):
        # A bound that equals the k-th score may still win by its lower index.
        reach = int(torch.searchsorted(-bounds, -best.scores[0, -1:].to(bounds.dtype), right=True))
        allowed = int(torch.searchsorted(-bounds, torch.tensor([torch.inf])))
        stop = min(start + size, reach, allowed)
        if stop <= start:
            return
        for part in archive.groups(order[start:stop]):
            chosen = order[start:stop][part]
            scores, _ = query.scores(archive.gather(chosen), with_argmax=False)
            best.add(scores, chosen, None, in_order=False)
        start, size = stop, 4 * size


@dataclass(frozen=True)
class _Queries:
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
    def of(
        queries: Tokens,
        offsets: Tensor,
        documents: Documents,
        weight: Tensor | None,
        normalize: bool,
    ) -> _Queries:
        rows, scale = as_product(queries, slice(None), product_dtype(queries, documents))
        return _Queries(rows, offsets, factor(rows, scale, weight, normalize))

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    def one(self, number: int) -> _Queries:
        start, end = self.offsets[number : number + 2].tolist()
        weight = None if self.weight is None else self.weight[start:end]
        return _Queries(self.rows[start:end], torch.tensor([0, end - start]), weight)

    def scores(self, read: Read, *, with_argmax: bool) -> tuple[Tensor, Tensor | None]:
        """Scores (B, S) with S documents, and the arg-max (Q, S)."""
        if not with_argmax and native.available() is not None and read.rows.dtype != torch.float64:
            sums = native.segment_max_sum(
                read.rows,
                read.offsets,
                self.rows,
                self.offsets,
                query_weight=self.weight,
                row_scale=read.scale,
                segments=read.segments,
            )
            return sums.T, None
        best, places = _maxima(read.packed(), self.rows, with_argmax=with_argmax)
        if self.weight is not None:
            best *= self.weight[:, None]
        if len(best) == 0:
            return best.new_zeros((self.count, best.shape[1])), places
        sums = torch.segment_reduce(best, "sum", offsets=self.offsets, axis=0, initial=0)
        return sums, places


@dataclass
class _Best:
    """The best documents so far: scores (B, k), best first, and indices, ``-inf`` and -1 in what is
    not filled.
    """

    scores: Tensor
    indices: Tensor

    @staticmethod
    def empty(queries: int, k: int, dtype: torch.dtype) -> _Best:
        scores = torch.full((queries, k), -torch.inf, dtype=dtype)
        return _Best(scores, torch.full((queries, k), -1))

    def of(self, number: int) -> _Best:
        """One query's, sharing memory."""
        return _Best(self.scores[number : number + 1], self.indices[number : number + 1])

    def add(self, scores: Tensor, indices: Tensor, keep: Tensor | None, *, in_order: bool) -> None:
        """Documents ``indices`` (S,) of ``scores`` (B, S) join, but for those not kept.

        Args:
            in_order: indices rise, and lie above all that joined before.
        """
        places = indices.expand_as(scores)
        if keep is not None:
            forbidden = ~keep[..., indices].expand_as(scores)
            scores = scores.masked_fill(forbidden, -torch.inf)
            places = places.masked_fill(forbidden, -1)
        scores = torch.cat([self.scores, scores], 1)
        places = torch.cat([self.indices, places], 1)
        if not in_order:
            # By index, then by score without disturbing that order; -1 last.
            by_index = places.where(places >= 0, torch.iinfo(torch.int64).max).argsort(1)
            scores, places = scores.gather(1, by_index), places.gather(1, by_index)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        k = self.scores.shape[1]
        self.scores.copy_(scores[:, :k])
        self.indices.copy_(places.gather(1, order[:, :k]))


def _maxima(read: Read, queries: Tensor, *, with_argmax: bool) -> tuple[Tensor, Tensor | None]:
    """Maxima (Q, S) of the products over each document, 0 in an empty one, in torch, in blocks."""
    bounds = read.offsets.tolist()
    count = len(bounds) - 1
    dtype = torch.float64 if read.rows.dtype == torch.float64 else torch.float32
    best = torch.zeros((len(queries), count), dtype=dtype)
    places = torch.full_like(best, -1, dtype=torch.int32) if with_argmax else None
    start = 0
    while start < count:
        stop = start + 1
        while stop < count and bounds[stop + 1] - bounds[start] <= _BLOCK:
            stop += 1
        block = slice(bounds[start], bounds[stop])
        product = _product(read.rows[block], queries)
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
    return best, places


def _product(rows: Tensor, queries: Tensor) -> Tensor:
    """Inner products (L, Q) in float32 or float64."""
    if rows.dtype == torch.int8:
        return torch._int_mm(rows, queries.T).to(torch.float32)
    # torch rounds a bfloat16 product to bfloat16, which loses ranks.
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return rows.to(dtype) @ queries.to(dtype).T

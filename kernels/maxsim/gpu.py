"""MaxSim on a GPU.

Sums are float32, of products in the dtype that both sides have; a 16-bit query with int8 documents
multiplies in the query's dtype, int8 queries with 16-bit documents in the documents' (both exact),
other mixtures in float32, as three TF32 products. float64 is left to the reference, which is as
fast there as anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from maxsight.kernels import ordering
from maxsight.kernels.chunks import chunks
from maxsight.kernels.launch import on
from maxsight.kernels.maxsim import gpu_forward, reference
from maxsight.kernels.maxsim.codes import (
    Tokens,
    dimensions,
    storage,
)
from maxsight.kernels.maxsim.gpu_backward import score_backward
from maxsight.kernels.maxsim.gpu_cases import report_cases
from maxsight.kernels.maxsim.gpu_operands import Operands, prepared
from maxsight.kernels.maxsim.screen import Int8Screen

__all__ = [
    "report_cases",
    "score",
    "score_backward",
    "score_pairs",
    "score_pairs_backward",
    "topk",
]

# The gradients of pairs gather few tokens; torch sorts them, and so adds in a fixed order.
score_pairs_backward = reference.score_pairs_backward

_SCORES = 8 << 20  # bytes a chunk; their keys take twice as much again
_PROGRAMS = 2**31 - 1
_JOINED = 128  # documents a program of join_shares


def score(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """As ``reference.score``."""
    if _is_for_reference(queries, documents):
        return reference.score(
            queries,
            query_offsets,
            documents,
            document_offsets,
            query_weight=query_weight,
            document_weight=document_weight,
            normalize=normalize,
            with_argmax=with_argmax,
        )
    operands = prepared(queries, documents, query_weight, document_weight, normalize)
    grid = _Grid.over(operands, query_offsets, document_offsets, None, with_argmax)
    count = len(document_offsets) - 1
    device = query_offsets.device
    scores = torch.zeros((len(query_offsets) - 1, count), dtype=torch.float32, device=device)
    shape = (len(operands.queries), count) if with_argmax else (0, 0)
    argmax = torch.full(shape, -1, dtype=torch.int32, device=device)
    for part in chunks(count, grid.lines):
        grid.fill(scores[:, part], argmax[:, part] if with_argmax else None, part.start)
    return scores, argmax


def score_pairs(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """As ``reference.score_pairs``."""
    if _is_for_reference(queries, documents):
        return reference.score_pairs(
            queries,
            query_offsets,
            documents,
            document_offsets,
            pairs=pairs,
            query_weight=query_weight,
            document_weight=document_weight,
            normalize=normalize,
            with_argmax=with_argmax,
        )
    operands = prepared(queries, documents, query_weight, document_weight, normalize)
    device = query_offsets.device
    count = len(query_offsets) - 1 if pairs is None else len(pairs)
    scores = torch.empty(count, dtype=torch.float32, device=device)
    places, places_offsets = torch.empty(0, dtype=torch.int32, device=device), None
    if with_argmax:
        places_offsets = query_offsets
        if pairs is not None:
            lengths = query_offsets.diff()[pairs[:, 0]]
            places_offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        # How many there are is in the data: this waits for the device.
        total = len(operands.queries) if pairs is None else int(places_offsets[-1])
        places = torch.full((total,), -1, dtype=torch.int32, device=device)
    if count:
        blocks, options = operands.blocks(with_argmax)
        with on(device):
            gpu_forward.score_each_pair[(count,)](
                pairs=None if pairs is None else pairs.contiguous(),
                query_offsets=query_offsets.contiguous(),
                document_offsets=document_offsets.contiguous(),
                out=scores,
                places=places if with_argmax else None,
                places_offsets=places_offsets,
                **operands.arguments,
                **blocks,
                **options,
            )
    asked, answering = query_offsets.diff() > 0, document_offsets.diff() > 0
    if pairs is not None:
        asked, answering = asked[pairs[:, 0]], answering[pairs[:, 1]]
    return scores.masked_fill_(asked & ~answering, -torch.inf), places


def topk(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    k: int,
    *,
    allowed: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    screen: Int8Screen | None,
) -> tuple[Tensor, Tensor]:
    """As ``reference.topk``: the tokens of forbidden documents are not read.

    Args:
        screen: not used: every document is scored exactly.
    """
    if _is_for_reference(queries, documents):
        return reference.topk(
            queries,
            query_offsets,
            documents,
            document_offsets,
            k,
            allowed=allowed,
            query_weight=query_weight,
            document_weight=document_weight,
            normalize=normalize,
            screen=screen,
        )
    operands = prepared(queries, documents, query_weight, document_weight, normalize)
    grid = _Grid.over(operands, query_offsets, document_offsets, allowed, False)
    count, device = len(document_offsets) - 1, query_offsets.device
    rows = len(query_offsets) - 1
    kept = torch.empty((rows, 0), dtype=torch.int64, device=device)
    for part in chunks(count, max(rows, grid.lines // 4), limit=_SCORES):
        scores = torch.zeros((rows, part.stop - part.start), dtype=torch.float32, device=device)
        grid.fill(scores, None, part.start)
        indices = torch.arange(part.start, part.stop, device=device)
        found = ordering.keys(scores, indices)
        if allowed is not None:
            bits = allowed[..., indices // 8] >> (indices % 8).to(torch.uint8)
            found.masked_fill_((bits & 1) == 0, ordering.NONE)
        kept = ordering.best(torch.cat([kept, found], 1), k)
    return ordering.read(kept)


@dataclass(frozen=True)
class _Grid:
    """Every query against documents: :func:`gpu_forward.score_grid` and what it needs."""

    operands: Operands
    blocks: dict[str, int]
    options: dict[str, int]
    query_of: Tensor
    query_offsets: Tensor
    document_offsets: Tensor
    allowed: Tensor | None

    @staticmethod
    def over(
        operands: Operands,
        query_offsets: Tensor,
        document_offsets: Tensor,
        allowed: Tensor | None,
        with_argmax: bool,
    ) -> _Grid:
        tokens = torch.arange(len(operands.queries), device=query_offsets.device)
        owners = torch.searchsorted(query_offsets, tokens, right=True, out_int32=True) - 1
        return _Grid(
            operands,
            *operands.blocks(with_argmax),
            owners,
            query_offsets.contiguous(),
            document_offsets.contiguous(),
            allowed,
        )

    @property
    def tiles(self) -> int:
        return int(triton.cdiv(len(self.query_of), self.blocks["QUERIES"]))

    @property
    def lines(self) -> int:
        """Of ``partial``; 1 where every query lies inside the only tile."""
        return self.tiles + len(self.query_offsets) - 1 if self.tiles > 1 else 1

    def fill(self, scores: Tensor, places: Tensor | None, first: int) -> None:
        """Scores (zeros) and places of the documents from ``first`` on."""
        count = scores.shape[1]
        if not count or not self.tiles:
            return
        partial = scores
        if self.tiles > 1:
            partial = scores.new_zeros((self.lines, count))
        with on(scores.device):
            for columns in chunks(count, self.tiles, itemsize=1, limit=_PROGRAMS):
                gpu_forward.score_grid[(self.tiles * (columns.stop - columns.start),)](
                    query_of=self.query_of,
                    query_offsets=self.query_offsets,
                    document_offsets=self.document_offsets,
                    allowed=self.allowed,
                    allowed_stride=self._allowed_stride,
                    out=scores[:, columns],
                    out_stride=scores.stride(0),
                    partial=partial[:, columns],
                    partial_stride=partial.stride(0),
                    places=None if places is None else places[:, columns],
                    places_stride=0 if places is None else places.stride(0),
                    query_tokens=len(self.query_of),
                    tiles=self.tiles,
                    first_document=first + columns.start,
                    **self.operands.arguments,
                    **self.blocks,
                    **self.options,
                )
            if self.tiles > 1:
                lines = len(self.query_offsets) - 1
                gpu_forward.join_shares[(lines, triton.cdiv(count, _JOINED))](
                    self.query_offsets,
                    partial,
                    partial.stride(0),
                    scores,
                    scores.stride(0),
                    count,
                    QUERIES=self.blocks["QUERIES"],
                    DOCUMENTS=_JOINED,
                )
        offsets = self.document_offsets[first : first + count + 1]
        scores.masked_fill_(reference.unanswered(self.query_offsets, offsets), -torch.inf)

    @property
    def _allowed_stride(self) -> int:
        return self.allowed.stride(0) if self.allowed is not None and self.allowed.ndim == 2 else 0


def _is_for_reference(queries: Tokens, documents: Tokens) -> bool:
    """float64, and tokens without dimensions or without tokens."""
    return (
        torch.float64 in (storage(queries).dtype, storage(documents).dtype)
        or dimensions(documents) == 0
        or not len(storage(queries))
        or not len(storage(documents))
    )

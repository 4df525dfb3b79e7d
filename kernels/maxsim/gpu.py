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

from maxsight.errors import BackendError
from maxsight.kernels import ordering
from maxsight.kernels.chunks import chunks
from maxsight.kernels.coded_tokens import CodedTokens
from maxsight.kernels.launch import on
from maxsight.kernels.maxsim import gpu_kernels, reference
from maxsight.kernels.maxsim.gpu_backward import score_backward
from maxsight.kernels.maxsim.gpu_operands import Operands, prepared
from maxsight.kernels.maxsim.values import Side

__all__ = [
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
    queries: Side, documents: Side, *, normalize: bool, answers: bool
) -> tuple[Tensor, Tensor]:
    """As ``reference.score``."""
    if _is_for_reference(queries, documents):
        return reference.score(queries, documents, normalize=normalize, answers=answers)
    grid = _Grid.over(prepared(queries, documents, normalize), queries, documents, None, answers)
    count, device = documents.count, queries.offsets.device
    scores = torch.zeros((queries.count, count), dtype=torch.float32, device=device)
    shape = (queries.rows, count) if answers else (0, 0)
    found = torch.full(shape, -1, dtype=torch.int32, device=device)
    for part in chunks(count, grid.lines):
        grid.fill(scores[:, part], found[:, part] if answers else None, part.start)
    return scores, found


def score_pairs(
    queries: Side, documents: Side, *, pairs: Tensor | None, normalize: bool, answers: bool
) -> tuple[Tensor, Tensor]:
    """As ``reference.score_pairs``."""
    if _is_for_reference(queries, documents):
        return reference.score_pairs(
            queries, documents, pairs=pairs, normalize=normalize, answers=answers
        )
    operands = prepared(queries, documents, normalize)
    device = queries.offsets.device
    count = queries.count if pairs is None else len(pairs)
    scores = torch.empty(count, dtype=torch.float32, device=device)
    places, places_offsets = torch.empty(0, dtype=torch.int32, device=device), None
    if answers:
        places_offsets = queries.offsets
        if pairs is not None:
            lengths = queries.offsets.diff()[pairs[:, 0]]
            places_offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        # How many there are is in the data: this waits for the device.
        total = queries.rows if pairs is None else int(places_offsets[-1])
        places = torch.full((total,), -1, dtype=torch.int32, device=device)
    if count:
        blocks, options = operands.blocks(answers)
        with on(device):
            gpu_kernels.score_each_pair[(count,)](
                pairs=None if pairs is None else pairs.contiguous(),
                query_offsets=queries.offsets.contiguous(),
                document_offsets=documents.offsets.contiguous(),
                out=scores,
                places=places if answers else None,
                places_offsets=places_offsets,
                **operands.arguments,
                **blocks,
                **options,
            )
    return scores, places


def topk(
    queries: Side, documents: Side, k: int, *, allowed: Tensor | None, normalize: bool
) -> tuple[Tensor, Tensor]:
    """As ``reference.topk``: the tokens of forbidden documents are not read."""
    if _is_for_reference(queries, documents):
        return reference.topk(queries, documents, k, allowed=allowed, normalize=normalize)
    grid = _Grid.over(prepared(queries, documents, normalize), queries, documents, allowed, False)
    count, device, rows = documents.count, queries.offsets.device, queries.count
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
    """Every query against documents: :func:`gpu_kernels.score_grid` and what it needs."""

    operands: Operands
    blocks: dict[str, int]
    options: dict[str, int]
    query_of: Tensor
    query_offsets: Tensor
    document_offsets: Tensor
    allowed: Tensor | None

    @staticmethod
    def over(
        operands: Operands, queries: Side, documents: Side, allowed: Tensor | None, answers: bool
    ) -> _Grid:
        return _Grid(
            operands,
            *operands.blocks(answers),
            queries.owners,
            queries.offsets.contiguous(),
            documents.offsets.contiguous(),
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
                gpu_kernels.score_grid[(self.tiles * (columns.stop - columns.start),)](
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
                gpu_kernels.join_shares[(lines, triton.cdiv(count, _JOINED))](
                    self.query_offsets,
                    partial,
                    partial.stride(0),
                    scores,
                    scores.stride(0),
                    count,
                    QUERIES=self.blocks["QUERIES"],
                    DOCUMENTS=_JOINED,
                )

    @property
    def _allowed_stride(self) -> int:
        return self.allowed.stride(0) if self.allowed is not None and self.allowed.ndim == 2 else 0


def _is_for_reference(queries: Side, documents: Side) -> bool:
    """float64, and tokens without dimensions or without tokens.

    Raises:
        BackendError: ``CodedTokens``, which no Triton kernel reads yet.
    """
    sides = (queries.tokens, documents.tokens)
    if any(isinstance(tokens, CodedTokens) for tokens in sides):
        raise BackendError(
            "the Triton room does not read CodedTokens yet: unset MAXSIGHT_KERNELS, or give the "
            "documents as tokens (`CodedTokens.decoded`)"
        )
    return (
        any(isinstance(tokens, Tensor) and tokens.dtype == torch.float64 for tokens in sides)
        or documents.dim == 0
        or not queries.rows
        or not documents.rows
    )

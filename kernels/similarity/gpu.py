"""Similarity search on a GPU: a screen of blocks of rows, and exact scores of the best ones' rows.

The screen multiplies float32 as three TF32 products, and 16-bit and int8 rows with the query as the
sum of two 16-bit numbers, so that it is right to 2^-16 of |query| |row|. It keeps a margin of
blocks beyond k, and a row is missed only where its error exceeds the margin's difference in score.
Equal rows have equal screened scores, so ties go to the lower index. float64 is left to the
reference. Nothing waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from maxsight.kernels import ordering
from maxsight.kernels.chunks import chunks
from maxsight.kernels.configs import Tile, tile
from maxsight.kernels.launch import architecture_of, on
from maxsight.kernels.similarity import gpu_kernels, reference

__all__ = ["topk"]

# Blocks kept beyond k.
_MARGIN = 8
_MAXIMA = 8 << 20  # bytes at a time; their keys take twice as much again
_SCORES = 8 << 20


def topk(
    queries: Tensor, database: Tensor, k: int, *, allowed: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As ``reference.topk``."""
    if torch.float64 in (queries.dtype, database.dtype) or not queries.numel():
        return reference.topk(queries, database, k, allowed=allowed, scale=scale)
    return _Search.over(queries, database, allowed, scale).topk(k)


@dataclass(frozen=True)
class _Search:
    """Queries and a database as the kernels take them.

    Attributes:
        queries: (Q, D) float32.
        parts: what the screen multiplies: the queries in the dtype of its product, and what
            that lost, if anything.
        unit: (Q, 1) what the screen's scores are in units of, None: 1.
    """

    queries: Tensor
    parts: tuple[Tensor, Tensor | None]
    unit: Tensor | None
    database: Tensor
    allowed: Tensor | None
    scale: Tensor | None
    tile: Tile

    @staticmethod
    def over(
        queries: Tensor, database: Tensor, allowed: Tensor | None, scale: Tensor | None
    ) -> _Search:
        kind = str(database.dtype).removeprefix("torch.")
        chosen = tile(
            f"similarity.block_maxima/{kind}",
            architecture=architecture_of(queries.device),
            bucket=bucket(len(queries)),
        )
        queries = queries.contiguous()
        parts, unit = _parts(queries, database.dtype)
        return _Search(queries, parts, unit, database, allowed, scale, chosen)

    def topk(self, k: int) -> tuple[Tensor, Tensor]:
        rows, block = len(self.database), self.tile.blocks["BLOCK"]
        wanted = k + _MARGIN
        count = len(self.queries)
        kept = torch.empty((count, 0), dtype=torch.int64, device=self.queries.device)
        for part in chunks(triton.cdiv(rows, block), count, limit=_MAXIMA):
            blocks = torch.arange(part.start, part.stop, device=kept.device)
            found = _keys(self.maxima(part), blocks)
            kept = ordering.best(torch.cat([kept, found], 1), wanted)
        _, blocks = ordering.read(kept)
        return self.best_of(blocks, min(k, rows), block)

    def maxima(self, blocks: slice) -> Tensor:
        """The best score of each query in some blocks, in its unit: (Q, blocks) float32."""
        shape = (len(self.queries), blocks.stop - blocks.start)
        out = torch.empty(shape, dtype=torch.float32, device=self.queries.device)
        tiles = triton.cdiv(len(self.queries), self.tile.blocks["QUERIES"])
        block, strip = self.tile.blocks["BLOCK"], self.tile.blocks["ROWS"]
        first, strips = blocks.start * block, triton.cdiv(shape[1] * block, strip)
        dim = self.queries.shape[1]
        with on(out.device):
            # A chunk of blocks may end inside a strip: no more rows than it has.
            gpu_kernels.block_maxima[(tiles * strips,)](
                *self.parts,
                self.database,
                self.scale,
                self.allowed,
                self._allowed_stride,
                out,
                out.stride(0),
                first,
                min(len(self.database), blocks.stop * block),
                shape[0],
                tiles,
                DIM=dim,
                num_warps=self.tile.warps,
                num_stages=self.tile.stages,
                **self.tile.blocks,
            )
        return out

    def best_of(self, chosen: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
        """The best k among the rows of some blocks (Q, C) int64 a query, -1 for none."""
        count, width = chosen.shape
        offsets = torch.arange(block, device=chosen.device)
        kept = torch.empty((count, min(k, width * block)), dtype=torch.int64, device=chosen.device)
        for part in chunks(count, max(1, width * block), limit=_SCORES):
            lines = torch.arange(part.start, part.stop, dtype=torch.int32, device=chosen.device)
            scores = self._scores(lines, chosen[part], block)
            rows = (chosen[part][:, :, None] * block + offsets).flatten(1).clamp_min(0)
            kept[part] = ordering.best(_keys(scores, rows), k)
        return ordering.read(kept)

    def _scores(self, query: Tensor, chosen: Tensor, block: int) -> Tensor:
        """Exact scores (P, C * block) of the rows of blocks (P, C) for queries (P,) int32."""
        width = chosen.shape[1] * block
        out = torch.empty((len(query), width), dtype=torch.float32, device=query.device)
        if not out.numel():
            return out
        chosen_tile = tile(
            "similarity.score_rows/any", architecture=architecture_of(out.device), bucket="any"
        )
        parts = triton.cdiv(width, chosen_tile.blocks["ROWS"])
        with on(out.device):
            gpu_kernels.score_rows[(len(query) * parts,)](
                self.queries,
                self.database,
                self.scale,
                self.allowed,
                self._allowed_stride,
                query,
                chosen,
                out,
                len(self.database),
                self.queries.shape[1],
                width,
                parts,
                BLOCK=block,
                num_warps=chosen_tile.warps,
                num_stages=chosen_tile.stages,
                **chosen_tile.blocks,
            )
        return out

    @property
    def _allowed_stride(self) -> int:
        return self.allowed.stride(0) if self.allowed is not None and self.allowed.ndim == 2 else 0


def bucket(queries: int) -> str:
    """The class of a number of queries in tiles.json."""
    return "few" if queries <= 16 else "some" if queries <= 64 else "many"


def _parts(
    queries: Tensor, database: torch.dtype
) -> tuple[tuple[Tensor, Tensor | None], Tensor | None]:
    """``parts`` and ``unit`` of a search."""
    if database == torch.float32:
        return (queries, None), None
    unit, dtype = None, torch.bfloat16  # in which int8 is exact
    if database == torch.float16:
        # A power of two brings every query into its range, and rounds nothing.
        exponent = torch.frexp(queries.abs().amax(1, keepdim=True)).exponent.clamp(-126, 126)
        unit, dtype = _power_of_two(exponent), torch.float16
        queries = queries * _power_of_two(-exponent)
    high = queries.to(dtype)
    return (high, (queries - high.float()).to(dtype)), unit


def _power_of_two(exponent: Tensor) -> Tensor:
    """2 ** exponent as float32, of int32 from -126 to 127.

    Written as the number's bits: ``torch.ldexp`` multiplies by ``pow(2, exponent)``, which a GPU
    need not round right.
    """
    return ((exponent + 127) << 23).view(torch.float32)


def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    """Keys in which what scores -inf, being forbidden or missing, is none."""
    return ordering.keys(scores, rows).masked_fill_(scores == -torch.inf, ordering.NONE)

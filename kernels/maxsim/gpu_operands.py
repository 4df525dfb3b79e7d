"""Queries and documents as MaxSim's kernels take them, and the tiles that they take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from maxsight.kernels.configs import Tile, tile
from maxsight.kernels.launch import architecture_of
from maxsight.kernels.maxsim.values import Int8Tokens, Side


@dataclass(frozen=True)
class Operands:
    """What the kernels multiply.

    Attributes:
        queries: (sum L_q, d) in the dtype that is multiplied in.
        arguments: of both forward kernels.
        kind: of the product, in the keys of tiles.json.
    """

    queries: Tensor
    arguments: dict[str, object]
    kind: str

    def blocks(self, answers: bool) -> tuple[dict[str, int], dict[str, int]]:
        """Block sizes, and Triton's options."""
        chosen = self._tile(answers)
        blocks = dict(chosen.blocks)
        blocks["BLOCK_DIM"] = block_dim(self.queries.shape[1], blocks["BLOCK_DIM"])
        return blocks, {"num_warps": chosen.warps, "num_stages": chosen.stages}

    def _tile(self, answers: bool) -> Tile:
        return tile(
            f"maxsim.score/{self.kind}",
            architecture=architecture_of(self.queries.device),
            bucket=bucket(len(self.queries), self.queries.shape[1], answers),
        )


def prepared(queries: Side, documents: Side, normalize: bool) -> Operands:
    """Both sides in one dtype, all factors that a whole token has in one weight each."""
    (rows, query_scale), (tokens, scale) = _parts(queries), _parts(documents)
    tokens = tokens.contiguous()
    weight, token_scale = _factor(queries.weight), _factor(documents.weight)
    if query_scale is not None:
        rows = rows * query_scale.sign().to(torch.int8)[:, None]
        if not normalize:
            weight = _times(weight, query_scale.abs())
        if scale is None:
            rows = rows.to(tokens.dtype)
    if scale is not None:
        token_scale = _times(token_scale, scale.sign() if normalize else scale)
    if normalize:
        length = torch.linalg.vector_norm(rows.float(), dim=1)
        weight = _times(weight, 1 / length.clamp_min(1e-12))
    if scale is None and rows.dtype != tokens.dtype:
        rows = rows.float()
    return Operands(
        rows := rows.contiguous(),
        {
            "queries": rows,
            "query_weight": weight,
            "tokens": tokens,
            "token_scale": token_scale,
            "DIM": rows.shape[1],
            "NORMALIZE": normalize,
        },
        str(rows.dtype).removeprefix("torch."),
    )


def _parts(side: Side) -> tuple[Tensor, Tensor | None]:
    """The numbers of a side's tokens, and their scale."""
    tokens = side.tokens
    if isinstance(tokens, Int8Tokens):
        return tokens.values, tokens.scale
    assert isinstance(tokens, Tensor)  # gpu.py refuses codes
    return tokens, None


def _factor(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.float().contiguous()


def _times(weight: Tensor | None, factor: Tensor) -> Tensor:
    return factor if weight is None else weight * factor


def bucket(query_tokens: int, dim: int, answers: bool) -> str:
    """The class of a shape in tiles.json."""
    if answers:
        return "argmax" if dim <= 128 else "argmax-long"
    queries = "narrow" if query_tokens <= 32 else "wide"
    return queries if dim <= 128 else f"{queries}-long"


def block_dim(dim: int, largest: int) -> int:
    """Dimensions of a tile; 32 at least, for int8's tensor cores."""
    return max(32, min(int(triton.next_power_of_2(dim)), largest))

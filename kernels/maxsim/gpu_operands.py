"""Queries and documents as MaxSim's kernels take them, and the tiles that they take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from maxsight.kernels.configs import Tile, tile
from maxsight.kernels.launch import architecture_of
from maxsight.kernels.maxsim.codes import Int8Tokens, Tokens, storage


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

    def blocks(self, with_argmax: bool) -> tuple[dict[str, int], dict[str, int]]:
        """Block sizes, and Triton's options."""
        chosen = self._tile(with_argmax)
        blocks = dict(chosen.blocks)
        blocks["BLOCK_DIM"] = block_dim(self.queries.shape[1], blocks["BLOCK_DIM"])
        return blocks, {"num_warps": chosen.warps, "num_stages": chosen.stages}

    def _tile(self, with_argmax: bool) -> Tile:
        return tile(
            f"maxsim.score/{self.kind}",
            architecture=architecture_of(self.queries.device),
            bucket=bucket(len(self.queries), self.queries.shape[1], with_argmax),
        )


def prepared(
    queries: Tokens,
    documents: Tokens,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
) -> Operands:
    """Both sides in one dtype, all factors that a whole token has in one weight each."""
    rows, tokens = storage(queries), storage(documents).contiguous()
    weight = None if query_weight is None else query_weight.float().contiguous()
    token_scale = None if document_weight is None else document_weight.float().contiguous()
    if isinstance(queries, Int8Tokens):
        rows = rows * queries.scale.sign().to(torch.int8)[:, None]
        if not normalize:
            weight = _times(weight, queries.scale.abs())
        if isinstance(documents, Tensor):
            rows = rows.to(documents.dtype)
    if isinstance(documents, Int8Tokens):
        scale = documents.scale.sign() if normalize else documents.scale
        token_scale = _times(token_scale, scale)
    if normalize:
        length = torch.linalg.vector_norm(rows.float(), dim=1)
        weight = _times(weight, 1 / length.clamp_min(1e-12))
    if not isinstance(documents, Int8Tokens) and rows.dtype != tokens.dtype:
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


def _times(weight: Tensor | None, factor: Tensor) -> Tensor:
    return factor if weight is None else weight * factor


def bucket(query_tokens: int, dim: int, with_argmax: bool) -> str:
    """The class of a shape in tiles.json."""
    if with_argmax:
        return "argmax" if dim <= 128 else "argmax-long"
    queries = "narrow" if query_tokens <= 32 else "wide"
    return queries if dim <= 128 else f"{queries}-long"


def block_dim(dim: int, largest: int) -> int:
    """Dimensions of a tile; 32 at least, for int8's tensor cores."""
    return max(32, min(int(triton.next_power_of_2(dim)), largest))

"""Queries and documents as MaxSim's kernels take them, and the tiles that they take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from maxsight.kernels.configs import Tile, tile
from maxsight.kernels.launch import architecture_of
from maxsight.kernels.maxsim.codes import Documents, Int8Tokens, ResidualCodes, Tokens, storage


@dataclass(frozen=True)
class Operands:
    """What the kernels multiply.

    Attributes:
        queries: (sum L_q, d) in the dtype that is multiplied in.
        arguments: of both forward kernels.
        centroids: (K, d) float32 of residual codes.
        kind: of the product, in the keys of tiles.json.
    """

    queries: Tensor
    arguments: dict[str, object]
    centroids: Tensor | None
    kind: str

    def blocks(self, with_argmax: bool) -> tuple[dict[str, int], dict[str, int]]:
        """Block sizes, and Triton's options."""
        chosen = self._tile(with_argmax)
        blocks = dict(chosen.blocks)
        bits = self.arguments["BITS"]
        assert isinstance(bits, int)
        blocks["BLOCK_DIM"] = block_dim(self.queries.shape[1], bits, blocks["BLOCK_DIM"])
        return blocks, {"num_warps": chosen.warps, "num_stages": chosen.stages}

    def _tile(self, with_argmax: bool) -> Tile:
        return tile(
            f"maxsim.score/{self.kind}",
            architecture=architecture_of(self.queries.device),
            bucket=bucket(len(self.queries), self.queries.shape[1], with_argmax),
        )


def prepared(
    queries: Tokens,
    documents: Documents,
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
    if normalize or isinstance(documents, ResidualCodes):
        length = torch.linalg.vector_norm(rows.float(), dim=1)
        if isinstance(documents, ResidualCodes):
            # Unit length, so that float16 holds them whatever their size.
            rows = (rows.float() / length.clamp_min(1e-30)[:, None]).half()
            weight = _times(weight, length)
        if normalize:
            weight = _times(weight, 1 / length.clamp_min(1e-12))
    same = isinstance(documents, Int8Tokens) or rows.dtype == tokens.dtype
    if not same and not isinstance(documents, ResidualCodes):
        rows = rows.float()
    codes = documents if isinstance(documents, ResidualCodes) else None
    return Operands(
        rows := rows.contiguous(),
        {
            "queries": rows,
            "query_weight": weight,
            "tokens": tokens if codes is None else codes.codes.contiguous(),
            "token_scale": token_scale,
            "centroid_ids": None if codes is None else codes.centroid_ids.contiguous(),
            "codebook": None if codes is None else _codebook(codes),
            "DIM": rows.shape[1],
            "BITS": 0 if codes is None else codes.bits,
            "NORMALIZE": normalize,
        },
        None if codes is None else codes.centroids.float().contiguous(),
        str(rows.dtype).removeprefix("torch.") if codes is None else f"codes{codes.bits}",
    )


def _codebook(codes: ResidualCodes) -> Tensor:
    """(256,) int32 or int64: for each byte the float16 bucket weights of its codes."""
    byte = torch.arange(256, device=codes.codes.device)[:, None]
    shifts = torch.arange(0, 8, codes.bits, device=byte.device)
    weights = codes.bucket_weights.half()[(byte >> shifts) & (2**codes.bits - 1)]
    return weights.view(torch.int64 if codes.bits == 2 else torch.int32).flatten()


def _times(weight: Tensor | None, factor: Tensor) -> Tensor:
    return factor if weight is None else weight * factor


def bucket(query_tokens: int, dim: int, with_argmax: bool) -> str:
    """The class of a shape in tiles.json."""
    if with_argmax:
        return "argmax" if dim <= 128 else "argmax-long"
    queries = "narrow" if query_tokens <= 32 else "wide"
    return queries if dim <= 128 else f"{queries}-long"


def block_dim(dim: int, bits: int, largest: int) -> int:
    """Dimensions of a tile, or bytes of codes; 32 at least, for int8's tensor cores."""
    width = dim * bits // 8 if bits else dim
    return max(32, min(int(triton.next_power_of_2(width)), largest))

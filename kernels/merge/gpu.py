"""Token merging on a GPU: four launches to match and average, one for attention."""

from __future__ import annotations

import math

import torch
import triton
from torch import Tensor

from maxsight.errors import BackendError
from maxsight.kernels import configs
from maxsight.kernels.configs import Tile
from maxsight.kernels.launch import architecture_of, on
from maxsight.kernels.merge.gpu_kernels import (
    attention_kernel,
    average_kernel,
    match_kernel,
    place_kernel,
    rank_kernel,
)

NAMES = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}


def match(
    metric: Tensor, offsets: Tensor, targets: Tensor, protected: int, outputs: int, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which output every token goes to; see :func:`maxsight.kernels.merge.operators.match`.

    Products are summed in float32, of float32 metrics by three TF32 products each.
    """
    _require(metric)
    metric, count = metric.contiguous(), len(metric)
    offsets, targets = offsets.contiguous(), targets.contiguous()
    source = torch.empty(count, dtype=torch.int64, device=metric.device)
    order = torch.empty_like(source)
    starts = torch.empty(outputs + 1, dtype=torch.int64, device=metric.device)
    if count == 0:
        return source, order, starts.zero_()
    values = torch.empty(count, dtype=torch.float32, device=metric.device)
    partners = torch.empty(count, dtype=torch.int32, device=metric.device)
    picks = torch.empty_like(partners)
    documents, half = len(offsets) - 1, triton.cdiv(longest, 2)
    dim = metric.shape[1]
    chosen = _tile(f"merge.match/{NAMES[metric.dtype]}", metric, bucket=match_bucket(dim))
    counting = _tile("merge.rank/float32", metric, bucket="any")
    placing = _tile("merge.place/int32", metric, bucket="any")
    with on(metric.device):
        blocks = triton.cdiv(half, chosen.blocks["A"])
        match_kernel[(documents * blocks,)](
            metric,
            offsets,
            targets,
            values,
            partners,
            blocks,
            protected,
            dim,
            **chosen.blocks,
            WHOLE=dim <= chosen.blocks["DIM"],
            PRECISION=precision(metric.dtype),
            num_warps=chosen.warps,
            num_stages=chosen.stages,
        )
        blocks = triton.cdiv(half, counting.blocks["BLOCK"])
        rank_kernel[(documents * blocks,)](
            values,
            partners,
            offsets,
            targets,
            picks,
            blocks,
            protected,
            **counting.blocks,
            num_warps=counting.warps,
            num_stages=counting.stages,
        )
        blocks = triton.cdiv(max(half, min(protected, longest)), placing.blocks["BLOCK"])
        place_kernel[(documents * blocks,)](
            picks,
            offsets,
            targets,
            source,
            order,
            starts,
            blocks,
            protected,
            count,
            outputs,
            **placing.blocks,
            num_warps=placing.warps,
            num_stages=placing.stages,
        )
    return source, order, starts


def average(
    tokens: Tensor, sizes: Tensor, source: Tensor, order: Tensor, starts: Tensor, weighted: bool
) -> tuple[Tensor, Tensor]:
    """The mean of what every output is made of, and its size."""
    _require(tokens)
    tokens, sizes = tokens.contiguous(), sizes.contiguous()
    outputs, channels = len(starts) - 1, tokens.shape[1]
    means = tokens.new_empty((outputs, channels))
    totals = sizes.new_empty(outputs)
    if outputs:
        chosen = _tile(f"merge.average/{NAMES[tokens.dtype]}", tokens, bucket="any")
        chunks = max(1, triton.cdiv(channels, chosen.blocks["CHANNELS"]))
        with on(tokens.device):
            average_kernel[(triton.cdiv(outputs, chosen.blocks["OUTPUTS"]) * chunks,)](
                tokens,
                sizes,
                order.contiguous(),
                starts.contiguous(),
                means,
                totals,
                outputs,
                channels,
                chunks,
                WEIGHTED=weighted,
                WIDE=triton.language.float32,
                **chosen.blocks,
                num_warps=chosen.warps,
                num_stages=chosen.stages,
            )
    return means, totals


def attention(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor, scale: float) -> Tensor:
    """softmax(scale Q K^T + log sizes) V, zero where no key has a size above zero."""
    _require(query)
    query, key, value = (_dense_rows(tensor) for tensor in (query, key, value))
    batch, heads, queries, dim = query.shape
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    if out.numel() == 0:
        return out
    padded, most = max(16, triton.next_power_of_2(dim)), widest(query.dtype)
    if padded > most:
        raise BackendError(
            f"proportional attention on a GPU takes {NAMES[query.dtype]} heads of up to {most} "
            f"dimensions, got {dim}; set MAXSIGHT_KERNELS=reference"
        )
    bucket = attention_bucket(padded)
    chosen = _tile(f"merge.attention/{NAMES[query.dtype]}", query, bucket=bucket)
    blocks = triton.cdiv(queries, chosen.blocks["QUERIES"])
    with on(query.device):
        attention_kernel[(batch * heads * blocks,)](
            query,
            key,
            value,
            sizes.contiguous(),
            out,
            *query.stride()[:3],
            *key.stride()[:3],
            *value.stride()[:3],
            heads,
            queries,
            key.shape[2],
            blocks,
            dim,
            scale * math.log2(math.e),
            **chosen.blocks,
            DIM=padded,
            PRECISION=precision(query.dtype),
            num_warps=chosen.warps,
            num_stages=chosen.stages,
        )
    return out


def widest(dtype: torch.dtype) -> int:
    """The widest head: three TF32 products of 256 dimensions do not fit into registers."""
    return 128 if dtype == torch.float32 else 256


def match_bucket(dim: int) -> str:
    """``keys``: the metric of one head; ``features``: whole tokens."""
    return "keys" if dim <= 64 else "features"


def attention_bucket(padded: int) -> str:
    """By the dimensions of a head: up to 64, 128 or 256."""
    return str(max(64, padded))


def precision(dtype: torch.dtype) -> str:
    """float32 keeps its precision on tensor cores by three TF32 products."""
    return "tf32x3" if dtype == torch.float32 else "ieee"


def _tile(kernel: str, tensor: Tensor, *, bucket: str) -> Tile:
    return configs.tile(kernel, architecture=architecture_of(tensor.device), bucket=bucket)


def _require(tensor: Tensor) -> None:
    if tensor.dtype not in NAMES:
        raise BackendError(
            f"merging on a GPU takes {', '.join(NAMES.values())}, got {tensor.dtype}; convert it "
            "or set MAXSIGHT_KERNELS=reference"
        )


def _dense_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()

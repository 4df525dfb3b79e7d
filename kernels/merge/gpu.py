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
from maxsight.kernels.merge.gpu_attention import attention_kernel
from maxsight.kernels.merge.gpu_average import average_kernel
from maxsight.kernels.merge.gpu_match import match_kernel, place_kernel, rank_kernel
from maxsight.kernels.report import Case

_NAMES = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}


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
    chosen = _tile(f"merge.match/{_NAMES[metric.dtype]}", metric, bucket=match_bucket(dim))
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
        chosen = _tile(f"merge.average/{_NAMES[tokens.dtype]}", tokens, bucket="any")
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
    padded, most = max(16, triton.next_power_of_2(dim)), _widest(query.dtype)
    if padded > most:
        raise BackendError(
            f"proportional attention on a GPU takes {_NAMES[query.dtype]} heads of up to {most} "
            f"dimensions, got {dim}; set MAXSIGHT_KERNELS=reference"
        )
    bucket = attention_bucket(padded)
    chosen = _tile(f"merge.attention/{_NAMES[query.dtype]}", query, bucket=bucket)
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


def report_cases(architecture: int) -> list[Case]:
    """Every kernel with every tile: ViT-B's 32 images of 197 tokens, AIM's 32 frames."""
    found = []
    for dtype, name in _NAMES.items():
        for bucket, dim in (("keys", 64), ("features", 1152)):
            found.append(_match_case(architecture, dtype, bucket, images=32, tokens=197, dim=dim))
        found.append(_average_case(architecture, dtype, images=32, tokens=197, left=184, dim=768))
        for dim in (64, 80, 256)[: 2 if dtype == torch.float32 else 3]:
            found.append(_attention_case(architecture, name, images=32, heads=12, n=197, dim=dim))
    return [*found, *_placing_cases(architecture, images=32, tokens=197, left=184)]


def _widest(dtype: torch.dtype) -> int:
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
    if tensor.dtype not in _NAMES:
        raise BackendError(
            f"merging on a GPU takes {', '.join(_NAMES.values())}, got {tensor.dtype}; convert it "
            "or set MAXSIGHT_KERNELS=reference"
        )


def _dense_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


_POINTERS = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}


def _shipped(kernel: str, architecture: int, bucket: str) -> Tile:
    return configs.tile(kernel, architecture=architecture, bucket=bucket)


def _match_case(
    architecture: int, dtype: torch.dtype, bucket: str, *, images: int, tokens: int, dim: int
) -> Case:
    name = f"merge.match/{_NAMES[dtype]}"
    tile = _shipped(name, architecture, bucket)
    a, b = triton.cdiv(tokens, 2), tokens // 2
    blocks_a, blocks_b = triton.cdiv(a, tile.blocks["A"]), triton.cdiv(b, tile.blocks["B"])
    whole = dim <= tile.blocks["DIM"]
    answer = images * a * 8 + images * 16
    read = images * (a * (1 if whole else blocks_b) + b * blocks_a) * dim * dtype.itemsize
    columns = triton.cdiv(dim, tile.blocks["DIM"]) * tile.blocks["DIM"]
    return Case(
        kernel=match_kernel,
        name=name,
        bucket=bucket,
        signature={
            "metric": _POINTERS[dtype],
            "offsets": "*i64",
            "targets": "*i64",
            "values": "*fp32",
            "partners": "*i32",
            "blocks": "i32",
            "protected": "i32",
            "dim": "i32",
        },
        constants={"WHOLE": whole, "PRECISION": precision(dtype)},
        tile=tile,
        aligned=("metric", "offsets", "targets", "values", "partners", "dim"),
        has_product=True,
        flops=2.0 * images * a * b * dim,
        flop_dtype=_NAMES[dtype],
        bytes_coded=read + answer,
        bytes_compulsory=images * tokens * dim * dtype.itemsize + answer,
        shape=f"{images} x {tokens} x {dim}",
        flops_coded=2.0
        * images
        * blocks_a
        * tile.blocks["A"]
        * blocks_b
        * tile.blocks["B"]
        * columns,
        programs=images * blocks_a,
    )


def _placing_cases(architecture: int, *, images: int, tokens: int, left: int) -> list[Case]:
    a = triton.cdiv(tokens, 2)
    where = {"offsets": "*i64", "targets": "*i64"}
    sizes = {"blocks": "i32", "protected": "i32"}
    kernels = (
        (
            rank_kernel,
            "merge.rank/float32",
            {"values": "*fp32", "partners": "*i32", "picks": "*i32", **where, **sizes},
            images * a * 12.0,
        ),
        (
            place_kernel,
            "merge.place/int32",
            {"picks": "*i32", "source": "*i64", "order": "*i64", "starts": "*i64"}
            | {**where, **sizes, "inputs": "i32", "outputs": "i32"},
            images * (a * 4.0 + tokens * 16.0 + left * 8.0),
        ),
    )
    return [
        Case(
            kernel=kernel,
            name=name,
            bucket="any",
            signature=signature,
            constants={},
            tile=_shipped(name, architecture, "any"),
            aligned=tuple(key for key, kind in signature.items() if kind.startswith("*")),
            has_product=False,
            flops=0.0,
            flop_dtype="float32",
            bytes_coded=moved,
            bytes_compulsory=moved,
            shape=f"{images} x {tokens}",
            programs=images * triton.cdiv(a, _shipped(name, architecture, "any").blocks["BLOCK"]),
        )
        for kernel, name, signature, moved in kernels
    ]


def _average_case(
    architecture: int, dtype: torch.dtype, *, images: int, tokens: int, left: int, dim: int
) -> Case:
    name = f"merge.average/{_NAMES[dtype]}"
    tile = _shipped(name, architecture, "any")
    chunks = triton.cdiv(dim, tile.blocks["CHANNELS"])
    moved = images * (tokens + left) * dim * dtype.itemsize
    places = images * (tokens * 12 + left * 8)
    return Case(
        kernel=average_kernel,
        name=name,
        bucket="any",
        signature={
            "tokens": _POINTERS[dtype],
            "sizes": "*fp32",
            "order": "*i64",
            "starts": "*i64",
            "means": _POINTERS[dtype],
            "totals": "*fp32",
            "outputs": "i32",
            "channels": "i32",
            "chunks": "i32",
        },
        constants={"WEIGHTED": True, "WIDE": triton.language.float32},
        tile=tile,
        aligned=("tokens", "sizes", "order", "starts", "means", "totals", "channels"),
        has_product=False,
        flops=0.0,
        flop_dtype="float32",
        bytes_coded=moved + chunks * 2 * places + images * left * 4,
        bytes_compulsory=moved + places + images * left * 4,
        shape=f"{images} x {tokens} to {left} x {dim}",
        programs=triton.cdiv(images * left, tile.blocks["OUTPUTS"]) * chunks,
    )


def _attention_case(
    architecture: int, dtype: str, *, images: int, heads: int, n: int, dim: int
) -> Case:
    padded = triton.next_power_of_2(dim)
    bucket = attention_bucket(padded)
    name = f"merge.attention/{dtype}"
    tile = _shipped(name, architecture, bucket)
    pointer, bytes_each = {"bfloat16": ("*bf16", 2), "float16": ("*fp16", 2)}.get(
        dtype, ("*fp32", 4)
    )
    blocks = triton.cdiv(n, tile.blocks["QUERIES"])
    steps = triton.cdiv(n, tile.blocks["KEYS"])
    row = images * heads * n * dim * bytes_each
    strides = [f"{x}_{y}" for x in ("query", "key", "value") for y in ("batch", "head", "row")]
    return Case(
        kernel=attention_kernel,
        name=name,
        bucket=bucket,
        signature=dict.fromkeys(("query", "key", "value", "out"), pointer)
        | {"sizes": "*fp32", "scale": "fp32"}
        | dict.fromkeys([*strides, "heads", "queries", "keys", "blocks", "dim"], "i32"),
        constants={"DIM": padded, "PRECISION": "tf32x3" if dtype == "float32" else "ieee"},
        tile=tile,
        aligned=("query", "key", "value", "sizes", "out", "dim", *strides),
        has_product=True,
        flops=4.0 * images * heads * n * n * dim,
        flop_dtype=dtype,
        # The programs of a head run side by side and share its keys and values in the cache.
        bytes_coded=4.0 * row + images * heads * blocks * n * 4,
        bytes_compulsory=4.0 * row + images * n * 4,
        shape=f"{images} x {heads} x {n} x {dim}",
        flops_coded=4.0
        * images
        * heads
        * (blocks * tile.blocks["QUERIES"])
        * (steps * tile.blocks["KEYS"])
        * padded,
        programs=images * heads * blocks,
    )

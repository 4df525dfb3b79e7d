"""Token merging's kernels at the shapes that ``maxsight kernels`` reports."""

from __future__ import annotations

import torch
import triton

from maxsight.kernels import configs
from maxsight.kernels.cases import Case
from maxsight.kernels.configs import Tile
from maxsight.kernels.merge.gpu import NAMES, attention_bucket, precision
from maxsight.kernels.merge.gpu_kernels import (
    attention_kernel,
    average_kernel,
    match_kernel,
    place_kernel,
    rank_kernel,
)
from maxsight.kernels.shapes import VIT_B


def report_cases(architecture: int) -> list[Case]:
    """Every kernel with every tile: ViT-B's 32 images of 197 tokens, AIM's 32 frames."""
    found = []
    for dtype, name in NAMES.items():
        for bucket, dim in (("keys", 64), ("features", 1152)):
            found.append(_match_case(architecture, dtype, bucket, dim))
        found.append(_average_case(architecture, dtype))
        for dim in (64, 80, 256)[: 2 if dtype == torch.float32 else 3]:
            found.append(_attention_case(architecture, name, dim))
    return [*found, *_placing_cases(architecture)]


_POINTERS = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}


def _shipped(kernel: str, architecture: int, bucket: str) -> Tile:
    return configs.tile(kernel, architecture=architecture, bucket=bucket)


def _match_case(architecture: int, dtype: torch.dtype, bucket: str, dim: int) -> Case:
    images, tokens = VIT_B.images, VIT_B.tokens
    name = f"merge.match/{NAMES[dtype]}"
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
        flop_dtype=NAMES[dtype],
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


def _placing_cases(architecture: int) -> list[Case]:
    images, tokens, left = VIT_B.images, VIT_B.tokens, VIT_B.left
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


def _average_case(architecture: int, dtype: torch.dtype) -> Case:
    images, tokens, left, dim = VIT_B.images, VIT_B.tokens, VIT_B.left, VIT_B.dim
    name = f"merge.average/{NAMES[dtype]}"
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


def _attention_case(architecture: int, dtype: str, dim: int) -> Case:
    images, heads, n = VIT_B.images, VIT_B.heads, VIT_B.tokens
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

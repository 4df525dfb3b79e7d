"""Similarity's kernels at the shapes that ``maxsight kernels`` reports.

Bytes as coded count what comes from the card's memory: the tiles of queries that read one strip of
the database run side by side and share it in the L2 cache, as all programs share the queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import triton

from maxsight.kernels.cases import Case
from maxsight.kernels.configs import tile
from maxsight.kernels.shapes import DIM, QUERIES, ROWS
from maxsight.kernels.similarity import gpu_kernels
from maxsight.kernels.similarity.gpu import bucket as bucket_of

# Of a stored row's dtype: its pointer, its bytes a dimension, the dtype that is multiplied in, and
# how many products that takes.
_TYPES: Mapping[str, tuple[str, float, str, int]] = {
    "float32": ("*fp32", 4, "float32", 3),
    "float16": ("*fp16", 2, "float16", 2),
    "bfloat16": ("*bf16", 2, "bfloat16", 2),
    "int8": ("*i8", 1, "bfloat16", 2),
}
_PARTS = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}


def report_cases(architecture: int) -> list[Case]:
    """Every kernel in every dtype, at 1, 64 and 1,024 queries against a million rows of 512."""
    return list(_cases(architecture))


def _cases(architecture: int) -> Iterator[Case]:
    for kind in _TYPES:
        for queries in QUERIES:
            yield _maxima(architecture, kind, queries, filtered=False)
        yield _maxima(architecture, kind, 64, filtered=True)
        yield _exact(architecture, kind)


def _maxima(architecture: int, kind: str, queries: int, *, filtered: bool) -> Case:
    name, bucket = f"similarity.block_maxima/{kind}", bucket_of(queries)
    chosen = tile(name, architecture=architecture, bucket=bucket)
    pointer, size, dtype, products = _TYPES[kind]
    scale = 4 * ROWS if kind == "int8" else 0
    tiles = triton.cdiv(queries, chosen.blocks["QUERIES"])
    strips = triton.cdiv(ROWS, chosen.blocks["ROWS"])
    moved = ROWS * DIM * size + scale + queries * DIM * 4
    moved += 4 * queries * triton.cdiv(ROWS, chosen.blocks["BLOCK"])
    moved += ROWS // 8 if filtered else 0
    flops = 2.0 * queries * ROWS * DIM
    return Case(
        kernel=gpu_kernels.block_maxima,
        name=name,
        bucket=bucket,
        signature={"queries": _PARTS[dtype]}
        | ({"rest": _PARTS[dtype]} if products == 2 else {})
        | {"database": pointer}
        | ({"scale": "*fp32"} if scale else {})
        | ({"allowed": "*u8"} if filtered else {})
        | {"allowed_stride": "i64", "out": "*fp32", "out_stride": "i64", "first_row": "i64"}
        | {"rows": "i64", "count": "i32", "tiles": "i32"},
        constants=({} if products == 2 else {"rest": None})
        | ({} if scale else {"scale": None})
        | ({} if filtered else {"allowed": None})
        | {"DIM": DIM},
        tile=chosen,
        aligned=("queries", "database", "out", "first_row")
        + (("rest",) if products == 2 else ())
        + (("scale",) if scale else ()),
        has_product=True,
        flops=flops,
        flop_dtype=dtype,
        bytes_coded=moved,
        bytes_compulsory=moved,
        shape=f"{queries:,} x {ROWS:,} x {DIM}" + (", filtered" if filtered else ""),
        flops_coded=2.0 * products * tiles * chosen.blocks["QUERIES"] * ROWS * DIM,
        programs=tiles * strips,
    )


def _exact(architecture: int, kind: str) -> Case:
    chosen = tile("similarity.score_rows/any", architecture=architecture, bucket="any")
    maxima = tile(f"similarity.block_maxima/{kind}", architecture=architecture, bucket="some")
    block = maxima.blocks["BLOCK"]
    pointer, size, _, _ = _TYPES[kind]
    queries, width = 64, 18 * block
    rows = queries * width
    scale = 4 * rows if kind == "int8" else 0
    moved = rows * (DIM * size + 4) + scale + queries * (DIM * 4 + 8 * 18)
    return Case(
        kernel=gpu_kernels.score_rows,
        name="similarity.score_rows/any",
        bucket="any",
        signature={"queries": "*fp32", "database": pointer}
        | ({"scale": "*fp32"} if scale else {})
        | {"allowed_stride": "i64", "query_of": "*i32", "chosen": "*i64", "out": "*fp32"}
        | {"rows": "i64", "dim": "i32", "width": "i32", "parts": "i32"},
        constants=({} if scale else {"scale": None}) | {"allowed": None, "BLOCK": block},
        tile=chosen,
        aligned=("queries", "database", "chosen", "out", "dim", "width"),
        has_product=False,
        flops=2.0 * rows * DIM,
        flop_dtype="float32",
        bytes_coded=moved,
        bytes_compulsory=moved,
        shape=f"{queries} x {width:,} of {kind} x {DIM}",
        programs=queries * triton.cdiv(width, chosen.blocks["ROWS"]),
    )

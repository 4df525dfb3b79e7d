"""The kernels of fixed-dimensional encodings at the shapes that ``maxsight kernels`` reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import triton

from maxsight.kernels import configs
from maxsight.kernels.cases import Case
from maxsight.kernels.fde import gpu_kernels
from maxsight.kernels.fde.gpu import TYPES, bucket, columns, pattern_constants
from maxsight.kernels.fde.values import Config
from maxsight.kernels.shapes import PASSAGES


def report_cases(architecture: int) -> list[Case]:
    """Every kernel, dtype and bucket at 10,000 documents of 70 tokens, d = 128."""
    return [case for dtype in TYPES for case in _cases(architecture, dtype)]


def _cases(architecture: int, dtype: torch.dtype) -> Iterator[Case]:
    dtype_name, pointer = TYPES[dtype]
    total = "*fp64" if dtype == torch.float64 else "*fp32"
    double: dict[str, object] = {"DOUBLE": dtype == torch.float64}
    documents, length, dim = PASSAGES.documents, PASSAGES.tokens, PASSAGES.dim
    length_all = documents * length
    narrow = Config(token_dim=dim)
    wide = Config(token_dim=dim, repetitions=40, k_sim=6, projection_dim=None, final_dim=10_240)
    token_bytes = length_all * dim * dtype.itemsize
    shape = str(PASSAGES)

    def case(
        kernel: str,
        bucket: str,
        signature: Mapping[str, str],
        constants: Mapping[str, object],
        *,
        flops: float,
        coded: float,
        compulsory: float,
        product: bool = False,
    ) -> Case:
        function: Any = getattr(gpu_kernels, kernel)
        name = f"fde.{kernel}/{dtype_name}"
        return Case(
            kernel=function,
            name=name,
            bucket=bucket,
            signature=signature,
            constants=constants,
            tile=configs.tile(name, architecture=architecture, bucket=bucket),
            aligned=tuple(key for key, kind in signature.items() if kind.startswith("*")),
            has_product=product,
            flops=flops,
            flop_dtype="float16" if product else "float32",
            bytes_coded=coded,
            bytes_compulsory=compulsory,
            shape=shape,
        )

    tile = configs.tile(f"fde.patterns/{dtype_name}", architecture=architecture, bucket="any")
    planes = narrow.repetitions * columns(narrow)
    yield case(
        "patterns",
        "any",
        {"tokens": pointer, "planes": "*fp16", "found": "*i32", "count": "i64"}
        | {"repetitions": "i32", "columns": "i32"},
        pattern_constants(narrow),
        flops=2.0 * length_all * dim * narrow.repetitions * narrow.k_sim,
        # Each block of columns reads the tokens; the second pass over them hits the L2 cache.
        coded=token_bytes * triton.cdiv(planes, tile.blocks["COLUMNS"])
        + 4 * length_all * narrow.repetitions,
        compulsory=token_bytes + 4 * length_all * narrow.repetitions,
        product=True,
    )
    for config in (narrow, wide):
        patterns = 4 * length_all * config.repetitions
        out = documents * config.inner_dim * (8 if double["DOUBLE"] else 4)
        of_cells = bucket(config)
        tile = configs.tile(f"fde.cells/{dtype_name}", architecture=architecture, bucket=of_cells)
        blocks = triton.cdiv(config.cells, tile.blocks["CELLS"])
        yield case(
            "cells",
            of_cells,
            {"tokens": pointer, "offsets": "*i64", "patterns": "*i32", "sources": "*i32"}
            | {"signs": "*i8", "found": "*fp32" if config is narrow else total, "count": "i64"}
            | dict.fromkeys(("repetitions", "dim", "cells_all", "cell_dim", "depth"), "i32"),
            {"weights": None, "DOCUMENTS": True, "FILL": True} | double,
            flops=2.0 * length_all * config.repetitions * dim,
            # A document's tokens are read once from memory, by its other programs from the cache.
            coded=token_bytes + patterns * blocks + out,
            compulsory=token_bytes + patterns + out,
        )
    if dtype in (torch.float32, torch.float64):
        inner, out = documents * wide.inner_dim * dtype.itemsize, documents * wide.dim * 4
        yield case(
            "fold",
            "any",
            {"inner": pointer, "sources": "*i32", "signs": "*i8", "found": "*fp32"}
            | dict.fromkeys(("inner_dim", "dim", "depth"), "i32"),
            double,
            flops=2.0 * documents * wide.inner_dim,
            coded=inner + out,
            compulsory=inner + out,
        )

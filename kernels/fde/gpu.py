"""Fixed-dimensional encodings on a GPU, in Triton.

Two kernels: the sign patterns of all tokens, by a matrix product of small integers that tensor
cores compute exactly; then the cells, a program for each document, repetition and block of cells
and dimensions. It goes through the document's tokens in their order, so nothing is added by atomics
and every run gives the same bits. A third folds by the final sketch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from maxsight.kernels import configs
from maxsight.kernels.fde import gpu_kernels, randomness, simhash
from maxsight.kernels.fde.config import Config
from maxsight.kernels.launch import architecture_of, on
from maxsight.kernels.report import Case

_INNER_BYTES = 64 << 20  # of the encodings before the final projection
_TYPES = {
    torch.float16: ("float16", "*fp16"),
    torch.bfloat16: ("bfloat16", "*bf16"),
    torch.float32: ("float32", "*fp32"),
    torch.float64: ("float64", "*fp64"),
}


def encode(
    tokens: Tensor, offsets: Tensor, weights: Tensor | None, config: Config, *, documents: bool
) -> Tensor:
    """See ``encode_queries`` and ``encode_documents`` in __init__.py."""
    count = len(offsets) - 1
    found = torch.empty((count, config.dim), dtype=torch.float32, device=tokens.device)
    if not count:
        return found
    patterns = _patterns(tokens, config)
    if config.final_dim is None:
        _cells(tokens, offsets, weights, patterns, config, documents, found)
        return found
    dtype = torch.float64 if tokens.dtype == torch.float64 else torch.float32
    step = max(1, _INNER_BYTES // (config.inner_dim * dtype.itemsize))
    for first in range(0, count, step):
        bounds = offsets[first : first + step + 1]
        inner = torch.empty((len(bounds) - 1, config.inner_dim), dtype=dtype, device=tokens.device)
        _cells(tokens, bounds, weights, patterns, config, documents, inner)
        _fold(inner, config, found[first : first + step])
    return found


def _patterns(tokens: Tensor, config: Config) -> Tensor:
    """(R, sum L) int32, as ``simhash.patterns``."""
    shape = (config.repetitions, len(tokens))
    if not config.k_sim:
        return torch.zeros(shape, dtype=torch.int32, device=tokens.device)
    found = torch.empty(shape, dtype=torch.int32, device=tokens.device)
    if len(tokens):
        tile = _tile("patterns", tokens, "any")
        planes = _planes(config, tokens.device)
        columns = max(tile.blocks["COLUMNS"], _columns(config))
        grid = (
            triton.cdiv(len(tokens), tile.blocks["TOKENS"]),
            triton.cdiv(planes.shape[1], columns),
        )
        with on(tokens.device):
            gpu_kernels.patterns[grid](
                tokens,
                planes,
                found,
                len(tokens),
                config.repetitions,
                planes.shape[1],
                **(dict(tile.blocks) | {"COLUMNS": columns}),
                **_pattern_constants(config),
                num_warps=tile.warps,
                num_stages=tile.stages,
            )
    return found


def _cells(
    tokens: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    patterns: Tensor,
    config: Config,
    documents: bool,
    found: Tensor,
) -> None:
    tile = _tile("cells", tokens, _bucket(config))
    sources, signs = _inner(config, tokens.device)
    grid = (
        (len(offsets) - 1) * config.repetitions,
        triton.cdiv(config.cells, tile.blocks["CELLS"]),
        triton.cdiv(config.cell_dim, tile.blocks["DIMS"]),
    )
    with on(tokens.device):
        gpu_kernels.cells[grid](
            tokens,
            offsets,
            weights,
            patterns,
            sources,
            signs,
            found,
            len(tokens),
            config.repetitions,
            config.token_dim,
            config.cells,
            config.cell_dim,
            sources.shape[1],
            DOCUMENTS=documents,
            FILL=documents and config.fill_empty,
            DOUBLE=tokens.dtype == torch.float64,
            **tile.blocks,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )


def _fold(inner: Tensor, config: Config, found: Tensor) -> None:
    tile = _tile("fold", inner, "any")
    sources, signs = _final(config, inner.device)
    grid = (len(inner), triton.cdiv(config.dim, tile.blocks["DIMS"]))
    with on(inner.device):
        gpu_kernels.fold[grid](
            inner,
            sources,
            signs,
            found,
            config.inner_dim,
            config.dim,
            len(sources),
            DOUBLE=inner.dtype == torch.float64,
            **tile.blocks,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )


def _tile(kernel: str, tensor: Tensor, bucket: str) -> configs.Tile:
    name = f"fde.{kernel}/{_TYPES[tensor.dtype][0]}"
    return configs.tile(name, architecture=architecture_of(tensor.device), bucket=bucket)


def _bucket(config: Config) -> str:
    """Of the kernel of cells: one block holds few dimensions, or many."""
    return "narrow" if config.cell_dim <= 32 else "wide"


def _columns(config: Config) -> int:
    """Of the planes of a repetition: a power of two, the rest are zero."""
    return 1 << (config.k_sim - 1).bit_length()


def _pattern_constants(config: Config) -> dict[str, int]:
    return {
        "D": config.token_dim,
        "BITS": simhash.integer_bits(config.token_dim),
        "K_SIM": config.k_sim,
        "K_COLUMNS": _columns(config),
    }


@lru_cache(maxsize=8)
def _planes(config: Config, device: torch.device) -> Tensor:
    """(token_dim, repetitions x columns) float16."""
    normals = torch.from_numpy(randomness.planes(config)).to(torch.float16).permute(2, 1, 0)
    padded = torch.nn.functional.pad(normals, (0, _columns(config) - config.k_sim))
    return padded.reshape(config.token_dim, -1).contiguous().to(device)


@lru_cache(maxsize=8)
def _inner(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sources int32 and signs int8, (repetitions, depth, cell_dim) each."""
    sketches = randomness.inner_sketches(config)
    if sketches is None:
        shape = (config.repetitions, 1, config.token_dim)
        sources = torch.arange(config.token_dim, dtype=torch.int32).expand(shape)
        return sources.contiguous().to(device), torch.ones(shape, dtype=torch.int8, device=device)
    tables = [sketch.gathered() for sketch in sketches]
    depth = max(len(sources) for sources, _ in tables)
    found = []
    for parts in zip(*tables):
        rows = [np.pad(part, ((0, depth - len(part)), (0, 0))) for part in parts]
        found.append(torch.from_numpy(np.stack(rows)).to(device))
    return found[0], found[1]


@lru_cache(maxsize=8)
def _final(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sources int32 and signs int8, (depth, final_dim) each."""
    sketch = randomness.final_sketch(config)
    assert sketch is not None
    sources, signs = sketch.gathered()
    return torch.from_numpy(sources).to(device), torch.from_numpy(signs).to(device)


def report_cases(architecture: int) -> list[Case]:
    """Every kernel, dtype and bucket at 10,000 documents of 70 tokens, d = 128."""
    return [case for dtype in _TYPES for case in _cases(architecture, dtype)]


def _cases(architecture: int, dtype: torch.dtype) -> Iterator[Case]:
    dtype_name, pointer = _TYPES[dtype]
    total = "*fp64" if dtype == torch.float64 else "*fp32"
    double: dict[str, object] = {"DOUBLE": dtype == torch.float64}
    documents, length = 10_000, 70
    length_all = documents * length
    narrow = Config(token_dim=128)
    wide = Config(token_dim=128, repetitions=40, k_sim=6, projection_dim=None, final_dim=10_240)
    token_bytes = length_all * 128 * dtype.itemsize
    shape = f"{documents:,} documents x {length} x 128"

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
    columns = narrow.repetitions * _columns(narrow)
    yield case(
        "patterns",
        "any",
        {"tokens": pointer, "planes": "*fp16", "found": "*i32", "count": "i64"}
        | {"repetitions": "i32", "columns": "i32"},
        _pattern_constants(narrow),
        flops=2.0 * length_all * 128 * narrow.repetitions * narrow.k_sim,
        # Each block of columns reads the tokens; the second pass over them hits the L2 cache.
        coded=token_bytes * triton.cdiv(columns, tile.blocks["COLUMNS"])
        + 4 * length_all * narrow.repetitions,
        compulsory=token_bytes + 4 * length_all * narrow.repetitions,
        product=True,
    )
    for config in (narrow, wide):
        patterns = 4 * length_all * config.repetitions
        out = documents * config.inner_dim * (8 if double["DOUBLE"] else 4)
        bucket = _bucket(config)
        tile = configs.tile(f"fde.cells/{dtype_name}", architecture=architecture, bucket=bucket)
        blocks = triton.cdiv(config.cells, tile.blocks["CELLS"])
        yield case(
            "cells",
            bucket,
            {"tokens": pointer, "offsets": "*i64", "patterns": "*i32", "sources": "*i32"}
            | {"signs": "*i8", "found": "*fp32" if config is narrow else total, "count": "i64"}
            | dict.fromkeys(("repetitions", "dim", "cells_all", "cell_dim", "depth"), "i32"),
            {"weights": None, "DOCUMENTS": True, "FILL": True} | double,
            flops=2.0 * length_all * config.repetitions * 128,
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

"""Fixed-dimensional encodings on a GPU, in Triton.

Two kernels: the sign patterns of all tokens, by a matrix product of small integers that tensor
cores compute exactly; then the cells, a program for each document, repetition and block of cells
and dimensions. It goes through the document's tokens in their order, so nothing is added by atomics
and every run gives the same bits. A third folds by the final sketch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import triton
from torch import Tensor

from maxsight.kernels import configs
from maxsight.kernels.fde import gpu_kernels, randomness, simhash
from maxsight.kernels.fde.values import Config
from maxsight.kernels.launch import architecture_of, on

_INNER_BYTES = 64 << 20  # of the encodings before the final projection
TYPES = {
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
        width = max(tile.blocks["COLUMNS"], columns(config))
        grid = (
            triton.cdiv(len(tokens), tile.blocks["TOKENS"]),
            triton.cdiv(planes.shape[1], width),
        )
        with on(tokens.device):
            gpu_kernels.patterns[grid](
                tokens,
                planes,
                found,
                len(tokens),
                config.repetitions,
                planes.shape[1],
                **(dict(tile.blocks) | {"COLUMNS": width}),
                **pattern_constants(config),
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
    tile = _tile("cells", tokens, bucket(config))
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
    name = f"fde.{kernel}/{TYPES[tensor.dtype][0]}"
    return configs.tile(name, architecture=architecture_of(tensor.device), bucket=bucket)


def bucket(config: Config) -> str:
    """Of the kernel of cells: one block holds few dimensions, or many."""
    return "narrow" if config.cell_dim <= 32 else "wide"


def columns(config: Config) -> int:
    """Of the planes of a repetition: a power of two, the rest are zero."""
    return 1 << (config.k_sim - 1).bit_length()


def pattern_constants(config: Config) -> dict[str, int]:
    return {
        "D": config.token_dim,
        "BITS": simhash.integer_bits(config.token_dim),
        "K_SIM": config.k_sim,
        "K_COLUMNS": columns(config),
    }


@lru_cache(maxsize=8)
def _planes(config: Config, device: torch.device) -> Tensor:
    """(token_dim, repetitions x columns) float16."""
    normals = torch.from_numpy(randomness.planes(config)).to(torch.float16).permute(2, 1, 0)
    padded = torch.nn.functional.pad(normals, (0, columns(config) - config.k_sim))
    return padded.reshape(config.token_dim, -1).contiguous().to(device)


@lru_cache(maxsize=8)
def _inner(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sources int32 and signs int8, (repetitions, depth, cell_dim) each."""
    sketches = randomness.inner_sketches(config)
    if sketches is None:
        shape = (config.repetitions, 1, config.token_dim)
        sources = torch.arange(config.token_dim, dtype=torch.int32).expand(shape)
        # Both are copies, which wait: made on the device, another stream could read them too early.
        signs = torch.ones(shape, dtype=torch.int8)
        return sources.contiguous().to(device), signs.to(device)
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

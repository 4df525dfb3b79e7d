"""A Triton kernel at a shape, as each operation's ``gpu_cases.py`` lists them for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxsight.kernels.configs import Tile


@dataclass(frozen=True)
class Case:
    """A kernel with one tile at one shape.

    Attributes:
        kernel: the ``triton.jit`` function.
        name: operation, kernel and dtype, its key in tiles.json, say ``maxsim.score/bfloat16``.
        bucket: the shape's class, the second key of tiles.json.
        signature: argument -> Triton type, say ``*bf16``, ``i64``; ``constexpr`` may be left out.
        constants: values of ``tl.constexpr`` arguments that are not in ``tile.blocks``; None for a
            pointer that is not given.
        tile: block sizes, warps and stages.
        aligned: arguments that are divisible by 16 (pointers: 16-byte aligned), as a launch with
            such values would find by itself.
        has_product: whether a matrix product is in it, which must run on tensor cores.
        flops: of the products at this shape, 2 a multiply-add, without padding.
        flop_dtype: what is multiplied: ``bfloat16``, ``float16``, ``float32`` (TF32) or ``int8``.
        bytes_coded: what the kernel reads and writes at this shape as it is written.
        bytes_compulsory: each input read once, each output written once.
        shape: for people, say ``1 query x 1,000 documents, 32 x 300 x 128``.
        flops_coded: with what the tiles add: padded rows, tokens and dimensions; None: none.
        programs: how many are launched at this shape; None: enough to fill the card evenly.
    """

    kernel: Any
    name: str
    bucket: str
    signature: Mapping[str, str]
    constants: Mapping[str, object]
    tile: Tile
    aligned: tuple[str, ...]
    has_product: bool
    flops: float
    flop_dtype: str
    bytes_coded: float
    bytes_compulsory: float
    shape: str
    flops_coded: float | None = None
    programs: int | None = None

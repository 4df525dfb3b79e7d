"""MaxSim's kernels at the shapes that ``maxsight kernels`` reports.

Bytes as coded count what comes from the card's memory: the tiles of a document run side by side and
share its tokens in the L2 cache, as all programs share the queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import triton

from maxsight.kernels import shapes
from maxsight.kernels.cases import Case
from maxsight.kernels.configs import Tile, tile
from maxsight.kernels.maxsim import gpu_backward, gpu_kernels
from maxsight.kernels.maxsim.gpu_operands import block_dim as block_dim_of
from maxsight.kernels.maxsim.gpu_operands import bucket as bucket_of
from maxsight.kernels.shapes import Interaction

_TYPES: Mapping[str, tuple[str, float]] = {
    "float32": ("*fp32", 4),
    "float16": ("*fp16", 2),
    "bfloat16": ("*bf16", 2),
    "int8": ("*i8", 1),
}


# Options by which cases of one shape are told apart.
_TOLD = ("argmax", "normalize", "pairs")


def report_cases(architecture: int) -> list[Case]:
    """Every kernel in every dtype; bfloat16 at each of the field's six shapes."""
    return list(_cases(architecture))


def _cases(architecture: int) -> Iterator[Case]:
    for kind in _TYPES:
        for shape in (
            shapes.PUBLISHED
            if kind in ("bfloat16", "int8")
            else (shapes.RERANK, shapes.COLPALI, shapes.TRAIN)
        ):
            yield _score(architecture, kind, shape)
        yield _score(architecture, kind, shapes.TRAIN, argmax=True)
        yield _score(architecture, kind, shapes.PATCHES)
        yield _score(architecture, kind, shapes.PATCHES_OF_MANY)
        yield _score(architecture, kind, shapes.PATCHES_OF_MANY, argmax=True)
        yield _pairs(architecture, kind, shapes.CORPUS)
    yield _score(architecture, "bfloat16", shapes.CORPUS, normalize=True)
    for kind in ("bfloat16", "float32"):
        yield _spread(architecture, kind, shapes.TRAIN)
        yield _gather(architecture, kind, shapes.TRAIN)


def _score(
    architecture: int,
    kind: str,
    shape: Interaction,
    *,
    argmax: bool = False,
    normalize: bool = False,
) -> Case:
    name, bucket = f"maxsim.score/{kind}", bucket_of(shape.packed, shape.dim, argmax)
    chosen = tile(name, architecture=architecture, bucket=bucket)
    tiles = triton.cdiv(shape.packed, chosen.blocks["QUERIES"])
    shared = 4 * shape.queries * shape.documents + 8 * shape.documents
    if argmax:
        shared += 4 * shape.packed * shape.documents
    # A tile's share of a query that lies in several is written, and read again.
    split = tiles > 1 and shape.query_tokens > chosen.blocks["QUERIES"]
    return _case(
        gpu_kernels.score_grid,
        name,
        bucket,
        chosen,
        kind,
        shape,
        {"argmax": argmax, "normalize": normalize},
        columns=tiles * chosen.blocks["QUERIES"],
        compulsory=shared,
        coded=shared + (8 * tiles * shape.documents if split else 0),
        programs=tiles * shape.documents,
    )


def _pairs(architecture: int, kind: str, shape: Interaction) -> Case:
    name, bucket = f"maxsim.score/{kind}", bucket_of(shape.packed, shape.dim, False)
    chosen = tile(name, architecture=architecture, bucket=bucket)
    shared = 4 * shape.documents + 8 * shape.documents
    return _case(
        gpu_kernels.score_each_pair,
        name,
        bucket,
        chosen,
        kind,
        shape,
        {"argmax": False, "normalize": False, "pairs": True},
        columns=chosen.blocks["QUERIES"] * triton.cdiv(shape.packed, chosen.blocks["QUERIES"]),
        compulsory=shared,
        coded=shared,
        programs=shape.documents,
    )


def _case(
    kernel: Any,
    name: str,
    bucket: str,
    chosen: Tile,
    kind: str,
    shape: Interaction,
    options: Mapping[str, bool],
    *,
    columns: int,
    compulsory: float,
    coded: float,
    programs: int,
) -> Case:
    pointer, size = _TYPES[kind]
    token = shape.dim * size + (4 if kind == "int8" else 0)
    moved = shape.tokens * token + shape.packed * shape.dim * size
    names = list(kernel.arg_names)
    given = {
        "queries": pointer,
        "query_weight": "*fp32" if kind == "int8" else None,
        "query_of": "*i32",
        "query_offsets": "*i64",
        "tokens": pointer,
        "token_scale": "*fp32" if kind == "int8" else None,
        "document_offsets": "*i64",
        "allowed": None,
        "allowed_stride": "i64",
        "out": "*fp32",
        "out_stride": "i64",
        "partial": "*fp32",
        "partial_stride": "i64",
        "places": "*i32" if options["argmax"] else None,
        "places_stride": "i64",
        "places_offsets": "*i64" if options["argmax"] else None,
        "query_tokens": "i64",
        "tiles": "i32",
        "first_document": "i64",
        "pairs": "*i64",
    }
    signature = {key: kept for key in names if (kept := given.get(key)) is not None}
    aligned = ("queries", "tokens", "token_scale", "query_of")
    block_dim = block_dim_of(shape.dim, chosen.blocks["BLOCK_DIM"])
    rows = chosen.blocks["TOKENS"] * triton.cdiv(shape.document_tokens, chosen.blocks["TOKENS"])
    depth = triton.cdiv(shape.dim, block_dim) * block_dim
    products = 3 if kind == "float32" else 1
    return Case(
        kernel=kernel,
        name=name,
        bucket=bucket,
        signature=signature,
        constants={key: None for key in names if key in given and given[key] is None}
        | {"DIM": shape.dim, "NORMALIZE": options["normalize"]}
        | {"BLOCK_DIM": block_dim},
        tile=chosen,
        aligned=tuple(key for key in aligned if key in signature),
        has_product=True,
        flops=2.0 * shape.packed * shape.tokens * shape.dim,
        flop_dtype=kind,
        bytes_coded=moved + coded,
        bytes_compulsory=moved + compulsory,
        shape=", ".join([str(shape), *(key for key in _TOLD if options.get(key))]),
        flops_coded=2.0 * products * columns * shape.documents * rows * depth,
        programs=programs,
    )


def _spread(architecture: int, kind: str, shape: Interaction) -> Case:
    name = f"maxsim.spread_queries/{kind}"
    chosen = tile(name, architecture=architecture, bucket="any")
    pointer, size = _TYPES[kind]
    links = 4 * shape.packed * shape.documents
    moved = shape.packed * shape.dim * size + shape.tokens * (shape.dim * 4 + 4)
    products = 3 if kind == "float32" else 1
    flops = 2.0 * shape.packed * shape.tokens * shape.dim
    return Case(
        kernel=gpu_backward.spread_queries,
        name=name,
        bucket="any",
        signature={
            "grad": "*fp32",
            "argmax": "*i32",
            "query_of": "*i32",
            "queries": pointer,
            "document_of": "*i32",
            "document_offsets": "*i64",
            "out": "*fp32",
            "count": "i64",
            "query_tokens": "i64",
            "grad_stride": "i64",
        },
        constants={"factor": None, "DIM": shape.dim, "BLOCK_DIM": 128},
        tile=chosen,
        aligned=("grad", "argmax", "query_of", "queries", "document_of", "out", "query_tokens"),
        has_product=True,
        flops=flops,
        flop_dtype="float32",
        bytes_coded=moved + links + 4 * shape.queries * shape.documents,
        bytes_compulsory=moved + links + 4 * shape.queries * shape.documents,
        shape=str(shape),
        flops_coded=products * flops,
        programs=triton.cdiv(shape.tokens, chosen.blocks["ROWS"]),
    )


def _gather(architecture: int, kind: str, shape: Interaction) -> Case:
    chosen = tile("maxsim.gather_answers/any", architecture=architecture, bucket="any")
    pointer, size = _TYPES[kind]
    moved = shape.tokens * shape.dim * size + shape.packed * (4 * shape.dim + 4)
    moved += 4 * shape.documents * (shape.packed + shape.queries)
    return Case(
        kernel=gpu_backward.gather_answers,
        name="maxsim.gather_answers/any",
        bucket="any",
        signature={
            "grad": "*fp32",
            "argmax": "*i32",
            "query_of": "*i32",
            "tokens": pointer,
            "document_offsets": "*i64",
            "out": "*fp32",
            "documents": "i32",
            "dim": "i32",
        },
        constants={"factor": None, "BLOCK_DIM": 128},
        tile=chosen,
        aligned=("grad", "argmax", "query_of", "tokens", "out", "dim"),
        has_product=False,
        flops=2.0 * shape.packed * shape.documents * shape.dim,
        flop_dtype="float32",
        bytes_coded=moved,
        bytes_compulsory=moved,
        shape=f"{shape}, {kind}",
        programs=shape.packed,
    )

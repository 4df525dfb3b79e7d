"""The operations at the shapes they are judged by, on random numbers: what tuning and `make
gpu-check` run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from maxsight.kernels import fde, maxsim, merge, similarity
from maxsight.kernels.shapes import (
    DIM,
    PASSAGES,
    PUBLISHED,
    QUERIES,
    ROWS,
    VIT_B,
    Interaction,
)

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Workload:
    """One call of an operation.

    Attributes:
        operation: its folder.
        name: for people, the dtype in it.
        prepare: makes the inputs, and gives the call that is measured.
    """

    operation: str
    name: str
    prepare: Callable[[], Callable[[], object]]


def workloads(device: torch.device, *, operations: tuple[str, ...]) -> Iterator[Workload]:
    """All of them, of these operations."""
    makers = {"similarity": _similarity, "maxsim": _maxsim, "merge": _merge, "fde": _fde}
    for operation in operations:
        for name, prepare in makers[operation](device):
            yield Workload(operation, name, prepare)


def numbers(*shape: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors along the last dimension, the same at every call."""
    generator = torch.Generator(device).manual_seed(0)
    drawn = torch.randn(*shape, generator=generator, device=device)
    return torch.nn.functional.normalize(drawn, dim=-1).to(dtype)


def packed(
    count: int, length: int, dim: int, *, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """``count`` sequences of ``length`` tokens: tokens (count * length, dim) and offsets."""
    offsets = torch.arange(0, (count + 1) * length, length, device=device)
    return numbers(count * length, dim, device=device, dtype=dtype), offsets


_Named = Iterator[tuple[str, Callable[[], Callable[[], object]]]]


def _similarity(device: torch.device) -> _Named:
    def prepare(queries: int, rows: int, kind: str) -> Callable[[], object]:
        dtype = _DTYPES.get(kind, torch.float32)
        database = numbers(rows, DIM, device=device, dtype=dtype)
        asked = numbers(queries, DIM, device=device, dtype=dtype)
        if kind != "int8":
            return partial(similarity.topk, asked, database, 10)
        coded = maxsim.Int8Tokens.of(database)
        return partial(similarity.topk, asked, coded.values, 10, scale=coded.scale)

    for kind in ("float32", "float16", "bfloat16", "int8"):
        for queries in QUERIES:
            name = f"topk {queries:,} x {ROWS:,} x {DIM} {kind}"
            yield name, partial(prepare, queries, ROWS, kind)


def _maxsim(device: torch.device) -> _Named:
    def prepare(shape: Interaction, kind: str, call: Callable[..., object]) -> Callable[[], object]:
        dtype = _DTYPES.get(kind, torch.float32)
        sides = [
            packed(shape.queries, shape.query_tokens, shape.dim, device=device, dtype=dtype),
            packed(shape.documents, shape.document_tokens, shape.dim, device=device, dtype=dtype),
        ]
        (queries, starts), (documents, begins) = sides
        if kind == "int8":
            coded = [maxsim.Int8Tokens.of(tokens) for tokens, _ in sides]
            return partial(call, coded[0], starts, coded[1], begins)
        return partial(call, queries, starts, documents, begins)

    for shape in PUBLISHED:
        for kind in ("bfloat16", "float16", "float32", "int8"):
            yield f"score {shape.name} {kind}", partial(prepare, shape, kind, maxsim.score)
        yield f"answers {shape.name} bfloat16", partial(prepare, shape, "bfloat16", maxsim.answers)


def _merge(device: torch.device) -> _Named:
    def prepare_merge(kind: str) -> Callable[[], object]:
        tokens = numbers(VIT_B.images, VIT_B.tokens, VIT_B.dim, device=device, dtype=_DTYPES[kind])
        keys = numbers(
            VIT_B.images, VIT_B.tokens, VIT_B.head_dim, device=device, dtype=_DTYPES[kind]
        )
        return partial(merge.merge, tokens, VIT_B.removed, metric=keys)

    def prepare_attention(kind: str) -> Callable[[], object]:
        heads = numbers(
            VIT_B.images,
            VIT_B.heads,
            VIT_B.tokens,
            VIT_B.head_dim,
            device=device,
            dtype=_DTYPES[kind],
        )
        sizes = torch.ones(VIT_B.images, VIT_B.tokens, device=device)
        return partial(merge.attention, heads, heads, heads, sizes)

    for kind in _DTYPES:
        yield f"merge 32 x 197 x 768, r 13 {kind}", partial(prepare_merge, kind)
        yield f"attention 32 x 12 x 197 x 64 {kind}", partial(prepare_attention, kind)


def _fde(device: torch.device) -> _Named:
    def prepare(kind: str, documents: bool) -> Callable[[], object]:
        tokens, offsets = packed(
            PASSAGES.documents, PASSAGES.tokens, PASSAGES.dim, device=device, dtype=_DTYPES[kind]
        )
        config = fde.Config(token_dim=PASSAGES.dim)
        encode = fde.encode_documents if documents else fde.encode_queries
        return partial(encode, tokens, offsets, config)

    for kind in _DTYPES:
        yield f"encode_documents, {PASSAGES} {kind}", partial(prepare, kind, True)
        yield f"encode_queries, {PASSAGES} {kind}", partial(prepare, kind, False)

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

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class MaxsimShape:
    """How many queries and documents, how many tokens in each, how many numbers in a token."""

    name: str
    queries: int
    documents: int
    query_tokens: int
    document_tokens: int
    dim: int


# Those that late-interaction-kernels publishes its times for.
MAXSIM_SHAPES = (
    MaxsimShape("rerank-short", 1, 1_000, 32, 300, 128),
    MaxsimShape("long", 1, 1_000, 32, 1_024, 128),
    MaxsimShape("medium", 1, 1_000, 128, 1_024, 128),
    MaxsimShape("colpali", 1, 1_000, 1_024, 1_024, 128),
    MaxsimShape("corpus", 1, 10_000, 32, 300, 128),
    MaxsimShape("train", 128, 128, 32, 300, 128),
)


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
        database = numbers(rows, 512, device=device, dtype=dtype)
        asked = numbers(queries, 512, device=device, dtype=dtype)
        if kind != "int8":
            return partial(similarity.topk, asked, database, 10)
        coded = maxsim.Int8Tokens.of(database)
        return partial(similarity.topk, asked, coded.values, 10, scale=coded.scale)

    for kind in ("float32", "float16", "bfloat16", "int8"):
        for queries in (1, 64, 1_024):
            name = f"topk {queries:,} x 1,000,000 x 512 {kind}"
            yield name, partial(prepare, queries, 1_000_000, kind)


def _maxsim(device: torch.device) -> _Named:
    def prepare(shape: MaxsimShape, kind: str, call: Callable[..., object]) -> Callable[[], object]:
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

    for shape in MAXSIM_SHAPES:
        for kind in ("bfloat16", "float16", "float32", "int8"):
            yield f"score {shape.name} {kind}", partial(prepare, shape, kind, maxsim.score)
        yield f"answers {shape.name} bfloat16", partial(prepare, shape, "bfloat16", maxsim.answers)


def _merge(device: torch.device) -> _Named:
    def prepare_merge(kind: str) -> Callable[[], object]:
        tokens = numbers(32, 197, 768, device=device, dtype=_DTYPES[kind])
        keys = numbers(32, 197, 64, device=device, dtype=_DTYPES[kind])
        return partial(merge.merge, tokens, 13, metric=keys)

    def prepare_attention(kind: str) -> Callable[[], object]:
        heads = numbers(32, 12, 197, 64, device=device, dtype=_DTYPES[kind])
        sizes = torch.ones(32, 197, device=device)
        return partial(merge.attention, heads, heads, heads, sizes)

    for kind in _DTYPES:
        yield f"merge 32 x 197 x 768, r 13 {kind}", partial(prepare_merge, kind)
        yield f"attention 32 x 12 x 197 x 64 {kind}", partial(prepare_attention, kind)


def _fde(device: torch.device) -> _Named:
    def prepare(kind: str, documents: bool) -> Callable[[], object]:
        tokens, offsets = packed(10_000, 70, 128, device=device, dtype=_DTYPES[kind])
        config = fde.Config(token_dim=128)
        encode = fde.encode_documents if documents else fde.encode_queries
        return partial(encode, tokens, offsets, config)

    for kind in _DTYPES:
        yield f"documents 10,000 x 70 x 128 {kind}", partial(prepare, kind, True)
        yield f"queries 10,000 x 70 x 128 {kind}", partial(prepare, kind, False)

"""What is computed does not depend on the number of threads, to the last bit.

Inputs are so large that three threads share them: fewer rows are not worth a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from maxsight.kernels import fde, int8, maxsim, merge, similarity
from maxsight.kernels.check.calls import drawn, offsets, outputs

CPU = torch.device("cpu")
NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.int8)
LENGTHS = (0, 1, 63, 123, 1_500, 40) * 4
IMAGES = (197,) * 8
PAIRS = 6_200

# What an operation returns, where at most so many threads share the work.
Call = Callable[[int], object]


@pytest.fixture(autouse=True)
def as_many_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _packed(lengths: tuple[int, ...], dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    tokens = drawn(sum(lengths), 48, dtype=dtype, device=CPU, seed=seed)
    return tokens, offsets(lengths, CPU)


def _topk(dtype: torch.dtype, queries: int, threads: int) -> object:
    rows = drawn(7_000, 48, dtype=torch.float32, device=CPU)
    asked = drawn(queries, 48, dtype=torch.float32, device=CPU, seed=1)
    if dtype != torch.int8:
        return similarity.topk(asked, rows.to(dtype), 20)
    codes, scale = int8.rounded(rows)
    return similarity.topk(asked, codes, 20, scale=scale)


def _topk_of_arrays(kind: str, queries: int, threads: int) -> object:
    rows = drawn(7_000, 48, dtype=torch.float32, device=CPU).numpy()
    asked = drawn(queries, 48, dtype=torch.float32, device=CPU, seed=1).numpy()
    if kind == "float16":
        return similarity.topk(asked, rows.astype(np.float16), 20, threads=threads)
    codes, scale = int8.rounded_array(rows)
    return similarity.topk(asked, codes, 20, scale=scale, threads=threads)


def _rescore(threads: int) -> object:
    codes, scale = int8.rounded_array(drawn(900, 48, dtype=torch.float32, device=CPU).numpy())
    asked = drawn(40, 48, dtype=torch.float32, device=CPU, seed=1).numpy()
    draw = np.random.default_rng(0)
    shortlist = np.array([draw.permutation(900)[:400] for _ in asked])
    return similarity.rescore(asked, codes, shortlist, 20, scale=scale, threads=threads)


def _maxsim(call: Callable[..., object], dtype: torch.dtype, threads: int) -> object:
    exact = torch.float32 if dtype == torch.int8 else dtype
    queries, starts = _packed((5, 0, 40), exact, 0)
    documents, begins = _packed(LENGTHS, exact, 1)
    if dtype != torch.int8:
        return call(queries, starts, documents, begins)
    coded = [maxsim.Int8Tokens.of(tokens) for tokens in (queries, documents)]
    return call(coded[0], starts, coded[1], begins)


def _pairs(*sides: Tensor) -> object:
    pairs = torch.tensor([[number % 3, number % 24] for number in range(72)])
    return maxsim.score_pairs(*sides, pairs=pairs)


def _stored(bits: int) -> tuple[maxsim.CodedTokens, np.ndarray, np.ndarray]:
    """Documents, as many as several threads share, and the tokens and offsets of six queries."""
    draw = np.random.default_rng(bits)
    edges = np.concatenate([[0], np.cumsum(draw.integers(0, 3, PAIRS))])
    count = int(edges[-1])
    tokens = maxsim.CodedTokens(
        draw.integers(0, 40, count).astype(np.uint8),
        draw.integers(-60, 61, (40, 48)).astype(np.int8),
        draw.integers(0, 256, (count, 48 * bits // 8)).astype(np.uint8),
        bits,
        None if bits == 8 else np.sort(draw.integers(-90, 91, 2**bits)).astype(np.int8),
        draw.random(count).astype(np.float32) if bits == 8 else None,
        edges,
    )
    asked, starts = _packed((5, 0, 40, 1, 7, 32), torch.float32, 2)
    return tokens, asked.numpy(), starts.numpy()


def _stored_pairs(bits: int, fine: bool, threads: int) -> object:
    tokens, asked, starts = _stored(bits)
    pairs = np.array([[number % 6, number] for number in range(tokens.documents)])
    return maxsim.score_pairs(asked, starts, tokens, pairs=pairs, fine=fine, threads=threads)


def _interact(threads: int) -> object:
    tokens, asked, starts = _stored(4)
    return maxsim.interact(asked, starts, tokens, 50, threads=threads)


def _calls() -> Iterator[tuple[str, Call]]:
    for dtype in NUMBERS:
        kind = str(dtype).removeprefix("torch.")
        # Few queries take rows as they lie; more are screened in bfloat16, and many in int8.
        for queries in 1, 12, 60:
            yield f"similarity.topk {kind} {queries}", partial(_topk, dtype, queries)
        if dtype != torch.float16:
            yield f"maxsim.score {kind}", partial(_maxsim, maxsim.score, dtype)
            yield f"maxsim.answers {kind}", partial(_maxsim, maxsim.answers, dtype)
            yield f"maxsim.score_pairs {kind}", partial(_maxsim, _pairs, dtype)
            yield f"maxsim.topk {kind}", partial(_maxsim, partial(_first, maxsim.topk), dtype)
    for kind in "float16", "int8":
        for queries in 1, 12, 60:
            name = f"similarity.topk of arrays {kind} {queries}"
            yield name, partial(_topk_of_arrays, kind, queries)
    yield "similarity.rescore", _rescore
    for bits in 8, 5, 4, 2:
        for fine in False, True:
            yield f"maxsim.score_pairs {bits} bits {fine}", partial(_stored_pairs, bits, fine)
    yield "maxsim.interact", _interact
    for dtype in NUMBERS[:3]:
        kind = str(dtype).removeprefix("torch.")
        yield f"int8.rounded {kind}", partial(_rounded, dtype)
        yield f"merge.reduce {kind}", partial(_reduce, dtype)
        yield f"fde.encode_documents {kind}", partial(_encode, dtype)


def _rounded(dtype: torch.dtype, threads: int) -> object:
    return int8.rounded(_packed(LENGTHS, dtype, 3)[0])


def _reduce(dtype: torch.dtype, threads: int) -> object:
    return merge.reduce(*_packed(IMAGES, dtype, 3), 49)


def _encode(dtype: torch.dtype, threads: int) -> object:
    config = fde.Config(token_dim=48, repetitions=3, k_sim=3, projection_dim=16)
    return fde.encode_documents(*_packed(LENGTHS, dtype, 3), config)


def _first(call: Callable[..., object], *sides: Tensor) -> object:
    return call(*sides, 5)


CALLS = dict(_calls())


@pytest.mark.parametrize("name", CALLS)
def test_threads_change_no_bit(name: str) -> None:
    found = []
    for threads in 1, 2, 3:
        torch.set_num_threads(threads)
        found.append(list(_bits(CALLS[name](threads))))
    assert found[1] == found[0]
    assert found[2] == found[0]


def _bits(result: object) -> Iterator[bytes]:
    if isinstance(result, Tensor):
        yield result.contiguous().view(torch.uint8).numpy().tobytes()
    elif isinstance(result, np.ndarray):
        yield result.tobytes()
    else:
        parts = result if isinstance(result, tuple) else outputs(result).values()
        for part in parts:
            yield from _bits(part)

"""MaxSim by its definition, in float64, and random tokens to try it on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from maxsight.kernels import maxsim

Stored = Tensor | maxsim.Int8Tokens | maxsim.CodedTokens

LENGTHS = [0, 1, 63, 123, 5, 0, 17]


@dataclass(frozen=True)
class Case:
    """Arguments of ``maxsim.score`` and what they mean in float64."""

    queries: Tensor | maxsim.Int8Tokens
    query_offsets: Tensor
    documents: Stored
    document_offsets: Tensor
    left: Tensor
    right: Tensor

    @property
    def sides(
        self,
    ) -> tuple[
        Tensor | maxsim.Int8Tokens,
        Tensor,
        Stored,
        Tensor,
    ]:
        return self.queries, self.query_offsets, self.documents, self.document_offsets


def offsets(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def case(
    kind: str,
    d: int,
    *,
    queries: list[int] | None = None,
    documents: list[int] | None = None,
    seed: int = 0,
) -> Case:
    """Random tokens: ``kind`` names the dtypes of queries/documents, say ``bfloat16/int8``."""
    generator = torch.Generator().manual_seed(seed)
    query_offsets = offsets([3, 0, 32, 1] if queries is None else queries)
    document_offsets = offsets(LENGTHS if documents is None else documents)
    left = torch.randn(int(query_offsets[-1]), d, generator=generator)
    right = torch.randn(int(document_offsets[-1]), d, generator=generator)
    names = kind.split("/")
    coded_left, coded_right = (coded(side, name) for side, name in zip((left, right), names))
    assert not isinstance(coded_left, maxsim.CodedTokens)
    if isinstance(coded_right, maxsim.CodedTokens):
        coded_right = replace(coded_right, offsets=document_offsets.numpy())
    return Case(
        coded_left,
        query_offsets,
        coded_right,
        document_offsets,
        plain(coded_left),
        plain(coded_right),
    )


def coded(tokens: Tensor, name: str) -> Stored:
    if name == "int8":
        return maxsim.Int8Tokens.of(tokens)
    if name.startswith("coded"):
        return drawn_codes(*tokens.shape, bits=int(name[-1]))
    dtype: torch.dtype = getattr(torch, name)
    return tokens.to(dtype)


def drawn_codes(count: int, d: int, *, bits: int) -> maxsim.CodedTokens:
    """Any tokens as libraries store them, of one document."""
    draw = np.random.default_rng(d)
    return maxsim.CodedTokens(
        ids=draw.integers(0, 7, count).astype(np.uint8),
        centroids=draw.integers(-60, 61, (7, d)).astype(np.int8),
        data=draw.integers(0, 256, (count, d * bits // 8)).astype(np.uint8),
        bits=bits,
        levels=None if bits == 8 else np.sort(draw.integers(-99, 99, 2**bits)).astype(np.int8),
        scale=(draw.random(count) + 0.5).astype(np.float32) if bits == 8 else None,
        offsets=np.array([0, count]),
    )


def plain(tokens: Stored) -> Tensor:
    """The numbers that stored tokens stand for, by the formats' definitions, in float64."""
    if isinstance(tokens, Tensor):
        return tokens.double()
    if isinstance(tokens, maxsim.Int8Tokens):
        return tokens.values.double() * tokens.scale.double()[:, None]
    numbers = tokens.data.view(np.int8)
    if tokens.scale is not None:
        return torch.from_numpy(numbers * tokens.scale[:, None].astype(np.float64))
    rows = [whole_numbers(tokens, row) for row in range(len(tokens.data))]
    decoded = torch.tensor(rows, dtype=torch.float64).reshape(-1, tokens.dim)
    return torch.nn.functional.normalize(decoded, dim=1)


def whole_numbers(tokens: maxsim.CodedTokens, row: int) -> list[int]:
    """A token before it is divided by its norm, number by number."""
    assert tokens.levels is not None
    bits = "".join(format(byte, "08b")[::-1] for byte in tokens.data[row])
    step, d = min(tokens.bits, 4), tokens.dim
    codes = [int(bits[at : at + step][::-1], 2) for at in range(0, d * step, step)]
    if tokens.bits == 5:
        codes = [code + 16 * int(bit) for code, bit in zip(codes, bits[4 * d :])]
    centroid = tokens.centroids[tokens.ids[row]].tolist()
    sums = [at + int(tokens.levels[code]) for at, code in zip(centroid, codes)]
    return [min(127, max(-127, total)) for total in sums]


def truth(
    given: Case,
    *,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scores (B_q, B_d) and arg-max (sum L_q, B_d), a similarity at a time."""
    left, right = given.left, given.right
    if normalize:
        left, right = (torch.nn.functional.normalize(side, dim=1) for side in (left, right))
    similarity = left @ right.T
    if document_weight is not None:
        similarity = similarity * document_weight.double()
    weight = torch.ones(len(left)).double() if query_weight is None else query_weight.double()
    starts = given.query_offsets.tolist(), given.document_offsets.tolist()
    scores = torch.zeros(len(starts[0]) - 1, len(starts[1]) - 1, dtype=torch.float64)
    argmax = torch.full((len(left), scores.shape[1]), -1)
    for j, (start, end) in enumerate(zip(starts[1], starts[1][1:])):
        for i, (first, last) in enumerate(zip(starts[0], starts[0][1:])):
            if start == end and first < last:
                scores[i, j] = -torch.inf
            for token in range(first, last):
                if end > start:
                    row = similarity[token, start:end]
                    scores[i, j] += weight[token] * row.max()
                    argmax[token, j] = row.argmax()
    return scores, argmax

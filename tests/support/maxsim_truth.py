"""MaxSim by its definition, in float64, and random tokens to try it on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels import maxsim

LENGTHS = [0, 1, 63, 123, 5, 0, 17]


@dataclass(frozen=True)
class Case:
    """Arguments of ``maxsim.score`` and what they mean in float64."""

    queries: Tensor | maxsim.Int8Tokens
    query_offsets: Tensor
    documents: Tensor | maxsim.Int8Tokens
    document_offsets: Tensor
    left: Tensor
    right: Tensor

    @property
    def sides(
        self,
    ) -> tuple[
        Tensor | maxsim.Int8Tokens,
        Tensor,
        Tensor | maxsim.Int8Tokens,
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
    return Case(
        coded_left,
        query_offsets,
        coded_right,
        document_offsets,
        plain(coded_left),
        plain(coded_right),
    )


def coded(tokens: Tensor, name: str) -> Tensor | maxsim.Int8Tokens:
    if name == "int8":
        return maxsim.Int8Tokens.of(tokens)
    dtype: torch.dtype = getattr(torch, name)
    return tokens.to(dtype)


def plain(tokens: Tensor | maxsim.Int8Tokens) -> Tensor:
    """The numbers that stored tokens stand for, by the formats' definitions, in float64."""
    if isinstance(tokens, Tensor):
        return tokens.double()
    return tokens.values.double() * tokens.scale.double()[:, None]


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

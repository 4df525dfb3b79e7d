"""Calls of every operation in every dtype at small odd shapes, made anew on any device.

What a GPU is checked with (tests/gpu) and what, so that this holds the first time it meets one, the
other rooms are checked with too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from maxsight.kernels import fde, maxsim, merge, similarity
from maxsight.kernels.check.tolerance import assert_close

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
LENGTHS = (3, 0, 1, 17, 40)  # tokens of a document

Outputs = Mapping[str, Tensor]
Call = Callable[[torch.device], Outputs]


def outputs(result: object) -> Outputs:
    """The tensors of what an operation returned, by name."""
    if isinstance(result, Tensor):
        return {"result": result}
    if dataclasses.is_dataclass(result):
        return {name: value for name, value in vars(result).items() if isinstance(value, Tensor)}
    assert isinstance(result, tuple)
    return {f"result {number}": value for number, value in enumerate(result)}


def drawn(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    """Unit vectors along the last dimension, the same on every device."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(numbers, dim=-1).to(device, dtype)


def offsets(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor((0, *lengths)).cumsum(0).to(device)


def calls() -> dict[str, Call]:
    """Name -> a call. Indices in the answers are unambiguous: no two scores are near."""
    found: dict[str, Call] = {}
    for dtype in FLOATS:
        kind = str(dtype).removeprefix("torch.")
        found |= {
            f"similarity.topk {kind}": partial(_topk, dtype, None),
            f"similarity.topk filtered {kind}": partial(_topk, dtype, 3),
            f"maxsim.score {kind}": partial(_score, dtype),
            f"maxsim.score weighted {kind}": partial(_score, dtype, weighted=True),
            f"maxsim.score normalised {kind}": partial(_score, dtype, normalize=True),
            f"maxsim.answers {kind}": partial(_answers, dtype),
            f"maxsim.score_pairs {kind}": partial(_pairs, dtype),
            f"maxsim.topk {kind}": partial(_maxsim_topk, dtype),
            f"merge.merge {kind}": partial(_merge, dtype),
            f"merge.attention {kind}": partial(_attention, dtype),
            f"merge.reduce {kind}": partial(_reduce, dtype),
            f"fde.encode_queries {kind}": partial(_fde, dtype, documents=False),
            f"fde.encode_documents {kind}": partial(_fde, dtype, documents=True),
            f"fde.encode_documents folded {kind}": partial(
                _fde, dtype, documents=True, final_dim=20
            ),
        }
    return found | {
        "similarity.topk int8": _topk_int8,
        "maxsim.score int8": _score_int8,
        "maxsim.score gradients": _gradients,
    }


def _topk(dtype: torch.dtype, every: int | None, device: torch.device) -> Outputs:
    queries, rows = _search(dtype, device)
    allowed = None if every is None else torch.arange(len(rows), device=device) % every == 0
    return outputs(similarity.topk(queries, rows, 5, allowed=allowed))


def _topk_int8(device: torch.device) -> Outputs:
    queries, rows = _search(torch.float32, device)
    coded = maxsim.Int8Tokens.of(rows)
    return outputs(similarity.topk(queries, coded.values, 5, scale=coded.scale))


def _search(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    queries = drawn(7, 48, dtype=dtype, device=device)
    return queries, drawn(123, 48, dtype=dtype, device=device, seed=1)


def _late(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    asked = (5, 1, 0)
    queries = drawn(sum(asked), 48, dtype=dtype, device=device)
    documents = drawn(sum(LENGTHS), 48, dtype=dtype, device=device, seed=1)
    return queries, offsets(asked, device), documents, offsets(LENGTHS, device)


def _score(
    dtype: torch.dtype,
    device: torch.device,
    *,
    weighted: bool = False,
    normalize: bool = False,
) -> Outputs:
    queries, starts, documents, begins = _late(dtype, device)
    query_weight = torch.linspace(0.5, 2, len(queries), device=device)
    document_weight = torch.linspace(2, 0.5, len(documents), device=device)
    if normalize:
        queries, documents = queries * 2, documents * 3
    return outputs(
        maxsim.score(
            queries,
            starts,
            documents,
            begins,
            query_weight=query_weight if weighted else None,
            document_weight=document_weight if weighted else None,
            normalize=normalize,
        )
    )


def _answers(dtype: torch.dtype, device: torch.device) -> Outputs:
    return outputs(maxsim.answers(*_late(dtype, device)))


def _pairs(dtype: torch.dtype, device: torch.device) -> Outputs:
    pairs = torch.tensor([[0, 4], [1, 0], [2, 3], [0, 1]], device=device)
    return outputs(maxsim.score_pairs(*_late(dtype, device), pairs=pairs))


def _maxsim_topk(dtype: torch.dtype, device: torch.device) -> Outputs:
    queries, starts, documents, begins = _late(dtype, device)
    allowed = torch.tensor([True, False, True, True, True], device=device)
    return outputs(maxsim.topk(queries, starts[:3], documents, begins, 3, allowed=allowed))


def _score_int8(device: torch.device) -> Outputs:
    queries, starts, documents, begins = _late(torch.float32, device)
    coded = [maxsim.Int8Tokens.of(tokens) for tokens in (queries, documents)]
    return outputs(maxsim.score(coded[0], starts, coded[1], begins))


def _gradients(device: torch.device) -> Outputs:
    queries, starts, documents, begins = _late(torch.float32, device)
    queries.requires_grad_()
    documents.requires_grad_()
    scores = maxsim.score(queries, starts, documents, begins)
    weights = torch.linspace(-1, 1, scores.numel(), device=device).view_as(scores)
    torch.autograd.backward((scores * weights).sum())
    assert queries.grad is not None
    assert documents.grad is not None
    return {"queries' gradient": queries.grad, "documents' gradient": documents.grad}


def _merge(dtype: torch.dtype, device: torch.device) -> Outputs:
    tokens = drawn(2, 23, 40, dtype=dtype, device=device)
    sizes = torch.arange(1, 47, device=device).view(2, 23).float()
    return outputs(merge.merge(tokens, 6, sizes=sizes))


def _attention(dtype: torch.dtype, device: torch.device) -> Outputs:
    query = drawn(2, 3, 9, 24, dtype=dtype, device=device)
    key = drawn(2, 3, 13, 24, dtype=dtype, device=device, seed=1)
    sizes = (torch.arange(26, device=device) % 4).view(2, 13).float()
    return outputs(merge.attention(query, key, key.flip(2), sizes))


def _reduce(dtype: torch.dtype, device: torch.device) -> Outputs:
    tokens = drawn(sum(LENGTHS), 48, dtype=dtype, device=device)
    return outputs(merge.reduce(tokens, offsets(LENGTHS, device), 4))


def _fde(
    dtype: torch.dtype, device: torch.device, *, documents: bool, final_dim: int | None = None
) -> Outputs:
    tokens = drawn(sum(LENGTHS), 48, dtype=dtype, device=device)
    config = fde.Config(token_dim=48, repetitions=3, k_sim=2, projection_dim=8, final_dim=final_dim)
    encode = fde.encode_documents if documents else fde.encode_queries
    return outputs(encode(tokens, offsets(LENGTHS, device), config))


def agree(name: str, found: Outputs, expected: Outputs) -> None:
    """That two rooms answer alike: numbers to the tolerance of their dtype, the rest exactly."""
    assert found.keys() == expected.keys()
    for part, truth in expected.items():
        mine = found[part]
        assert mine.dtype == truth.dtype, f"{name}, {part}: {mine.dtype}, not {truth.dtype}"
        if truth.is_floating_point():
            assert_close(f"{name}, {part}", mine, truth, truth.dtype)
        else:
            assert torch.equal(mine.cpu(), truth.cpu()), f"{name}, {part}"

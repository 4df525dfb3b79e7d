"""MaxSim as torch operators: sides taken apart into tensors, and put together for the room.

An operator takes a side as a list and a weight. The list holds the offsets, the owners of a packing
((0,) without one) and the tensors of the tokens: one for plain ones, two for ``Int8Tokens``, five
for ``CodedTokens``.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from maxsight.kernels.coded_tokens import CodedTokens
from maxsight.kernels.dispatch import room_of
from maxsight.kernels.maxsim.checks import check_finite
from maxsight.kernels.maxsim.offsets import check_offsets
from maxsight.kernels.maxsim.values import Int8Tokens, Side
from maxsight.kernels.operator import operator

_Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


def flat(side: Side) -> tuple[list[Tensor], Tensor | None]:
    """A side as an operator takes it."""
    tokens, owner = side.tokens, side.owner
    where = [side.offsets, side.offsets.new_empty(0, dtype=torch.int32) if owner is None else owner]
    if isinstance(tokens, Int8Tokens):
        return [*where, tokens.values, tokens.scale], side.weight
    if isinstance(tokens, CodedTokens):
        arrays = (tokens.ids, tokens.centroids, tokens.data, tokens.levels, tokens.scale)
        return [*where, *map(_as_tensor, arrays)], side.weight
    return [*where, tokens], side.weight


def differentiates(*sides: Side) -> bool:
    """Whether the backward pass will need the answers."""
    given = [part for side in sides for part in (side.tokens, side.weight)]
    return torch.is_grad_enabled() and any(
        isinstance(part, Tensor) and part.requires_grad for part in given
    )


@operator("maxsight::maxsim_score")
def score(
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    normalize: bool,
    answers: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (B_q, B_d), and answers (sum L_q, B_d) int32 or (0, 0)."""
    left = _checked(queries, query_weight, "query")
    right = _checked(documents, document_weight, "document")
    return _room(queries, documents).score(left, right, normalize=normalize, answers=answers)


@score.register_fake
def _score_shapes(
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    normalize: bool,
    answers: bool,
) -> tuple[Tensor, Tensor]:
    count = documents[0].shape[0] - 1
    shape = (queries[2].shape[0], count) if answers else (0, 0)
    scores = _empty_scores(queries, documents, (queries[0].shape[0] - 1, count))
    return scores, queries[0].new_empty(shape, dtype=torch.int32)


@operator("maxsight::maxsim_score_backward")
def score_backward(
    grad: Tensor,
    answers: Tensor,
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, documents and weights, (0,) for what has none."""
    left, right = _whole(queries, query_weight), _whole(documents, document_weight)
    return _room(queries, documents).score_backward(grad, answers, left, right, normalize=normalize)


@score_backward.register_fake
def _score_backward_shapes(
    grad: Tensor,
    answers: Tensor,
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(queries, documents, query_weight, document_weight)


@operator("maxsight::maxsim_score_pairs")
def score_pairs(
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    pairs: Tensor | None,
    normalize: bool,
    answers: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (P,), and answers (sum of the pairs' L_q,) int32 or (0,)."""
    left = _checked(queries, query_weight, "query")
    right = _checked(documents, document_weight, "document")
    if pairs is not None:
        _check_pairs(pairs, left.count, right.count)
    return _room(queries, documents, pairs).score_pairs(
        left, right, pairs=pairs, normalize=normalize, answers=answers
    )


@score_pairs.register_fake
def _score_pairs_shapes(
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    pairs: Tensor | None,
    normalize: bool,
    answers: bool,
) -> tuple[Tensor, Tensor]:
    count = queries[0].shape[0] - 1 if pairs is None else pairs.shape[0]
    size: Any = 0
    if answers:
        # How many tokens the queries of the pairs have is in the data.
        known = queries[2].shape[0] if pairs is None else None
        size = torch.library.get_ctx().new_dynamic_size() if known is None else known
    scores = _empty_scores(queries, documents, (count,))
    return scores, queries[0].new_empty((size,), dtype=torch.int32)


@operator("maxsight::maxsim_score_pairs_backward")
def score_pairs_backward(
    grad: Tensor,
    answers: Tensor,
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    pairs: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, documents and weights, (0,) for what has none."""
    left, right = _whole(queries, query_weight), _whole(documents, document_weight)
    return _room(queries, documents).score_pairs_backward(
        grad, answers, left, right, pairs=pairs, normalize=normalize
    )


@score_pairs_backward.register_fake
def _score_pairs_backward_shapes(
    grad: Tensor,
    answers: Tensor,
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    pairs: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(queries, documents, query_weight, document_weight)


@operator("maxsight::maxsim_topk")
def topk(
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    k: int,
    allowed: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (B_q, min(k, B_d)) and indices int64."""
    left = _checked(queries, query_weight, "query")
    right = _checked(documents, document_weight, "document")
    return _room(queries, documents, allowed).topk(
        left, right, k, allowed=allowed, normalize=normalize
    )


@topk.register_fake
def _topk_shapes(
    queries: list[Tensor],
    query_weight: Tensor | None,
    documents: list[Tensor],
    document_weight: Tensor | None,
    k: int,
    allowed: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    shape = (queries[0].shape[0] - 1, min(k, documents[0].shape[0] - 1))
    return _empty_scores(queries, documents, shape), queries[0].new_empty(shape)


def _as_tensor(array: np.ndarray[Any, Any] | None) -> Tensor:
    """An array's numbers where they lie, (0,) for None."""
    if array is None:
        return torch.empty(0)
    with warnings.catch_warnings():
        # Torch warns of arrays that may not be written, as mapped files may not. Nothing writes.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _whole(tensors: list[Tensor], weight: Tensor | None) -> Side:
    """What :func:`flat` took apart."""
    offsets, given, first, *more = tensors
    owner = given if len(given) else None
    if len(more) < 2:
        return Side(Int8Tokens(first, *more) if more else first, offsets, weight, owner)
    ids, centroids, data, levels, scale = (part.numpy() for part in (first, *more))
    tokens = CodedTokens(
        ids,
        centroids,
        data,
        bits=data.shape[1] * 8 // max(1, centroids.shape[1]),
        levels=levels if len(levels) else None,
        scale=scale if len(scale) or not len(levels) else None,
        offsets=offsets.numpy(),
    )
    return Side(tokens, offsets, weight, owner)


def _checked(tensors: list[Tensor], weight: Tensor | None, name: str) -> Side:
    """A side whose offsets cut its tokens, and whose numbers are finite if it is the queries'."""
    offsets, owner, first, *more = tensors
    rows = more[1] if len(more) > 1 else first  # of codes, `data`: ids may be left out
    # On a CPU it costs next to nothing, and compiled code follows these numbers.
    if offsets.is_cpu or not len(owner):
        check_offsets(offsets, rows.shape[0], name)
    if name == "query":
        check_finite([first, *more, *([] if weight is None else [weight])])
    return _whole(tensors, weight)


def _check_pairs(pairs: Tensor, queries: int, documents: int) -> None:
    # Not against a tensor of both numbers, which would wait for the device.
    fits = (pairs[:, 0] < queries) & (pairs[:, 1] < documents) & (pairs >= 0).all(1)
    right = fits.all()
    message = f"pairs must name one of {queries} queries and one of {documents} documents"
    if pairs.is_cuda:
        torch._assert_async(right, message)
    elif not right:
        raise ValueError(f"{message}; got {pairs[~fits][0].tolist()}")


class _Room(Protocol):
    """What every room holds; :mod:`maxsight.kernels.maxsim.reference` says what they do."""

    def score(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]: ...
    def score_pairs(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]: ...
    def topk(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]: ...
    def score_backward(self, *args: Any, **options: Any) -> _Gradients: ...
    def score_pairs_backward(self, *args: Any, **options: Any) -> _Gradients: ...


def _room(*tensors: list[Tensor] | Tensor | None) -> _Room:
    given = [part for each in tensors for part in (each if isinstance(each, list) else [each])]
    return cast(_Room, room_of("maxsim", *given))


def _empty_scores(
    queries: list[Tensor], documents: list[Tensor], shape: tuple[int | torch.SymInt, ...]
) -> Tensor:
    double = torch.float64 in (queries[2].dtype, documents[2].dtype)
    return queries[2].new_empty(shape, dtype=torch.float64 if double else torch.float32)


def _empty_gradients(
    queries: list[Tensor],
    documents: list[Tensor],
    query_weight: Tensor | None,
    document_weight: Tensor | None,
) -> _Gradients:
    first, second, third, fourth = (
        torch.empty_like(tensor)
        if tensor is not None and tensor.dtype.is_floating_point
        else _empty_scores(queries, documents, (0,))
        for tensor in (queries[2], documents[2], query_weight, document_weight)
    )
    return first, second, third, fourth


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, query_weight, documents, document_weight, *pairs, normalize, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.queries, ctx.normalize = len(queries), normalize
    ctx.pairs = len(pairs)
    ctx.save_for_backward(output[1], query_weight, document_weight, *pairs, *queries, *documents)


def _gradients(ctx: Any, grad: Tensor, backward: Any) -> tuple[Any, ...]:
    """A gradient for each argument of an operator."""
    answers, query_weight, document_weight, *tensors = ctx.saved_tensors
    pairs, tensors = tensors[: ctx.pairs], tensors[ctx.pairs :]
    queries, documents = tensors[: ctx.queries], tensors[ctx.queries :]
    sides = (queries, query_weight, documents, document_weight)
    of_queries, of_documents, *of_weights = backward(grad, answers, *sides, *pairs, ctx.normalize)
    found = (
        [None, None, of_queries, None],
        of_weights[0],
        [None, None, of_documents, None],
        of_weights[1],
    )
    return tuple(
        _wanted(gradient, needed)
        for gradient, needed in itertools.zip_longest(found, ctx.needs_input_grad)
    )


def _wanted(gradient: Any, needed: bool | list[bool]) -> Any:
    """A gradient where it is needed; of a list, one for each of its tensors."""
    if not isinstance(needed, list):
        return gradient if needed else None
    return [
        _wanted(each, need) for each, need in itertools.zip_longest(gradient[: len(needed)], needed)
    ]


score.register_autograd(
    lambda ctx, grad, _: _gradients(ctx, grad, score_backward), setup_context=_save
)
score_pairs.register_autograd(
    lambda ctx, grad, _: _gradients(ctx, grad, score_pairs_backward), setup_context=_save
)

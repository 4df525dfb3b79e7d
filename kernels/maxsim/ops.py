"""MaxSim as torch operators: coded tokens taken apart into tensors, and put together for the room.

An operator takes tokens as a list: [tokens], or [values, scale] of ``Int8Tokens``.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from maxsight.kernels.dispatch import room_of
from maxsight.kernels.maxsim.checks import check_finite, check_offsets
from maxsight.kernels.maxsim.codes import Int8Tokens, Tokens
from maxsight.kernels.maxsim.screen import Int8Screen
from maxsight.kernels.operator import operator

_Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


def flat(tokens: Tokens) -> list[Tensor]:
    """Tokens as an operator takes them."""
    return [tokens.values, tokens.scale] if isinstance(tokens, Int8Tokens) else [tokens]


def flat_screen(screen: Int8Screen) -> list[Tensor]:
    """A screen as an operator takes it."""
    return [screen.values, screen.scale, screen.step, screen.length, screen.sums]


@operator("maxsight::maxsim_score")
def score(
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (B_q, B_d) and arg-max (sum L_q, B_d) int32 or (0, 0)."""
    check_offsets(query_offsets, len(queries[0]), "query")
    check_offsets(document_offsets, len(documents[0]), "document")
    check_finite(queries, query_weight)
    return _room(*queries, query_offsets, *documents, document_offsets).score(
        _whole(queries),
        query_offsets,
        _whole(documents),
        document_offsets,
        query_weight=query_weight,
        document_weight=document_weight,
        normalize=normalize,
        with_argmax=with_argmax,
    )


@score.register_fake
def _score_shapes(
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    count = document_offsets.shape[0] - 1
    shape = (queries[0].shape[0], count) if with_argmax else (0, 0)
    return (
        _empty_scores(queries, documents, (query_offsets.shape[0] - 1, count)),
        query_offsets.new_empty(shape, dtype=torch.int32),
    )


@operator("maxsight::maxsim_score_backward")
def score_backward(
    grad: Tensor,
    argmax: Tensor,
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, documents and weights, (0,) for what has none."""
    return _room(*queries, query_offsets, *documents, document_offsets).score_backward(
        grad,
        argmax,
        _whole(queries),
        query_offsets,
        _whole(documents),
        document_offsets,
        query_weight=query_weight,
        document_weight=document_weight,
        normalize=normalize,
    )


@score_backward.register_fake
def _score_backward_shapes(
    grad: Tensor,
    argmax: Tensor,
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(queries, documents, query_weight, document_weight)


@operator("maxsight::maxsim_score_pairs")
def score_pairs(
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (P,) and arg-max (sum of the pairs' L_q,) int32 or (0,)."""
    check_offsets(query_offsets, len(queries[0]), "query")
    check_offsets(document_offsets, len(documents[0]), "document")
    check_finite(queries, query_weight)
    if pairs is not None:
        _check_pairs(pairs, len(query_offsets) - 1, len(document_offsets) - 1)
    return _room(*queries, query_offsets, *documents, document_offsets, pairs).score_pairs(
        _whole(queries),
        query_offsets,
        _whole(documents),
        document_offsets,
        pairs=pairs,
        query_weight=query_weight,
        document_weight=document_weight,
        normalize=normalize,
        with_argmax=with_argmax,
    )


@score_pairs.register_fake
def _score_pairs_shapes(
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    count = query_offsets.shape[0] - 1 if pairs is None else pairs.shape[0]
    size: Any = 0
    if with_argmax:
        # How many tokens the queries of the pairs have is in the data.
        known = queries[0].shape[0] if pairs is None else None
        size = torch.library.get_ctx().new_dynamic_size() if known is None else known
    return (
        _empty_scores(queries, documents, (count,)),
        query_offsets.new_empty((size,), dtype=torch.int32),
    )


@operator("maxsight::maxsim_score_pairs_backward")
def score_pairs_backward(
    grad: Tensor,
    argmax: Tensor,
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, documents and weights, (0,) for what has none."""
    return _room(*queries, query_offsets, *documents, document_offsets).score_pairs_backward(
        grad,
        argmax,
        _whole(queries),
        query_offsets,
        _whole(documents),
        document_offsets,
        pairs=pairs,
        query_weight=query_weight,
        document_weight=document_weight,
        normalize=normalize,
    )


@score_pairs_backward.register_fake
def _score_pairs_backward_shapes(
    grad: Tensor,
    argmax: Tensor,
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(queries, documents, query_weight, document_weight)


@operator("maxsight::maxsim_topk")
def topk(
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    k: int,
    allowed: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    screen: list[Tensor],
) -> tuple[Tensor, Tensor]:
    """Scores (B_q, min(k, B_d)) and indices int64; ``screen`` holds an ``Int8Screen``'s tensors."""
    check_offsets(query_offsets, len(queries[0]), "query")
    check_offsets(document_offsets, len(documents[0]), "document")
    check_finite(queries, query_weight)
    return _room(*queries, query_offsets, *documents, document_offsets, allowed, *screen).topk(
        _whole(queries),
        query_offsets,
        _whole(documents),
        document_offsets,
        k,
        allowed=allowed,
        query_weight=query_weight,
        document_weight=document_weight,
        normalize=normalize,
        screen=Int8Screen(*screen) if screen else None,
    )


@topk.register_fake
def _topk_shapes(
    queries: list[Tensor],
    query_offsets: Tensor,
    documents: list[Tensor],
    document_offsets: Tensor,
    k: int,
    allowed: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    screen: list[Tensor],
) -> tuple[Tensor, Tensor]:
    shape = (query_offsets.shape[0] - 1, min(k, document_offsets.shape[0] - 1))
    return _empty_scores(queries, documents, shape), query_offsets.new_empty(shape)


def _check_pairs(pairs: Tensor, queries: int, documents: int) -> None:
    limits = torch.tensor([queries, documents], device=pairs.device)
    right = ((pairs >= 0) & (pairs < limits)).all()
    message = f"pairs must name one of {queries} queries and one of {documents} documents"
    if pairs.is_cuda:
        torch._assert_async(right, message)
    elif not right:
        wrong = pairs[((pairs < 0) | (pairs >= limits)).any(1)]
        raise ValueError(f"{message}; got {wrong[0].tolist()}")


def _whole(tokens: list[Tensor]) -> Tokens:
    """What :func:`flat` took apart."""
    return tokens[0] if len(tokens) == 1 else Int8Tokens(*tokens)


class _Room(Protocol):
    """What every room holds; :mod:`maxsight.kernels.maxsim.reference` says what they do."""

    def score(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]: ...
    def score_pairs(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]: ...
    def topk(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]: ...
    def score_backward(self, *args: Any, **options: Any) -> _Gradients: ...
    def score_pairs_backward(self, *args: Any, **options: Any) -> _Gradients: ...


def _room(*tensors: Tensor | None) -> _Room:
    return cast(_Room, room_of("maxsim", *tensors))


def _empty_scores(
    queries: list[Tensor], documents: list[Tensor], shape: tuple[int | torch.SymInt, ...]
) -> Tensor:
    double = torch.float64 in (queries[0].dtype, documents[0].dtype)
    return queries[0].new_empty(shape, dtype=torch.float64 if double else torch.float32)


def _empty_gradients(
    queries: list[Tensor],
    documents: list[Tensor],
    query_weight: Tensor | None,
    document_weight: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = (queries[0], documents[0], query_weight, document_weight)
    first, second, third, fourth = (
        torch.empty_like(tensor)
        if tensor is not None and tensor.dtype.is_floating_point
        else _empty_scores(queries, documents, (0,))
        for tensor in given
    )
    return first, second, third, fourth


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, query_offsets, documents, *rest, normalize, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.lists, ctx.normalize = (len(queries), len(documents)), normalize
    ctx.save_for_backward(output[1], query_offsets, *queries, *documents, *rest)


def _saved(ctx: Any) -> tuple[Any, ...]:
    """The arguments of a backward operator after the gradient."""
    argmax, query_offsets, *tensors = ctx.saved_tensors
    first, second = ctx.lists
    queries, documents = tensors[:first], tensors[first : first + second]
    rest = tensors[first + second :]
    return argmax, queries, query_offsets, documents, *rest, ctx.normalize


def _score_gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    of_queries, of_documents, *of_weights = score_backward(grad, *_saved(ctx))
    return _placed(ctx, of_queries, None, of_documents, None, *of_weights, None, None)


def _score_pairs_gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    of_queries, of_documents, *of_weights = score_pairs_backward(grad, *_saved(ctx))
    return _placed(ctx, of_queries, None, of_documents, None, None, *of_weights, None, None)


def _placed(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
    """Gradients for the arguments of an operator, as many in a list as it has tensors."""
    return tuple(
        [gradient if need else None for gradient, need in zip([gradient, None], needed)]
        if isinstance(needed, list)
        else (gradient if needed else None)
        for gradient, needed in zip(gradients, ctx.needs_input_grad)
    )


score.register_autograd(_score_gradients, setup_context=_save)
score_pairs.register_autograd(_score_pairs_gradients, setup_context=_save)

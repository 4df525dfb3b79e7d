"""Late interaction (MaxSim): how well each token of a query is answered by a document's tokens.

    score(q, d) = sum over tokens i of q of  u_i * max over tokens j of d of  w_j * <q_i, d_j>

with u and w the optional weights of query and document tokens. Tokens of all queries, and of all
documents, are packed one after the other without padding: ``tokens (sum L, d)`` with ``offsets
(B + 1,) int64``, of which sequence b has the rows ``offsets[b]:offsets[b + 1]``. An empty query
scores 0 with every document: the sum over nothing. With an empty document every other query scores
-inf, whatever the weights: the maximum over nothing.

Tokens and weights are finite. On a CPU this is asked of queries; of documents, and on a GPU, it
would cost too much, and scores of tokens that are not finite mean nothing.

Source: Khattab and Zaharia, "ColBERT", 2020.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from maxsight.kernels import bitmap
from maxsight.kernels.maxsim import ops
from maxsight.kernels.maxsim.checks import check_side
from maxsight.kernels.maxsim.codes import (
    Int8Tokens,
    Tokens,
    dimensions,
    storage,
)
from maxsight.kernels.maxsim.screen import Int8Screen

__all__ = ["Int8Screen", "Int8Tokens", "score", "score_pairs", "topk"]


@overload
def score(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    with_argmax: Literal[False] = False,
) -> Tensor: ...


@overload
def score(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    with_argmax: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def score(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    with_argmax: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Every query against every document.

    Differentiable in tokens and weights that are floating point; the backward pass adds in a fixed
    order. Products are summed, maxima taken and scores returned in float32 (float64 if a side is);
    a product of two bfloat16 or of two int8 sides runs at that type's speed, mixed sides at
    float32's.

    Args:
        queries: (sum L_q, d) float32, float16, bfloat16, or ``Int8Tokens``.
        query_offsets: (B_q + 1,) int64.
        documents: the same.
        document_offsets: (B_d + 1,) int64.
        query_weight: (sum L_q,) float, times the token's maximum.
        document_weight: (sum L_d,) float, times the similarity, inside the maximum.
        normalize: divide every token by its norm first, as it is read.
        with_argmax: also return which document token answers which query token.

    Returns:
        (B_q, B_d) float32 scores. With ``with_argmax`` also (sum L_q, B_d) int32: the place within
        the document of the token that gave the maximum, the lowest of equals, -1 in an empty one.
        Memory beyond these: at most 64 MiB.

    Raises:
        ValueError: shapes, dtypes or offsets that do not fit; queries that are not finite.
        BackendError: tensors on several devices.

    Example:
        >>> documents = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> score(queries, torch.tensor([0, 2]), documents, torch.tensor([0, 2, 3]))
        tensor([[2.0000, 1.4000]])
    """
    check_side(queries, query_offsets, query_weight, "query")
    check_side(documents, document_offsets, document_weight, "document")
    _check_together(queries, documents)
    needed = with_argmax or _differentiates(queries, documents, query_weight, document_weight)
    scores, argmax = ops.score(
        ops.flat(queries),
        query_offsets,
        ops.flat(documents),
        document_offsets,
        query_weight,
        document_weight,
        normalize,
        needed,
    )
    return (scores, argmax) if with_argmax else scores


@overload
def score_pairs(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    pairs: Tensor | None = None,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    with_argmax: Literal[False] = False,
) -> Tensor: ...


@overload
def score_pairs(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    pairs: Tensor | None = None,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    with_argmax: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def score_pairs(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    pairs: Tensor | None = None,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    with_argmax: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Some queries against some documents, pair by pair; differentiable as :func:`score` is.

    Args:
        pairs: (P, 2) int64, each a query's and a document's number. None pairs the i-th query with
            the i-th document.
        queries, query_offsets, documents, document_offsets, query_weight, document_weight,
            normalize, with_argmax: as for :func:`score`.

    Returns:
        (P,) float32 scores. With ``with_argmax`` also, packed in the order of the pairs, an int32
        for each token of the pair's query, as for :func:`score`.

    Raises:
        ValueError: as :func:`score`, and pairs that do not exist.

    Example:
        >>> tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> offsets = torch.tensor([0, 1, 2])
        >>> score_pairs(tokens, offsets, tokens, offsets)
        tensor([1., 1.])
    """
    check_side(queries, query_offsets, query_weight, "query")
    check_side(documents, document_offsets, document_weight, "document")
    _check_together(queries, documents)
    if pairs is None and len(query_offsets) != len(document_offsets):
        raise ValueError(
            f"as many queries as documents are needed, got {len(query_offsets) - 1} and "
            f"{len(document_offsets) - 1}; name them with pairs"
        )
    if pairs is not None and (pairs.dtype != torch.int64 or pairs.ndim != 2 or pairs.shape[1] != 2):
        raise ValueError(f"pairs must be (P, 2) int64, got {pairs.dtype} {tuple(pairs.shape)}")
    needed = with_argmax or _differentiates(queries, documents, query_weight, document_weight)
    scores, argmax = ops.score_pairs(
        ops.flat(queries),
        query_offsets,
        ops.flat(documents),
        document_offsets,
        pairs,
        query_weight,
        document_weight,
        normalize,
        needed,
    )
    return (scores, argmax) if with_argmax else scores


def topk(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    k: int,
    *,
    allowed: Tensor | None = None,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    screen: Int8Screen | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` documents of highest score with each query.

    Equal to sorting :func:`score`, whose scores it returns, but never holds them all: memory beyond
    the result is at most 64 MiB whatever B_q and B_d. An empty document comes after all others,
    with the score -inf; ``allowed`` can keep it out.

    Args:
        k: at least 1.
        allowed: which documents may be returned, for all queries or one row a query: (B_d,) or
            (B_q, B_d) bool, or a bitmap of these (:mod:`maxsight.kernels.bitmap`).
        screen: an int8 copy of these documents, made once by ``Int8Screen.of``: with it most are
            never read in full. It must have been made with the same weights and ``normalize``.
        queries, query_offsets, documents, document_offsets, query_weight, document_weight,
            normalize: as for :func:`score`.

    Returns:
        ``(scores, indices)``: (B_q, k') float32 and (B_q, k') int64 with ``k' = min(k, B_d)``, best
        first, equal scores by lower index, -inf too. A query with fewer allowed documents ends in
        score ``-inf`` and index ``-1``. Not differentiable: give its indices to
        :func:`score_pairs`.

    Raises:
        ValueError: as :func:`score`; ``k`` below 1; a screen of other documents.

    Example:
        >>> tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> offsets = torch.tensor([0, 1, 2])
        >>> topk(tokens, offsets, tokens, offsets, 1)[1].tolist()
        [[0], [1]]
    """
    check_side(queries, query_offsets, query_weight, "query")
    check_side(documents, document_offsets, document_weight, "document")
    _check_together(queries, documents)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    count = len(document_offsets) - 1
    if screen is not None and (
        screen.values.shape != (len(storage(documents)), dimensions(documents))
        or len(screen.step) != count
    ):
        raise ValueError(
            f"the screen is of {len(screen.step)} documents with {tuple(screen.values.shape)} "
            f"tokens, not of these {count} with {len(storage(documents))}; make it anew"
        )
    best: tuple[Tensor, Tensor] = ops.topk(
        ops.flat(queries),
        query_offsets,
        ops.flat(documents),
        document_offsets,
        k,
        bitmap.checked(allowed, rows=count, queries=len(query_offsets) - 1),
        query_weight,
        document_weight,
        normalize,
        [] if screen is None else ops.flat_screen(screen),
    )
    return best


def _check_together(queries: Tokens, documents: Tokens) -> None:
    if dimensions(queries) != dimensions(documents):
        raise ValueError(
            f"query and document tokens must share d, got {dimensions(queries)} and "
            f"{dimensions(documents)}"
        )


def _differentiates(*given: object) -> bool:
    """Whether the backward pass will need the arg-max."""
    return torch.is_grad_enabled() and any(
        isinstance(tensor, Tensor) and tensor.requires_grad for tensor in given
    )

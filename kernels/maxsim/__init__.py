"""Late interaction (MaxSim): how well each token of a query is answered by a document's tokens.

    score(q, d) = sum over tokens i of q of  u_i * max over tokens j of d of  w_j * <q_i, d_j>

with u and w the optional weights of query and document tokens. Tokens of all queries, and of all
documents, are packed one after the other without padding: ``tokens (sum L, d)`` with ``offsets
(B + 1,) int64``, of which sequence b has the rows ``offsets[b]:offsets[b + 1]``. An empty query
scores 0 with every document: the sum over nothing. With an empty document every other query scores
-inf, whatever the weights: the maximum over nothing.

Arguments are tensors; documents may also be what a library stores (``CodedTokens``). Queries in
NumPy's arrays and stored documents give NumPy's scores, without torch (:func:`interact`,
:func:`score_pairs`).

Tokens and weights are finite. On a CPU this is asked of queries; of documents, and on a GPU, it
would cost too much, and scores of tokens that are not finite mean nothing.

Source: Khattab and Zaharia, "ColBERT", 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from maxsight.kernels.coded_tokens import CodedTokens
from maxsight.kernels.maxsim import arrays
from maxsight.kernels.maxsim.values import Int8Tokens, Packing

if TYPE_CHECKING:
    from torch import Tensor

    from maxsight.kernels.array_types import BoolArray, FloatArray, IntArray
    from maxsight.kernels.maxsim.values import Side

    Tokens = Tensor | Int8Tokens
    Documents = Tokens | CodedTokens
    Offsets = Tensor | Packing

__all__ = [
    "CodedTokens",
    "Int8Tokens",
    "Packing",
    "answers",
    "interact",
    "score",
    "score_pairs",
    "topk",
]


def score(
    queries: Tokens,
    query_offsets: Offsets,
    documents: Documents,
    document_offsets: Offsets | None = None,
    *,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    """Every query against every document.

    Differentiable in tokens and weights that are floating point; the backward pass adds in a fixed
    order. Products are summed, maxima taken and scores returned in float32 (float64 if a side is);
    a product of two bfloat16 or of two int8 sides runs at that type's speed, mixed sides at
    float32's.

    Args:
        queries: (sum L_q, d) float32, float16, bfloat16, or ``Int8Tokens``.
        query_offsets: (B_q + 1,) int64, or a ``Packing`` of them, which is not checked again.
        documents: the same, or ``CodedTokens``, which are decoded a few documents at a time.
        document_offsets: (B_d + 1,) int64, or a ``Packing``; None: those that ``CodedTokens`` hold.
        query_weight: (sum L_q,) float, times the token's maximum.
        document_weight: (sum L_d,) float, times the similarity, inside the maximum.
        normalize: divide every token by its norm first, as it is read.

    Returns:
        (B_q, B_d) float32. Memory beside it: at most 64 MiB.

    Raises:
        ValueError: shapes, dtypes or offsets that do not fit; queries that are not finite.
        BackendError: tensors on several devices; ``CodedTokens`` in the Triton room.

    Example:
        >>> documents = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> score(queries, torch.tensor([0, 2]), documents, torch.tensor([0, 2, 3]))
        tensor([[2.0000, 1.4000]])
    """
    left = (queries, query_offsets, query_weight)
    return _score(left, (documents, document_offsets, document_weight), normalize, False)[0]


def answers(
    queries: Tokens,
    query_offsets: Offsets,
    documents: Documents,
    document_offsets: Offsets | None = None,
    *,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """Which document token answers which query token, and the scores of :func:`score`.

    Args:
        queries, query_offsets, documents, document_offsets, query_weight, document_weight,
            normalize: as for :func:`score`.

    Returns:
        ``(scores, places)``: (B_q, B_d), and (sum L_q, B_d) int32: the place within the document of
        the token that gave the maximum, the lowest of equals, -1 in an empty one.

    Raises:
        ValueError, BackendError: as :func:`score`.

    Example:
        >>> documents = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> answers(queries, torch.tensor([0, 2]), documents, torch.tensor([0, 2, 3]))[1].tolist()
        [[0, 0], [1, 0]]
    """
    left = (queries, query_offsets, query_weight)
    return _score(left, (documents, document_offsets, document_weight), normalize, True)


@overload
def score_pairs(
    queries: Tokens,
    query_offsets: Offsets,
    documents: Documents,
    document_offsets: Offsets | None = None,
    *,
    pairs: Tensor | None = None,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
) -> Tensor: ...


@overload
def score_pairs(
    queries: FloatArray,
    query_offsets: IntArray,
    documents: CodedTokens,
    *,
    pairs: IntArray,
    fine: bool = True,
    threads: int = 1,
) -> FloatArray: ...


def score_pairs(
    queries: Any,
    query_offsets: Any,
    documents: Any,
    document_offsets: Any = None,
    *,
    pairs: Any = None,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
    fine: bool = True,
    threads: int = 1,
) -> Any:
    """Some queries against some documents, pair by pair; differentiable as :func:`score` is.

    Args:
        pairs: (P, 2) int64, each a query's and a document's number. None pairs the i-th query with
            the i-th document. Of arrays, the documents' numbers never fall, and a document that
            several queries want is read once.
        queries, query_offsets, documents, document_offsets, query_weight, document_weight,
            normalize: as for :func:`score`; or (sum L_q, d) float32 and (B_q + 1,) int64 arrays
            against ``CodedTokens``, without offsets and weights.
        fine: of arrays: round the queries' tokens to 15 bits and a sign, not to 7.
        threads: of arrays: at most so many; tensors take torch's.

    Returns:
        (P,) float32 scores.

    Raises:
        ValueError: as :func:`score`, and pairs that do not exist.

    Example:
        >>> tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> offsets = torch.tensor([0, 1, 2])
        >>> score_pairs(tokens, offsets, tokens, offsets)
        tensor([1., 1.])
    """
    if isinstance(queries, np.ndarray):
        return arrays.score_pairs(
            queries, query_offsets, documents, pairs=pairs, fine=fine, threads=threads
        )
    left = (queries, query_offsets, query_weight)
    return _pairs(left, (documents, document_offsets, document_weight), pairs, normalize)


def topk(
    queries: Tokens,
    query_offsets: Offsets,
    documents: Documents,
    document_offsets: Offsets | None,
    k: int,
    *,
    allowed: Tensor | None = None,
    query_weight: Tensor | None = None,
    document_weight: Tensor | None = None,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """The ``k`` documents of highest score with each query.

    Equal to sorting :func:`score`, whose scores it returns, but never holds them all: memory beyond
    the result is at most 64 MiB whatever B_q and B_d. An empty document comes after all others,
    with the score -inf; ``allowed`` can keep it out.

    Args:
        k: at least 1.
        allowed: which documents may be returned, for all queries or one row a query: (B_d,) or
            (B_q, B_d) bool, or a bitmap of these (:mod:`maxsight.kernels.bitmap`).
        queries, query_offsets, documents, document_offsets, query_weight, document_weight,
            normalize: as for :func:`score`.

    Returns:
        ``(scores, indices)``: (B_q, k') float32 and (B_q, k') int64 with ``k' = min(k, B_d)``, best
        first, equal scores by lower index, -inf too. A query with fewer allowed documents ends in
        score ``-inf`` and index ``-1``. Not differentiable: give its indices to
        :func:`score_pairs`.

    Raises:
        ValueError: as :func:`score`; ``k`` below 1.

    Example:
        >>> tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> offsets = torch.tensor([0, 1, 2])
        >>> topk(tokens, offsets, tokens, offsets, 1)[1].tolist()
        [[0], [1]]
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    left, right = _sides(
        (queries, query_offsets, query_weight), (documents, document_offsets, document_weight)
    )
    from maxsight.kernels import bitmap
    from maxsight.kernels.maxsim import operators

    best: tuple[Tensor, Tensor] = operators.topk(
        *operators.flat(left),
        *operators.flat(right),
        k,
        bitmap.checked(allowed, rows=right.count, queries=left.count),
        normalize,
    )
    return best


def interact(
    queries: FloatArray,
    query_offsets: IntArray,
    documents: CodedTokens,
    keep: int,
    *,
    rows: IntArray | None = None,
    allowed: BoolArray | None = None,
    threads: int = 1,
) -> IntArray:
    """The documents of highest MaxSim when each of their tokens is taken for its centroid.

    Compiled code rounds similarities with centroids to 255 levels a query.

    Args:
        queries: (sum L, d) float32, finite.
        query_offsets: (B + 1,) int64.
        keep: at least 1.
        rows: (B, C), the documents that take part, ascending, -1 where there is none; None: all.
        allowed: (N,) or (B, N) bool, which documents may be returned; None: all.

    Returns:
        (B, keep) documents in rising order, -1 behind them where there are fewer.

    Raises:
        ValueError: shapes that do not fit, rows that there are not, ``keep`` below 1.
    """
    return arrays.interact(
        queries, query_offsets, documents, keep, rows=rows, allowed=allowed, threads=threads
    )


# Tokens, their offsets and their weights, as a caller gives them.
_Given = tuple[Any, Any, "Tensor | None"]


def _sides(queries: _Given, documents: _Given) -> tuple[Side, Side]:
    from maxsight.kernels.maxsim import checks

    left, right = checks.side_of(*queries, "query"), checks.side_of(*documents, "document")
    if left.dim != right.dim:
        raise ValueError(f"query and document tokens must share d, got {left.dim} and {right.dim}")
    return left, right


def _score(
    queries: _Given, documents: _Given, normalize: bool, answers: bool
) -> tuple[Tensor, Tensor]:
    from maxsight.kernels.maxsim import operators

    left, right = _sides(queries, documents)
    needed = answers or operators.differentiates(left, right)
    found: tuple[Tensor, Tensor] = operators.score(
        *operators.flat(left), *operators.flat(right), normalize, needed
    )
    return found


def _pairs(queries: _Given, documents: _Given, pairs: Tensor | None, normalize: bool) -> Tensor:
    import torch

    from maxsight.kernels.maxsim import operators

    left, right = _sides(queries, documents)
    if pairs is None and left.count != right.count:
        raise ValueError(
            f"as many queries as documents are needed, got {left.count} and {right.count}; name "
            "them with pairs"
        )
    if pairs is not None and (pairs.dtype != torch.int64 or pairs.ndim != 2 or pairs.shape[1] != 2):
        raise ValueError(f"pairs must be (P, 2) int64, got {pairs.dtype} {tuple(pairs.shape)}")
    needed = operators.differentiates(left, right)
    scores: Tensor = operators.score_pairs(
        *operators.flat(left), *operators.flat(right), pairs, normalize, needed
    )[0]
    return scores

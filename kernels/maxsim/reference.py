"""The truth for MaxSim, in plain torch: a document at a time.

Sums are float32, or float64 if the queries or documents are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from maxsight.kernels import bitmap, ordering
from maxsight.kernels.chunks import chunks
from maxsight.kernels.maxsim.codes import Documents, decode, inverse_norm, sum_dtype
from maxsight.kernels.maxsim.values import Side


def score(
    queries: Side, documents: Side, *, normalize: bool, answers: bool
) -> tuple[Tensor, Tensor]:
    """Scores (B_q, B_d), and (sum L_q, B_d) int32: which token of the document is each query
    token's, -1 in an empty document; (0, 0) if not asked for.
    """
    dtype = sum_dtype(queries, documents)
    rows = token_rows(queries.tokens, slice(None), None, normalize, dtype)
    scores = rows.new_zeros((queries.count, documents.count))
    shape = (len(rows), documents.count) if answers else (0, 0)
    found = torch.full(shape, -1, dtype=torch.int32, device=rows.device)
    for index, (start, end) in enumerate(_spans(documents.offsets)):
        if start == end:
            scores[queries.offsets.diff() > 0, index] = -torch.inf
            continue
        span = slice(start, end)
        tokens = token_rows(documents.tokens, span, documents.weight, normalize, dtype)
        best, place = (rows @ tokens.T).max(1)
        if queries.weight is not None:
            best = best * queries.weight.to(dtype)
        scores[:, index] = _group_sums(best, queries.offsets)
        if answers:
            found[:, index] = place
    return scores, found


def score_pairs(
    queries: Side, documents: Side, *, pairs: Tensor | None, normalize: bool, answers: bool
) -> tuple[Tensor, Tensor]:
    """Scores (P,), and which token answers each of the pairs' query tokens, packed in the order of
    the pairs; (0,) if not asked for.
    """
    dtype = sum_dtype(queries, documents)
    rows = token_rows(queries.tokens, slice(None), None, normalize, dtype)
    if pairs is None:
        pairs = torch.arange(queries.count, device=rows.device)[:, None].expand(-1, 2)
    spans_q, spans_d = _spans(queries.offsets), _spans(documents.offsets)
    scores = rows.new_zeros(len(pairs))
    places = [torch.empty(0, dtype=torch.int32, device=rows.device)]
    for index, (query, document) in enumerate(pairs.tolist()):
        first, last = spans_q[query]
        start, end = spans_d[document]
        if start == end:
            place = torch.full((last - first,), -1, device=rows.device)
            scores[index] = -torch.inf if first < last else 0
        else:
            span = slice(start, end)
            tokens = token_rows(documents.tokens, span, documents.weight, normalize, dtype)
            best, place = (rows[first:last] @ tokens.T).max(1)
            if queries.weight is not None:
                best = best * queries.weight[first:last].to(dtype)
            scores[index] = best.sum()
        if answers:
            places.append(place.to(torch.int32))
    return scores, torch.cat(places)


def topk(
    queries: Side, documents: Side, k: int, *, allowed: Tensor | None, normalize: bool
) -> tuple[Tensor, Tensor]:
    """The k best documents a query: scores (B_q, k') and indices (B_q, k') int64.

    Args:
        allowed: bitmap over documents, contiguous.
    """

    def scores_of(part: slice) -> Tensor:
        some = replace(documents, offsets=documents.offsets[part.start : part.stop + 1])
        return score(queries, some, normalize=normalize, answers=False)[0]

    parts = chunks(documents.count, queries.count + 1)
    return best_of(scores_of, parts, queries, documents, k, allowed=allowed)


def best_of(
    scores_of: Callable[[slice], Tensor],
    parts: Iterable[slice],
    queries: Side,
    documents: Side,
    k: int,
    *,
    allowed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """:func:`topk` of scores that a room computes, a slice of the documents at a time.

    Args:
        scores_of: the scores (B_q, S) of the S documents of a slice.
        parts: the slices, in order.
    """
    count = documents.count
    best = queries.offsets.new_empty((queries.count, 0), dtype=sum_dtype(queries, documents))
    places = best.to(torch.int64)
    keep = None if allowed is None else bitmap.unpack(allowed, count)
    for part in parts:
        scores = scores_of(part)
        indices = torch.arange(part.start, part.stop, device=best.device).expand_as(scores)
        if keep is not None:
            forbidden = ~keep[..., part].expand_as(scores)
            scores = scores.masked_fill(forbidden, -torch.inf)
            indices = indices.masked_fill(forbidden, count)
        best, places = torch.cat([best, scores], 1), torch.cat([places, indices], 1)
        if keep is not None:
            # By index, the forbidden last: an allowed document may score -inf, too.
            places, order = places.sort(dim=1)
            best = best.gather(1, order)
        best, places = ordering.first(best, places, k)
    return best.contiguous(), places.masked_fill(places == count, -1).contiguous()


def unanswered(query_offsets: Tensor, document_offsets: Tensor) -> Tensor:
    """Which pairs are of a query with tokens and a document without: (B_q, B_d) bool."""
    return (query_offsets.diff() > 0)[:, None] & (document_offsets.diff() == 0)


def score_backward(
    grad: Tensor, answers: Tensor, queries: Side, documents: Side, *, normalize: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`score` for query tokens, document tokens, query and document weights.

    Args:
        grad: (B_q, B_d), of the scores.
        answers: as :func:`score` returns them.

    Returns:
        Each in the dtype of what it is the gradient of, (0,) for what is int8, coded or None.
    """
    groups = _groups(queries.offsets)
    gradients = _Gradients(queries, documents, normalize)
    for part in chunks(answers.shape[1], len(groups) * gradients.width):
        local = answers[:, part]
        token = local + documents.offsets[part].to(local.device)
        query = torch.arange(len(groups), device=local.device)[:, None].expand_as(local)
        gradients.add(query, token, grad[groups, part], local >= 0)
    return gradients.result()


def score_pairs_backward(
    grad: Tensor,
    answers: Tensor,
    queries: Side,
    documents: Side,
    *,
    pairs: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`score_pairs`, as :func:`score_backward` returns them."""
    if pairs is None:
        pairs = torch.arange(queries.count, device=grad.device)[:, None].expand(-1, 2)
    lengths = queries.offsets.diff()[pairs[:, 0]]
    pair = torch.repeat_interleave(lengths)
    first = lengths.cumsum(0) - lengths
    query = (
        torch.arange(len(pair), device=grad.device) - first[pair] + queries.offsets[pairs[pair, 0]]
    )
    token = answers + documents.offsets[pairs[pair, 1]]
    gradients = _Gradients(queries, documents, normalize)
    for part in chunks(len(pair), gradients.width):
        gradients.add(query[part], token[part], grad[pair[part]], answers[part] >= 0)
    return gradients.result()


class _Gradients:
    """Sums, over the links between a query token and the document token that answers it, what the
    score's gradient gives to each, in a fixed order.
    """

    def __init__(self, queries: Side, documents: Side, normalize: bool) -> None:
        self._inputs = (queries.tokens, documents.tokens, queries.weight, documents.weight)
        self._device = queries.offsets.device
        self._normalize = normalize
        self._dtype = sum_dtype(queries, documents)
        self._sums = [
            torch.zeros_like(given, dtype=self._dtype) if isinstance(given, Tensor) else None
            for given in self._inputs
        ]
        self.width = max(1, queries.dim)

    def add(self, query: Tensor, token: Tensor, grad: Tensor, linked: Tensor) -> None:
        queries, documents, query_weight, document_weight = self._inputs
        grad = grad[linked].to(self._dtype)
        query, token = query[linked], token[linked]
        row = token_rows(queries, query, None, self._normalize, self._dtype)
        answer = token_rows(documents, token, None, self._normalize, self._dtype)
        weight_q = weight_d = torch.ones_like(grad)
        if query_weight is not None:
            weight_q = query_weight[query].to(self._dtype)
        if document_weight is not None:
            weight_d = document_weight[token].to(self._dtype)
        share = (grad * weight_q * weight_d)[:, None]
        product = (row * answer).sum(1)
        of_queries, of_documents, of_query_weight, of_document_weight = self._sums
        _add(of_queries, query, share * answer)
        _add(of_documents, token, share * row)
        _add(of_query_weight, query, grad * weight_d * product)
        _add(of_document_weight, token, grad * weight_q * product)

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gradients = []
        for given, total in zip(self._inputs, self._sums):
            if total is None or not isinstance(given, Tensor):
                gradients.append(torch.empty(0, dtype=self._dtype, device=self._device))
                continue
            if self._normalize and total.ndim == 2:
                tokens = given.to(self._dtype)
                inverse = inverse_norm(tokens)[:, None]
                # Below the smallest norm the divisor is a constant.
                along = torch.where(inverse < 1e12, (tokens * total).sum(1, True), 0)
                total = inverse * (total - tokens * along * inverse.square())
            gradients.append(total.to(given.dtype))
        first, second, third, fourth = gradients
        return first, second, third, fourth


def token_rows(
    documents: Documents,
    rows: Tensor | slice,
    weight: Tensor | None,
    normalize: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Some tokens decoded, normalised if asked for, times their weight."""
    tokens = decode(documents, rows, dtype)
    if normalize:
        tokens = tokens * inverse_norm(tokens)[:, None]
    return tokens if weight is None else tokens * weight[rows].to(dtype)[:, None]


def _spans(offsets: Tensor) -> list[tuple[int, int]]:
    bounds = offsets.tolist()
    return list(itertools.pairwise(bounds))


def _groups(offsets: Tensor) -> Tensor:
    """Which group each token is in."""
    return torch.repeat_interleave(offsets.diff())


def _group_sums(values: Tensor, offsets: Tensor) -> Tensor:
    return torch.segment_reduce(values, "sum", offsets=offsets, axis=0, initial=0)


def _add(total: Tensor | None, index: Tensor, values: Tensor) -> None:
    """``total[index] += values`` in the order of the index's entries."""
    if total is None:
        return
    if total.is_cuda:
        # index_add_ there adds in no fixed order; this sorts first.
        total.index_put_((index,), values, accumulate=True)
    else:
        total.index_add_(0, index, values)

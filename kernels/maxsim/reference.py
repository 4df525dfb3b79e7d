"""The truth for MaxSim, in plain torch: a document at a time.

Sums are float32, or float64 if the queries or documents are.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from maxsight.kernels import bitmap
from maxsight.kernels.chunks import chunks
from maxsight.kernels.maxsim.codes import Tokens, decode, inverse_norm, sum_dtype
from maxsight.kernels.maxsim.screen import Int8Screen


def score(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (B_q, B_d), and (sum L_q, B_d) int32: which token of the document is each query
    token's, -1 in an empty document; (0, 0) if not asked for.
    """
    dtype = sum_dtype(queries, documents)
    rows = token_rows(queries, slice(None), None, normalize, dtype)
    scores = rows.new_zeros((len(query_offsets) - 1, len(document_offsets) - 1))
    shape = (len(rows), scores.shape[1]) if with_argmax else (0, 0)
    argmax = torch.full(shape, -1, dtype=torch.int32, device=rows.device)
    for index, (start, end) in enumerate(_spans(document_offsets)):
        if start == end:
            scores[query_offsets.diff() > 0, index] = -torch.inf
            continue
        tokens = token_rows(documents, slice(start, end), document_weight, normalize, dtype)
        best, place = (rows @ tokens.T).max(1)
        if query_weight is not None:
            best = best * query_weight.to(dtype)
        scores[:, index] = _group_sums(best, query_offsets)
        if with_argmax:
            argmax[:, index] = place
    return scores, argmax


def score_pairs(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    with_argmax: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (P,), and the arg-max of each pair's query tokens, packed in the order of the pairs;
    (0,) if not asked for.
    """
    dtype = sum_dtype(queries, documents)
    rows = token_rows(queries, slice(None), None, normalize, dtype)
    if pairs is None:
        pairs = torch.arange(len(query_offsets) - 1, device=rows.device)[:, None].expand(-1, 2)
    spans_q, spans_d = _spans(query_offsets), _spans(document_offsets)
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
            tokens = token_rows(documents, span, document_weight, normalize, dtype)
            best, place = (rows[first:last] @ tokens.T).max(1)
            if query_weight is not None:
                best = best * query_weight[first:last].to(dtype)
            scores[index] = best.sum()
        if with_argmax:
            places.append(place.to(torch.int32))
    return scores, torch.cat(places)


def topk(
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    k: int,
    *,
    allowed: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
    screen: Int8Screen | None,
) -> tuple[Tensor, Tensor]:
    """The k best documents a query: scores (B_q, k') and indices (B_q, k') int64.

    Args:
        allowed: bitmap over documents, contiguous.
        screen: not used; the answer does not depend on it.
    """
    count = len(document_offsets) - 1
    dtype = sum_dtype(queries, documents)
    best = query_offsets.new_empty((len(query_offsets) - 1, 0), dtype=dtype)
    places = best.to(torch.int64)
    keep = None if allowed is None else bitmap.unpack(allowed, count)
    for part in chunks(count, len(query_offsets)):
        scores, _ = score(
            queries,
            query_offsets,
            documents,
            document_offsets[part.start : part.stop + 1],
            query_weight=query_weight,
            document_weight=document_weight,
            normalize=normalize,
            with_argmax=False,
        )
        indices = torch.arange(part.start, part.stop, device=best.device).expand_as(scores)
        if keep is not None:
            forbidden = ~keep[..., part].expand_as(scores)
            scores = scores.masked_fill(forbidden, -torch.inf)
            indices = indices.masked_fill(forbidden, count)
        # By index, the forbidden last, then by score, which leaves equals in that order.
        places, order = torch.cat([places, indices], 1).sort(dim=1)
        best = torch.cat([best, scores], 1).gather(1, order)
        best, order = best.sort(dim=1, descending=True, stable=True)
        best, places = best[:, :k], places.gather(1, order)[:, :k]
    return best, places.masked_fill(places == count, -1)


def unanswered(query_offsets: Tensor, document_offsets: Tensor) -> Tensor:
    """Which pairs are of a query with tokens and a document without: (B_q, B_d) bool."""
    return (query_offsets.diff() > 0)[:, None] & (document_offsets.diff() == 0)


def score_backward(
    grad: Tensor,
    argmax: Tensor,
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`score` for query tokens, document tokens, query and document weights.

    Args:
        grad: (B_q, B_d), of the scores.
        argmax: as :func:`score` returns it.

    Returns:
        Each in the dtype of what it is the gradient of, (0,) for what is int8, coded or None.
    """
    groups = _groups(query_offsets)
    gradients = _Gradients(queries, documents, query_weight, document_weight, normalize)
    for part in chunks(argmax.shape[1], len(groups) * gradients.width):
        local = argmax[:, part]
        token = local + document_offsets[part].to(local.device)
        query = torch.arange(len(groups), device=local.device)[:, None].expand_as(local)
        gradients.add(query, token, grad[groups, part], local >= 0)
    return gradients.result()


def score_pairs_backward(
    grad: Tensor,
    argmax: Tensor,
    queries: Tokens,
    query_offsets: Tensor,
    documents: Tokens,
    document_offsets: Tensor,
    *,
    pairs: Tensor | None,
    query_weight: Tensor | None,
    document_weight: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`score_pairs`, as :func:`score_backward` returns them."""
    if pairs is None:
        pairs = torch.arange(len(query_offsets) - 1, device=grad.device)[:, None].expand(-1, 2)
    lengths = query_offsets.diff()[pairs[:, 0]]
    pair = torch.repeat_interleave(lengths)
    first = lengths.cumsum(0) - lengths
    query = (
        torch.arange(len(pair), device=grad.device) - first[pair] + query_offsets[pairs[pair, 0]]
    )
    token = argmax + document_offsets[pairs[pair, 1]]
    gradients = _Gradients(queries, documents, query_weight, document_weight, normalize)
    for part in chunks(len(pair), gradients.width):
        gradients.add(query[part], token[part], grad[pair[part]], argmax[part] >= 0)
    return gradients.result()


class _Gradients:
    """Sums, over the links between a query token and the document token that answers it, what the
    score's gradient gives to each, in a fixed order.
    """

    def __init__(
        self,
        queries: Tokens,
        documents: Tokens,
        query_weight: Tensor | None,
        document_weight: Tensor | None,
        normalize: bool,
    ) -> None:
        self._inputs = (queries, documents, query_weight, document_weight)
        self._normalize = normalize
        self._dtype = sum_dtype(queries, documents)
        self._sums = [
            torch.zeros_like(given, dtype=self._dtype) if isinstance(given, Tensor) else None
            for given in self._inputs
        ]
        shape = queries.shape if isinstance(queries, Tensor) else queries.values.shape
        self.width = max(1, shape[1])

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
                storage = self._inputs[0]
                device = (storage if isinstance(storage, Tensor) else storage.values).device
                gradients.append(torch.empty(0, dtype=self._dtype, device=device))
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
    documents: Tokens,
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

"""MaxSim's gradients on a GPU, added in a fixed order and without atomics.

A link joins query token t, document d and the token of d that answered t. The gradient of a query
token gathers its links' document tokens. That of a document token is a product of the matrix
"t answered by this token, times the gradient of the score" with the query tokens: it is made tile
by tile in registers and multiplied on the tensor cores.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from maxsight.kernels.configs import tile
from maxsight.kernels.launch import architecture_of, on
from maxsight.kernels.maxsim import reference
from maxsight.kernels.maxsim.values import Side


@triton.jit(do_not_specialize=["documents"])
def gather_answers(
    grad,
    argmax,
    query_of,
    tokens,
    factor,
    document_offsets,
    out,
    documents,
    dim,
    LINKS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """out[t] = sum over documents d of grad[query of t, d] * factor[a] * tokens[a], a = answer."""
    token = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    query = tl.load(query_of + token).to(tl.int64)
    total = tl.zeros((LINKS, BLOCK_DIM), tl.float32)
    for start in tl.range(0, documents, LINKS):
        document = (start + tl.arange(0, LINKS)).to(tl.int64)
        inside = document < documents
        place = tl.load(argmax + token * documents + document, mask=inside, other=-1)
        linked = place >= 0
        row = tl.load(document_offsets + document, mask=linked, other=0) + place
        share = tl.load(grad + query * documents + document, mask=linked, other=0.0)
        if factor is not None:
            share *= tl.load(factor + row, mask=linked, other=0.0)
        answer = tl.load(
            tokens + row[:, None] * dim + d[None, :],
            mask=linked[:, None] & (d < dim)[None, :],
            other=0,
        )
        total += share[:, None] * answer.to(tl.float32)
    tl.store(out + token * dim + d, tl.sum(total, 0), mask=d < dim)


@triton.jit(do_not_specialize=["count", "query_tokens", "grad_stride"])
def spread_queries(
    grad,
    argmax,
    query_of,
    queries,
    factor,
    document_of,
    document_offsets,
    out,
    count,
    query_tokens,
    grad_stride,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    LINKS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """out[r] = sum over query tokens t that r answers of grad[its document, query] * factor * t.

    Args:
        grad: (B_d, B_q), a line a document; ``argmax``: (B_d, sum L_q).
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < count
    document = tl.load(document_of + row, mask=inside, other=0).to(tl.int64)
    place = (row - tl.load(document_offsets + document)).to(tl.int32)
    d = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    total = tl.zeros((ROWS, BLOCK_DIM), tl.float32)
    for start in tl.range(0, query_tokens, LINKS):
        token = (start + tl.arange(0, LINKS)).to(tl.int64)
        known = token < query_tokens
        both = inside[:, None] & known[None, :]
        answer = tl.load(
            argmax + document[:, None] * query_tokens + token[None, :], mask=both, other=-1
        )
        linked = both & (answer == place[:, None])
        query = tl.load(query_of + token, mask=known, other=0)
        share = tl.load(
            grad + document[:, None] * grad_stride + query[None, :], mask=linked, other=0.0
        )
        x = tl.load(
            queries + token[:, None] * DIM + d[None, :],
            mask=known[:, None] & (d < DIM)[None, :],
            other=0,
        ).to(tl.float32)
        if factor is not None:
            x *= tl.load(factor + token, mask=known, other=0.0)[:, None]
        if queries.dtype.element_ty == tl.bfloat16:
            # TF32 keeps 11 bits, the gradient that is returned 8.
            total = tl.dot(share, x, total, input_precision="tf32")
        else:
            total = tl.dot(share, x, total, input_precision="tf32x3")
    tl.store(
        out + row[:, None] * DIM + d[None, :],
        total,
        mask=inside[:, None] & (d < DIM)[None, :],
    )


def score_backward(
    grad: Tensor, answers: Tensor, queries: Side, documents: Side, *, normalize: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``reference.score_backward``, which also takes what is coded or float64.

    Memory: float32 gradients of both sides, and the answers once more.
    """
    asked, given = queries.tokens, documents.tokens
    if (
        not isinstance(asked, Tensor)
        or not isinstance(given, Tensor)
        or torch.float64 in (asked.dtype, given.dtype)
        or not (asked.numel() and given.numel() and grad.numel())
    ):
        return reference.score_backward(grad, answers, queries, documents, normalize=normalize)
    left = _Linked(asked.contiguous(), queries, normalize)
    right = _Linked(given.contiguous(), documents, normalize)
    grad = grad.float()
    of_queries = torch.empty_like(left.tokens, dtype=torch.float32)
    of_documents = torch.empty_like(right.tokens, dtype=torch.float32)
    dim = queries.dim
    width = max(16, min(triton.next_power_of_2(dim), 128))
    parts = triton.cdiv(dim, width)
    chosen = tile(
        "maxsim.spread_queries/bfloat16"
        if asked.dtype == torch.bfloat16
        else "maxsim.spread_queries/float32",
        architecture=architecture_of(grad.device),
        bucket="any",
    )
    gather = tile(
        "maxsim.gather_answers/any", architecture=architecture_of(grad.device), bucket="any"
    )
    with on(grad.device):
        gather_answers[(len(left.tokens), parts)](
            grad.contiguous(),
            answers.contiguous(),
            left.owner,
            right.tokens,
            right.factor,
            right.offsets,
            of_queries,
            len(right.offsets) - 1,
            dim,
            LINKS=gather.blocks["LINKS"],
            BLOCK_DIM=width,
            num_warps=gather.warps,
            num_stages=gather.stages,
        )
        rows = chosen.blocks["ROWS"]
        lines = grad.T.contiguous()
        spread_queries[(triton.cdiv(len(right.tokens), rows), parts)](
            lines,
            answers.T.contiguous(),
            left.owner,
            left.tokens,
            left.factor,
            right.owner,
            right.offsets,
            of_documents,
            len(right.tokens),
            len(left.tokens),
            lines.stride(0),
            DIM=dim,
            ROWS=rows,
            LINKS=chosen.blocks["LINKS"],
            BLOCK_DIM=width,
            num_warps=chosen.warps,
            num_stages=chosen.stages,
        )
    first, third = left.gradients(of_queries)
    second, fourth = right.gradients(of_documents)
    return first, second, third, fourth


class _Linked:
    """Tokens of one side, and what the other side's gradient multiplies them by."""

    def __init__(self, tokens: Tensor, side: Side, normalize: bool) -> None:
        weight = side.weight
        self.tokens, self.offsets, self.weight = tokens, side.offsets.contiguous(), weight
        self.owner = side.owners
        self.inverse: Tensor | None = None
        if normalize:
            length = torch.linalg.vector_norm(tokens, dim=1, dtype=torch.float32)
            self.inverse = 1 / length.clamp_min(1e-12)
        factor = None if weight is None else weight.float().contiguous()
        if self.inverse is not None:
            factor = self.inverse if factor is None else factor * self.inverse
        self.factor = factor

    def gradients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens and of weights, from the gradient of normalised tokens before their weight."""
        tokens, inverse = self.tokens, self.inverse
        of_weight = total.new_empty(0)
        if self.weight is not None:
            along = torch.linalg.vecdot(tokens.float(), total)
            of_weight = (along if inverse is None else along * inverse).to(self.weight.dtype)
            total = total * self.weight.float()[:, None]
        if inverse is not None:
            along = torch.linalg.vecdot(tokens.float(), total)
            # Below the smallest norm the divisor is a constant.
            along = torch.where(inverse < 1e12, along * inverse.square(), 0)
            total = inverse[:, None] * (total - tokens * along[:, None])
        return total.to(tokens.dtype), of_weight

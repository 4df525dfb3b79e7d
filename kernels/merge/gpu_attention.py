"""The Triton kernel of proportional attention."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def attention_kernel(
    query,
    key,
    value,
    sizes,
    out,
    query_batch,
    query_head,
    query_row,
    key_batch,
    key_head,
    key_row,
    value_batch,
    value_head,
    value_row,
    heads,
    queries,
    keys,
    blocks,
    dim,
    scale,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A block of queries of one head against all keys, softmax on the way; logits to base 2."""
    block, pair = tl.program_id(0) % blocks, (tl.program_id(0) // blocks).to(tl.int64)
    batch, head = pair // heads, pair % heads
    i, depth = block * QUERIES + tl.arange(0, QUERIES), tl.arange(0, DIM)
    inside = (i < queries)[:, None] & (depth < dim)[None, :]
    rows = i.to(tl.int64)[:, None]
    q = tl.load(
        query + batch * query_batch + head * query_head + rows * query_row + depth[None, :],
        mask=inside,
        other=0,
    )
    key += batch * key_batch + head * key_head
    value += batch * value_batch + head * value_head
    largest = tl.full((QUERIES,), float("-inf"), tl.float32)
    norm = tl.zeros((QUERIES,), tl.float32)
    sums = tl.zeros((QUERIES, DIM), tl.float32)
    for low in range(0, keys, KEYS):
        j = low + tl.arange(0, KEYS)
        real = (j < keys)[:, None] & (depth < dim)[None, :]
        at = j.to(tl.int64)[:, None]
        k = tl.load(key + at * key_row + depth[None, :], mask=real, other=0)
        v = tl.load(value + at * value_row + depth[None, :], mask=real, other=0)
        # A key past the end has size 0, that is logit -inf.
        size = tl.load(sizes + batch * keys + j, mask=j < keys, other=0)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        logits += tl.log2(size.to(tl.float32))[None, :]
        grown = tl.maximum(largest, tl.max(logits, 1))
        at_most = tl.where(grown == float("-inf"), 0.0, grown)
        weights = tl.exp2(logits - at_most[:, None])
        shrink = tl.exp2(largest - at_most)
        norm = norm * shrink + tl.sum(weights, 1)
        sums = sums * shrink[:, None]
        sums = tl.dot(weights.to(v.dtype), v, sums, input_precision=PRECISION)
        largest = grown
    sums = sums / tl.where(norm > 0, norm, 1.0)[:, None]
    tl.store(
        out + (pair * queries + i.to(tl.int64)[:, None]) * dim + depth[None, :],
        sums.to(out.dtype.element_ty),
        mask=inside,
    )

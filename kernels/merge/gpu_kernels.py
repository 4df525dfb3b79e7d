"""Triton kernels that match tokens and work out where each goes.

Documents lie packed behind each other; ``placement.py`` tells the rules. A program takes one block
of one document, its number being ``document * blocks + block`` with as many blocks as the longest
document needs, so that shorter ones leave early.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _document(offsets, targets, blocks, protected):
    """The document of this program: number, block, start, length, kept, counts of A and B."""
    document = tl.program_id(0) // blocks
    start = tl.load(offsets + document)
    length = tl.load(offsets + document + 1) - start
    target = tl.load(targets + document)
    kept = tl.load(targets + document + 1) - target
    first_a = protected + protected % 2
    first_b = protected + 1 - protected % 2
    count_a = (tl.maximum(length - first_a + 1, 0) // 2).to(tl.int32)
    count_b = (tl.maximum(length - first_b + 1, 0) // 2).to(tl.int32)
    return start, length, target, kept, first_a, first_b, count_a, count_b


@triton.jit(do_not_specialize=["blocks", "protected"])
def match_kernel(
    metric,
    offsets,
    targets,
    values,
    partners,
    blocks,
    protected,
    dim,
    A: tl.constexpr,
    B: tl.constexpr,
    DIM: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Every token of A: the largest cosine with one of B, and which. No similarity is stored."""
    start, length, _, kept, first_a, first_b, count_a, count_b = _document(
        offsets, targets, blocks, protected
    )
    i = (tl.program_id(0) % blocks) * A + tl.arange(0, A)
    if (tl.program_id(0) % blocks) * A >= count_a or kept == length:
        return
    depth = tl.arange(0, DIM)
    rows_a = metric + (start + first_a + 2 * i.to(tl.int64)) * dim
    real_a = i < count_a
    squares_a = tl.zeros((A,), tl.float32)
    if WHOLE:
        inside = real_a[:, None] & (depth < dim)[None, :]
        a = tl.load(rows_a[:, None] + depth[None, :], mask=inside, other=0)
        squares_a += tl.sum(a.to(tl.float32) * a.to(tl.float32), 1)

    best = tl.full((A,), float("-inf"), tl.float32)
    partner = tl.zeros((A,), tl.int32)
    for low_b in range(0, count_b, B):
        j = low_b + tl.arange(0, B)
        real_b = j < count_b
        rows_b = metric + (start + first_b + 2 * j.to(tl.int64)) * dim
        products = tl.zeros((A, B), tl.float32)
        squares_b = tl.zeros((B,), tl.float32)
        if WHOLE:
            b = tl.load(
                rows_b[:, None] + depth[None, :],
                mask=real_b[:, None] & (depth < dim)[None, :],
                other=0,
            )
            squares_b += tl.sum(b.to(tl.float32) * b.to(tl.float32), 1)
            products = tl.dot(a, tl.trans(b), products, input_precision=PRECISION)
        else:
            for low in range(0, dim, DIM):
                inside = (low + depth < dim)[None, :]
                part = tl.load(
                    rows_a[:, None] + low + depth[None, :], mask=real_a[:, None] & inside, other=0
                )
                b = tl.load(
                    rows_b[:, None] + low + depth[None, :], mask=real_b[:, None] & inside, other=0
                )
                squares_b += tl.sum(b.to(tl.float32) * b.to(tl.float32), 1)
                # A passes by once for every block of B; its norms are taken the first time.
                again = tl.sum(part.to(tl.float32) * part.to(tl.float32), 1)
                squares_a += tl.where(low_b == 0, again, 0)
                products = tl.dot(part, tl.trans(b), products, input_precision=PRECISION)
        cosines = products / tl.sqrt(tl.maximum(squares_b, 1.2e-38))[None, :]
        # A token that is not a number is nobody's partner.
        usable = real_b[None, :] & (cosines == cosines)
        cosines = tl.where(usable, cosines, float("-inf"))
        top, where = tl.max(cosines, 1, return_indices=True)
        partner = tl.where(top > best, low_b + where, partner)
        best = tl.maximum(top, best)
    best = best / tl.sqrt(tl.maximum(squares_a, 1.2e-38))
    best = tl.where(best == best, best, float("-inf"))
    tl.store(values + start + i, best, mask=real_a)
    tl.store(partners + start + i, partner, mask=real_a)


@triton.jit(do_not_specialize=["blocks", "protected"])
def rank_kernel(values, partners, offsets, targets, picks, blocks, protected, BLOCK: tl.constexpr):
    """The partner of every token of A that merges, -1 of every other.

    A token's rank is the number of those before it: larger, or equal and at a lower place. Counting
    is stable and the same in every run, and at these lengths cheaper than sorting.
    """
    start, length, _, kept, _, _, count_a, _ = _document(offsets, targets, blocks, protected)
    i = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    if (tl.program_id(0) % blocks) * BLOCK >= count_a or kept == length:
        return
    real = i < count_a
    mine = tl.load(values + start + i, mask=real, other=0)
    rank = tl.zeros((BLOCK,), tl.int32)
    for low in range(0, count_a, BLOCK):
        k = low + tl.arange(0, BLOCK)
        other = tl.load(values + start + k, mask=k < count_a, other=0)
        ahead = other[None, :] > mine[:, None]
        ahead |= (other[None, :] == mine[:, None]) & (k[None, :] < i[:, None])
        rank += tl.sum((ahead & (k < count_a)[None, :]).to(tl.int32), 1)
    partner = tl.load(partners + start + i, mask=real, other=0)
    tl.store(picks + start + i, tl.where(rank < length - kept, partner, -1), mask=real)


@triton.jit(do_not_specialize=["blocks", "protected", "inputs", "outputs"])
def place_kernel(
    picks,
    offsets,
    targets,
    source,
    order,
    starts,
    blocks,
    protected,
    inputs,
    outputs,
    BLOCK: tl.constexpr,
):
    """The output of every token, and the tokens of every output in the order of the inputs."""
    start, length, target, kept, first_a, first_b, count_a, count_b = _document(
        offsets, targets, blocks, protected
    )
    if tl.program_id(0) == 0:
        tl.store(starts + outputs, inputs)
    i = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    if (tl.program_id(0) % blocks) * BLOCK >= length:
        return
    merges = kept < length
    place_a, place_b = first_a + 2 * i, first_b + 2 * i
    real_a, real_b = i < count_a, i < count_b
    # This block holds token i of A and token i of B. Count what stands before each.
    pick = tl.load(picks + start + i, mask=real_a & merges, other=-1)
    left = tl.zeros((BLOCK,), tl.int32)  # of A, not merged, before i
    taken_a = tl.zeros((BLOCK,), tl.int32)  # merged: into a lower partner, or into i's before i
    lower_b = tl.zeros((BLOCK,), tl.int32)  # merged into a lower one than i of B
    taken_b = tl.zeros((BLOCK,), tl.int32)  # merged into i of B from places before it
    for low in range(0, count_a, BLOCK):
        k = low + tl.arange(0, BLOCK)
        other = tl.load(picks + start + k, mask=(k < count_a) & merges, other=-1)
        before = k[None, :] < i[:, None]
        stays = (other < 0)[None, :]
        left += tl.sum((before & stays).to(tl.int32), 1)
        same = (other[None, :] == pick[:, None]) & before
        taken_a += tl.sum(((same | (other[None, :] < pick[:, None])) & ~stays).to(tl.int32), 1)
        lower_b += tl.sum(((other[None, :] < i[:, None]) & ~stays).to(tl.int32), 1)
        earlier = (first_a + 2 * k)[None, :] < place_b[:, None]
        taken_b += tl.sum(((other[None, :] == i[:, None]) & earlier).to(tl.int32), 1)

    heads = tl.minimum(protected, length)
    base = heads + count_a - (length - kept)  # B begins here, among outputs
    joins = pick >= 0
    # A token that joins stands behind its partner if that is at an earlier place.
    behind = (first_b + 2 * pick < place_a).to(tl.int32)
    out_a = tl.where(joins, base + pick, heads + left)
    slot_a = tl.where(joins, base + pick + taken_a + behind, heads + left)
    out_b, first_slot_b = base + i, base + i + lower_b
    out_a, slot_a = tl.where(merges, out_a, place_a), tl.where(merges, slot_a, place_a)
    out_b = tl.where(merges, out_b, place_b)
    first_slot_b = tl.where(merges, first_slot_b, place_b)

    tl.store(source + start + place_a, target + out_a, mask=real_a)
    tl.store(order + start + slot_a, start + place_a, mask=real_a)
    tl.store(starts + target + out_a, start + slot_a, mask=real_a & ~joins)
    tl.store(source + start + place_b, target + out_b, mask=real_b)
    tl.store(order + start + first_slot_b + taken_b, start + place_b, mask=real_b)
    tl.store(starts + target + out_b, start + first_slot_b, mask=real_b)
    head = i < heads
    tl.store(source + start + i, target + i, mask=head)
    tl.store(order + start + i, start + i, mask=head)
    tl.store(starts + target + i, start + i, mask=head)


@triton.jit(do_not_specialize=["outputs"])
def average_kernel(
    tokens,
    sizes,
    order,
    starts,
    means,
    totals,
    outputs,
    channels,
    chunks,
    WEIGHTED: tl.constexpr,
    WIDE: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """A block of outputs and channels: gathers and sums in the order of the inputs, no atomics."""
    chunk = tl.program_id(0) % chunks
    o = (tl.program_id(0) // chunks).to(tl.int64) * OUTPUTS + tl.arange(0, OUTPUTS)
    c = chunk * CHANNELS + tl.arange(0, CHANNELS)
    real = o < outputs
    first = tl.load(starts + o, mask=real, other=0)
    count = tl.load(starts + o + 1, mask=real, other=0) - first
    most = tl.max(count, 0)
    total = tl.zeros((OUTPUTS,), WIDE)
    for k in range(most):
        member = tl.load(order + first + k, mask=k < count, other=0)
        total += tl.load(sizes + member, mask=k < count, other=0).to(WIDE)
    sums = tl.zeros((OUTPUTS, CHANNELS), WIDE)
    for k in range(most):
        member = tl.load(order + first + k, mask=k < count, other=0)
        rows = tl.load(
            tokens + member[:, None] * channels + c[None, :],
            mask=(k < count)[:, None] & (c < channels)[None, :],
            other=0,
        )
        share = 1.0 / tl.maximum(count, 1).to(WIDE)
        if WEIGHTED:
            size = tl.load(sizes + member, mask=k < count, other=0).to(WIDE)
            share = tl.where(total > 0, size / tl.where(total > 0, total, 1), share)
        # One member's share is exactly one: a token alone keeps its bits.
        share = tl.where(count == 1, 1.0, share)
        sums += tl.where((k < count)[:, None], share[:, None] * rows.to(WIDE), 0)
    inside = real[:, None] & (c < channels)[None, :]
    tl.store(
        means + o[:, None] * channels + c[None, :],
        sums.to(means.dtype.element_ty),
        mask=inside,
    )
    tl.store(totals + o, total.to(totals.dtype.element_ty), mask=real & (chunk == 0))


@triton.jit(do_not_specialize=["heads", "queries", "keys", "blocks"])
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

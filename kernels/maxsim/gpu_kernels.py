"""MaxSim's forward kernels in Triton: the maximum over a document's tokens stays in registers.

Document tokens are the rows of the tensor-core product (64 or more, which the warp-group
instructions of sm_90 and sm_100 need), packed query tokens its columns, several short queries in
one tile. Rows past a document's end read its last token again: a repeated row changes no maximum,
so no tile is masked.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(x, q, total):
    """x @ q + total in q's dtype; float32 as three TF32 products, which keep 22 bits."""
    if q.dtype == tl.float32:
        total = tl.dot(x.to(q.dtype), q, total, input_precision="tf32x3")
    else:
        # Triton before 3.8 takes float32 for the type of every product unless it is told.
        total = tl.dot(x.to(q.dtype), q, total, out_dtype=total.dtype)
    return total


@triton.jit
def fold_rows(scores, HELD: tl.constexpr):
    """The maximum over the rows that one thread holds: (TOKENS, Q) -> (32, Q), if HELD is 32.

    In the layout of a tensor-core result with four warps a thread holds rows 8 and 64 apart, so
    this costs no exchange and frees the registers that a running (TOKENS, Q) would take.
    """
    tokens: tl.constexpr = scores.shape[0]
    columns: tl.constexpr = scores.shape[1]
    if HELD == 32:
        split = tl.reshape(scores, (tokens // 64, 4, 2, 8, columns))
        folded = tl.reshape(tl.max(tl.max(split, 2), 0), (32, columns))
    else:
        folded = scores
    return folded


@triton.jit
def query_tile(queries, rows, first, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    """Dimensions from ``first`` on of query tokens, as columns: (BLOCK_DIM, QUERIES)."""
    d = first + tl.arange(0, BLOCK_DIM)
    return tl.load(queries + rows[None, :] * DIM + d[:, None], mask=(d < DIM)[:, None], other=0)


@triton.jit
def token_maxima(
    queries,
    rows,
    tokens,
    token_scale,
    begin,
    end,
    DIM: tl.constexpr,
    NORMALIZE: tl.constexpr,
    PLACES: tl.constexpr,
    TOKENS: tl.constexpr,
    QUERIES: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    FOLD: tl.constexpr,
):
    """The best score of each query token over document tokens begin..end, and where.

    Args:
        rows: (QUERIES,) the tokens' rows in ``queries``.
        tokens: (sum L, DIM).

    Returns:
        ``(best, place)``: (QUERIES,) float32, and (QUERIES,) int32 counted from ``begin``, the
        lower of equals, if PLACES.
    """
    HELD: tl.constexpr = TOKENS if PLACES or not FOLD else 32
    TOTAL: tl.constexpr = tl.int32 if queries.dtype.element_ty == tl.int8 else tl.float32
    # A whole number below 2^22 added to the bits of 1.5 * 2^23 is that float32 plus the number:
    # a conversion that does not wait for the few units that convert.
    SHIFTED: tl.constexpr = queries.dtype.element_ty == tl.int8 and DIM <= 256
    START: tl.constexpr = 0x4B400000 if SHIFTED else 0
    WHOLE: tl.constexpr = DIM <= BLOCK_DIM
    running = tl.full((HELD, QUERIES), float("-inf"), tl.float32)
    place = tl.zeros((HELD, QUERIES), tl.int32)
    d = tl.arange(0, BLOCK_DIM)
    if WHOLE:
        q = query_tile(queries, rows, 0, DIM, BLOCK_DIM)
    for start in tl.range(begin, end, TOKENS):
        row = tl.minimum(start + tl.arange(0, TOKENS), end - 1)
        line = tokens + row[:, None] * DIM + d[None, :]
        total = tl.full((TOKENS, QUERIES), START, TOTAL)
        squares = tl.zeros((TOKENS,), tl.float32)
        if WHOLE:
            x = tl.load(line, mask=(d < DIM)[None, :], other=0)
            total = product(x, q, total)
            if NORMALIZE:
                squares += tl.sum(x.to(tl.float32) * x.to(tl.float32), 1)
        else:
            for at in tl.range(0, DIM, BLOCK_DIM):
                x = tl.load(line + at, mask=(at + d < DIM)[None, :], other=0)
                total = product(x, query_tile(queries, rows, at, DIM, BLOCK_DIM), total)
                if NORMALIZE:
                    squares += tl.sum(x.to(tl.float32) * x.to(tl.float32), 1)
        if SHIFTED:
            scores = total.to(tl.float32, bitcast=True) - 12582912.0
        else:
            scores = total.to(tl.float32)
        if token_scale is not None:
            scale = tl.load(token_scale + row)
            if NORMALIZE:
                scale /= tl.maximum(tl.sqrt(squares), 1e-12)
            scores *= scale[:, None]
        elif NORMALIZE:
            scores *= (1.0 / tl.maximum(tl.sqrt(squares), 1e-12))[:, None]
        if PLACES:
            place = tl.where(scores > running, (start - begin).to(tl.int32), place)
        running = tl.maximum(running, fold_rows(scores, HELD))
    best = tl.max(running, 0)
    found = tl.zeros((QUERIES,), tl.int32)
    if PLACES:
        # Rows past the end repeat the last token, hence the minimum.
        at = tl.minimum(place + tl.arange(0, HELD)[:, None], (end - begin - 1).to(tl.int32))
        found = tl.min(tl.where(running == best[None, :], at, 2147483647), 0)
    return best, found


@triton.jit(
    do_not_specialize=[
        "allowed_stride",
        "out_stride",
        "partial_stride",
        "places_stride",
        "query_tokens",
        "tiles",
        "first_document",
    ]
)
def score_grid(
    queries,
    query_weight,
    query_of,
    query_offsets,
    tokens,
    token_scale,
    document_offsets,
    allowed,
    allowed_stride,
    out,
    out_stride,
    partial,
    partial_stride,
    places,
    places_stride,
    query_tokens,
    tiles,
    first_document,
    DIM: tl.constexpr,
    NORMALIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    QUERIES: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    FOLD: tl.constexpr,
):
    """One document against QUERIES packed query tokens, whichever queries they belong to.

    A query that lies inside the tile has its score written to ``out``; of one that goes over the
    tile's edge the tile's share goes to line ``tile + query`` of ``partial``, a number that no
    other pair of tile and query has. An empty document's share is -inf. The tiles of one document
    run side by side, so that the second one finds its tokens in the L2 cache.
    """
    # Not by `%`: ptxas then takes 38 registers more for int8 on sm_80, and a block less fits.
    tile = tl.program_id(0) - tl.program_id(0) // tiles * tiles
    column = (tl.program_id(0) // tiles).to(tl.int64)
    document = first_document + column
    start = tile.to(tl.int64) * QUERIES
    token = start + tl.arange(0, QUERIES)
    inside = token < query_tokens
    rows = tl.minimum(token, query_tokens - 1)
    owner = tl.load(query_of + rows).to(tl.int64)
    first, last = tl.min(owner), tl.max(owner)
    begin = tl.load(document_offsets + document)
    end = tl.load(document_offsets + document + 1)
    empty = begin == end
    if allowed is not None:
        bits = tl.load(allowed + owner * allowed_stride + document // 8)
        end = tl.where(tl.max((bits >> (document % 8).to(tl.uint8)) & 1) > 0, end, begin)
    if begin < end:
        best, found = token_maxima(
            queries, rows, tokens, token_scale, begin, end,
            DIM, NORMALIZE, places is not None, TOKENS, QUERIES, BLOCK_DIM, FOLD,
        )  # fmt: skip
        if places is not None:
            tl.store(places + token * places_stride + column, found, mask=inside)
        if query_weight is not None:
            best *= tl.load(query_weight + rows)
        for query in tl.range(first, last + 1):
            share = tl.sum(tl.where(inside & (owner == query), best, 0.0))
            query_begin = tl.load(query_offsets + query)
            query_end = tl.load(query_offsets + query + 1)
            if (query_begin >= start) & (query_end <= start + QUERIES):
                tl.store(out + query * out_stride + column, share)
            else:
                tl.store(partial + (tile + query) * partial_stride + column, share)
    elif empty:
        whole = tl.load(query_offsets + owner) >= start
        whole &= tl.load(query_offsets + owner + 1) <= start + QUERIES
        tl.store(out + owner * out_stride + column, float("-inf"), mask=inside & whole)
        line = partial + (tile + owner) * partial_stride
        tl.store(line + column, float("-inf"), mask=inside & (whole == 0))


@triton.jit(do_not_specialize=["partial_stride", "out_stride", "documents"])
def join_shares(
    query_offsets,
    partial,
    partial_stride,
    out,
    out_stride,
    documents,
    QUERIES: tl.constexpr,
    DOCUMENTS: tl.constexpr,
):
    """The scores of a query that more than one tile of :func:`score_grid` had a share in."""
    query = tl.program_id(0).to(tl.int64)
    begin = tl.load(query_offsets + query)
    end = tl.load(query_offsets + query + 1)
    first, last = begin // QUERIES, (end - 1) // QUERIES
    if first < last:
        column = tl.program_id(1).to(tl.int64) * DOCUMENTS + tl.arange(0, DOCUMENTS)
        inside = column < documents
        total = tl.zeros((DOCUMENTS,), tl.float32)
        for tile in tl.range(first, last + 1):
            line = partial + (tile + query) * partial_stride
            total += tl.load(line + column, mask=inside, other=0.0)
        tl.store(out + query * out_stride + column, total, mask=inside)


@triton.jit
def score_each_pair(
    pairs,
    queries,
    query_weight,
    query_offsets,
    tokens,
    token_scale,
    document_offsets,
    out,
    places,
    places_offsets,
    DIM: tl.constexpr,
    NORMALIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    QUERIES: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    FOLD: tl.constexpr,
):
    """One query against one document a program."""
    pair = tl.program_id(0).to(tl.int64)
    if pairs is not None:
        query = tl.load(pairs + 2 * pair)
        document = tl.load(pairs + 2 * pair + 1)
    else:
        query = pair
        document = pair
    query_begin = tl.load(query_offsets + query)
    query_end = tl.load(query_offsets + query + 1)
    begin = tl.load(document_offsets + document)
    end = tl.load(document_offsets + document + 1)
    total = 0.0
    if begin < end:
        for start in tl.range(query_begin, query_end, QUERIES):
            token = start + tl.arange(0, QUERIES)
            rows = tl.minimum(token, query_end - 1)
            best, found = token_maxima(
                queries, rows, tokens, token_scale, begin, end,
                DIM, NORMALIZE, places is not None, TOKENS, QUERIES, BLOCK_DIM, FOLD,
            )  # fmt: skip
            if places is not None:
                line = places + tl.load(places_offsets + pair) + token - query_begin
                tl.store(line, found, mask=token < query_end)
            if query_weight is not None:
                best *= tl.load(query_weight + rows)
            total += tl.sum(tl.where(token < query_end, best, 0.0))
    elif query_begin < query_end:
        total = float("-inf")
    tl.store(out + pair, total)

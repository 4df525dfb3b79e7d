"""Similarity's kernels in Triton.

A search is screened: the best score of every block of rows, by a product on the tensor cores whose
result never leaves the registers; then the rows of the best blocks are scored once more, exactly.
Database rows are the rows of the product (64 or more, which the warp-group instructions of sm_90
and sm_100 need), queries its columns.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(
    do_not_specialize=["allowed_stride", "out_stride", "first_row", "rows", "count", "tiles"]
)
def block_maxima(
    queries,
    rest,
    database,
    scale,
    allowed,
    allowed_stride,
    out,
    out_stride,
    first_row,
    rows,
    count,
    tiles,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    QUERIES: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """out[q, b] = the largest score of query q among rows first_row + BLOCK * b ..., -inf if none.

    A query is the sum of ``queries`` and ``rest``, which together hold its float32 to 16 bits or
    more. The tiles of queries run side by side, so that all but the first find their database
    rows in the L2 cache. Where no row of a tile is allowed, none is read.

    Args:
        rest: None where ``queries`` holds the whole number.
        database: (N, DIM).
        allowed: bitmap, a line a query or, with a stride of 0, one line.
        rows: N; ``count``: of queries; ``tiles``: of queries.
    """
    tile = tl.program_id(0) % tiles
    strip = (tl.program_id(0) // tiles).to(tl.int64)
    query = tile * QUERIES + tl.arange(0, QUERIES)
    known = query < count
    line = tl.minimum(query, count - 1).to(tl.int64)
    row = first_row + strip * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    # Rows past the end are read as the last one and forbidden.
    held = tl.minimum(row, rows - 1)
    if allowed is not None:
        # A byte holds 8 rows, and first_row is a multiple of 8.
        byte = (first_row + strip * ROWS) // 8 + tl.arange(0, ROWS // 8).to(tl.int64)
        bits = tl.load(
            allowed + line[None, :] * allowed_stride + byte[:, None],
            mask=(byte * 8 < rows)[:, None],
            other=0,
        ).to(tl.int32)
        depth = tl.where(tl.max(tl.max(bits, 1), 0) > 0, DIM, 0)
    else:
        depth = DIM
    d = tl.arange(0, BLOCK_DIM)
    scores = tl.zeros((ROWS, QUERIES), tl.float32)
    for at in tl.range(0, depth, BLOCK_DIM):
        there = at + d < DIM
        x = tl.load(
            database + held[:, None] * DIM + (at + d)[None, :], mask=there[None, :], other=0
        ).to(queries.dtype.element_ty)
        place = line[None, :] * DIM + (at + d)[:, None]
        q = tl.load(queries + place, mask=there[:, None], other=0)
        if rest is None:
            scores = tl.dot(x, q, scores, input_precision="tf32x3")
        else:
            scores = tl.dot(x, q, scores)
            scores = tl.dot(x, tl.load(rest + place, mask=there[:, None], other=0), scores)
    if scale is not None:
        scores *= tl.load(scale + held)[:, None]
    scores = tl.where(inside[:, None], scores, float("-inf"))
    if allowed is not None:
        octets = tl.reshape(scores, (ROWS // 8, 8, QUERIES))
        keep = (bits[:, None, :] >> tl.arange(0, 8)[None, :, None]) & 1
        scores = tl.reshape(tl.where(keep > 0, octets, float("-inf")), (ROWS, QUERIES))
    best = tl.max(tl.reshape(scores, (ROWS // BLOCK, BLOCK, QUERIES)), 1)
    block = strip * (ROWS // BLOCK) + tl.arange(0, ROWS // BLOCK)
    tl.store(
        out + line[None, :] * out_stride + block[:, None],
        best,
        mask=known[None, :] & (first_row + block * BLOCK < rows)[:, None],
    )


@triton.jit(do_not_specialize=["allowed_stride", "rows", "width", "parts"])
def score_rows(
    queries,
    database,
    scale,
    allowed,
    allowed_stride,
    query_of,
    chosen,
    out,
    rows,
    dim,
    width,
    parts,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Exact float32 scores of some rows, the products of a row added in one order.

    Args:
        query_of: (P,) int32, the query of each line of ``chosen`` and ``out``.
        chosen: (P, width / BLOCK) int64: the blocks to score, -1 for none; BLOCK 1: rows.
        out: (P, width) float32; -inf where there is no row, or a forbidden one.
    """
    pair = (tl.program_id(0) // parts).to(tl.int64)
    column = tl.program_id(0) % parts * ROWS + tl.arange(0, ROWS)
    there = column < width
    query = tl.load(query_of + pair).to(tl.int64)
    block = tl.load(chosen + pair * (width // BLOCK) + column // BLOCK, mask=there, other=-1)
    row = block * BLOCK + column % BLOCK
    inside = there & (block >= 0) & (row < rows)
    if allowed is not None:
        byte = tl.load(allowed + query * allowed_stride + row // 8, mask=inside, other=0)
        inside &= ((byte.to(tl.int32) >> (row % 8).to(tl.int32)) & 1) > 0
    total = tl.zeros((ROWS,), tl.float32)
    for at in tl.range(0, dim, BLOCK_DIM):
        d = at + tl.arange(0, BLOCK_DIM)
        q = tl.load(queries + query * dim + d, mask=d < dim, other=0).to(tl.float32)
        both = inside[:, None] & (d < dim)[None, :]
        line = database + row[:, None] * dim + d[None, :]
        x = tl.load(line, mask=both, other=0).to(tl.float32)
        total += tl.sum(x * q[None, :], 1)
    if scale is not None:
        total *= tl.load(scale + row, mask=inside, other=0)
    tl.store(out + pair * width + column, tl.where(inside, total, float("-inf")), mask=there)

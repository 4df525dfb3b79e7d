"""The Triton kernels of fixed-dimensional encodings; gpu.py launches them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count"])
def patterns(
    tokens,
    planes,
    found,
    count,
    repetitions,
    columns,
    D: tl.constexpr,
    BITS: tl.constexpr,
    K_SIM: tl.constexpr,
    K_COLUMNS: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DIM: tl.constexpr,
):
    """Sign patterns: found (repetitions, count) int32.

    tokens (count, D); planes (D, columns) float16, K_COLUMNS columns a repetition, the first K_SIM
    of them planes and the rest zero. See simhash.py for why integers, and which.
    """
    rows = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    own = tokens + rows[:, None] * D
    largest = tl.zeros((TOKENS,), dtype=tl.float32)
    for start in range(0, D, DIM):
        at = start + tl.arange(0, DIM)
        inside = (rows[:, None] < count) & (at[None, :] < D)
        part = tl.load(own + at[None, :], mask=inside, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.max(tl.abs(part), axis=1))
    exponent = tl.maximum((largest.to(tl.int32, bitcast=True) >> 23) - 127, -115)
    power = ((126 + BITS - exponent) << 23).to(tl.float32, bitcast=True)
    sides = tl.zeros((TOKENS, COLUMNS), dtype=tl.float32)
    for start in range(0, D, DIM):
        at = start + tl.arange(0, DIM)
        inside = (rows[:, None] < count) & (at[None, :] < D)
        part = tl.load(own + at[None, :], mask=inside, other=0.0).to(tl.float32)
        integers = tl.floor(part * power[:, None] + 0.5).to(tl.float16)
        normals = tl.load(
            planes + at[:, None].to(tl.int64) * columns + column[None, :],
            mask=(at[:, None] < D) & (column[None, :] < columns),
            other=0.0,
        )
        sides = tl.dot(integers, normals, sides)
    plane = tl.arange(0, K_COLUMNS)
    weights = tl.where(plane < K_SIM, 1 << tl.maximum(K_SIM - 1 - plane, 0), 0)
    bits = tl.reshape((sides > 0).to(tl.int32), (TOKENS, COLUMNS // K_COLUMNS, K_COLUMNS))
    codes = tl.sum(bits * weights[None, None, :], axis=2)
    repetition = tl.program_id(1) * (COLUMNS // K_COLUMNS) + tl.arange(0, COLUMNS // K_COLUMNS)
    tl.store(
        found + repetition[None, :].to(tl.int64) * count + rows[:, None],
        codes,
        mask=(rows[:, None] < count) & (repetition[None, :] < repetitions),
    )


@triton.jit(do_not_specialize=["count"])
def cells(
    tokens,
    offsets,
    weights,
    patterns,
    sources,
    signs,
    found,
    count,
    repetitions,
    dim,
    cells_all,
    cell_dim,
    depth,
    DOCUMENTS: tl.constexpr,
    FILL: tl.constexpr,
    DOUBLE: tl.constexpr,
    CELLS: tl.constexpr,
    DIMS: tl.constexpr,
):
    """Sums, or means, of the projected tokens in a block of cells.

    found (B, R, cells_all, cell_dim); tokens (count, dim); patterns (R, count) int32; sources,
    signs (R, depth, cell_dim): coordinate j of a projected token is the sum of signs[i, j] *
    token[sources[i, j]] over i. weights may be None.
    """
    document = tl.program_id(0) // repetitions
    repetition = tl.program_id(0) % repetitions
    cell = tl.program_id(1) * CELLS + tl.arange(0, CELLS)
    codes = cell ^ (cell >> 1)
    at = tl.program_id(2) * DIMS + tl.arange(0, DIMS)
    inside = at < cell_dim
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    sums = tl.zeros((CELLS, DIMS), dtype=kind)
    totals = tl.zeros((CELLS,), dtype=kind)
    distance = tl.full((CELLS,), 64, dtype=tl.int32)
    nearest = tl.zeros((CELLS,), dtype=tl.int64)
    sources += repetition.to(tl.int64) * depth * cell_dim
    signs += repetition.to(tl.int64) * depth * cell_dim
    patterns += repetition.to(tl.int64) * count
    start = tl.load(offsets + document)
    end = tl.load(offsets + document + 1)
    for token in range(start, end):
        value = tl.zeros((DIMS,), dtype=kind)
        for row in range(depth):
            source = tl.load(sources + row * cell_dim + at, mask=inside, other=0)
            sign = tl.load(signs + row * cell_dim + at, mask=inside, other=0).to(kind)
            value += sign * tl.load(tokens + token * dim + source, mask=inside, other=0.0).to(kind)
        differing = codes ^ tl.load(patterns + token)
        here = differing == 0
        weight = 1.0 if weights is None else tl.load(weights + token).to(kind)
        sums += tl.where(here[:, None], weight * value[None, :], 0.0)
        totals += tl.where(here, weight, 0.0)
        if FILL:
            # The number of ones, in parallel over ever wider fields of the word.
            ones = differing - ((differing >> 1) & 0x55555555)
            ones = (ones & 0x33333333) + ((ones >> 2) & 0x33333333)
            ones = (ones + (ones >> 4)) & 0x0F0F0F0F
            ones = (ones + (ones >> 8) + (ones >> 16) + (ones >> 24)) & 0x3F
            if weights is not None:
                ones = tl.where(weight > 0, ones, 64)  # farther than every token
            closer = ones < distance
            distance = tl.where(closer, ones, distance)
            nearest = tl.where(closer, token, nearest)
    if DOCUMENTS:
        sums = sums / tl.where(totals > 0, totals, 1.0)[:, None]
    if FILL:
        empty = (totals == 0) & (distance < 64)
        some = empty[:, None] & inside[None, :]
        filling = tl.zeros((CELLS, DIMS), dtype=kind)
        for row in range(depth):
            source = tl.load(sources + row * cell_dim + at, mask=inside, other=0)
            sign = tl.load(signs + row * cell_dim + at, mask=inside, other=0).to(kind)
            place = tokens + nearest[:, None] * dim + source[None, :]
            filling += sign[None, :] * tl.load(place, mask=some, other=0.0).to(kind)
        sums = tl.where(empty[:, None], filling, sums)
    first = tl.program_id(0).to(tl.int64) * cells_all * cell_dim
    place = found + first + cell[:, None].to(tl.int64) * cell_dim + at[None, :]
    tl.store(place, sums, mask=(cell[:, None] < cells_all) & inside[None, :])


@triton.jit
def fold(
    inner,
    sources,
    signs,
    found,
    inner_dim,
    dim,
    depth,
    DOUBLE: tl.constexpr,
    DIMS: tl.constexpr,
):
    """The final sketch: found (B, dim) float32 of inner (B, inner_dim); tables (depth, dim)."""
    document = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * DIMS + tl.arange(0, DIMS)
    inside = at < dim
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    value = tl.zeros((DIMS,), dtype=kind)
    place = at.to(tl.int64)
    for _ in range(depth):
        source = tl.load(sources + place, mask=inside, other=0)
        sign = tl.load(signs + place, mask=inside, other=0).to(kind)
        value += sign * tl.load(inner + document * inner_dim + source, mask=inside, other=0.0)
        place += dim
    tl.store(found + document * dim + at, value.to(tl.float32), mask=inside)

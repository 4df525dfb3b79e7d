// Register tiles: a few rows times 2 x LANES queries, the sums never leaving the registers.
//
// Rows stay as they lie in memory and are broadcast four bytes at a time (a float32, two bfloat16,
// four int8); queries are packed so that the same four bytes of LANES queries are one load. One
// loop therefore does for every kind of product.
#pragma once

#include "vectors.h"

namespace {

struct Float32Product {
    static constexpr int64_t kind = FLOAT32, unit = 1;
    typedef Floats Sum;
    static Sum start(int32_t) { return Sum{}; }
    static Sum add(Sum sum, Ints queries, int32_t row) {
        return sum + (Floats)queries * (Floats)splat(row);
    }
    static Floats value(Sum sum) { return sum; }
};

#ifdef HAS_BF16
struct Bfloat16Product {
    static constexpr int64_t kind = BFLOAT16, unit = 2;
    typedef Floats Sum;
    static Sum start(int32_t) { return Sum{}; }
    static Sum add(Sum sum, Ints queries, int32_t row) {
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)queries,
                                        (__m512bh)(__m512i)splat(row));
    }
    static Floats value(Sum sum) { return sum; }
};
#endif

#ifdef HAS_VNNI
// The instruction multiplies unsigned by signed: queries are packed as q + 128, and every sum
// starts lower by 128 times the sum of its row.
struct Int8Product {
    static constexpr int64_t kind = INT8, unit = 4;
    typedef Ints Sum;
    static Sum start(int32_t from) { return splat(from); }
    static Sum add(Sum sum, Ints queries, int32_t row) {
        return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)queries, (__m512i)splat(row));
    }
    static Floats value(Sum sum) { return __builtin_convertvector(sum, Floats); }
};
#endif

// The kind of product that rows of a kind are multiplied in without loss.
inline int64_t product_kind([[maybe_unused]] int64_t row_kind) {
#ifdef HAS_BF16
    if (row_kind == BFLOAT16) return BFLOAT16;
#endif
#ifdef HAS_VNNI
    if (row_kind == INT8) return INT8;
#endif
    return FLOAT32;
}

template <class Visit>
inline void with_product([[maybe_unused]] int64_t kind, Visit visit) {
#ifdef HAS_BF16
    if (kind == BFLOAT16) return visit(Bfloat16Product{});
#endif
#ifdef HAS_VNNI
    if (kind == INT8) return visit(Int8Product{});
#endif
    visit(Float32Product{});
}

inline int64_t steps_of(int64_t kind, int64_t dim) {
    int64_t unit = kind == INT8 ? 4 : kind == BFLOAT16 ? 2 : 1;
    return (dim + unit - 1) / unit;
}

// Queries are cut into blocks of 2 x LANES; a rest of at most LANES is a block of LANES.
inline int64_t padded(int64_t queries) { return (queries + W - 1) / W * W; }
inline int64_t block_width(int64_t queries, int64_t first) {
    return queries - first > W ? 2 * W : W;
}

// Rows in the form that a tile reads.
struct Panel {
    const uint8_t* data;
    int64_t stride;  // bytes
    int64_t count;
    int64_t base;            // number of its first row,
    const int64_t* numbers;  // unless every row's number stands here
    const float* factor;     // what a product with a row is multiplied by, or null
    const int32_t* starts;   // where the sums of a row's products start, or null: at 0
    float error, norm;       // largest rounding error and norm of a row, in the database's unit
    int64_t ahead;           // bytes from a row to what is fetched while it is multiplied
    int64_t number(int64_t row) const { return numbers ? numbers[row] : base + row; }
};

// Rows of a tile, chosen so that sums, queries and a broadcast fill the vector registers.
constexpr int TILE_ROWS = LANES == 16 ? 12 : 6;

template <class P, int R, int C>
inline void multiply(const Panel& panel, int64_t row, const uint8_t* packed, int64_t steps,
                     typename P::Sum (&total)[R][C]) {
    const int64_t stride = panel.stride;
    const uint8_t* rows = panel.data + row * stride;
    const uint8_t* ahead = rows + panel.ahead;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) total[r][c] = P::start(panel.starts ? panel.starts[row + r] : 0);
    for (int64_t step = 0; step < steps; ++step) {
        Ints queries[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) queries[c] = load<Ints>(packed + (step * C + c) * 4 * W);
        // As many bytes as a step reads of all rows: processors alone fetch rows too late.
        __builtin_prefetch(ahead + step * 4 * R);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            int32_t four;
            std::memcpy(&four, rows + r * stride + 4 * step, 4);
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) total[r][c] = P::add(total[r][c], queries[c], four);
        }
    }
}

// Running maxima: best[C x LANES] = max(best, products of R rows).
template <class P, bool PLACES>
struct MaximumTile {
    float* best;
    int32_t* places;  // PLACES: the first row, from the segment's start on, that gave the maximum
    int32_t start;    // where the panel starts in its segment
    template <int R, int C>
    void run(const Panel& panel, int64_t row, const uint8_t* packed, int64_t steps) const {
        typename P::Sum total[R][C];
        multiply<P, R, C>(panel, row, packed, steps, total);
        Floats most[C];
        Ints place[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
            most[c] = load<Floats>(best + c * W);
            if constexpr (PLACES) place[c] = load<Ints>(places + c * W);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            Floats factor = splat(panel.factor ? panel.factor[row + r] : 1.f);
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
                Floats value = P::value(total[r][c]);
                if (panel.factor) value *= factor;
                if constexpr (PLACES)
                    place[c] = value > most[c] ? splat(start + int32_t(row + r)) : place[c];
                most[c] = maximum(most[c], value);
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
            store(best + c * W, most[c]);
            if constexpr (PLACES) store(places + c * W, place[c]);
        }
    }
};

// Pairs above a limit: their row in the panel and lane in the block are appended.
struct Candidate {
    int32_t row, lane;
};
template <class P>
struct ScreenTile {
    const float* limits;
    Candidate* found;
    int64_t* count;
    template <int R, int C>
    void run(const Panel& panel, int64_t row, const uint8_t* packed, int64_t steps) const {
        typename P::Sum total[R][C];
        multiply<P, R, C>(panel, row, packed, steps, total);
        Floats limit[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) limit[c] = load<Floats>(limits + c * W);
        int64_t next = *count;
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            Floats factor = splat(panel.factor ? panel.factor[row + r] : 1.f);
            uint32_t bits = 0;
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c)
                bits |= greater(P::value(total[r][c]) * factor, limit[c]) << (c * W);
            for (; bits; bits &= bits - 1)
                found[next++] = {int32_t(row + r), int32_t(__builtin_ctz(bits))};
        }
        *count = next;
    }
};

template <class Tile, int C, int R = TILE_ROWS>
inline void run_rows(const Tile& tile, int64_t rows, const Panel& panel, int64_t row,
                     const uint8_t* packed, int64_t steps) {
    if constexpr (R > 0) {
        if (rows == R) return tile.template run<R, C>(panel, row, packed, steps);
        run_rows<Tile, C, R - 1>(tile, rows, panel, row, packed, steps);
    }
}

// All rows of a panel times a block of queries, in tiles of about equal height.
template <class Tile>
__attribute__((noinline)) void run_panel(const Tile& tile, const Panel& panel, int64_t width, const uint8_t* packed,
                      int64_t steps) {
    int64_t tiles = (panel.count + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t at = 0, row = 0; at < tiles; ++at) {
        int64_t rows = (panel.count - row) / (tiles - at);
        if (width == W)
            run_rows<Tile, 1>(tile, rows, panel, row, packed, steps);
        else
            run_rows<Tile, 2>(tile, rows, panel, row, packed, steps);
        row += rows;
    }
}

}  // namespace

// The scan of a search, and the scoring of a shortlist.
#pragma once

#include "rows.h"

namespace {

// Where more than one pair in so many stays open, a finer screen costs less than scoring them.
constexpr int64_t OPEN_SHARE = 5;
// Rows after which limits are no longer those of the first few, and over which the share is taken.
constexpr int64_t WARM_ROWS = 2048;

// Screen panels in a lower precision; only pairs that its rounding errors leave open are scored.
// Stops where a finer screen would be faster; returns the first row that is not done.
template <class P, int64_t KIND>
int64_t screen_panels(Scan& task, Best& best, int64_t first) {
    const Matrix& rows = task.rows;
    const int64_t steps = steps_of(P::kind, rows.dim);
    // Rows of a product's own kind are exact in it, but their queries are not.
    constexpr bool finest = P::kind == FLOAT32;
    PanelMemory memory(P::kind, rows.dim);
    Candidate* found = (Candidate*)std::malloc(memory.limit * 2 * W * sizeof(Candidate));
    if (!memory.ok() || !found) {
        std::free(found);
        task.failed = OUT_OF_MEMORY;
        return task.last;
    }
    Exact<KIND> exact{task, best};
    // Rounding of float32 sums, in the screen and in the exact product.
    const float slack = (rows.dim + 16) * 1.2e-7f;
    int64_t seen = best.seen, screened = 0, open = 0;
    while (first < task.last) {
        // Small panels first: a limit is as old as its panel, and the first has none.
        const int64_t limit = seen < memory.limit ? (seen < 32 ? 32 : seen) : memory.limit;
        Panel panel = next_panel<P, KIND>(rows, first, task.last, limit, true, memory);
        seen += panel.count;
        for (int64_t query = 0; query < task.count;) {
            const int64_t width = block_width(task.count, query);
            float limits[2 * W];
            for (int64_t lane = 0; lane < width; ++lane) {
                const int64_t q = query + lane;
                if (q >= task.count) {
                    limits[lane] = INFINITY;
                    continue;
                }
                // |qx - q'x'| <= |q| |x - x'| + |x'| |q - q'|
                const float bound = 1.001f * (task.query_norm[q] * panel.error +
                                              task.query_error[q] * (panel.norm + panel.error)) +
                                    slack * task.query_norm[q] * panel.norm;
                limits[lane] = (best.worst(q) - bound) / task.query_scale[q];
            }
            int64_t count = 0;
            run_panel(ScreenTile<P>{limits, found, &count}, panel, width,
                      task.packed + query * steps * 4, steps);
            open += count;
            for (int64_t at = 0; at < count; ++at)
                exact.add(query + found[at].lane, panel.number(found[at].row));
            exact.flush();
            query += width;
        }
        screened += panel.count;
        if (finest || screened < WARM_ROWS) continue;
        // Rows in random order are among the k best so far in any precision.
        const int64_t due = task.count * screened * task.k / seen;
        if (seen > WARM_ROWS && (open - due) * OPEN_SHARE > screened * task.count) break;
        screened = open = 0;
    }
    best.seen = seen;
    std::free(found);
    return first;
}

// Queries in the layout of a screen that is not the one that the task came with.
struct Repacked {
    uint8_t* memory = nullptr;
    ~Repacked() { std::free(memory); }
    bool pack(Scan& task, int64_t kind) {
        const int64_t dim = task.rows.dim, lanes = padded(task.count);
        const int64_t packed = lanes * steps_of(kind, dim) * 4;
        float* lines = (float*)std::malloc(task.count * dim * sizeof(float));
        std::free(memory);
        memory = (uint8_t*)std::malloc(packed + 3 * lanes * sizeof(float));
        if (!lines || !memory) {
            std::free(lines);
            return false;
        }
        for (int64_t query = 0; query < task.count; ++query)
            std::memcpy(lines + query * dim, task.queries + query * task.stride, 4 * dim);
        float* bounds = (float*)(memory + packed);
        Packing packing{(const uint8_t*)lines, FLOAT32, kind, task.count, dim, memory,
                        bounds, bounds + lanes, bounds + 2 * lanes};
        pack_queries(packing);
        std::free(lines);
        task.kind = kind;
        task.packed = memory;
        task.query_scale = packing.scale;
        task.query_error = packing.error;
        task.query_norm = packing.norm;
        return packing.count >= 0;
    }
};

template <int64_t KIND>
void scan_panels(Scan& task, Best& best) {
    Repacked repacked;
    for (int64_t first = task.first; first < task.last;) {
        with_product(task.kind, [&](auto product) {
            first = screen_panels<decltype(product), KIND>(task, best, first);
        });
        const int64_t finer = task.kind == INT8 ? product_kind(BFLOAT16) : FLOAT32;
        if (first < task.last && !repacked.pack(task, finer)) {
            task.failed = OUT_OF_MEMORY;
            return;
        }
    }
}

// Rows of a shortlist lie anywhere in memory: each is called for this many places ahead of its turn.
constexpr int64_t CALLED_AHEAD = 6;

// Which rows of a shortlist may belong to the answer.
#if LANES >= 8

// Products in int16 tell nearly exactly.
struct Promising {
    const Exact<INT8>& exact;
    int16_t* numbers;
    Shortened shortened{};
    bool ok;
    Promising(const Exact<INT8>& exact) : exact(exact) {
        const int64_t stride = (exact.task.rows.dim + 4 * W - 1) / (4 * W) * 4 * W;
        numbers = (int16_t*)std::calloc(stride + 1, sizeof(int16_t));
        ok = numbers;
    }
    Promising(const Promising&) = delete;
    ~Promising() { std::free(numbers); }
    void turn_to(int64_t query) {
        const Scan& task = exact.task;
        shortened = shorten(task.queries + query * task.stride, task.rows.dim, numbers);
    }
    bool operator()(int64_t query, int64_t row) const {
        const Matrix& rows = exact.task.rows;
        float score;
        products<1>(rows.data + row * exact.stored, &shortened, rows.dim, &score);
        const float scale = rows.scale ? rows.scale[row] : 1.f;
        const float most = score * scale + (shortened.bound * std::fabs(scale) + TINY);
        return !(most < exact.least(query));
    }
};

#else

struct Promising {
    bool ok = true;
    Promising(const Exact<INT8>&) {}
    void turn_to(int64_t) {}
    bool operator()(int64_t, int64_t) const { return true; }
};

#endif

inline void score_candidates(Scan& task, Best& best) {
    Exact<INT8> exact{task, best};
    Promising promising(exact);
    if (!promising.ok) {
        task.failed = OUT_OF_MEMORY;
        return;
    }
    const auto is_row = [&](int64_t row) { return row >= 0 && row < task.last; };
    const auto call = [&](int64_t row) {
        if (!is_row(row)) return;
        const uint8_t* start = task.rows.data + row * exact.stored;
        for (int64_t byte = 0; byte < exact.stored; byte += 64) __builtin_prefetch(start + byte);
        if (task.rows.scale) __builtin_prefetch(task.rows.scale + row);
    };
    const int64_t all = task.count * task.width;
    for (int64_t at = 0; at < CALLED_AHEAD && at < all; ++at) call(task.candidates[at]);
    for (int64_t at = 0; at < all; ++at) {
        const int64_t query = at / task.width, row = task.candidates[at];
        if (at % task.width == 0) promising.turn_to(query);
        if (at + CALLED_AHEAD < all) call(task.candidates[at + CALLED_AHEAD]);
        if (is_row(row) && promising(query, row)) exact.add(query, row);
    }
    exact.flush();
}

inline void scan(Scan& task) {
    int64_t* filled = (int64_t*)std::calloc(task.count + 1, sizeof(int64_t));
    if (!filled) {
        task.failed = OUT_OF_MEMORY;
        return;
    }
    Best best{task, filled};
    if (task.candidates)
        score_candidates(task, best);
    else
        with_kind(task.rows.kind, [&](auto known) {
            if (task.packed)
                scan_panels<known.kind>(task, best);
            else
                scan_rows<known.kind>(task, best);
        });
    for (int64_t query = 0; query < task.count; ++query) best.sort(query);
    std::free(filled);
}

}  // namespace

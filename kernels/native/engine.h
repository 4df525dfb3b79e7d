// The two passes over rows: maxima of segments, and the scan of a search.
//
// Included by one file an instruction set. Nothing here may have external linkage but the Engine:
// a function compiled for AVX-512 must never be the one that another file's call is linked to.
#pragma once

#include "panels.h"

extern const Engine* const ENGINE;

namespace {

template <class P, int64_t KIND>
void reduce_rows(Segments& task) {
    const Rows& rows = task.rows;
    const int64_t steps = steps_of(P::kind, rows.dim), lanes = padded(task.queries);
    PanelMemory memory(P::kind, rows.dim);
    float* best = (float*)std::malloc((lanes + W) * sizeof(float));
    if (!memory.ok() || !best) {
        std::free(best);
        task.failed = 1;
        return;
    }
    for (int64_t at = task.first; at < task.last; ++at) {
        const int64_t segment = task.segments ? task.segments[at] : at;
        int64_t first = task.offsets[segment], last = task.offsets[segment + 1];
        bool empty = true;
        for (int64_t lane = 0; lane < lanes; ++lane) best[lane] = -INFINITY;
        while (first < last) {
            Panel panel = next_panel<P, KIND>(rows, first, last, memory.limit, false, memory);
            empty = empty && panel.count == 0;
            for (int64_t query = 0; query < task.queries;) {
                const int64_t width = block_width(task.queries, query);
                run_panel(MaximumTile<P>{best + query}, panel, width,
                          task.packed + query * steps * 4, steps);
                query += width;
            }
        }
        if (!task.group_offsets) {
            std::memcpy(task.output + at * task.queries, best, task.queries * sizeof(float));
            continue;
        }
        for (int64_t group = 0; group < task.groups; ++group) {
            float total = 0;
            for (int64_t query = task.group_offsets[group];
                 !empty && query < task.group_offsets[group + 1]; ++query)
                total += task.weight ? task.weight[query] * best[query] : best[query];
            task.output[at * task.groups + group] = total;
        }
    }
    std::free(best);
}

inline void reduce(Segments& task) {
    with_product(task.kind, [&](auto product) {
        using P = decltype(product);
        with_kind(task.rows.kind, [&](auto known) {
            // Segments keep their rows' precision.
            if constexpr (known.kind == P::kind || P::kind == FLOAT32)
                reduce_rows<P, known.kind>(task);
        });
    });
}

// The best rows of each query so far: heaps, the worst on top.
struct Best {
    Scan& task;
    int64_t* filled;

    static bool worse(float a, int64_t i, float b, int64_t j) {
        return a < b || (a == b && i > j);
    }
    float worst(int64_t query) const {
        return filled[query] < task.k ? -INFINITY : task.scores[query * task.k];
    }
    void sink(int64_t query, int64_t count, float score, int64_t row) {
        float* scores = task.scores + query * task.k;
        int64_t* rows = task.indices + query * task.k;
        int64_t at = 0;
        for (;;) {
            int64_t child = 2 * at + 1;
            if (child >= count) break;
            if (child + 1 < count &&
                worse(scores[child + 1], rows[child + 1], scores[child], rows[child]))
                ++child;
            if (!worse(scores[child], rows[child], score, row)) break;
            scores[at] = scores[child];
            rows[at] = rows[child];
            at = child;
        }
        scores[at] = score;
        rows[at] = row;
    }
    void add(int64_t query, float score, int64_t row) {
        float* scores = task.scores + query * task.k;
        int64_t* rows = task.indices + query * task.k;
        if (filled[query] == task.k) {
            if (worse(scores[0], rows[0], score, row)) sink(query, task.k, score, row);
            return;
        }
        int64_t at = filled[query]++;
        for (; at > 0; at = (at - 1) / 2) {
            int64_t parent = (at - 1) / 2;
            if (!worse(score, row, scores[parent], rows[parent])) break;
            scores[at] = scores[parent];
            rows[at] = rows[parent];
        }
        scores[at] = score;
        rows[at] = row;
    }
    void sort(int64_t query) {
        float* scores = task.scores + query * task.k;
        int64_t* rows = task.indices + query * task.k;
        for (int64_t count = filled[query]; count > 1; --count) {
            float score = scores[count - 1];
            int64_t row = rows[count - 1];
            scores[count - 1] = scores[0];
            rows[count - 1] = rows[0];
            sink(query, count - 1, score, row);
        }
        for (int64_t at = filled[query]; at < task.k; ++at) {
            scores[at] = -INFINITY;
            rows[at] = -1;
        }
    }
};

// Takes pairs of a query and a row, scores them exactly and keeps those that belong to the answer.
template <int64_t KIND>
struct Exact {
    Scan& task;
    Best& best;
    int64_t stored = row_bytes(KIND, task.rows.dim);
    static constexpr int GROUP = 4;
    int64_t queries[GROUP] = {}, numbers[GROUP] = {};
    int waiting = 0;

    void keep(int64_t query, int64_t row, float score) {
        if (task.rows.scale) score *= task.rows.scale[row];
        if (task.k) return best.add(query, score, row);
        if (!(score >= task.threshold[query])) return;
        if (task.hit_count == task.hit_capacity) {
            int64_t capacity = task.hit_capacity ? 2 * task.hit_capacity : 1024;
            Hit* hits = (Hit*)std::realloc(task.hits, capacity * sizeof(Hit));
            if (!hits) {
                task.failed = 1;
                return;
            }
            task.hits = hits;
            task.hit_capacity = capacity;
        }
        task.hits[task.hit_count++] = {query, row, score, 0};
    }
    void add(int64_t query, int64_t row) {
        const Rows& rows = task.rows;
        if (rows.allowed && !is_allowed(rows.allowed + query * rows.allowed_stride, row)) return;
        queries[waiting] = query;
        numbers[waiting++] = row;
        if (waiting == GROUP) flush();
    }
    void flush() {
        // Of four pairs some may be the first again: their products are not used.
        const uint8_t* left[GROUP];
        const float* right[GROUP];
        float scores[GROUP];
        for (int n = 0; n < GROUP; ++n) {
            int from = n < waiting ? n : 0;
            left[n] = task.rows.data + numbers[from] * stored;
            right[n] = task.queries + queries[from] * task.stride;
        }
        if (waiting) dots<KIND, GROUP>(left, right, task.rows.dim, scores);
        task.rescored += waiting;
        for (int n = 0; n < waiting; ++n) keep(queries[n], numbers[n], scores[n]);
        waiting = 0;
    }
};

// Few queries: reading the rows takes longer than multiplying them, so every product is exact. Row
// after row: processors prefetch one stream of addresses better than several.
template <int64_t KIND>
void scan_exactly(Scan& task, Best& best) {
    Exact<KIND> exact{task, best};
    const Rows& rows = task.rows;
    const uint8_t* filter = rows.allowed_stride ? nullptr : rows.allowed;
    for (int64_t row = task.first; row < task.last; ++row) {
        if (filter && !is_allowed(filter, row)) continue;
        const uint8_t* left = rows.data + row * exact.stored;
        for (int64_t query = 0; query < task.count; ++query) {
            if (rows.allowed_stride && !is_allowed(rows.allowed + query * rows.allowed_stride, row))
                continue;
            const float* right = task.queries + query * task.stride;
            float score;
            dots<KIND, 1>(&left, &right, rows.dim, &score);
            exact.keep(query, row, score);
        }
        task.rescored += task.count;
    }
}

// Screen panels in a lower precision; only pairs that its rounding errors leave open are scored.
template <class P, int64_t KIND>
void scan_screened(Scan& task, Best& best) {
    const Rows& rows = task.rows;
    const int64_t steps = steps_of(P::kind, rows.dim);
    PanelMemory memory(P::kind, rows.dim);
    Candidate* found = (Candidate*)std::malloc(memory.limit * 2 * W * sizeof(Candidate));
    if (!memory.ok() || !found) {
        std::free(found);
        task.failed = 1;
        return;
    }
    Exact<KIND> exact{task, best};
    // Rounding of float32 sums, in the screen and in the exact product.
    const float slack = (rows.dim + 16) * 1.2e-7f;
    int64_t seen = 0;
    for (int64_t first = task.first; first < task.last;) {
        // Small panels first: a limit is as old as its panel, and the first has none.
        const int64_t limit = task.k && seen < memory.limit ? (seen < 32 ? 32 : seen) : memory.limit;
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
                const float least =
                    task.k ? best.worst(q) : std::nextafter(task.threshold[q], -INFINITY);
                limits[lane] = (least - bound) / task.query_scale[q];
            }
            int64_t count = 0;
            run_panel(ScreenTile<P>{limits, found, &count}, panel, width,
                      task.packed + query * steps * 4, steps);
            for (int64_t at = 0; at < count; ++at)
                exact.add(query + found[at].lane, panel.number(found[at].row));
            exact.flush();
            query += width;
        }
    }
    std::free(found);
}

inline void scan(Scan& task) {
    int64_t* filled = (int64_t*)std::calloc(task.count + 1, sizeof(int64_t));
    if (!filled) {
        task.failed = 1;
        return;
    }
    Best best{task, filled};
    with_kind(task.rows.kind, [&](auto known) {
        if (!task.packed) return scan_exactly<known.kind>(task, best);
        with_product(task.kind, [&](auto product) {
            scan_screened<decltype(product), known.kind>(task, best);
        });
    });
    for (int64_t query = 0; task.k && query < task.count; ++query) best.sort(query);
    std::free(filled);
}

const Engine engine = {NAME, W, product_kind, pack_queries, reduce, scan};

}  // namespace

const Engine* const ENGINE = &engine;

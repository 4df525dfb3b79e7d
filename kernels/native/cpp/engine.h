// Maxima of segments, and an instruction set's functions.
//
// Included by one file an instruction set. Nothing here may have external linkage but the Engine:
// a function compiled for AVX-512 must never be the one that another file's call is linked to.
#pragma once

#include "panels.h"
#include "scan.h"

extern const Engine* const ENGINE;

namespace {

// Up to this many queries, reading rows takes about as long as multiplying them.
constexpr int64_t FEW_QUERIES = 128;

template <class P, int64_t KIND, bool PLACES>
void reduce_rows(Segments& task) {
    const Matrix& rows = task.rows;
    const int64_t steps = steps_of(P::kind, rows.dim), lanes = padded(task.queries);
    PanelMemory memory(P::kind, rows.dim);
    float* best = (float*)std::malloc((lanes + W) * sizeof(float));
    int32_t* places = (int32_t*)std::malloc((lanes + W) * sizeof(int32_t));
    if (!memory.ok() || !best || !places) {
        std::free(best);
        std::free(places);
        task.failed = OUT_OF_MEMORY;
        return;
    }
    // Few queries leave a panel soon, and the next should be on its way by then.
    const int64_t limit = task.queries > FEW_QUERIES ? memory.limit : 4 * TILE_ROWS;
    for (int64_t at = task.first; at < task.last; ++at) {
        const int64_t segment = task.segments ? task.segments[at] : at;
        const int64_t start = task.offsets[segment], last = task.offsets[segment + 1];
        bool empty = true;
        for (int64_t lane = 0; lane < lanes; ++lane) best[lane] = -INFINITY;
        if (PLACES)
            for (int64_t lane = 0; lane < lanes; ++lane) places[lane] = start < last ? 0 : -1;
        for (int64_t first = start; first < last;) {
            Panel panel = next_panel<P, KIND>(rows, first, last, limit, false, memory);
            empty = empty && panel.count == 0;
            for (int64_t query = 0; query < task.queries;) {
                const int64_t width = block_width(task.queries, query);
                run_panel(MaximumTile<P, PLACES>{best + query, places + query,
                                                 int32_t(panel.base - start)},
                          panel, width, task.packed + query * steps * 4, steps);
                query += width;
            }
        }
        if (PLACES)
            for (int64_t query = 0; query < task.queries; ++query)
                task.places[query * task.places_stride + at] = places[query];
        for (int64_t group = 0; group < task.groups; ++group) {
            const int64_t begin = task.group_offsets[group], end = task.group_offsets[group + 1];
            // Not the sum of weights times -inf, which may be +inf or no number.
            float total = empty && begin < end ? -INFINITY : 0.f;
            for (int64_t query = begin; !empty && query < end; ++query)
                total += task.weight ? task.weight[query] * best[query] : best[query];
            task.output[at * task.groups + group] = total;
        }
    }
    std::free(best);
    std::free(places);
}

inline void reduce(Segments& task) {
    with_product(task.kind, [&](auto product) {
        using P = decltype(product);
        with_kind(task.rows.kind, [&](auto known) {
            // Segments keep their rows' precision.
            if constexpr (known.kind == P::kind || P::kind == FLOAT32) {
                if (task.places)
                    reduce_rows<P, known.kind, true>(task);
                else
                    reduce_rows<P, known.kind, false>(task);
            }
        });
    });
}

}  // namespace

#include "late.h"

namespace {

const Engine engine = {NAME, W, product_kind, pack_queries, reduce, scan, interact, score_pairs};

}  // namespace

const Engine* const ENGINE = &engine;

// Maxima of segments, and an instruction set's functions.
//
// Included by one file an instruction set. Nothing here may have external linkage but the Engine:
// a function compiled for AVX-512 must never be the one that another file's call is linked to.
#pragma once

#include "panels.h"
#include "scan.h"

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

const Engine engine = {NAME, W, product_kind, pack_queries, reduce, scan};

}  // namespace

const Engine* const ENGINE = &engine;

// A screened MaxSim search, put together from an instruction set's functions. Compiled for any
// processor: nothing here is slow.
#pragma once

#include <vector>

#include "task.h"

namespace {

// Screened scores at a time.
constexpr int64_t SCORES = 1 << 20;

std::vector<uint8_t> packed(const Engine& engine, const Rows& rows, int64_t count, int64_t kind) {
    const int64_t unit = kind == INT8 ? 4 : kind == BFLOAT16 ? 2 : 1;
    const int64_t lanes = (count + engine.lanes - 1) / engine.lanes * engine.lanes;
    std::vector<uint8_t> output(lanes * ((rows.dim + unit - 1) / unit) * 4);
    Packing packing{};
    packing.source = rows.data;
    packing.source_kind = rows.kind;
    packing.kind = kind;
    packing.count = count;
    packing.dim = rows.dim;
    packing.packed = output.data();
    engine.pack(packing);
    if (packing.count < 0) throw std::bad_alloc();
    return output;
}

// A task for each thread, of about equally many rows.
std::vector<Segments> shares(const Segments& whole, int64_t threads) {
    const int64_t* offsets = whole.offsets;
    const int64_t first = offsets[whole.first], total = offsets[whole.last] - first;
    std::vector<Segments> tasks;
    for (int64_t at = whole.first, share = 1; share <= threads; ++share) {
        Segments task = whole;
        task.first = at;
        while (at < whole.last && offsets[at] - first < total * share / threads) ++at;
        task.last = at = share == threads ? whole.last : at;
        tasks.push_back(task);
    }
    return tasks;
}

template <class Run>
void search(const Engine& engine, Search& task, Run run) {
    const Rows& queries = task.queries;
    const int64_t count = task.query_offsets[task.groups];
    std::vector<uint8_t> values(count * queries.dim);
    std::vector<float> steps(count), norms(count), bounds(3 * task.groups);
    Preparation prepared{};
    prepared.dithering = {queries, 0, count, task.seed, values.data(), steps.data(), norms.data(), 0};
    prepared.offsets = task.query_offsets;
    prepared.groups = task.groups;
    prepared.screen = task.screen;
    prepared.certainty = task.certainty;
    prepared.spread = bounds.data();
    prepared.margin = prepared.spread + task.groups;
    prepared.rounding = prepared.margin + task.groups;
    engine.prepare(prepared);
    if (prepared.failed) throw std::bad_alloc();

    Rows rounded{};
    rounded.data = values.data();
    rounded.kind = INT8;
    rounded.dim = queries.dim;
    const int64_t kind = engine.product_kind(INT8);
    const std::vector<uint8_t> coarse = packed(engine, rounded, count, kind);
    const int64_t each = SCORES / (task.groups ? task.groups : 1) + 1;
    std::vector<float> sums((each < task.screen.documents ? each : task.screen.documents) *
                            task.groups);
    for (int64_t start = 0; start < task.screen.documents; start += each) {
        const int64_t rest = task.screen.documents - start, documents = rest < each ? rest : each;
        Segments screened{};
        screened.rows = task.screen.rows;
        screened.rows.rise = prepared.rise;
        screened.offsets = task.screen.offsets + start;
        screened.last = documents;
        screened.packed = coarse.data();
        screened.kind = kind;
        screened.queries = count;
        screened.group_offsets = task.query_offsets;
        screened.groups = task.groups;
        screened.weight = steps.data();
        screened.output = sums.data();
        run(shares(screened, task.threads));
        for (int64_t group = 0; group < task.groups; ++group) {
            const int64_t first = task.query_offsets[group];
            const int64_t tokens = task.query_offsets[group + 1] - first;
            const int64_t bytes = queries.dim * (queries.kind == FLOAT32 ? 4 : queries.kind == INT8 ? 1 : 2);
            Rows one = queries;
            one.data += first * bytes;
            const int64_t ends[] = {0, tokens};
            Shortlist list{};
            list.exact.rows = task.rows;
            list.exact.offsets = task.screen.offsets;
            list.exact.kind = engine.product_kind(task.rows.kind);
            const std::vector<uint8_t> fine = packed(engine, one, tokens, list.exact.kind);
            list.exact.packed = fine.data();
            list.exact.queries = tokens;
            list.exact.group_offsets = ends;
            list.exact.groups = 1;
            list.exact.weight = queries.scale ? queries.scale + first : nullptr;
            list.screen = task.screen;
            list.sums = sums.data() + group;
            list.stride = task.groups;
            list.start = start;
            list.count = documents;
            list.allowed = task.allowed ? task.allowed + group * task.allowed_stride : nullptr;
            list.spread = prepared.spread[group];
            list.margin = prepared.margin[group];
            list.rounding = prepared.rounding[group];
            list.k = task.k;
            list.scores = task.scores + group * task.k;
            list.indices = task.indices + group * task.k;
            engine.choose(list);
            if (list.failed) {
                task.failed = list.failed;
                return;
            }
        }
    }
}

}  // namespace

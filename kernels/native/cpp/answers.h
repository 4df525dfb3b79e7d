// What a search keeps: the best rows of each query.
#pragma once

#include "panels.h"

namespace {

// The best rows of each query so far: heaps, the worst on top.
struct Best {
    Scan& task;
    int64_t* filled;
    int64_t seen = 0;  // rows, by screens

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
        best.add(query, score, row);
    }
    // A lower score cannot belong to the answer.
    float least(int64_t query) const { return best.worst(query); }
    bool is_wanted(int64_t query, int64_t row) const {
        const Matrix& rows = task.rows;
        return !rows.allowed || is_allowed(rows.allowed + query * rows.allowed_stride, row);
    }
    void add(int64_t query, int64_t row) {
        if (!is_wanted(query, row)) return;
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

}  // namespace

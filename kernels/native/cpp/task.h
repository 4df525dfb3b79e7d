// What the Python face hands over: plain structs, mirrored field by field in binding.py.
#pragma once

#include <cstdint>

#include "late_task.h"

enum Kind : int64_t { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2, INT8 = 3 };

// What `failed` of a task becomes.
constexpr int64_t OUT_OF_MEMORY = 1;

// A matrix, its rows contiguous.
struct Matrix {
    const uint8_t* data;
    const float* scale;      // a factor a row, or null
    const uint8_t* allowed;  // bitmap over the rows, or null
    int64_t allowed_stride;  // bytes from one query's bitmap to the next; 0: one for all queries
    int64_t kind;
    int64_t dim;
};

// Queries in the layout of the register tiles.
struct Packing {
    const uint8_t* source;  // (count, dim), contiguous
    int64_t source_kind;
    int64_t kind;  // of the products
    int64_t count;
    int64_t dim;
    uint8_t* packed;
    float* scale;  // (padded count) what a product is multiplied by; null: source_kind is kind
    float* error;  // (padded count) bound on the norm of the rounding error
    float* norm;   // (padded count) L2 norm
};

// Segment s holds rows offsets[s] .. offsets[s + 1]; output row i is that of segment segments[i].
struct Segments {
    Matrix rows;
    const int64_t* offsets;
    const int64_t* segments;  // null: all, in order
    int64_t first, last;      // output rows to compute
    const uint8_t* packed;
    int64_t kind;
    int64_t queries;
    const int64_t* group_offsets;  // group g sums the maxima of these queries
    int64_t groups;
    const float* weight;    // (queries,) or null
    float* output;          // (.., groups)
    int32_t* places;        // (queries, places_stride) the row of a segment that is its maximum, or null
    int64_t places_stride;
    int64_t failed;
};

// A scan of rows first .. last for the k best a query, k at least 1; or the k best of
// some int8 rows.
struct Scan {
    Matrix rows;
    int64_t first, last;
    const float* queries;  // (count, stride), zero beyond dim
    int64_t count, stride;
    const int64_t* candidates;  // (count, width) of the rows below last, -1: none; or null
    int64_t width;
    const uint8_t* packed;  // null: few queries, which need no panels
    int64_t kind;           // of the screen
    const float* query_scale;
    const float* query_error;
    const float* query_norm;
    int64_t k;
    float* scores;     // (count, k), best first when done
    int64_t* indices;  // (count, k)
    int64_t rescored;  // pairs that passed the screen
    int64_t failed;
};

struct Engine {
    const char* name;
    int64_t lanes;
    int64_t (*product_kind)(int64_t row_kind);
    void (*pack)(Packing&);
    void (*reduce)(Segments&);
    void (*scan)(Scan&);
    void (*interact)(Interaction&);
    void (*score_pairs)(Pairs&);
};

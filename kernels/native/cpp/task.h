// What the Python face hands over: plain structs, mirrored field by field in binding.py.
#pragma once

#include <cstdint>

#include "late_task.h"

enum Kind : int64_t { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2, INT8 = 3 };

// What `failed` of a task becomes.
constexpr int64_t OUT_OF_MEMORY = 1;

// Rows of a matrix, contiguous.
struct Rows {
    const uint8_t* data;
    const float* scale;      // a factor a row, or null
    const uint8_t* allowed;  // bitmap over the rows, or null
    int64_t allowed_stride;  // bytes from one query's bitmap to the next; 0: one for all queries
    int64_t kind;
    int64_t dim;
    const int32_t* sums;  // of each row's int8 numbers, or null: not known
    float rise;           // to products of int8 numbers this times the row's scale is added, or more
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
    Rows rows;
    const int64_t* offsets;
    const int64_t* segments;  // null: all, in order
    int64_t first, last;      // output rows to compute
    const uint8_t* packed;
    int64_t kind;
    int64_t queries;
    const int64_t* group_offsets;  // null: maxima; else their sums over the queries of each group
    int64_t groups;
    const float* weight;    // (queries,) or null
    float* output;          // (.., queries) or (.., groups)
    int32_t* places;        // (queries, places_stride) the row of a segment that is its maximum, or null
    int64_t places_stride;
    int64_t failed;
};

// Rows first .. last rounded to int8 at random.
struct Dithering {
    Rows rows;
    int64_t first, last;
    uint64_t seed;
    uint8_t* values;  // (.., dim)
    float* step;      // a row, what its int8 numbers are multiplied by
    float* norm;      // L2 norm of the rounded row
    int64_t failed;
};

// Bounds on the largest eigenvalue of the Gram matrix of each group of rows.
struct Spectra {
    Rows rows;
    const int64_t* offsets;  // group g has the rows offsets[g] .. offsets[g + 1]
    int64_t groups;
    float* bound;  // (groups,)
    int64_t failed;
};

// A screen of documents: their tokens as int8 numbers.
struct Screen {
    Rows rows;               // int8, with a scale and sums; no rise
    const int64_t* offsets;  // document d has the rows offsets[d] .. offsets[d + 1]
    int64_t documents;
    const float* step;    // (documents,) the largest step of rounding
    const float* length;  // (documents,) the norm of the longest token
};

// Queries rounded for a screen.
struct Preparation {
    Dithering dithering;  // of all rows
    const int64_t* offsets;
    int64_t groups;
    Screen screen;
    double certainty;  // minus the logarithm of the probability that a bound does not hold
    float* spread;     // (groups,) what a bound grows by, for each square of a document's length,
    float* margin;     // whatever the document,
    float* rounding;   // and for each unit of its longest token
    float rise;        // see Rows
    int64_t failed;
};

// The best documents of one query, of which a screen has scored all or some.
struct Shortlist {
    Segments exact;  // one group of queries and all documents; no output yet
    Screen screen;
    const float* sums;  // (count, stride) what the screen gives to documents start, start + 1, ..
    int64_t stride;
    int64_t start, count;
    const uint8_t* allowed;          // (documents,) 0: may not be returned; or null
    float spread, margin, rounding;  // see Preparation
    int64_t k;
    float* scores;     // (k,) the best so far, best first, -inf and
    int64_t* indices;  // (k,) -1 where there are fewer
    int64_t failed;
};

// The best documents of each query, those that a screen leaves open being scored.
struct Search {
    Rows queries;  // of the kind of the documents' rows
    const int64_t* query_offsets;
    int64_t groups;
    Rows rows;  // of the documents
    Screen screen;
    const uint8_t* allowed;  // (documents,), or (groups, documents) at this stride, or null
    int64_t allowed_stride;
    uint64_t seed;
    double certainty;
    int64_t threads;
    int64_t k;
    float* scores;     // (groups, k), best first, -inf and
    int64_t* indices;  // -1 where there are fewer
    int64_t failed;
};

struct Hit {
    int64_t query, row;
    float score, unused;
};

// A scan of rows first .. last for the k best a query (k > 0) or all above a threshold (k = 0); or
// the k best of some rows a query.
struct Scan {
    Rows rows;
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
    float* scores;           // (count, k), best first when done
    int64_t* indices;        // (count, k)
    const float* threshold;  // (count,) where k = 0
    Hit* hits;               // freed by the caller
    int64_t hit_count, hit_capacity;
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
    void (*dither)(Dithering&);
    void (*bound)(Spectra&);
    void (*prepare)(Preparation&);
    void (*choose)(Shortlist&);
    void (*interact)(Interaction&);
    void (*score_pairs)(Pairs&);
};

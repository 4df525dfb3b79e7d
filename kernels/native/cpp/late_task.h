// What the late-interaction functions are given: see task.h.
#pragma once

#include <cstdint>

// Documents' tokens, each a centroid and either int8 numbers or codes to be added to it.
struct Coded {
    const uint8_t* ids;  // (tokens,) of each token's centroid, as id_bytes says
    int64_t id_bytes;    // 1: uint8; 2: uint16
    const int8_t* centroids;  // (centroid_count, dim)
    int64_t centroid_count;
    const uint8_t* data;   // (tokens, dim * bits / 8)
    int64_t bits;  // 8: int8 numbers; 5, 4 or 2: codes, the first in the lowest bits; of 5 bits the
                   // lower four of all numbers and then the fifth of all
    const int8_t* levels;  // (2 ** bits,) what a code adds to its centroid's number
    const float* scale;    // (tokens,) a factor a token, or null: its length is made 1
    const int64_t* offsets;  // document d has the tokens offsets[d] .. offsets[d + 1]
    int64_t documents;
    int64_t dim;  // a multiple of 8
};

// The documents of each query that are best when each token is taken for its centroid.
struct Interaction {
    Coded coded;
    const float* queries;  // (.., dim)
    const int64_t* query_offsets;
    int64_t first, last;      // queries to do
    const uint8_t* allowed;   // (documents,) 0: not wanted; or null
    int64_t allowed_stride;   // from one query's to the next; 0: one for all
    const int64_t* rows;      // (queries, width) ascending, -1: none; null: all documents
    int64_t width;
    int64_t keep;
    int64_t* kept;  // (queries, keep) ascending, then -1
    int64_t failed;
};

// Scores of pairs of a query and a document.
struct Pairs {
    Coded coded;
    const float* queries;
    const int64_t* query_offsets;
    int64_t groups;        // queries
    const int64_t* pair_queries;
    const int64_t* pair_documents;  // ascending
    int64_t first, last;            // pairs to do
    int64_t fine;                   // 1: queries to 15 bits, not 8
    float* scores;
    int64_t failed;
};

// Vectors of LANES numbers, loads of every kind of row, and exact float32 products.
// Included by engine.h, once an instruction set; everything has internal linkage.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "task.h"

#if LANES >= 8
#include <immintrin.h>
#endif

namespace {

constexpr int64_t W = LANES;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef int8_t Bytes __attribute__((vector_size(LANES)));

template <class V>
inline V load(const void* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class V>
inline void store(void* to, V value) {
    std::memcpy(to, &value, sizeof value);
}

inline Floats splat(float value) { return Floats{} + value; }
inline Ints splat(int32_t value) { return Ints{} + value; }

inline Floats maximum(Floats a, Floats b) {
#if LANES == 16
    return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif LANES == 8
    return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

// One bit a lane: set where a > b.
inline uint32_t greater(Floats a, Floats b) {
#if LANES == 16
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
#elif LANES == 8
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ));
#else
    uint32_t bits = 0;
    for (int lane = 0; lane < LANES; ++lane) bits |= uint32_t(a[lane] > b[lane]) << lane;
    return bits;
#endif
}

inline float sum(Floats value) {
#if LANES == 16
    return _mm512_reduce_add_ps((__m512)value);
#else
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += value[lane];
    return total;
#endif
}

inline float largest(Floats value) {
#if LANES == 16
    return _mm512_reduce_max_ps((__m512)value);
#else
    float best = value[0];
    for (int lane = 1; lane < LANES; ++lane) best = value[lane] > best ? value[lane] : best;
    return best;
#endif
}

// What int8 numbers are multiplied by where the largest magnitude, above 0, shall be 127; and its
// inverse, which for a magnitude below 4e-37 would be beyond the largest float.
inline float step_of(float top) { return std::fmax(top / 127, 1 / FLT_MAX); }
inline float inverse_step_of(float top) { return std::fmin(127 / top, FLT_MAX); }

// Conversions that gcc 12 would do lane by lane.
inline Words wide(Halves value) {
#if LANES == 16
    return (Words)_mm512_cvtepu16_epi32((__m256i)value);
#elif LANES == 8
    return (Words)_mm256_cvtepu16_epi32((__m128i)value);
#else
    return __builtin_convertvector(value, Words);
#endif
}

inline Ints wide(const uint8_t* bytes) {
#if LANES == 16
    return (Ints)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)bytes));
#elif LANES == 8
    return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)bytes));
#else
    return __builtin_convertvector(load<Bytes>(bytes), Ints);
#endif
}

inline Halves narrow_halves(Words value) {
#if LANES == 16
    return (Halves)_mm512_cvtepi32_epi16((__m512i)value);
#else
    return __builtin_convertvector(value, Halves);
#endif
}

inline Bytes narrow_bytes(Ints value) {
#if LANES == 16
    return (Bytes)_mm512_cvtepi32_epi8((__m512i)value);
#else
    return __builtin_convertvector(value, Bytes);
#endif
}

inline Floats absolute(Floats value) { return (Floats)((Words)value & 0x7fffffffu); }

inline int64_t row_bytes(int64_t kind, int64_t dim) {
    switch (kind) {
        case FLOAT32: return 4 * dim;
        case INT8: return dim;
        default: return 2 * dim;
    }
}

// Numbers i .. i + LANES of a row, all inside it; i is a multiple of LANES.
template <int64_t KIND>
inline Floats numbers(const uint8_t* row, int64_t i) {
    if constexpr (KIND == FLOAT32) return load<Floats>(row + 4 * i);
    if constexpr (KIND == BFLOAT16) {
        return (Floats)(wide(load<Halves>(row + 2 * i)) << 16);
    }
    if constexpr (KIND == FLOAT16) {
#if LANES == 16
        return (Floats)_mm512_cvtph_ps((__m256i)load<Halves>(row + 2 * i));
#else
        Words bits = wide(load<Halves>(row + 2 * i));
        Words sign = (bits & 0x8000u) << 16, rest = (bits & 0x7fffu) << 13;
        // 2^112 moves float16's exponent bias to float32's, and makes subnormal numbers right.
        Words finite = (Words)((Floats)rest * splat(5192296858534827628530496329220096.f));
        Words special = rest | 0x7f800000u;
        return (Floats)(((Ints)rest >= 0x0f800000 ? special : finite) | sign);
#endif
    }
    if constexpr (KIND == INT8) {
        return __builtin_convertvector(wide(row + i), Floats);
    }
}

// The last numbers of a row, from i on, and zeros.
template <int64_t KIND>
inline Floats last_numbers(const uint8_t* row, int64_t i, int64_t dim) {
    alignas(64) uint8_t part[4 * LANES + 8] = {};
    int64_t from = row_bytes(KIND, i);
    std::memcpy(part, row + from, row_bytes(KIND, dim) - from);
    Floats value = numbers<KIND>(part, 0);
    for (int64_t lane = dim - i; lane < W; ++lane) value[lane] = 0;
    return value;
}

// A row as float32, zeros up to a multiple of LANES.
template <int64_t KIND>
void widen(const uint8_t* row, int64_t dim, float* line) {
    int64_t i = 0;
    for (; i + W <= dim; i += W) store(line + i, numbers<KIND>(row, i));
    if (i < dim) store(line + i, last_numbers<KIND>(row, i, dim));
}

// `visit(std::integral_constant)` with a kind known only at run time.
template <int64_t KIND>
struct Known {
    static constexpr int64_t kind = KIND;
};
template <class Visit>
inline void with_kind(int64_t kind, Visit visit) {
    switch (kind) {
        case FLOAT32: return visit(Known<FLOAT32>{});
        case BFLOAT16: return visit(Known<BFLOAT16>{});
        case FLOAT16: return visit(Known<FLOAT16>{});
        case INT8: return visit(Known<INT8>{});
    }
}

// Products of N pairs of a row and a float32 query that is zero beyond dim, or of N queries and
// the ROWS = 1 row. The order of the sum depends on dim only, so a pair has one score however it
// was found.
template <int64_t KIND, int N, int ROWS = N>
inline void dots(const uint8_t* const* rows, const float* const* queries, int64_t dim,
                 float* output) {
    Floats even[N] = {}, odd[N] = {}, row[ROWS];
    int64_t i = 0;
    const auto add = [&](Floats* sums, int64_t from) {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[n] += row[n % ROWS] * load<Floats>(queries[n] + from);
    };
    for (; i + 2 * W <= dim; i += 2 * W) {
#pragma GCC unroll 4
        for (int n = 0; n < ROWS; ++n) row[n] = numbers<KIND>(rows[n], i);
        add(even, i);
#pragma GCC unroll 4
        for (int n = 0; n < ROWS; ++n) row[n] = numbers<KIND>(rows[n], i + W);
        add(odd, i + W);
    }
    if (i + W <= dim) {
#pragma GCC unroll 4
        for (int n = 0; n < ROWS; ++n) row[n] = numbers<KIND>(rows[n], i);
        add(even, i);
        i += W;
    }
    if (i < dim) {
#pragma GCC unroll 4
        for (int n = 0; n < ROWS; ++n) row[n] = last_numbers<KIND>(rows[n], i, dim);
        add(odd, i);
    }
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) output[n] = sum(even[n] + odd[n]);
}

}  // namespace

// A scan for few queries: rows as they lie, one after another. Reading them is what takes the time,
// and processors prefetch one stream of addresses better than several.
#pragma once

#include <type_traits>

#include "answers.h"

namespace {

// Queries that a row in registers is multiplied with, and bytes of rows that stay in the nearest
// cache until all queries had them.
constexpr int64_t SHARING = 4, BLOCK_BYTES = 1 << 14;

template <int COUNT = SHARING, class Visit>
inline void with_count(int64_t count, Visit visit) {
    if (count == COUNT) return visit(std::integral_constant<int, COUNT>{});
    if constexpr (COUNT > 1) with_count<COUNT - 1>(count, visit);
}

// Whether any of some queries may have a row.
inline bool any_wants(const Matrix& rows, int64_t first, int count, int64_t row) {
    if (!rows.allowed) return true;
    bool wanted = false;
    for (int n = 0; n < (rows.allowed_stride ? count : 1); ++n)
        wanted |= is_allowed(rows.allowed + (first + n) * rows.allowed_stride, row);
    return wanted;
}

// What flushing to zero may take from a score.
constexpr float TINY = 4e-38f;

// Every product of rows begin .. end with queries first .. first + Q, in float32.
template <int64_t KIND, int Q>
void score_rows(Exact<KIND>& exact, int64_t first, int64_t begin, int64_t end) {
    const Scan& task = exact.task;
    const Matrix& rows = task.rows;
    const float* right[Q];
    float least[Q];
    for (int n = 0; n < Q; ++n) {
        right[n] = task.queries + (first + n) * task.stride;
        least[n] = exact.least(first + n);
    }
    for (int64_t row = begin; row < end; ++row) {
        if (!any_wants(rows, first, Q, row)) continue;
        const uint8_t* left = rows.data + row * exact.stored;
        float scores[Q];
        dots<KIND, Q, 1>(&left, right, rows.dim, scores);
        const float scale = rows.scale ? rows.scale[row] : 1.f;
        for (int n = 0; n < Q; ++n) {
            if (scores[n] * scale < least[n] || !exact.is_wanted(first + n, row)) continue;
            exact.keep(first + n, row, scores[n]);
            least[n] = exact.least(first + n);
        }
    }
}

#if LANES >= 8

typedef int16_t Shorts __attribute__((vector_size(4 * LANES)));

inline Shorts shorts(const uint8_t* bytes) {
#if LANES == 16
    return (Shorts)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)bytes));
#else
    return (Shorts)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)bytes));
#endif
}

// Adds the products of two neighbours to each lane.
inline Ints add_products(Ints sum, Shorts a, Shorts b) {
#ifdef HAS_VNNI
    return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
    return sum + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#endif
}

// A query in int16, on its own scale.
struct Shortened {
    int16_t* numbers;  // zeros up to a multiple of 4 x LANES
    float factor;      // what a product is multiplied by
    float bound;       // how far it then is from the float32 product, for a row of scale 1
};

// The largest number keeps every sum of products with int8 inside an int32 lane. The query is zero
// beyond dim up to a multiple of LANES.
inline Shortened shorten(const float* query, int64_t dim, int16_t* numbers) {
    const int64_t pairs = (dim + 2 * W - 1) / (2 * W);
    const double limit = std::fmin(32767, double(INT32_MAX) / (128 * 2 * double(pairs)) - 1);
    Floats most{}, all{}, off{};
    for (int64_t i = 0; i < dim; i += W) most = maximum(most, absolute(load<Floats>(query + i)));
    const float top = largest(most);
    // Where the inverse would be infinite all numbers are 0, and the whole query is lost.
    const bool is_tiny = !(top > 1e-30f);
    const float factor = is_tiny ? 0.f : float(top / limit);
    const Floats inverse = splat(is_tiny ? 0.f : float(limit / top));
    // Added and taken away again it leaves the nearest whole number.
    const Floats whole = splat(12582912.f);
    for (int64_t i = 0; i < dim; i += W) {
        const Floats value = load<Floats>(query + i);
        const Floats number = (value * inverse + whole) - whole;
        store(numbers + i, narrow_halves((Words)__builtin_convertvector(number, Ints)));
        all += absolute(value);
        off += absolute(value - number * splat(factor));
    }
    const double total = sum(all), lost = sum(off);
    // No row's number is beyond 128: |<q - q', x>| <= 128 |q - q'|_1, and the float32 sums of both
    // products, one of them perhaps flushed to zero, are off by at most `slack` of 128 |q|_1, which
    // covers the sums here, too.
    const double slack = (dim + 28) * 1.2e-7;
    const double bound = 128 * (lost * 1.001 + slack * total) + (dim + 24) * 1.2e-38;
    return {numbers, factor, float(bound)};
}

template <int Q>
inline void products(const uint8_t* row, const Shortened* queries, int64_t dim, float* output) {
    Ints even[Q] = {}, odd[Q] = {};
    int64_t i = 0;
    for (; i + 4 * W <= dim; i += 4 * W) {
        Shorts low = shorts(row + i), high = shorts(row + i + 2 * W);
#pragma GCC unroll 4
        for (int n = 0; n < Q; ++n) {
            even[n] = add_products(even[n], low, load<Shorts>(queries[n].numbers + i));
            odd[n] = add_products(odd[n], high, load<Shorts>(queries[n].numbers + i + 2 * W));
        }
    }
    if (i < dim) {
        alignas(64) uint8_t part[4 * W] = {};
        std::memcpy(part, row + i, dim - i);
        Shorts low = shorts(part), high = shorts(part + 2 * W);
#pragma GCC unroll 4
        for (int n = 0; n < Q; ++n) {
            even[n] = add_products(even[n], low, load<Shorts>(queries[n].numbers + i));
            odd[n] = add_products(odd[n], high, load<Shorts>(queries[n].numbers + i + 2 * W));
        }
    }
#pragma GCC unroll 4
    for (int n = 0; n < Q; ++n)
        output[n] = sum(__builtin_convertvector(even[n] + odd[n], Floats)) * queries[n].factor;
}

// Products in int16 are nearly exact; those that may belong to the answer are scored.
template <int Q>
void screen_rows(Exact<INT8>& exact, const Shortened* queries, int64_t first, int64_t begin,
                 int64_t end) {
    const Matrix& rows = exact.task.rows;
    float least[Q];
    for (int n = 0; n < Q; ++n) least[n] = exact.least(first + n);
    for (int64_t row = begin; row < end; ++row) {
        if (!any_wants(rows, first, Q, row)) continue;
        float scores[Q];
        products<Q>(rows.data + row * exact.stored, queries, rows.dim, scores);
        const float scale = rows.scale ? rows.scale[row] : 1.f;
        for (int n = 0; n < Q; ++n) {
            // What is not a number, since numbers were too large, is open too.
            const float most = scores[n] * scale + (queries[n].bound * std::fabs(scale) + TINY);
            if (most < least[n]) continue;
            exact.add(first + n, row);
            if (!exact.waiting)
                for (int each = 0; each < Q; ++each) least[each] = exact.least(first + each);
        }
    }
}

#endif

// Few queries, each as it is multiplied with rows of a kind.
template <int64_t KIND>
struct FewQueries {
    bool ok = true;
    FewQueries(const Scan&) {}
    template <int Q>
    void run(Exact<KIND>& exact, int64_t first, int64_t begin, int64_t end) const {
        score_rows<KIND, Q>(exact, first, begin, end);
    }
};

#if LANES >= 8

template <>
struct FewQueries<INT8> {
    Shortened* queries;
    int16_t* numbers;
    bool ok;
    FewQueries(const Scan& task) {
        const int64_t stride = (task.rows.dim + 4 * W - 1) / (4 * W) * 4 * W;
        queries = (Shortened*)std::malloc((task.count + 1) * sizeof(Shortened));
        numbers = (int16_t*)std::calloc(task.count * stride + 1, sizeof(int16_t));
        ok = queries && numbers;
        for (int64_t query = 0; ok && query < task.count; ++query)
            queries[query] = shorten(task.queries + query * task.stride, task.rows.dim,
                                     numbers + query * stride);
    }
    FewQueries(const FewQueries&) = delete;
    ~FewQueries() {
        std::free(queries);
        std::free(numbers);
    }
    template <int Q>
    void run(Exact<INT8>& exact, int64_t first, int64_t begin, int64_t end) const {
        screen_rows<Q>(exact, queries + first, first, begin, end);
    }
};

#endif

template <int64_t KIND>
void scan_rows(Scan& task, Best& best) {
    Exact<KIND> exact{task, best};
    const FewQueries<KIND> queries(task);
    if (!queries.ok) {
        task.failed = OUT_OF_MEMORY;
        return;
    }
    const int64_t block =
        task.count > SHARING ? 1 + BLOCK_BYTES / (exact.stored + 1) : task.last - task.first;
    for (int64_t begin = task.first; begin < task.last; begin += block) {
        const int64_t end = task.last - begin < block ? task.last : begin + block;
        for (int64_t first = 0; first < task.count; first += SHARING) {
            const int64_t left = task.count - first;
            with_count(left < SHARING ? left : SHARING, [&](auto count) {
                queries.template run<count()>(exact, first, begin, end);
            });
        }
    }
    exact.flush();
}

}  // namespace

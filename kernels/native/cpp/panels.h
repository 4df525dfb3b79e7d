// From rows as they are stored to panels, and from queries to packed blocks.
#pragma once

#include "products.h"

namespace {

constexpr int64_t PANEL_BYTES = 1 << 17;
constexpr int64_t PANEL_ROWS = 512;
// Bytes that rows are fetched ahead of their product: a tile or two.
constexpr int64_t AHEAD = 6144;

// Memory of a thread for one panel.
struct PanelMemory {
    uint8_t* data;
    float* line;
    float* factor;
    int32_t* starts;
    int64_t* numbers;
    int64_t stride, limit;

    PanelMemory(int64_t kind, int64_t dim) {
        int64_t bytes = 4 * steps_of(kind, dim);
        // An odd number of cache lines, so that the rows of a tile do not share one set.
        stride = ((bytes + 127) / 128 * 2 + 1) * 64;
        limit = PANEL_BYTES / (bytes ? bytes : 1);
        limit = limit < 2 * TILE_ROWS ? 2 * TILE_ROWS : limit > PANEL_ROWS ? PANEL_ROWS : limit;
        data = (uint8_t*)std::aligned_alloc(64, limit * stride);
        line = (float*)std::calloc(dim + 2 * W + 4, sizeof(float));
        factor = (float*)std::malloc(limit * sizeof(float));
        starts = (int32_t*)std::malloc((limit + 15) * sizeof(int32_t));
        numbers = (int64_t*)std::malloc(limit * sizeof(int64_t));
    }
    PanelMemory(const PanelMemory&) = delete;
    ~PanelMemory() {
        std::free(data);
        std::free(line);
        std::free(factor);
        std::free(starts);
        std::free(numbers);
    }
    bool ok() const { return data && line && factor && starts && numbers; }
};

inline bool is_allowed(const uint8_t* bitmap, int64_t row) {
    return bitmap[row >> 3] >> (row & 7) & 1;
}

// What rounding a row to the kind of a product changes.
struct Rounded {
    float factor, error, norm;
};

// The root of a sum of `dim` squares, or a little more: each may have been too small for a float.
inline float root(Floats squares, int64_t dim) { return std::sqrt(sum(squares) + dim * 1.2e-38f); }

inline float norm_of(const float* line, int64_t dim) {
    Floats squares{};
    for (int64_t i = 0; i < dim; i += W) {
        Floats value = load<Floats>(line + i);
        squares += value * value;
    }
    return root(squares, dim);
}

// Round a float32 line, zeros up to a multiple of LANES, to bfloat16 or int8 numbers.
template <class P>
inline Rounded round_line(const float* line, int64_t dim, uint8_t* output) {
    Floats squares{}, lost{};
    float factor = 1;
    if constexpr (P::kind == FLOAT32) {
        std::memcpy(output, line, 4 * dim);
        return {1, 0, norm_of(line, dim)};
    } else if constexpr (P::kind == BFLOAT16) {
        for (int64_t i = 0; i < dim; i += W) {
            Words bits = load<Words>(line + i);
            Words rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
            Floats value = (Floats)bits, difference = value - (Floats)(rounded << 16);
            squares += value * value;
            lost += difference * difference;
            Halves narrow = narrow_halves(rounded);
            std::memcpy(output + 2 * i, &narrow, 2 * (dim - i < W ? (dim + 1) / 2 * 2 - i : W));
        }
    } else {
        Floats most{};
        for (int64_t i = 0; i < dim; i += W)
            most = maximum(most, absolute(load<Floats>(line + i)));
        float top = largest(most);
        factor = top > 0 ? step_of(top) : 1;
        // Adding 1.5 * 2^23 rounds to a whole number, which is then in the low bits.
        Floats inverse = splat(top > 0 ? inverse_step_of(top) : 0.f), shift = splat(12582912.f);
        for (int64_t i = 0; i < dim; i += W) {
            Floats value = load<Floats>(line + i), shifted = value * inverse + shift;
            Floats difference = value - (shifted - shift) * splat(factor);
            squares += value * value;
            lost += difference * difference;
            Bytes narrow = narrow_bytes((Ints)shifted);
            std::memcpy(output + i, &narrow, dim - i < W ? (dim + 3) / 4 * 4 - i : W);
        }
    }
    return {factor, root(lost, dim), root(squares, dim)};
}

#ifdef HAS_VNNI
// The sum of each of 16 vectors.
inline Ints sums_of(Ints (&vectors)[16]) {
    // Each step adds halves of two vectors, which then are one: numbers, pairs, 128 bits, 256 bits.
#pragma GCC unroll 8
    for (int n = 0; n < 8; ++n) {
        __m512i a = (__m512i)vectors[2 * n], b = (__m512i)vectors[2 * n + 1];
        vectors[n] = (Ints)_mm512_unpacklo_epi32(a, b) + (Ints)_mm512_unpackhi_epi32(a, b);
    }
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
        __m512i a = (__m512i)vectors[2 * n], b = (__m512i)vectors[2 * n + 1];
        vectors[n] = (Ints)_mm512_unpacklo_epi64(a, b) + (Ints)_mm512_unpackhi_epi64(a, b);
    }
    for (int count = 2; count > 0; count /= 2)
#pragma GCC unroll 2
        for (int n = 0; n < count; ++n) {
            __m512i a = (__m512i)vectors[2 * n], b = (__m512i)vectors[2 * n + 1];
            vectors[n] = (Ints)_mm512_shuffle_i32x4(a, b, 0x88) +
                         (Ints)_mm512_shuffle_i32x4(a, b, 0xdd);
        }
    return vectors[0];
}

// -128 times the sum of the int8 numbers of each row. `starts` has room for 15 more.
inline void start_sums(const uint8_t* rows, int64_t stride, int64_t bytes, int64_t count,
                       int32_t* starts) {
    const __m512i ones = _mm512_set1_epi8(1);
    const __mmask64 rest = ~0ull >> (63 - (bytes + 63) % 64);
    for (int64_t first = 0; first < count; first += 16) {
        const uint8_t* row[16];
#pragma GCC unroll 16
        for (int r = 0; r < 16; ++r)
            row[r] = rows + (first + r < count ? first + r : count - 1) * stride;
        Ints partial[16] = {};
        int64_t i = 0;
        for (; i + 64 <= bytes; i += 64)
#pragma GCC unroll 16
            for (int r = 0; r < 16; ++r)
                partial[r] = (Ints)_mm512_dpbusd_epi32((__m512i)partial[r], ones,
                                                       (__m512i)load<Ints>(row[r] + i));
        if (i < bytes)
#pragma GCC unroll 16
            for (int r = 0; r < 16; ++r)
                partial[r] = (Ints)_mm512_dpbusd_epi32((__m512i)partial[r], ones,
                                                       _mm512_maskz_loadu_epi8(rest, row[r] + i));
        store(starts + first, sums_of(partial) * -128);
    }
}
#endif

// The next panel of rows first .. last that the shared filter allows; moves `first` on. Errors and
// norms are only taken where `bounds` asks for them.
template <class P, int64_t KIND>
inline Panel next_panel(const Matrix& rows, int64_t& first, int64_t last, int64_t limit, bool bounds,
                        PanelMemory& memory) {
    const int64_t stored = row_bytes(KIND, rows.dim);
    const int64_t bytes = 4 * steps_of(P::kind, rows.dim);
    const uint8_t* filter = rows.allowed_stride ? nullptr : rows.allowed;
    limit = limit < memory.limit ? limit : memory.limit;
    Panel panel{};
    panel.base = first;
    constexpr bool same = KIND == P::kind;
    if (same && stored == bytes && !filter && stored % 4096) {
        panel.data = rows.data + first * stored;
        panel.stride = stored;
        panel.ahead = AHEAD;
        panel.count = last - first < limit ? last - first : limit;
        panel.factor = rows.scale ? rows.scale + first : nullptr;
        first += panel.count;
    } else {
        panel.data = memory.data;
        panel.stride = memory.stride;
        panel.numbers = memory.numbers;
        // Exact conversions need no factor of their own.
        constexpr bool rounds = P::kind == INT8 && KIND != INT8;
        panel.factor = rounds || rows.scale ? memory.factor : nullptr;
        for (; first < last && panel.count < limit; ++first) {
            if (filter && !is_allowed(filter, first)) continue;
            const uint8_t* row = rows.data + first * stored;
            uint8_t* output = memory.data + panel.count * memory.stride;
            float scale = rows.scale ? rows.scale[first] : 1.f;
            if constexpr (same) {
                std::memcpy(output, row, stored);
                std::memset(output + stored, 0, bytes - stored);
            } else {
                widen<KIND>(row, rows.dim, memory.line);
                Rounded rounded = round_line<P>(memory.line, rows.dim, output);
                scale *= rounds ? rounded.factor : 1.f;
                float weight = rows.scale ? std::fabs(rows.scale[first]) : 1.f;
                panel.error = std::fmax(panel.error, weight * rounded.error);
                panel.norm = std::fmax(panel.norm, weight * rounded.norm);
            }
            if (panel.factor) memory.factor[panel.count] = scale;
            memory.numbers[panel.count++] = first;
        }
    }
#ifdef HAS_VNNI
    if constexpr (P::kind == INT8) {
        panel.starts = memory.starts;
        start_sums(panel.data, panel.stride, bytes, panel.count, memory.starts);
    }
#endif
    if constexpr (same)
        for (int64_t r = 0; bounds && r < panel.count; ++r) {
            const int64_t number = panel.number(r);
            widen<KIND>(rows.data + number * stored, rows.dim, memory.line);
            float weight = rows.scale ? std::fabs(rows.scale[number]) : 1.f;
            panel.norm = std::fmax(panel.norm, weight * norm_of(memory.line, rows.dim));
        }
    return panel;
}

// Query q goes to lane q of its block: [block][step][lane][4 bytes].
inline void pack_queries(Packing& task) {
    const int64_t steps = steps_of(task.kind, task.dim), bytes = 4 * steps;
    const int64_t stored = row_bytes(task.source_kind, task.dim);
    float* line = (float*)std::calloc(task.dim + 2 * W + 4, sizeof(float));
    uint8_t* numbers = (uint8_t*)std::malloc(bytes + 4 * W);
    if (!line || !numbers) {
        std::free(line);
        std::free(numbers);
        task.count = -1;
        return;
    }
    for (int64_t first = 0; first < task.count;) {
        const int64_t width = block_width(task.count, first);
        uint8_t* block = task.packed + first * bytes;
        for (int64_t lane = 0; lane < width; ++lane) {
            const int64_t query = first + lane;
            Rounded rounded{1, 0, 0};
            std::memset(numbers, 0, bytes);
            if (query < task.count) {
                const uint8_t* source = task.source + query * stored;
                with_kind(task.source_kind, [&](auto known) {
                    if (task.source_kind == task.kind) {
                        std::memcpy(numbers, source, stored);
                        if (task.scale) widen<known.kind>(source, task.dim, line);
                        rounded.norm = task.scale ? norm_of(line, task.dim) : 0;
                    } else {
                        widen<known.kind>(source, task.dim, line);
                        with_product(task.kind, [&](auto product) {
                            rounded = round_line<decltype(product)>(line, task.dim, numbers);
                        });
                    }
                });
            }
            if (task.scale) {
                task.scale[query] = rounded.factor;
                task.error[query] = rounded.error;
                task.norm[query] = rounded.norm;
            }
            // As unsigned, for Int8Product; numbers beyond dim meet zeros of the rows.
            if (task.kind == INT8)
                for (int64_t i = 0; i < bytes; ++i) numbers[i] ^= 0x80;
            for (int64_t step = 0; step < steps; ++step)
                std::memcpy(block + (step * width + lane) * 4, numbers + 4 * step, 4);
        }
        first += width;
    }
    std::free(line);
    std::free(numbers);
}

}  // namespace

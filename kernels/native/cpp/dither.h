// Rows as int8, every number rounded up or down at random: up with the probability that makes the
// mean right, and independently of every other number.
#pragma once

#include "vectors.h"

namespace {

// Every bit of the result depends on every bit of x (the finalisers of splitmix64, MurmurHash3).
inline uint64_t scrambled(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
inline Words scrambled(Words x) {
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

template <int64_t KIND>
void dither_rows(Dithering& task) {
    const Rows& rows = task.rows;
    const int64_t dim = rows.dim, stored = row_bytes(KIND, dim);
    float* line = (float*)std::calloc(dim + 2 * W + 4, sizeof(float));
    if (!line) {
        task.failed = OUT_OF_MEMORY;
        return;
    }
    Words lane;
    for (uint32_t at = 0; at < LANES; ++at) lane[at] = at;
    for (int64_t row = task.first; row < task.last; ++row) {
        widen<KIND>(rows.data + row * stored, dim, line);
        Floats most{}, squares{};
        for (int64_t i = 0; i < dim; i += W)
            most = maximum(most, absolute(load<Floats>(line + i)));
        const float scale = rows.scale ? rows.scale[row] : 1.f;
        const float top = largest(most), step = top > 0 ? step_of(top) * std::fabs(scale) : 0;
        const Floats inverse = splat(top > 0 ? std::copysign(inverse_step_of(top), scale) : 0.f);
        const uint64_t key = scrambled(scrambled(task.seed) + row);
        const uint32_t low = uint32_t(key), high = uint32_t(key >> 32);
        uint8_t* output = task.values + row * dim;
        for (int64_t i = 0; i < dim; i += W) {
            const Floats level = load<Floats>(line + i) * inverse;
            Ints whole = __builtin_convertvector(level, Ints);
            whole += (Ints)(__builtin_convertvector(whole, Floats) > level);  // true is -1: floor
            const Floats rest = level - __builtin_convertvector(whole, Floats);
            const Words bits = scrambled(scrambled(lane + (uint32_t(i) + low)) ^ high) >> 8;
            const Floats drawn = __builtin_convertvector((Ints)bits, Floats) * splat(0x1p-24f);
            whole -= (Ints)(rest > drawn);
            whole = whole > 127 ? splat(127) : whole;
            const Floats value = __builtin_convertvector(whole, Floats);
            squares += value * value;
            const Bytes narrow = narrow_bytes(whole);
            std::memcpy(output + i, &narrow, dim - i < W ? dim - i : W);
        }
        task.step[row] = step;
        task.norm[row] = std::sqrt(sum(squares)) * step;
    }
    std::free(line);
}

inline void dither(Dithering& task) {
    with_kind(task.rows.kind, [&](auto known) { dither_rows<known.kind>(task); });
}

}  // namespace

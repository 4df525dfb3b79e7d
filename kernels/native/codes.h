// Rows stored as a centroid and a few bits a number: PLAID's residual codes.
#pragma once

#include "vectors.h"

namespace {

// LANES weights by their numbers, which lie below 16.
inline Floats chosen_weights(const float* weights, Ints numbers) {
#if LANES == 16
    return (Floats)_mm512_permutexvar_ps((__m512i)numbers, _mm512_loadu_ps(weights));
#elif LANES == 8
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(weights), (__m256i)numbers);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(weights + 8), (__m256i)numbers);
    return (Floats)_mm256_blendv_ps(low, high, (__m256)(numbers << 28));
#else
    Floats found;
    for (int lane = 0; lane < LANES; ++lane) found[lane] = weights[numbers[lane]];
    return found;
#endif
}

// Reads rows as float32.
struct Decoder {
    const Rows& rows;
    const int64_t bytes, each;  // of a row's codes; of a vector's: one or two 32-bit words
    float weights[16];
    Ints shift, word;  // where the bits of each lane are

    explicit Decoder(const Rows& rows)
        : rows(rows), bytes(rows.dim * rows.bits / 8), each(LANES * rows.bits / 8) {
        for (int at = 0; at < 16; ++at) weights[at] = at >> rows.bits ? 0.f : rows.weights[at];
        for (int32_t lane = 0; lane < LANES; ++lane) {
            shift[lane] = lane * int32_t(rows.bits) % 32;
            word[lane] = lane * int32_t(rows.bits) / 32;
        }
    }
    // Row `row`, and zeros up to a multiple of LANES; false if it has no centroid.
    bool read(int64_t row, float* line) const {
        if (uint64_t(rows.ids[row]) >= uint64_t(rows.centroid_count)) return false;
        const int64_t dim = rows.dim;
        const uint8_t* codes = rows.data + row * bytes;
        const float* centroid = rows.centroids + rows.ids[row] * dim;
        const Ints mask = splat((1 << int32_t(rows.bits)) - 1);
        for (int64_t i = 0; i < dim; i += W, codes += each) {
            uint32_t words[2] = {};
            const int64_t rest = rows.data + (row + 1) * bytes - codes;
            std::memcpy(words, codes, each < rest ? each : rest);
            const Ints here = word == 0 ? splat(int32_t(words[0])) : splat(int32_t(words[1]));
            const Ints numbers = (Ints)((Words)here >> (Words)shift) & mask;
            const Floats value = chosen_weights(weights, numbers);
            if (i + W <= dim) {
                store(line + i, value + load<Floats>(centroid + i));
                continue;
            }
            for (int64_t lane = 0; lane < W; ++lane)
                line[i + lane] = i + lane < dim ? value[lane] + centroid[i + lane] : 0.f;
        }
        return true;
    }
};

}  // namespace

// Pillow's resampling of 8-bit colour pictures, bit for bit, several times as fast.
//
// Two passes, across and down, each a sum of pixels times weights of 22 fractional bits, rounded and
// cut to a byte. A weight is split into two numbers of 16 bits, high * 2^12 + low, so that pairs
// of neighbours are multiplied and added by one instruction without losing a bit.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_AVX2_CODE
#include <immintrin.h>
#endif

namespace {

constexpr int FRACTION = 22;
constexpr int SPLIT = 12;
constexpr int64_t GROUP = 4;  // taps that the fast code takes at a time
constexpr int ROWS = 4;       // rows likewise

// Weights of one direction. Output i is the sum over t < counts[i] of weights[i * taps + t] times
// input starts[i] + t; weights beyond counts[i] are 0; taps is a multiple of GROUP.
struct Weights {
    const int32_t* weights;
    const int64_t* starts;
    const int64_t* counts;
    int64_t taps;
    int64_t outputs;
};

struct Picture {
    const uint8_t* pixels;
    int64_t pixel_bytes;  // 3, or 4 of which the last is ignored
    int64_t row_bytes;
    int64_t width;
    int64_t height;
};

uint8_t to_byte(int32_t sum) {
    return (uint8_t)std::clamp<int32_t>(sum >> FRACTION, 0, 255);
}

void across(const uint8_t* row, const Weights& x, uint8_t* out) {
    for (int64_t i = 0; i < x.outputs; ++i) {
        const int32_t* weights = x.weights + i * x.taps;
        const uint8_t* pixel = row + x.starts[i] * 4;
        int32_t sum[3] = {1 << (FRACTION - 1), 1 << (FRACTION - 1), 1 << (FRACTION - 1)};
        for (int64_t tap = 0; tap < x.counts[i]; ++tap, pixel += 4)
            for (int channel = 0; channel < 3; ++channel)
                sum[channel] += pixel[channel] * weights[tap];
        for (int channel = 0; channel < 3; ++channel) out[i * 3 + channel] = to_byte(sum[channel]);
    }
}

// One row of `width` bytes from rows `row_bytes` apart, beginning at byte `first`.
void down(const uint8_t* rows, int64_t row_bytes, int64_t width, const int32_t* weights,
          int64_t count, int64_t first, uint8_t* out) {
    for (int64_t at = first; at < width; ++at) {
        int32_t sum = 1 << (FRACTION - 1);
        for (int64_t tap = 0; tap < count; ++tap) sum += rows[tap * row_bytes + at] * weights[tap];
        out[at] = to_byte(sum);
    }
}

#ifdef HAS_AVX2_CODE

#define AVX2 __attribute__((target("avx2")))

AVX2 __m256i rounded(__m256i high, __m256i low) {
    const __m256i half = _mm256_set1_epi32(1 << (FRACTION - 1));
    const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, SPLIT), _mm256_add_epi32(low, half));
    return _mm256_srai_epi32(sum, FRACTION);
}

// Four rows at a time, `row_bytes` apart, to outputs `out_bytes` apart. `split`: for each output and
// group of four taps 16 high parts, then 16 low parts; each pair (tap 0, tap 1) four times, then
// (tap 2, tap 3) four times.
AVX2 void across_avx2(const uint8_t* rows, int64_t row_bytes, const Weights& x, const int16_t* split,
                      uint8_t* out, int64_t out_bytes) {
    // From four pixels of four bytes to 16-bit pairs (r0 r1 g0 g1 b0 b1 . . | r2 r3 g2 g3 b2 b3 . .)
    const __m256i pairs = _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,
                                           8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
    for (int64_t i = 0; i < x.outputs; ++i) {
        const uint8_t* pixel = rows + x.starts[i] * 4;
        __m256i high[ROWS], low[ROWS];
        for (int row = 0; row < ROWS; ++row) high[row] = low[row] = _mm256_setzero_si256();
        for (int64_t tap = 0; tap < x.taps; tap += GROUP, pixel += 4 * GROUP, split += 32) {
            const __m256i highs = _mm256_loadu_si256((const __m256i*)split);
            const __m256i lows = _mm256_loadu_si256((const __m256i*)(split + 16));
            for (int row = 0; row < ROWS; ++row) {
                const __m128i four = _mm_loadu_si128((const __m128i*)(pixel + row * row_bytes));
                const __m256i values = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), pairs);
                high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(values, highs));
                low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(values, lows));
            }
        }
        for (int row = 0; row < ROWS; ++row) {
            const __m256i halves = _mm256_add_epi32(_mm256_slli_epi32(high[row], SPLIT), low[row]);
            const __m128i sum = _mm_add_epi32(
                _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)),
                _mm_set1_epi32(1 << (FRACTION - 1)));
            const __m128i words = _mm_packus_epi32(_mm_srai_epi32(sum, FRACTION), sum);
            const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
            // The fourth byte is the next pixel's, or spare at the end of the row.
            std::memcpy(out + row * out_bytes + i * 3, &bytes, 4);
        }
    }
}

AVX2 void down_avx2(const uint8_t* rows, int64_t row_bytes, int64_t width, const int32_t* weights,
                    int64_t count, uint8_t* out) {
    int64_t at = 0;
    for (; at + 32 <= width; at += 32) {
        __m256i high[4], low[4];
        for (int part = 0; part < 4; ++part) high[part] = low[part] = _mm256_setzero_si256();
        for (int64_t tap = 0; tap < count; tap += 2) {
            const bool pair = tap + 1 < count;
            const int32_t first = weights[tap], second = pair ? weights[tap + 1] : 0;
            const uint32_t mask = (1 << SPLIT) - 1;
            const __m256i highs = _mm256_set1_epi32((int32_t)(((uint32_t)(second >> SPLIT) << 16) |
                                                              ((uint32_t)(first >> SPLIT) & 0xffff)));
            const __m256i lows = _mm256_set1_epi32(
                (int32_t)((((uint32_t)second & mask) << 16) | ((uint32_t)first & mask)));
            const uint8_t* row = rows + tap * row_bytes + at;
            const __m256i one = _mm256_loadu_si256((const __m256i*)row);
            const __m256i two = _mm256_loadu_si256((const __m256i*)(pair ? row + row_bytes : row));
            const __m256i zero = _mm256_setzero_si256();
            const __m256i left = _mm256_unpacklo_epi8(one, two), right = _mm256_unpackhi_epi8(one, two);
            const __m256i values[4] = {
                _mm256_unpacklo_epi8(left, zero), _mm256_unpackhi_epi8(left, zero),
                _mm256_unpacklo_epi8(right, zero), _mm256_unpackhi_epi8(right, zero)};
            for (int part = 0; part < 4; ++part) {
                high[part] = _mm256_add_epi32(high[part], _mm256_madd_epi16(values[part], highs));
                low[part] = _mm256_add_epi32(low[part], _mm256_madd_epi16(values[part], lows));
            }
        }
        // The packs put the halves back where the unpacks took them from.
        const __m256i bytes = _mm256_packus_epi16(
            _mm256_packus_epi32(rounded(high[0], low[0]), rounded(high[1], low[1])),
            _mm256_packus_epi32(rounded(high[2], low[2]), rounded(high[3], low[3])));
        _mm256_storeu_si256((__m256i*)(out + at), bytes);
    }
    down(rows, row_bytes, width, weights, count, at, out);
}

int16_t* split_weights(const Weights& x) {
    const int64_t groups = x.outputs * x.taps / GROUP;
    auto* split = (int16_t*)std::malloc(groups * 32 * sizeof(int16_t));
    if (!split) return nullptr;
    for (int64_t group = 0; group < groups; ++group)
        for (int64_t at = 0; at < 16; ++at) {
            const int32_t weight = x.weights[group * GROUP + (at / 8) * 2 + at % 2];
            split[group * 32 + at] = (int16_t)(weight >> SPLIT);
            split[group * 32 + 16 + at] = (int16_t)(weight & ((1 << SPLIT) - 1));
        }
    return split;
}

#endif

// A row with four bytes a pixel; what stands behind it stays.
void widen(const Picture& picture, int64_t y, uint8_t* row) {
    const uint8_t* pixels = picture.pixels + y * picture.row_bytes;
    if (picture.pixel_bytes == 4) {
        std::memcpy(row, pixels, picture.width * 4);
        return;
    }
    for (int64_t x = 0; x + 1 < picture.width; ++x) std::memcpy(row + x * 4, pixels + x * 3, 4);
    std::memcpy(row + (picture.width - 1) * 4, pixels + (picture.width - 1) * 3, 3);
}

// The rows that some outputs need.
void extent(const Weights& y, int64_t& first, int64_t& last) {
    first = y.starts[0];
    last = first;
    for (int64_t i = 0; i < y.outputs; ++i) {
        first = std::min(first, y.starts[i]);
        last = std::max(last, y.starts[i] + y.counts[i]);
    }
}

// Rows `first` to `last - 1` of a picture across, to rows `out_bytes` apart. Behind each row a byte
// is spoilt, and rows that fill up the last group of ROWS are. Returns whether there was memory.
bool pass_across(const Picture& picture, const Weights& x, int64_t first, int64_t last,
                 bool use_avx2, uint8_t* out, int64_t out_bytes) {
    const int64_t wide_bytes = (picture.width + x.taps) * 4;
    auto* wide = (uint8_t*)std::calloc(ROWS, wide_bytes);
    int16_t* split = nullptr;
    bool ok = wide != nullptr;
#ifdef HAS_AVX2_CODE
    if (use_avx2) ok = (split = split_weights(x)) && ok;
#endif
    for (int64_t at = first; ok && at < last; at += ROWS, out += ROWS * out_bytes) {
        const int64_t rows = std::min<int64_t>(ROWS, last - at);
        for (int64_t row = 0; row < rows; ++row)
            widen(picture, at + row, wide + row * wide_bytes);
#ifdef HAS_AVX2_CODE
        if (use_avx2) {
            across_avx2(wide, wide_bytes, x, split, out, out_bytes);
            continue;
        }
#endif
        for (int64_t row = 0; row < rows; ++row)
            across(wide + row * wide_bytes, x, out + row * out_bytes);
    }
    std::free(wide);
    std::free(split);
    return ok;
}

// Rows of `width` bytes down, from rows `row_bytes` apart of which the first is input `first`.
void pass_down(const uint8_t* rows, int64_t row_bytes, int64_t width, const Weights& y,
               int64_t first, bool use_avx2, uint8_t* out) {
    for (int64_t i = 0; i < y.outputs; ++i, out += width) {
        const uint8_t* from = rows + (y.starts[i] - first) * row_bytes;
        const int32_t* weights = y.weights + i * y.taps;
#ifdef HAS_AVX2_CODE
        if (use_avx2) {
            down_avx2(from, row_bytes, width, weights, y.counts[i], out);
            continue;
        }
#endif
        down(from, row_bytes, width, weights, y.counts[i], 0, out);
    }
}

bool across_then_down(const Picture& picture, const Weights& x, const Weights& y, bool use_avx2,
                      uint8_t* out) {
    int64_t first, last;
    extent(y, first, last);
    const int64_t width = x.outputs * 3, row_bytes = width + 1;
    auto* middle = (uint8_t*)std::malloc((last - first + ROWS) * row_bytes);
    const bool ok = middle && pass_across(picture, x, first, last, use_avx2, middle, row_bytes);
    if (ok) pass_down(middle, row_bytes, width, y, first, use_avx2, out);
    std::free(middle);
    return ok;
}

bool down_then_across(const Picture& picture, const Weights& x, const Weights& y, bool use_avx2,
                      uint8_t* out) {
    const int64_t width = picture.width * picture.pixel_bytes, out_bytes = x.outputs * 3;
    auto* middle = (uint8_t*)std::malloc(y.outputs * width);
    auto* spoilt = (uint8_t*)std::malloc((y.outputs + ROWS) * (out_bytes + 1));
    bool ok = middle && spoilt;
    if (ok) {
        pass_down(picture.pixels, picture.row_bytes, width, y, 0, use_avx2, middle);
        const Picture shorter{middle, picture.pixel_bytes, width, picture.width, y.outputs};
        ok = pass_across(shorter, x, 0, y.outputs, use_avx2, spoilt, out_bytes + 1);
        for (int64_t row = 0; ok && row < y.outputs; ++row)
            std::memcpy(out + row * out_bytes, spoilt + row * (out_bytes + 1), out_bytes);
    }
    std::free(middle);
    std::free(spoilt);
    return ok;
}

}  // namespace

extern "C" {

// Writes (y.outputs, x.outputs, 3) bytes. Returns 0, or 1 if there is no memory.
int maxsight_resample(const Picture* picture, const Weights* x, const Weights* y, int down_first,
                      uint8_t* out) {
#ifdef HAS_AVX2_CODE
    const bool use_avx2 = __builtin_cpu_supports("avx2");
#else
    const bool use_avx2 = false;
#endif
    const auto both = down_first ? down_then_across : across_then_down;
    return !both(*picture, *x, *y, use_avx2, out);
}

}  // extern "C"

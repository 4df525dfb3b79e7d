// Late interaction in two steps: documents by their tokens' centroids, then some by their tokens.
#pragma once

#include <algorithm>
#include <new>
#include <vector>

#include "late_task.h"
#include "panels.h"

namespace {

// Query tokens whose centroid scores are one row of a table, in bytes.
constexpr int64_t TABLE_LANES = 64, HALF_LANES = 32;
typedef uint8_t Lanes __attribute__((vector_size(HALF_LANES)));

// One query as a product takes it: each number in one part, or in two for the bits that are lost.
template <class P>
struct Asked {
    int64_t count, lanes, steps;
    std::vector<uint8_t> packed, lower;
    std::vector<float> scale;

    Asked(const float* tokens, int64_t count, int64_t dim, bool fine)
        : count(count), lanes(padded(count)), steps(steps_of(P::kind, dim)),
          packed(lanes * steps * 4 + 64), scale(3 * lanes + W) {
        Packing task{(const uint8_t*)tokens, FLOAT32, P::kind, count, dim, packed.data(),
                     scale.data(), scale.data() + lanes, scale.data() + 2 * lanes};
        pack_queries(task);
        if (task.count < 0) throw std::bad_alloc();
        if (P::kind != INT8 || !fine) return;
        lower.assign(packed.size(), 0x80);
        for (int64_t first = 0; first < count;) {
            const int64_t width = block_width(count, first);
            for (int64_t token = first; token < std::min(first + width, count); ++token)
                for (int64_t i = 0; i < dim; ++i) {
                    const int64_t at = first * steps * 4 + ((i / 4) * width + token - first) * 4 + i % 4;
                    // What rounding took, at most half a step, in 254ths of one.
                    const float lost =
                        tokens[token * dim + i] / scale[token] - int8_t(packed[at] ^ 0x80);
                    lower[at] = uint8_t(int(std::nearbyint(lost * 254))) ^ 0x80;
                }
            first += width;
        }
    }
};

// Memory of a thread for decoded tokens.
template <class P>
struct Tokens {
    const Coded& coded;
    PanelMemory memory;
    int64_t bytes = coded.dim * coded.bits / 8;
    uint32_t quads[256];  // what the four codes of a byte add, with 2 bits

    explicit Tokens(const Coded& coded) : coded(coded), memory(P::kind, coded.dim) {
        if (!memory.ok()) throw std::bad_alloc();
        if (coded.bits == 2)
            for (int byte = 0; byte < 256; ++byte) {
                int8_t four[4];
                for (int at = 0; at < 4; ++at) four[at] = coded.levels[byte >> 2 * at & 3];
                std::memcpy(quads + byte, four, 4);
            }
    }

    // Tokens first .. first + count, at most memory.limit, as the product takes them.
    Panel panel(int64_t first, int64_t count) {
        Panel panel{};
        panel.count = count;
        panel.base = first;
        panel.factor = coded.scale ? coded.scale + first : memory.factor;
        const uint8_t* data = coded.data + first * bytes;
        if (P::kind == INT8 && coded.bits == 8 && coded.scale && coded.dim % 4096) {
            panel.data = data;
            panel.stride = bytes;
            panel.ahead = AHEAD;
        } else {
            panel.data = memory.data;
            panel.stride = memory.stride;
            for (int64_t row = 0; row < count; ++row) {
                uint8_t* output = memory.data + row * memory.stride;
                int8_t* numbers = (int8_t*)(P::kind == INT8 ? output : (uint8_t*)memory.line);
                const float inverse = decode(first + row, data + row * bytes, numbers);
                if (!coded.scale) memory.factor[row] = inverse;
                if constexpr (P::kind != INT8)
                    widen<INT8>((const uint8_t*)numbers, coded.dim, (float*)output);
            }
        }
        return starting(panel);
    }

    // Centroids first .. first + count.
    Panel centroids(int64_t first, int64_t count) {
        Panel panel{};
        panel.count = count;
        const int8_t* rows = coded.centroids + first * coded.dim;
        panel.data = (const uint8_t*)rows;
        panel.stride = coded.dim;
        if constexpr (P::kind != INT8) {
            panel.data = memory.data;
            panel.stride = memory.stride;
            for (int64_t row = 0; row < count; ++row)
                widen<INT8>((const uint8_t*)rows + row * coded.dim, coded.dim,
                            (float*)(memory.data + row * memory.stride));
        }
        return starting(panel);
    }

  private:
    Panel starting(Panel panel) {
#ifdef HAS_VNNI
        if constexpr (P::kind == INT8) {
            start_sums(panel.data, panel.stride, coded.dim, panel.count, memory.starts);
            panel.starts = memory.starts;
        }
#endif
        return panel;
    }

    int64_t id(int64_t token) const {
        return coded.id_bytes == 1 ? coded.ids[token] : ((const uint16_t*)coded.ids)[token];
    }

    // Writes a token's numbers; its inverse norm.
    float decode(int64_t token, const uint8_t* data, int8_t* output) const {
        const int64_t dim = coded.dim;
        if (coded.bits == 8) {
            std::memcpy(output, data, dim);
            return 1;
        }
        if (coded.bits == 2)
            for (int64_t i = 0; i < dim; i += 4) std::memcpy(output + i, quads + data[i / 4], 4);
        else
            look_up(data, output);
        const int32_t squares = add(coded.centroids + id(token) * dim, output);
        return squares ? 1 / std::sqrt(float(squares)) : 0;
    }

#ifdef HAS_VNNI
    // Which of the 64 numbers from i on there are.
    __mmask64 there(int64_t i) const {
        return coded.dim - i < 64 ? (1ull << (coded.dim - i)) - 1 : ~0ull;
    }

    // What codes of four or five bits add.
    void look_up(const uint8_t* data, int8_t* output) const {
        const __m512i lower =
            _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)coded.levels));
        const __m512i upper =
            coded.bits == 5
                ? _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)coded.levels + 1))
                : lower;
        const uint8_t* fifths = data + coded.dim / 2;
        for (int64_t i = 0; i < coded.dim; i += 64) {
            const __mmask64 mask = there(i);
            const __mmask32 half = mask == ~0ull ? ~0u : (1u << (coded.dim - i) / 2) - 1;
            // Two codes a byte become one a byte, in order.
            const __m512i pairs = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(half, data + i / 2));
            const __m512i codes =
                _mm512_or_si512(_mm512_and_si512(pairs, _mm512_set1_epi16(0x000f)),
                                _mm512_and_si512(_mm512_slli_epi16(pairs, 4),
                                                 _mm512_set1_epi16(0x0f00)));
            uint64_t fifth = 0;
            if (coded.bits == 5)
                std::memcpy(&fifth, fifths + i / 8, mask == ~0ull ? 8 : (coded.dim - i) / 8);
            const __m512i value = _mm512_mask_blend_epi8(fifth, _mm512_shuffle_epi8(lower, codes),
                                                         _mm512_shuffle_epi8(upper, codes));
            _mm512_mask_storeu_epi8(output + i, mask, value);
        }
    }

    // Adds a centroid, to at most 127 either way; the sum of the squares.
    int32_t add(const int8_t* centroid, int8_t* output) const {
        __m512i squares = _mm512_setzero_si512();
        for (int64_t i = 0; i < coded.dim; i += 64) {
            const __mmask64 mask = there(i);
            const __m512i sum = _mm512_max_epi8(
                _mm512_adds_epi8(_mm512_maskz_loadu_epi8(mask, output + i),
                                 _mm512_maskz_loadu_epi8(mask, centroid + i)),
                _mm512_set1_epi8(-127));
            _mm512_mask_storeu_epi8(output + i, mask, sum);
            const __m512i size = _mm512_abs_epi8(sum);
            squares = _mm512_dpbusd_epi32(squares, size, size);
        }
        return _mm512_reduce_add_epi32(squares);
    }
#else
    void look_up(const uint8_t* data, int8_t* output) const {
        const uint8_t* fifths = data + coded.dim / 2;
        for (int64_t i = 0; i < coded.dim; ++i) {
            int code = data[i / 2] >> 4 * (i % 2) & 15;
            if (coded.bits == 5) code |= (fifths[i / 8] >> i % 8 & 1) << 4;
            output[i] = coded.levels[code];
        }
    }

    int32_t add(const int8_t* centroid, int8_t* output) const {
        int32_t squares = 0;
        for (int64_t i = 0; i < coded.dim; ++i) {
            const int sum = output[i] + centroid[i];
            output[i] = int8_t(sum < -127 ? -127 : sum > 127 ? 127 : sum);
            squares += output[i] * output[i];
        }
        return squares;
    }
#endif
};

// Products of rows with a block of query tokens, stored: (rows, stride).
template <class P>
struct ProductTile {
    float* products;
    int64_t stride;
    template <int R, int C>
    void run(const Panel& panel, int64_t row, const uint8_t* packed, int64_t steps) const {
        typename P::Sum total[R][C];
        multiply<P, R, C>(panel, row, packed, steps, total);
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c)
                store(products + (row + r) * stride + c * W, P::value(total[r][c]));
    }
};

// The running maxima of MaximumTile, of queries in two parts, the second in 254ths.
template <class P>
struct FineTile {
    float* best;
    const uint8_t* upper;
    const uint8_t* lower;
    template <int R, int C>
    void run(const Panel& panel, int64_t row, const uint8_t* packed, int64_t steps) const {
        typename P::Sum total[R][C], rest[R][C];
        multiply<P, R, C>(panel, row, packed, steps, total);
        multiply<P, R, C>(panel, row, lower + (packed - upper), steps, rest);
        for (int r = 0; r < R; ++r) {
            const Floats factor = splat(panel.factor ? panel.factor[row + r] : 1.f);
            for (int c = 0; c < C; ++c) {
                const Floats value =
                    (P::value(total[r][c]) + P::value(rest[r][c]) * splat(1 / 254.f)) * factor;
                store(best + c * W, maximum(load<Floats>(best + c * W), value));
            }
        }
    }
};

// What a token's centroid is worth to each of up to 64 query tokens, as a byte: (K, width).
struct Table {
    std::vector<float> products;
    std::vector<uint8_t> bytes;
    int64_t width = 0;
    float step = 0, base = 0;  // a document's score is step * (sum of its bytes) + base

    template <class P>
    void fill(Tokens<P>& tokens, const float* queries, int64_t count) {
        const Coded& coded = tokens.coded;
        const int64_t centroids = coded.centroid_count;
        Asked<P> asked(queries, count, coded.dim, false);
        products.resize(centroids * asked.lanes);
        for (int64_t first = 0; first < centroids; first += tokens.memory.limit) {
            const int64_t rows = std::min(tokens.memory.limit, centroids - first);
            const Panel panel = tokens.centroids(first, rows);
            for (int64_t lane = 0; lane < count;) {
                const int64_t block = block_width(count, lane);
                const ProductTile<P> tile{products.data() + first * asked.lanes + lane, asked.lanes};
                run_panel(tile, panel, block, asked.packed.data() + lane * asked.steps * 4,
                          asked.steps);
                lane += block;
            }
        }
        float least[TABLE_LANES + W], most[TABLE_LANES + W];
        for (int64_t lane = 0; lane < asked.lanes; ++lane) {
            least[lane] = INFINITY;
            most[lane] = -INFINITY;
        }
        for (int64_t row = 0; row < centroids; ++row)
            for (int64_t lane = 0; lane < asked.lanes; lane += W) {
                const Floats value = load<Floats>(products.data() + row * asked.lanes + lane);
                ::store(least + lane, -maximum(-load<Floats>(least + lane), -value));
                ::store(most + lane, maximum(load<Floats>(most + lane), value));
            }
        float range = 0;
        base = 0;
        for (int64_t lane = 0; lane < count; ++lane) {
            base += least[lane] * asked.scale[lane];
            range = std::fmax(range, (most[lane] - least[lane]) * asked.scale[lane]);
        }
        step = range > 0 ? range / 255 : 1;
        float factor[TABLE_LANES + W] = {};
        for (int64_t lane = 0; lane < count; ++lane) factor[lane] = asked.scale[lane] / step;
        width = count > HALF_LANES ? TABLE_LANES : HALF_LANES;
        bytes.assign(centroids * width, 0);
        for (int64_t row = 0; row < centroids; ++row) {
            const float* from = products.data() + row * asked.lanes;
            uint8_t* to = bytes.data() + row * width;
            for (int64_t lane = 0; lane < count; ++lane)
                to[lane] = uint8_t((from[lane] - least[lane]) * factor[lane] + 0.5f);
        }
    }

    // What a document with these centroids scores.
    template <int N, class Id>
    float score(const Id* ids, int64_t count) const {
        if (!count) return -INFINITY;
        Lanes best[N] = {};
        for (int64_t at = 0; at < count; ++at) {
            const uint8_t* row = bytes.data() + int64_t(ids[at]) * N * HALF_LANES;
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) {
                const Lanes value = load<Lanes>(row + n * HALF_LANES);
                best[n] = best[n] > value ? best[n] : value;
            }
        }
        int32_t total = 0;
        for (int n = 0; n < N; ++n)
            for (int64_t lane = 0; lane < HALF_LANES; ++lane) total += best[n][lane];
        return step * float(total) + base;
    }
    float score(const Coded& coded, int64_t first, int64_t count) const {
        const uint16_t* wide = (const uint16_t*)coded.ids + first;
        const uint8_t* narrow = coded.ids + first;
        if (coded.id_bytes == 1)
            return width == TABLE_LANES ? score<2>(narrow, count) : score<1>(narrow, count);
        return width == TABLE_LANES ? score<2>(wide, count) : score<1>(wide, count);
    }
};

// The best documents so far: those that were best when memory ran full, and what came after.
struct Leaders {
    struct Entry {
        float score;
        int64_t document;
    };
    std::vector<Entry> entries;
    size_t keep;
    float least = -INFINITY;

    Leaders(int64_t keep, int64_t listed) : keep(keep) {
        entries.reserve(2 * std::min(keep, listed) + 1024);
    }
    static bool before(const Entry& a, const Entry& b) {
        return a.score != b.score ? a.score > b.score : a.document < b.document;
    }
    void add(float score, int64_t document) {
        // Documents come in order: of equals the earlier ones stay.
        if (entries.size() >= keep && !(score > least)) return;
        if (entries.size() == entries.capacity()) shrink();
        entries.push_back({score, document});
    }
    void shrink() {
        if (entries.size() <= keep) return;
        std::nth_element(entries.begin(), entries.begin() + (keep - 1), entries.end(), before);
        entries.resize(keep);
        least = entries[keep - 1].score;
    }
    void write(int64_t* kept) {
        shrink();
        std::sort(entries.begin(), entries.end(),
                  [](const Entry& a, const Entry& b) { return a.document < b.document; });
        for (size_t at = 0; at < keep; ++at)
            kept[at] = at < entries.size() ? entries[at].document : -1;
    }
};

template <class P>
void interact_as(Interaction& task) {
    const Coded& coded = task.coded;
    Tokens<P> tokens(coded);
    std::vector<Table> tables(1);
    const int64_t listed = task.rows ? task.width : coded.documents;
    for (int64_t query = task.first; query < task.last; ++query) {
        const int64_t start = task.query_offsets[query];
        const int64_t count = task.query_offsets[query + 1] - start;
        const size_t blocks = (count + TABLE_LANES - 1) / TABLE_LANES;
        if (tables.size() < blocks) tables.resize(blocks);
        for (size_t block = 0; block < blocks; ++block) {
            const int64_t from = start + int64_t(block) * TABLE_LANES;
            tables[block].fill(tokens, task.queries + from * coded.dim,
                               std::min(TABLE_LANES, start + count - from));
        }
        const uint8_t* allowed =
            task.allowed ? task.allowed + query * task.allowed_stride : nullptr;
        const int64_t* rows = task.rows ? task.rows + query * task.width : nullptr;
        Leaders leaders(task.keep, listed);
        for (int64_t at = 0; at < listed; ++at) {
            const int64_t document = rows ? rows[at] : at;
            if (document < 0 || (allowed && !allowed[document])) continue;
            const int64_t from = coded.offsets[document];
            const int64_t length = coded.offsets[document + 1] - from;
            float score = 0;
            for (size_t block = 0; block < blocks; ++block) {
                score += tables[block].score(coded, from, length);
            }
            leaders.add(score, document);
        }
        leaders.write(task.kept + query * task.keep);
    }
}

template <class P>
void score_as(Pairs& task) {
    const Coded& coded = task.coded;
    Tokens<P> tokens(coded);
    std::vector<Asked<P>> asked;
    asked.reserve(task.groups);
    int64_t widest = 0;
    for (int64_t query = 0; query < task.groups; ++query) {
        const int64_t start = task.query_offsets[query];
        asked.emplace_back(task.queries + start * coded.dim, task.query_offsets[query + 1] - start,
                           coded.dim, task.fine != 0);
        widest = std::max(widest, asked.back().lanes + W);
    }
    std::vector<float> best;
    for (int64_t first = task.first; first < task.last;) {
        const int64_t document = task.pair_documents[first];
        int64_t last = first + 1;
        while (last < task.last && task.pair_documents[last] == document) ++last;
        best.assign((last - first) * widest, -INFINITY);
        const int64_t end = coded.offsets[document + 1];
        for (int64_t token = coded.offsets[document]; token < end;) {
            const int64_t rows = std::min(end - token, tokens.memory.limit);
            const Panel panel = tokens.panel(token, rows);
            for (int64_t at = first; at < last; ++at) {
                const Asked<P>& query = asked[task.pair_queries[at]];
                float* maxima = best.data() + (at - first) * widest;
                for (int64_t lane = 0; lane < query.count;) {
                    const int64_t width = block_width(query.count, lane);
                    const uint8_t* packed = query.packed.data() + lane * query.steps * 4;
                    if (query.lower.empty())
                        run_panel(MaximumTile<P, false>{maxima + lane, nullptr, 0}, panel, width,
                                  packed, query.steps);
                    else
                        run_panel(FineTile<P>{maxima + lane, query.packed.data(), query.lower.data()},
                                  panel, width, packed, query.steps);
                    lane += width;
                }
            }
            token += rows;
        }
        for (int64_t at = first; at < last; ++at) {
            const Asked<P>& query = asked[task.pair_queries[at]];
            const float* maxima = best.data() + (at - first) * widest;
            const bool empty = coded.offsets[document] == end;
            float total = empty && query.count ? -INFINITY : 0.f;
            for (int64_t lane = 0; lane < query.count && !empty; ++lane)
                total += query.scale[lane] * maxima[lane];
            task.scores[at] = total;
        }
        first = last;
    }
}

inline void interact(Interaction& task) {
    try {
        with_product(product_kind(INT8), [&](auto product) {
            if constexpr (decltype(product)::kind != BFLOAT16) interact_as<decltype(product)>(task);
        });
    } catch (const std::bad_alloc&) {
        task.failed = OUT_OF_MEMORY;
    }
}

inline void score_pairs(Pairs& task) {
    try {
        with_product(product_kind(INT8), [&](auto product) {
            if constexpr (decltype(product)::kind != BFLOAT16) score_as<decltype(product)>(task);
        });
    } catch (const std::bad_alloc&) {
        task.failed = OUT_OF_MEMORY;
    }
}

}  // namespace

// A MaxSim screen: queries rounded for it, and the few documents that it leaves to be scored.
#pragma once

#include <cfloat>

#include "dither.h"
#include "spectrum.h"

namespace {

// What documents are like, from some of their tokens: how well it is known only decides how narrow
// the bounds are.
inline double mean_square(const float* numbers, int64_t count) {
    const int64_t every = count / 256 + 1;
    double total = 0;
    for (int64_t at = 0; at < count; at += every) total += double(numbers[at]) * numbers[at];
    return count ? total / ((count + every - 1) / every) : 0;
}

// Rounds queries, and finds the l of each that makes its bound narrow for documents of typical steps
// and lengths. The rise of products is one number, so of several queries each gets about its best l.
inline void prepare(Preparation& task) {
    const Rows& rows = task.dithering.rows;
    dither(task.dithering);
    // Factors, and rows divided by the square roots of their steps.
    float* scale = (float*)std::malloc((task.dithering.last + 1) * sizeof(float));
    float* grams = (float*)std::malloc((task.groups + 1) * sizeof(float));
    task.failed = !scale || !grams || task.dithering.failed;
    const float* step = task.dithering.step;
    if (!task.failed) {
        for (int64_t row = 0; row < task.dithering.last; ++row)
            scale[row] = step[row] > 0
                             ? (rows.scale ? rows.scale[row] : 1.f) / std::sqrt(step[row])
                             : 0.f;
        Spectra spectra{rows, task.offsets, task.groups, grams, 0};
        spectra.rows.scale = scale;
        bound(spectra);
        task.failed = spectra.failed;
    }
    const Screen& screen = task.screen;
    bool rounded = false;
    for (int64_t at = 0; at < screen.documents; ++at) rounded |= screen.step[at] > 0;
    const int64_t tokens = screen.offsets[screen.documents] - screen.offsets[0];
    const double square_step =
        rounded ? mean_square(screen.rows.scale + screen.offsets[0], tokens) : 0;
    const double square_length = mean_square(screen.length, screen.documents);
    double logarithms = 0;
    int64_t counted = 0;
    for (int64_t group = 0; group < task.groups && !task.failed; ++group) {
        double steps = 0, squares = 0, lengths = 0;
        const int64_t first = task.offsets[group], last = task.offsets[group + 1];
        for (int64_t row = first; row < last; ++row) {
            steps += step[row];
            squares += double(step[row]) * step[row];
            lengths += task.dithering.norm[row] + step[row] * std::sqrt(double(rows.dim));
        }
        const double variance =
            (square_step * grams[group] * steps + square_length * squares) / 4;
        const double lean = variance > 0 ? std::sqrt(2 * task.certainty / variance) : 0;
        task.spread[group] = squares;
        task.margin[group] = lean;
        task.rounding[group] = (rows.dim + last - first + 16) * 0x1p-24 * lengths;
        if (lean > 0 && grams[group] > 0 && square_step > 0) {
            logarithms += std::log(lean * grams[group] / 8);
            ++counted;
        }
    }
    task.rise = counted ? float(std::exp(logarithms / counted)) : 0.f;
    for (int64_t group = 0; group < task.groups && !task.failed; ++group) {
        double lean = task.margin[group];
        if (lean > 0 && counted && grams[group] > 0) lean = 8 * double(task.rise) / grams[group];
        task.spread[group] = float(lean / 8 * task.spread[group]);
        task.margin[group] = lean > 0 ? float(task.certainty / lean) : 0.f;
    }
    std::free(scale);
    std::free(grams);
}

// The places of the `size` largest of some numbers, or of all, as a heap with the least on top.
struct Largest {
    const float* numbers;
    int64_t* places;
    int64_t size, filled;

    void add(int64_t place) {
        int64_t at;
        if (filled < size) {
            for (at = filled++; at > 0; at = (at - 1) / 2) {
                const int64_t parent = (at - 1) / 2;
                if (numbers[places[parent]] <= numbers[place]) break;
                places[at] = places[parent];
            }
            places[at] = place;
            return;
        }
        if (!(numbers[place] > numbers[places[0]])) return;
        for (at = 0;;) {
            int64_t child = 2 * at + 1;
            if (child >= filled) break;
            if (child + 1 < filled && numbers[places[child + 1]] < numbers[places[child]]) ++child;
            if (numbers[place] <= numbers[places[child]]) break;
            places[at] = places[child];
            at = child;
        }
        places[at] = place;
    }
};

// A document's score joins the best, kept in order: higher scores first, then lower numbers.
inline void join(Shortlist& task, float score, int64_t document) {
    int64_t at = task.k;
    for (; at > 0; --at) {
        const float other = task.scores[at - 1];
        const int64_t number = task.indices[at - 1];
        if (number >= 0 && (other > score || (other == score && number < document))) break;
        if (at == task.k) continue;
        task.scores[at] = other;
        task.indices[at] = number;
    }
    if (at == task.k) return;
    task.scores[at] = score;
    task.indices[at] = document;
}

// Scores documents, those of the highest bounds first, until no bound reaches the k-th score.
inline void choose(Shortlist& task) {
    Segments& exact = task.exact;
    const int64_t count = task.count;
    float* bounds = (float*)std::malloc((count + 1) * sizeof(float));
    float* scores = (float*)std::malloc((count + 1) * sizeof(float));
    int64_t* chosen = (int64_t*)std::malloc((count + 1) * sizeof(int64_t));
    task.failed = !bounds || !scores || !chosen;
    const float wide = std::sqrt(float(exact.rows.dim));
    for (int64_t at = 0; at < count && !task.failed; ++at) {
        const int64_t document = task.start + at;
        const float length = task.screen.length[document];
        const float longest = length + task.screen.step[document] * wide;
        const bool wanted = !task.allowed || task.allowed[document];
        bounds[at] = wanted ? task.sums[at * task.stride] + task.spread * length * length +
                                  task.margin + task.rounding * longest
                            : -INFINITY;
    }
    for (int64_t size = task.k; !task.failed; size *= 4) {
        // A bound that equals the k-th score may still win by its lower index.
        const float worst = task.indices[task.k - 1] < 0 ? -FLT_MAX : task.scores[task.k - 1];
        Largest largest{bounds, chosen, size < count ? size : count, 0};
        for (int64_t at = 0; at < count; ++at)
            if (bounds[at] >= worst) largest.add(at);
        if (largest.filled == 0) break;
        for (int64_t at = 0; at < largest.filled; ++at) {
            bounds[chosen[at]] = -INFINITY;
            chosen[at] += task.start;
        }
        exact.segments = chosen;
        exact.first = 0;
        exact.last = largest.filled;
        exact.output = scores;
        reduce(exact);
        task.failed = exact.failed;
        for (int64_t at = 0; at < largest.filled; ++at) join(task, scores[at], chosen[at]);
    }
    std::free(bounds);
    std::free(scores);
    std::free(chosen);
}

}  // namespace

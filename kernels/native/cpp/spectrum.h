// How much of one direction there is in several rows: the largest eigenvalue of their Gram matrix.
#pragma once

#include "vectors.h"

namespace {

// The 64th power: its trace's 64th root is at most 7 % too large for 100 equal eigenvalues.
constexpr int SQUARINGS = 6;

// Square matrices of n rows, each `stride` long, zeros beyond n. output = input times input, which
// is symmetric.
inline void square(const float* input, int64_t n, int64_t stride, float* output) {
    for (int64_t i = 0; i < n; ++i) {
        const float* factors = input + i * stride;
        for (int64_t j = 0; j < stride; j += W) {
            Floats even{}, odd{};
            int64_t k = 0;
            for (; k + 2 <= n; k += 2) {
                even += splat(factors[k]) * load<Floats>(input + k * stride + j);
                odd += splat(factors[k + 1]) * load<Floats>(input + (k + 1) * stride + j);
            }
            if (k < n) even += splat(factors[k]) * load<Floats>(input + k * stride + j);
            store(output + i * stride + j, even + odd);
        }
    }
}

// The trace of the 64th power of `matrix`, to the 1/64; uses `other`, of the same size.
inline float root_of_trace(float* matrix, float* other, int64_t n, int64_t stride) {
    double logarithm = 0, weight = 1;
    for (int round = 0;; ++round, weight /= 2) {
        double trace = 0;
        for (int64_t i = 0; i < n; ++i) trace += matrix[i * stride + i];
        if (!(trace > 0)) return 0;
        logarithm += weight * std::log(trace);
        if (round == SQUARINGS) return float(std::exp(logarithm));
        for (int64_t at = 0; at < n * stride; at += W)
            store(matrix + at, load<Floats>(matrix + at) * splat(float(1 / trace)));
        square(matrix, n, stride, other);
        float* squared = other;
        other = matrix;
        matrix = squared;
    }
}

template <int64_t KIND>
void bound_spectra(Spectra& task) {
    const Rows& rows = task.rows;
    const int64_t dim = rows.dim, stored = row_bytes(KIND, dim), width = (dim + W - 1) / W * W;
    int64_t most = 0;
    for (int64_t group = 0; group < task.groups; ++group) {
        const int64_t count = task.offsets[group + 1] - task.offsets[group];
        most = count > most ? count : most;
    }
    // Rows times rows, or columns times columns, whichever is smaller: the eigenvalues are the same.
    const int64_t size = most <= dim ? (most + W - 1) / W * W : width;
    float* lines = (float*)std::malloc(((most < dim ? most : dim) + 1) * width * sizeof(float));
    float* matrix = (float*)std::malloc((size * size + W) * sizeof(float));
    float* other = (float*)std::malloc((size * size + W) * sizeof(float));
    task.failed = !lines || !matrix || !other;
    auto read = [&](int64_t row, float* line) {
        widen<KIND>(rows.data + row * stored, dim, line);
        const Floats scale = splat(rows.scale ? rows.scale[row] : 1.f);
        for (int64_t i = 0; i < dim; i += W) store(line + i, load<Floats>(line + i) * scale);
    };
    for (int64_t group = 0; group < task.groups && !task.failed; ++group) {
        const int64_t first = task.offsets[group], count = task.offsets[group + 1] - first;
        const bool by_rows = count <= dim;
        const int64_t n = by_rows ? count : dim, stride = (n + W - 1) / W * W;
        std::memset(matrix, 0, n * stride * sizeof(float));
        for (int64_t row = 0; row < count; ++row) {
            float* line = by_rows ? lines + row * width : lines;
            read(first + row, line);
            if (!by_rows) {
                for (int64_t i = 0; i < n; ++i)
                    for (int64_t j = 0; j < stride; j += W) {
                        float* to = matrix + i * stride + j;
                        store(to, load<Floats>(to) + splat(line[i]) * load<Floats>(line + j));
                    }
                continue;
            }
            for (int64_t column = 0; column <= row; ++column) {
                Floats total{};
                for (int64_t i = 0; i < dim; i += W)
                    total += load<Floats>(line + i) * load<Floats>(lines + column * width + i);
                matrix[row * stride + column] = matrix[column * stride + row] = sum(total);
            }
        }
        // Rounding of the float32 sums is well below a thousandth.
        task.bound[group] = 1.001f * root_of_trace(matrix, other, n, stride);
    }
    std::free(lines);
    std::free(matrix);
    std::free(other);
}

inline void bound(Spectra& task) {
    with_kind(task.rows.kind, [&](auto known) { bound_spectra<known.kind>(task); });
}

}  // namespace

// The functions that Python calls, on the best instruction set of this machine.
#include <system_error>
#include <thread>
#include <vector>

#include "task.h"

extern const Engine* const portable_engine;
extern const Engine* const avx2_engine;
extern const Engine* const avx512_vnni_engine;
extern const Engine* const avx512_bf16_engine;

namespace {

bool runs_avx2() {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

bool runs_avx512_vnni() {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

bool runs_avx512_bf16() {
#if defined(__x86_64__) && defined(__GNUC__)
    return runs_avx512_vnni() && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

// Engines that this machine can run, best first.
int64_t engines(const Engine** found) {
    int64_t count = 0;
    if (avx512_bf16_engine && runs_avx512_bf16()) found[count++] = avx512_bf16_engine;
    if (avx512_vnni_engine && runs_avx512_vnni()) found[count++] = avx512_vnni_engine;
    if (avx2_engine && runs_avx2()) found[count++] = avx2_engine;
    found[count++] = portable_engine;
    return count;
}

}  // namespace

extern "C" {

const Engine* maxsight_engine(int64_t place) {
    const Engine* found[4];
    return place < engines(found) ? found[place] : nullptr;
}
const char* maxsight_name(const Engine* engine) { return engine->name; }
int64_t maxsight_lanes(const Engine* engine) { return engine->lanes; }
int64_t maxsight_product_kind(const Engine* engine, int64_t row_kind) {
    return engine->product_kind(row_kind);
}
// Whether offsets never fall and lie in 0 .. rows, or where asked for begin and end there.
int64_t maxsight_fits(const int64_t* offsets, int64_t count, int64_t rows, int64_t whole) {
    const int64_t first = count ? offsets[0] : -1, last = count ? offsets[count - 1] : -1;
    int64_t fits = whole ? first == 0 && last == rows : first >= 0 && last <= rows;
    for (int64_t at = 1; at < count; ++at) fits &= offsets[at - 1] <= offsets[at];
    return fits;
}
void maxsight_pack(const Engine* engine, Packing* task) { engine->pack(*task); }
void maxsight_reduce(const Engine* engine, Segments* task) { engine->reduce(*task); }
void maxsight_scan(const Engine* engine, Scan* task) { engine->scan(*task); }
void maxsight_interact(const Engine* engine, Interaction* task) { engine->interact(*task); }
void maxsight_score_pairs(const Engine* engine, Pairs* task) { engine->score_pairs(*task); }
// Tasks side by side, the first in the calling thread. A thread costs a tenth of Python's.
void maxsight_run(void (*function)(const Engine*, void*), const Engine* engine, void** tasks,
                  int64_t count) {
    std::vector<std::thread> threads;
    threads.reserve(count);
    for (int64_t at = 1; at < count; ++at) {
        try {
            threads.emplace_back(function, engine, tasks[at]);
        } catch (const std::system_error&) {  // the machine has no thread left
            function(engine, tasks[at]);
        }
    }
    if (count) function(engine, tasks[0]);
    for (std::thread& thread : threads) thread.join();
}
}  // extern "C"

#include "task.h"
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,prefer-vector-width=512")
#define ENGINE avx512_bf16_engine
#define NAME "avx512_bf16"
#define LANES 16
#define HAS_VNNI
#define HAS_BF16
#include "engine.h"
#else
extern const Engine* const avx512_bf16_engine = nullptr;
#endif

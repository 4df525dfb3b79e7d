#include "task.h"
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define ENGINE avx2_engine
#define NAME "avx2"
#define LANES 8
#include "engine.h"
#else
extern const Engine* const avx2_engine = nullptr;
#endif

/* The instruction sets that are built in and that this processor runs. */

#include "kernels.h"

#define DECLARE(set) extern const kernels *const kernels_##set[2];
#define SETS(DO)                                                                                  \
    IF_AVX512(DO)                                                                                 \
    IF_AVX2(DO)                                                                                   \
    IF_SSE42(DO)                                                                                  \
    IF_NEON(DO)                                                                                   \
    IF_GENERIC(DO)
#ifdef FASTNN_HAVE_AVX512
#define IF_AVX512(DO) DO(avx512)
#else
#define IF_AVX512(DO)
#endif
#ifdef FASTNN_HAVE_AVX2
#define IF_AVX2(DO) DO(avx2)
#else
#define IF_AVX2(DO)
#endif
#ifdef FASTNN_HAVE_SSE42
#define IF_SSE42(DO) DO(x86_64_v2)
#else
#define IF_SSE42(DO)
#endif
#ifdef FASTNN_HAVE_NEON
#define IF_NEON(DO) DO(neon)
#else
#define IF_NEON(DO)
#endif
#ifdef FASTNN_HAVE_GENERIC
#define IF_GENERIC(DO) DO(generic)
#else
#define IF_GENERIC(DO)
#endif

SETS(DECLARE)

#if defined(__x86_64__) || defined(__i386__)
#define RUNS_avx512                                                                               \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&                   \
     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && RUNS_avx2)
#define RUNS_avx2                                                                                 \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&                           \
     __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
#define RUNS_x86_64_v2 (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))
#endif
#define RUNS_neon 1
#define RUNS_generic 1

static const kernels *const *found(int index)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
#endif
#define COUNT(set)                                                                                \
    if (RUNS_##set && index-- == 0)                                                               \
        return kernels_##set;
    SETS(COUNT)
    return NULL;
}

int fastnn_isa_count(void)
{
    int n = 0;
    while (found(n))
        n++;
    return n;
}

const char *fastnn_isa_name(int index) { return found(index)[0]->isa; }

const kernels *fastnn_kernels(int index, int itemsize) { return found(index)[itemsize == 8]; }

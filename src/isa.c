/* The instruction sets that are built in and that this processor runs. */

#include "kernels.h"

extern const kernels *const kernels_avx512[2], *const kernels_avx2[2], *const kernels_x86_64_v2[2],
    *const kernels_neon[2], *const kernels_generic[2];

#if defined(__x86_64__) || defined(__i386__)
#define RUNS_AVX512                                                                               \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&                   \
     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && RUNS_AVX2)
#define RUNS_AVX2                                                                                 \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&                           \
     __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
#define RUNS_SSE42 (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))
#endif

/* Number `index` of those that this processor runs, the best first; NULL after the last. */
static const kernels *const *found(int index)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
#endif
#ifdef FASTNN_HAVE_AVX512
    if (RUNS_AVX512 && index-- == 0)
        return kernels_avx512;
#endif
#ifdef FASTNN_HAVE_AVX2
    if (RUNS_AVX2 && index-- == 0)
        return kernels_avx2;
#endif
#ifdef FASTNN_HAVE_SSE42
    if (RUNS_SSE42 && index-- == 0)
        return kernels_x86_64_v2;
#endif
#ifdef FASTNN_HAVE_NEON
    if (index-- == 0)
        return kernels_neon;
#endif
#ifdef FASTNN_HAVE_GENERIC
    if (index-- == 0)
        return kernels_generic;
#endif
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

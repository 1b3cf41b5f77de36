/* x86-64-v2 (SSE4.2), the baseline: 16 registers of 16 bytes, no FMA. */

#include <float.h>
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sse4.2,popcnt"))), apply_to = function)
#else
#pragma GCC target("sse4.2,popcnt")
#endif

#define ISA "x86-64-v2"
#define TABLES kernels_x86_64_v2
#define VECTOR_BYTES 16
#define MR 5
#define VECTOR_MAX_f32(a, b) ((vec)_mm_max_ps(a, b))
#define VECTOR_MAX_f64(a, b) ((vec)_mm_max_pd(a, b))
#define VECTOR_SQRT_f32(x) ((vec)_mm_sqrt_ps(x))
#define VECTOR_SQRT_f64(x) ((vec)_mm_sqrt_pd(x))
#define VECTOR_BITS_f32(mask) ((uint32_t)_mm_movemask_ps((__m128)(mask)))
#define VECTOR_BITS_f64(mask) ((uint32_t)_mm_movemask_pd((__m128d)(mask)))

#include "both.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

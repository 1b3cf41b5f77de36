/* AVX2 with FMA: 16 registers of 32 bytes. */

#include <float.h>
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif

#define ISA "avx2"
#define TABLES kernels_avx2
#define VECTOR_BYTES 32
#define MR 6
#define VECTOR_MAX_f32(a, b) ((vec)_mm256_max_ps(a, b))
#define VECTOR_MAX_f64(a, b) ((vec)_mm256_max_pd(a, b))
#define VECTOR_SQRT_f32(x) ((vec)_mm256_sqrt_ps(x))
#define VECTOR_SQRT_f64(x) ((vec)_mm256_sqrt_pd(x))
#define VECTOR_BITS_f32(mask) ((uint32_t)_mm256_movemask_ps((__m256)(mask)))
#define VECTOR_BITS_f64(mask) ((uint32_t)_mm256_movemask_pd((__m256d)(mask)))

#include "both.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

/* AVX-512 (F, VL, DQ, BW): 32 registers of 64 bytes. */

#include <float.h>
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,bmi,bmi2")
#endif

#define ISA "avx512"
#define TABLES kernels_avx512
#define VECTOR_BYTES 64
#define MR 14
#define VECTOR_MAX_f32(a, b) ((vec)_mm512_max_ps(a, b))
#define VECTOR_MAX_f64(a, b) ((vec)_mm512_max_pd(a, b))
#define VECTOR_SQRT_f32(x) ((vec)_mm512_sqrt_ps(x))
#define VECTOR_SQRT_f64(x) ((vec)_mm512_sqrt_pd(x))
#define VECTOR_BITS_f32(mask) _mm512_movepi32_mask((__m512i)(mask))
#define VECTOR_BITS_f64(mask) _mm512_movepi64_mask((__m512i)(mask))
/* Half vectors for the last columns of a matrix: they take half the time on some processors. */
#define HALF_TILES 1
#define VECTOR_WIDENED_f32(x) ((vec)_mm512_insertf32x8(_mm512_setzero_ps(), (__m256)(x), 0))
#define VECTOR_WIDENED_f64(x) ((vec)_mm512_insertf64x4(_mm512_setzero_pd(), (__m256d)(x), 0))

#include "both.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

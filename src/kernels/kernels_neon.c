/* AArch64 NEON: 32 registers of 16 bytes. */

#include <arm_neon.h>
#include <float.h>

#include "kernels.h"

#define ISA "neon"
#define TABLES kernels_neon
#define VECTOR_BYTES 16
#define MR 8
#define VECTOR_MAX_f32(a, b) ((vec)vmaxq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define VECTOR_MAX_f64(a, b) ((vec)vmaxq_f64((float64x2_t)(a), (float64x2_t)(b)))
#define VECTOR_SQRT_f32(x) ((vec)vsqrtq_f32((float32x4_t)(x)))
#define VECTOR_SQRT_f64(x) ((vec)vsqrtq_f64((float64x2_t)(x)))
#define VECTOR_BITS_f32(mask) vaddvq_u32((uint32x4_t)(mask) & (uint32x4_t){1, 2, 4, 8})
#define VECTOR_BITS_f64(mask) ((uint32_t)vaddvq_u64((uint64x2_t)(mask) & (uint64x2_t){1, 2}))

#include "both.h"

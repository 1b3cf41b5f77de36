/* Any processor: vectors of 16 bytes, which the compiler maps on what it has. */

#include <float.h>
#include <math.h>

#include "kernels.h"

#define ISA "generic"
#define TABLES kernels_generic
#define VECTOR_BYTES 16
#define MR 4
#define VECTOR_MAX_f32(a, b) select(a > b, a, b)
#define VECTOR_MAX_f64(a, b) select(a > b, a, b)
#define VECTOR_SQRT_f32(x) ((vec){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])})
#define VECTOR_SQRT_f64(x) ((vec){sqrt(x[0]), sqrt(x[1])})
#define VECTOR_BITS_f32(mask) ((uint32_t)(((mask)[0] & 1) | ((mask)[1] & 2) | ((mask)[2] & 4) | ((mask)[3] & 8)))
#define VECTOR_BITS_f64(mask) ((uint32_t)(((mask)[0] & 1) | ((mask)[1] & 2)))

#include "both.h"

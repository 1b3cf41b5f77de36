/* The template for float32 and for float64, and the table of the two. */

#define REAL float
#define INTEGER int32_t
#define IS_DOUBLE 0
#define SUFFIX f32
#include "template.h"
#undef REAL
#undef INTEGER
#undef IS_DOUBLE
#undef SUFFIX

#define REAL double
#define INTEGER int64_t
#define IS_DOUBLE 1
#define SUFFIX f64
#include "template.h"

const kernels *const TABLES[2] = {&table_f32, &table_f64};

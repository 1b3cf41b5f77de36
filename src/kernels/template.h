/* Everything for one instruction set and one dtype.  Each kernels_*.c
 * sets ISA, VECTOR_BYTES, MR, VECTOR_MAX_* and VECTOR_SQRT_* and includes it by
 * way of both.h. */

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define NAME(x) CAT(x##_, SUFFIX)

#include "simd.h"

#include "vmath.h"

#include "memory.h"

#include "gemm.h"

#include "activation.h"

#include "loss.h"

#include "optimizer.h"

static const kernels NAME(table) = {
    .isa = ISA,
    .itemsize = sizeof(REAL),
    .lanes = LANES,
    .nr = NR,
    .narrowest = NARROWEST ? LANES : LANES / 2,
    .mr = MR,
    .pack = NAME(pack),
    .unpack = NAME(unpack),
    .used_columns = NAME(used_columns),
    .dense = NAME(dense),
    .weight_gradient = NAME(weight_gradient),
    .bias_gradient = NAME(bias_gradient),
    .add_up = NAME(add_up),
    .activate = NAME(activate),
    .activate_backward = NAME(activate_backward),
    .dropout = NAME(dropout),
    .add_noise = NAME(add_noise),
    .loss = NAME(loss),
    .update = NAME(update),
    .average = NAME(average),
    .bound_norms = NAME(bound_norms),
    .transpose = NAME(transpose),
    .penalty = NAME(penalty),
    .prefetch_row = NAME(prefetch_row),
    .sum_of_squares = NAME(sum_of_squares),
    .clip = NAME(clip),
    .all_finite = NAME(all_finite),
    .map = NAME(map),
    .multiply_add = NAME(multiply_add),
};

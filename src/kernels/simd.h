/* One vector of REAL and what is done with it, for the instruction set and
 * dtype that the including file has chosen (VECTOR_BYTES, REAL, INTEGER, IS_DOUBLE).
 * GCC and Clang vector extensions do the arithmetic; `a * b + c` is one fused
 * multiply-add where the instruction set has it. */

#define SIGN_BIT ((INTEGER)((uint64_t)1 << (8 * sizeof(REAL) - 1)))
#define EPSILON ((REAL)(IS_DOUBLE ? DBL_EPSILON : FLT_EPSILON))
#define INFINITE ((REAL)__builtin_inf())
#define NOT_A_NUMBER ((REAL)__builtin_nan(""))

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define NR (2 * LANES)
#define INLINE static inline __attribute__((always_inline))

typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(uvec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(ivec) __attribute__((vector_size(VECTOR_BYTES)));
#define vec NAME(vec)
#define uvec NAME(uvec)
#define ivec NAME(ivec)

#define LOAD(p) (*(const vec *)(p))
#define STORE(p, v) (*(vec *)(p) = (v))

INLINE vec NAME(splat)(REAL x) { return (vec){0} + x; }
#define splat NAME(splat)

/* mask ? a : b, where mask is all ones or all zeros in each lane */
INLINE vec NAME(select)(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}
#define select NAME(select)

INLINE vec NAME(absolute)(vec x) { return (vec)((ivec)x & ~SIGN_BIT); }
INLINE vec NAME(copysign)(vec magnitude, vec sign)
{
    return (vec)((ivec)magnitude | ((ivec)sign & SIGN_BIT));
}
#define absolute NAME(absolute)
#define copy_sign NAME(copysign)

/* The larger; a NaN in b is kept. */
INLINE vec NAME(vmax)(vec a, vec b) { return NAME(VECTOR_MAX)(a, b); }
INLINE vec NAME(vsqrt)(vec x) { return NAME(VECTOR_SQRT)(x); }
#define vmax NAME(vmax)
#define vsqrt NAME(vsqrt)

INLINE ivec NAME(lane_numbers)(void)
{
    ivec n;
    for (int i = 0; i < LANES; i++)
        n[i] = i;
    return n;
}

/* All ones in the lanes below n. */
INLINE ivec NAME(first_lanes)(ptrdiff_t n)
{
    return NAME(lane_numbers)() < (ivec){0} + (INTEGER)n;
}
#define first_lanes NAME(first_lanes)

/* Reductions over lanes: a fixed tree, halves upon halves. */
INLINE REAL NAME(sum_lanes)(vec x)
{
    for (int h = LANES / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++)
            x[i] += x[i + h];
    return x[0];
}
INLINE REAL NAME(max_lanes)(vec x)
{
    for (int h = LANES / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++)
            x[i] = x[i + h] > x[i] ? x[i + h] : x[i];
    return x[0];
}
#define sum_lanes NAME(sum_lanes)
#define max_lanes NAME(max_lanes)

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

/* Half a vector, for tiles that need no more. */
typedef REAL NAME(hvec) __attribute__((vector_size(VECTOR_BYTES / 2), may_alias));
#define hvec NAME(hvec)
#define LOAD_HALF(p) (*(const hvec *)(p))
INLINE vec NAME(widened)(hvec x)
{
#ifdef HALF_TILES
    return NAME(VECTOR_WIDENED)(x);
#else
    vec v = {0};
    __builtin_memcpy(&v, &x, sizeof x);
    return v;
#endif
}

#define LOAD(p) (*(const vec *)(p))
#define STORE(p, v) (*(vec *)(p) = (v))

#define LINE (64 / (ptrdiff_t)sizeof(REAL))
/* Asks for elements to be read soon. */
INLINE void NAME(prefetch)(const REAL *x, ptrdiff_t elements)
{
    for (ptrdiff_t i = 0; i < elements; i += LINE)
        __builtin_prefetch(x + i, 0, 3);
}
#define prefetch NAME(prefetch)

/* x - 0 is x, even for -0, so the subtraction goes away; x + 0 would not. */
INLINE vec NAME(splat)(REAL x) { return x - (vec){0}; }
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
INLINE vec NAME(larger)(vec a, vec b) { return NAME(VECTOR_MAX)(a, b); }
INLINE vec NAME(square_root)(vec x) { return NAME(VECTOR_SQRT)(x); }
#define vmax NAME(larger)
#define vsqrt NAME(square_root)

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

/* x with lane i in the place of lane i ^ h. */
#undef LANE_LIST
#if VECTOR_BYTES == 16 * (4 + 4 * IS_DOUBLE)
#define LANE_LIST(AT) AT(0), AT(1), AT(2), AT(3), AT(4), AT(5), AT(6), AT(7), AT(8), AT(9), AT(10), \
                      AT(11), AT(12), AT(13), AT(14), AT(15)
#elif VECTOR_BYTES == 8 * (4 + 4 * IS_DOUBLE)
#define LANE_LIST(AT) AT(0), AT(1), AT(2), AT(3), AT(4), AT(5), AT(6), AT(7)
#elif VECTOR_BYTES == 4 * (4 + 4 * IS_DOUBLE)
#define LANE_LIST(AT) AT(0), AT(1), AT(2), AT(3)
#else
#define LANE_LIST(AT) AT(0), AT(1)
#endif
#if defined(__clang__)
#define SHUFFLE(a, b, LANE) __builtin_shufflevector(a, b, LANE_LIST(LANE))
#else
#define SHUFFLE(a, b, LANE) __builtin_shuffle(a, b, (ivec){LANE_LIST(LANE)})
#endif
#define FLIP_1(i) (i) ^ 1
#define FLIP_2(i) ((i) ^ 2) % LANES
#define FLIP_4(i) ((i) ^ 4) % LANES
#define FLIP_8(i) ((i) ^ 8) % LANES
#define SWAPPED(x, h) SHUFFLE(x, x, FLIP_##h)

/* Reductions over lanes: halves upon halves, the result in all lanes. */
#define REDUCE(x, combine)                    \
    if (LANES > 8)                            \
        x = combine(x, SWAPPED(x, 8));        \
    if (LANES > 4)                            \
        x = combine(x, SWAPPED(x, 4));        \
    if (LANES > 2)                            \
        x = combine(x, SWAPPED(x, 2));        \
    x = combine(x, SWAPPED(x, 1));
#define PLUS(a, b) ((a) + (b))

INLINE vec NAME(sum_lanes)(vec x)
{
    REDUCE(x, PLUS)
    return x;
}
INLINE vec NAME(max_lanes)(vec x)
{
    REDUCE(x, vmax)
    return x;
}
#define sum_lanes NAME(sum_lanes)
#define max_lanes NAME(max_lanes)

/* One bit for each lane of a mask; and whether it is set in any. */
INLINE uint32_t NAME(lane_bits)(ivec mask) { return NAME(VECTOR_BITS)(mask); }
#define lane_bits NAME(lane_bits)
#define any_lane(mask) (lane_bits(mask) != 0)

/* The columns of a panel as bits: all, and those below n. */
#define ALL_BITS ((uint32_t)(((uint64_t)1 << NR) - 1))
#define first_bits(n) (ALL_BITS >> (NR - ((n) < NR ? (n) : NR)))

/* Vectors in use in the panel that starts at column `col`. */
INLINE int NAME(panel_vectors)(ptrdiff_t col, ptrdiff_t cols)
{
    return cols - col > LANES ? 2 : 1;
}
#define panel_vectors NAME(panel_vectors)

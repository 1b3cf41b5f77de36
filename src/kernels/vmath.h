/* exp, log, tanh, sigmoid and erf on one vector, branch-free, with the right
 * values at +-0, +-inf, NaN and subnormals.  The largest errors are measured in
 * tests/test_vector_math.py. */

#define EXP_TERMS (IS_DOUBLE ? 13 : 7) /* 0.35^(n + 1) / (n + 1)! is below a fifth of an ulp */
#define EXP_HIGHEST ((REAL)(IS_DOUBLE ? 709.782712893384 : 88.72283f))
#define EXP_LOWEST ((REAL)(IS_DOUBLE ? -745.2 : -104.0))
#define LN2_HIGH ((REAL)(IS_DOUBLE ? 6.93147180369123816490e-01 : 0.693359375))
#define LN2_LOW ((REAL)(IS_DOUBLE ? 1.90821492927058770002e-10 : -2.12194440054690582767e-4))
#define LOG_TERMS (IS_DOUBLE ? 10 : 5)
#define MANTISSA_BITS (IS_DOUBLE ? 52 : 23)
#define EXPONENT_BIAS (IS_DOUBLE ? 1023 : 127)
#define SMALLEST_NORMAL ((REAL)(IS_DOUBLE ? DBL_MIN : FLT_MIN))
#define SUBNORMAL_SHIFT (IS_DOUBLE ? 54 : 25)
#define ROUND_TO_INTEGER ((REAL)(IS_DOUBLE ? 0x1.8p52 : 0x1.8p23))
#define TANH_SATURATION ((REAL)(IS_DOUBLE ? 20 : 10))
#define SIN_TERMS (IS_DOUBLE ? 12 : 7) /* (pi/2)^(2n + 1) / (2n + 1)! is below an ulp */
#define ERF_TERMS (IS_DOUBLE ? 19 : 11)
#define ERFC_VANISHES ((REAL)(IS_DOUBLE ? 26 : 9.2))

/* 1/k! */
#ifndef FASTNN_SERIES
#define FASTNN_SERIES
static const double inverse_factorial[] = {
    1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
    1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
/* 2/sqrt(pi) (-1)^k / (k! (2k + 1)): Abramowitz & Stegun 7.1.5 */
#define ERF_TERM(k, factorial) (((k) % 2 ? -1.1283791670955125739 : 1.1283791670955125739) / (factorial) / (2 * (k) + 1))
static const double erf_series[] = {
    ERF_TERM(0, 1.0), ERF_TERM(1, 1.0), ERF_TERM(2, 2.0), ERF_TERM(3, 6.0), ERF_TERM(4, 24.0),
    ERF_TERM(5, 120.0), ERF_TERM(6, 720.0), ERF_TERM(7, 5040.0), ERF_TERM(8, 40320.0),
    ERF_TERM(9, 362880.0), ERF_TERM(10, 3628800.0), ERF_TERM(11, 39916800.0),
    ERF_TERM(12, 479001600.0), ERF_TERM(13, 6227020800.0), ERF_TERM(14, 87178291200.0),
    ERF_TERM(15, 1307674368000.0), ERF_TERM(16, 20922789888000.0),
    ERF_TERM(17, 355687428096000.0), ERF_TERM(18, 6402373705728000.0)};
#endif

/* exp(x^2) erfc(x) on [1, 4], in double [1, 6], as a polynomial in u = (1/(x + 2) - ERFCX_MIDDLE) *
 * ERFCX_SCALE, by Chebyshev interpolation in 50 digits; beyond it is less exact. */
#define ERFCX_MIDDLE ((REAL)(IS_DOUBLE ? 0.22916666666666666667 : 0.25))
#define ERFCX_SCALE ((REAL)(IS_DOUBLE ? 9.6 : 12))
static const REAL NAME(erfcx)[] = {
#if IS_DOUBLE
    0.221429540229931835, 0.161893568041024978, 0.038560570425178751, 0.00558881628184014831,
    0.000197139177805045277, -0.000080792204274463084, -7.34051855452813669e-6,
    1.97956191179483777e-6, 1.63501793318884753e-7, -7.00535615043275992e-8,
    -5.9376429346490129e-10, 2.62480307317917333e-9, -2.62604174498242668e-10,
    -7.45510449620630995e-11, 1.83867534059934219e-11, 4.41338503294669838e-13
#else
    0.255395676252f, 0.142395282538f, 0.0268509123434f, 0.00292513049158f,
    4.60758191519e-5f, -2.87854132247e-5f, -1.14758569773e-6f, 4.31714510328e-7f
#endif
};

/* 2^n for integers n in the range of normal numbers */
INLINE vec NAME(power_of_two)(ivec n)
{
    return (vec)((n + EXPONENT_BIAS) << MANTISSA_BITS);
}

/* exp(x) = 2^n (1 + p) with |p| < 0.42; x must be within the limits of exp */
INLINE vec NAME(exp_parts)(vec x, ivec *n)
{
    const vec shifted = x * (REAL)1.44269504088896340736 + ROUND_TO_INTEGER;
    const vec rounded = shifted - ROUND_TO_INTEGER;
    *n = (ivec)shifted - (ivec)splat(ROUND_TO_INTEGER);
    const vec r = (x - rounded * LN2_HIGH) - rounded * LN2_LOW;
    vec p = splat((REAL)inverse_factorial[EXP_TERMS]);
#pragma GCC unroll 16
    for (int k = EXP_TERMS - 1; k >= 2; k--)
        p = p * r + (REAL)inverse_factorial[k];
    return r + r * r * p;
}

/* NaN stays NaN: both comparisons are false */
INLINE vec NAME(clamp)(vec x, REAL low, REAL high)
{
    x = select(x > high, splat(high), x);
    return select(x < low, splat(low), x);
}

INLINE vec NAME(vexp)(vec x)
{
    ivec n;
    const vec p = NAME(exp_parts)(NAME(clamp)(x, EXP_LOWEST, EXP_HIGHEST), &n);
    const ivec half = n >> 1; /* in two steps, since 2^n itself may overflow or underflow */
    const vec y = (p + 1) * NAME(power_of_two)(half) * NAME(power_of_two)(n - half);
    return select(x > EXP_HIGHEST, splat(INFINITE), y);
}

/* exp(x) - 1 without cancellation */
INLINE vec NAME(vexpm1)(vec x)
{
    ivec n;
    const vec p = NAME(exp_parts)(NAME(clamp)(x, EXP_LOWEST / 2, EXP_HIGHEST), &n);
    const ivec half = n >> 1;
    const vec first = NAME(power_of_two)(half), second = NAME(power_of_two)(n - half);
    const vec y = p * first * second + (first * second - 1);
    const vec large = (p + 1) * first * second; /* where 2^n overflows, the 1 is nothing */
    const vec z = select(x > EXP_HIGHEST - 2, large, y);
    return select(x > EXP_HIGHEST, splat(INFINITE), select(x == 0, x, z));
}

/* log(x) for positive normal x, plus `low`: a correction much smaller than the result */
INLINE vec NAME(log_positive)(vec x, vec exponent, vec low)
{
    x = absolute(x); /* negative numbers, whose result nobody takes, would overflow the integers */
    /* x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(f / (2 + f)), f = m - 1 */
    const ivec bits = (ivec)x - ((ivec)splat((REAL)0.70710678118654752440));
    const ivec e = bits >> MANTISSA_BITS;
    const vec m = (vec)((ivec)x - (e << MANTISSA_BITS));
    exponent += __builtin_convertvector(e, vec);
    const vec f = m - 1, s = f / (f + 2), s2 = s * s;
    vec series = splat((REAL)(2.0 / (2 * LOG_TERMS + 1)));
#pragma GCC unroll 16
    for (int k = LOG_TERMS - 1; k >= 1; k--)
        series = series * s2 + (REAL)(2.0 / (2 * k + 1));
    const vec half_square = f * f * (REAL)0.5;
    return exponent * LN2_HIGH -
           ((half_square - (s * (half_square + s2 * series) + (exponent * LN2_LOW + low))) - f);
}

INLINE vec NAME(log_special)(vec x, vec y)
{
    y = select(x == 0, splat(-INFINITE), y);
    y = select(x == INFINITE, x, y);
    return select((ivec)(x < 0) | (ivec)(x != x), splat(NOT_A_NUMBER), y);
}

INLINE vec NAME(vlog)(vec x)
{
    const ivec tiny = x < SMALLEST_NORMAL;
    const vec scaled = select(tiny, x * (REAL)((INTEGER)1 << SUBNORMAL_SHIFT), x);
    const vec exponent = select(tiny, splat(-SUBNORMAL_SHIFT), splat(0));
    return NAME(log_special)(x, NAME(log_positive)(scaled, exponent, splat(0)));
}

/* log(1 + x), exact for small x: what 1 + x lost comes back through the derivative */
INLINE vec NAME(vlog1p)(vec x)
{
    const vec u = x + 1;
    const vec lost = select(absolute(x) < 1, x - (u - 1), 1 - (u - x));
    const vec y = NAME(log_positive)(u, splat(0), lost / u);
    const vec z = NAME(log_special)(u, y);
    return select(absolute(x) < SMALLEST_NORMAL, x, z);
}

INLINE vec NAME(vtanh)(vec x)
{
    const vec a = absolute(x);
    const vec e = NAME(vexpm1)(select(a > TANH_SATURATION, splat(2 * TANH_SATURATION), 2 * a));
    return copy_sign(e / (e + 2), x);
}

INLINE vec NAME(vsigmoid)(vec x)
{
    const vec e = NAME(vexp)(-absolute(x));
    return select(x < 0, e, splat(1)) / (e + 1);
}

/* sin(2 pi x) for small x: half a turn is taken off to come within a quarter, where the series of
 * sin has converged, and turns the sign. */
INLINE vec NAME(sin_turns)(vec x)
{
    const vec shifted = 2 * x + ROUND_TO_INTEGER, halves = shifted - ROUND_TO_INTEGER;
    const vec a = (x - halves * (REAL)0.5) * (REAL)6.28318530717958647693, square = a * a;
    vec y = {0};
#pragma GCC unroll 16
    for (int k = SIN_TERMS - 1; k >= 1; k--)
        y = (y + 1) * square * (REAL)(-1.0 / (2 * k * (2 * k + 1)));
    y = a + a * y;
    const ivec odd = ((ivec)shifted << (8 * (int)sizeof(REAL) - 1));
    return (vec)((ivec)y ^ odd);
}

/* Of the negative x = -a: -erf(a) for a < 1, and erfc(a) for larger ones, to where it vanishes */
INLINE void NAME(erf_parts)(vec x, vec *near, vec *complement)
{
    x = vmax(splat(-ERFC_VANISHES), x);
    const vec square = x * x;
    vec series = splat((REAL)erf_series[ERF_TERMS - 1]);
#pragma GCC unroll 32
    for (int k = ERF_TERMS - 2; k >= 0; k--)
        series = series * square + (REAL)erf_series[k];
    *near = x * series;
    const vec u = (1 / (2 - x) - ERFCX_MIDDLE) * ERFCX_SCALE;
    const int terms = sizeof(NAME(erfcx)) / sizeof(REAL);
    vec far = splat(NAME(erfcx)[terms - 1]);
#pragma GCC unroll 16
    for (int k = terms - 2; k >= 0; k--)
        far = far * u + NAME(erfcx)[k];
    ivec n;
    const vec p = NAME(exp_parts)(-square, &n);
    *complement = (p + 1) * NAME(power_of_two)(n) * far;
}

INLINE vec NAME(verf)(vec x)
{
    vec near, complement;
    const vec below = (vec)((ivec)x | SIGN_BIT);
    NAME(erf_parts)(below, &near, &complement);
    return copy_sign(select(below > -1, -near, 1 - complement), x);
}

/* (1 + erf(z / sqrt 2)) / 2; in the left tail this is half of erfc, which does not cancel */
INLINE vec NAME(normal_cdf)(vec z)
{
    vec near, complement;
    const vec below = (vec)((ivec)(z * (REAL)0.70710678118654752440) | SIGN_BIT);
    NAME(erf_parts)(below, &near, &complement);
    const vec tails = select(below > -1, 1 + near, complement);
    return select(z < 0, tails * (REAL)0.5, 1 - tails * (REAL)0.5);
}

static void NAME(map)(int function, void *y, const void *x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vec v = {0};
        const ptrdiff_t m = n - i < LANES ? n - i : LANES;
        __builtin_memcpy(&v, (const REAL *)x + i, m * sizeof(REAL));
        switch (function) {
        case V_EXP: v = NAME(vexp)(v); break;
        case V_EXPM1: v = NAME(vexpm1)(v); break;
        case V_LOG: v = NAME(vlog)(v); break;
        case V_LOG1P: v = NAME(vlog1p)(v); break;
        case V_TANH: v = NAME(vtanh)(v); break;
        case V_SIGMOID: v = NAME(vsigmoid)(v); break;
        case V_ERF: v = NAME(verf)(v); break;
        }
        __builtin_memcpy((REAL *)y + i, &v, m * sizeof(REAL));
    }
}

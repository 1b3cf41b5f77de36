/* The activations: one row each, as in fastnn/activations.py.
 *
 *   ROW(code, h, slope, needs_z)
 *
 * h is the output for the input z and parameter p; slope is the derivative.
 * needs_z is 0 where the slope follows from h alone: such a layer keeps nothing
 * but h for the way back.  Softmax couples the columns of a row, so it has
 * functions of its own below. */

#define SELU_SCALE (REAL)1.0507009873554804934193349852946
#define SELU_ALPHA (REAL)1.6732632423543772848170429916717
#define GAUSS_PDF(z) (NAME(vexp)(z * z * (REAL)-0.5) * (REAL)0.39894228040143267794)

#define ACTIVATIONS(ROW)                                                                          \
    ROW(IDENTITY, z, splat(1), 0)                                                                 \
    ROW(STEP, select(z > 0, splat(1), select(z != z, z, splat(0))), splat(0), 0)                  \
    ROW(SIGMOID, NAME(vsigmoid)(z), h * (1 - h), 0)                                               \
    ROW(TANH, NAME(vtanh)(z), 1 - h * h, 0)                                                       \
    ROW(RELU, vmax(splat(0), z), select(h > 0, splat(1), splat(0)), 0)                            \
    ROW(LEAKY_RELU, select(z > 0, z, z * p), select(h > 0, splat(1), p), 0)                       \
    ROW(ELU, select(z > 0, z, p * NAME(vexpm1)(z)), select(h > 0, splat(1), h + p), 0)            \
    ROW(SELU, SELU_SCALE * select(z > 0, z, SELU_ALPHA * NAME(vexpm1)(z)),                        \
        select(h > 0, splat(SELU_SCALE), h + SELU_SCALE * SELU_ALPHA), 0)                         \
    ROW(SOFTPLUS, vmax(splat(0), z) + NAME(vlog1p)(NAME(vexp)(-absolute(z))),                     \
        -NAME(vexpm1)(-h), 0)                                                                     \
    ROW(GELU, z * NAME(normal_cdf)(z), NAME(normal_cdf)(z) + z * GAUSS_PDF(z), 1)                 \
    ROW(SILU, z * NAME(vsigmoid)(z),                                                              \
        NAME(vsigmoid)(z) * (1 + z * (1 - NAME(vsigmoid)(z))), 1)

/* The largest number of a row, in every lane. */
INLINE vec NAME(row_max)(const REAL *x, ptrdiff_t stride, ptrdiff_t r, ptrdiff_t cols)
{
    vec top = splat(-INFINITE);
    PANELS_OF(cols, p, width)
        for (ptrdiff_t c = 0; c < NR && c < width; c += LANES)
            top = vmax(top, select(first_lanes(width - c), LOAD(x + p * stride + r * NR + c), top));
    return max_lanes(top);
}

/* Of few columns, LANES rows at a time, each summed in the order of sum_lanes. */
static void NAME(narrow_softmax)(REAL *z, ptrdiff_t rows, ptrdiff_t cols)
{
    GROUPS_OF(rows, first, group) {
        NAME(turned) x;
        vec top = splat(-INFINITE), sums[LANES];
        NAME(transpose_square)(x, z + first * NR, group, cols);
        for (ptrdiff_t j = 0; j < cols; j++)
            top = vmax(top, COLUMN(x, j));
        for (ptrdiff_t j = 0; j < cols; j++)
            COLUMN(x, j) = sums[j] = NAME(vexp)(COLUMN(x, j) - top);
        for (ptrdiff_t half = LANES / 2, n = cols; half > 0; n = n < half ? n : half, half /= 2)
            for (ptrdiff_t j = half; j < n; j++)
                sums[j - half] += sums[j];
        for (ptrdiff_t j = 0; j < cols; j++)
            COLUMN(x, j) /= sums[0];
        NAME(transpose_square)(z + first * NR, x, cols, group);
    }
}

static void NAME(softmax)(REAL *z, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t cols)
{
    ptrdiff_t done = 0;
    if (cols <= LANES) {
        done = rows % LANES < LANES / 2 ? rows / LANES * LANES : rows;
        NAME(narrow_softmax)(z, done, cols);
    }
    for (ptrdiff_t r = done; r < rows; r++) {
        vec sum = {0};
        const vec shift = NAME(row_max)(z, stride, r, cols);
        PANELS_OF(cols, p, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                REAL *at = z + p * stride + r * NR + c;
                const vec e = (vec)(first_lanes(width - c) & (ivec)NAME(vexp)(LOAD(at) - shift));
                STORE(at, e);
                sum += e;
            }
        const vec total = sum_lanes(sum);
        PANELS_OF(cols, p, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                REAL *at = z + p * stride + r * NR + c;
                STORE(at, LOAD(at) / total);
            }
    }
}

/* d_j = h_j (g_j - sum_i g_i h_i) */
static void NAME(softmax_backward)(REAL *d, const REAL *h, ptrdiff_t stride, ptrdiff_t rows,
                                   ptrdiff_t cols)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        vec dot = {0};
        PANELS_OF(cols, p, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const ptrdiff_t at = p * stride + r * NR + c;
                dot += (vec)(first_lanes(width - c) & (ivec)(LOAD(d + at) * LOAD(h + at)));
            }
        const vec total = sum_lanes(dot);
        PANELS_OF(cols, p, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const ptrdiff_t at = p * stride + r * NR + c;
                STORE(d + at, LOAD(h + at) * (LOAD(d + at) - total));
            }
    }
}

static void NAME(activate)(int activation, double parameter, void *z_, void *slope_,
                           ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t cols)
{
    const vec p = splat((REAL)parameter);
    (void)p;
    if (activation == SOFTMAX) {
        NAME(softmax)(z_, stride, rows, cols);
        return;
    }
    PANELS_OF(cols, panel, width) {
        REAL *x = (REAL *)z_ + panel * stride;
        REAL *d = slope_ ? (REAL *)slope_ + panel * stride : NULL;
        switch (activation) {
#define FORWARD_ROW(code, output, slope, needs_z)                                                 \
    case code:                                                                                    \
        if (d)                                                                                    \
            VECTORS (rows, width, at) {                                                           \
                const vec z = LOAD(x + at), h = output;                                           \
                STORE(x + at, h);                                                                 \
                STORE(d + at, (slope));                                                           \
            }                                                                                     \
        else                                                                                      \
            VECTORS (rows, width, at) {                                                           \
                const vec z = LOAD(x + at);                                                       \
                STORE(x + at, output);                                                            \
            }                                                                                     \
        break;
            ACTIVATIONS(FORWARD_ROW)
        }
    }
}

static void NAME(activate_backward)(int activation, double parameter, void *d_, const void *h_,
                                    const void *slope_, ptrdiff_t stride, ptrdiff_t rows,
                                    ptrdiff_t cols)
{
    const vec p = splat((REAL)parameter);
    (void)p;
    if (activation == SOFTMAX) {
        NAME(softmax_backward)(d_, h_, stride, rows, cols);
        return;
    }
    PANELS_OF(cols, panel, width) {
        REAL *d = (REAL *)d_ + panel * stride;
        const REAL *x = (const REAL *)(slope_ ? slope_ : h_) + panel * stride;
        if (slope_) {
            VECTORS (rows, width, at)
                STORE(d + at, LOAD(d + at) * LOAD(x + at));
            continue;
        }
        switch (activation) {
#define BACKWARD_ROW(code, output, slope, needs_z)                                                \
    case code:                                                                                    \
        if (!needs_z)                                                                             \
            VECTORS (rows, width, at) {                                                           \
                const vec h = LOAD(x + at), z = h;                                                \
                (void)h, (void)z;                                                                 \
                STORE(d + at, LOAD(d + at) * (slope));                                            \
            }                                                                                     \
        break;
            ACTIVATIONS(BACKWARD_ROW)
        }
    }
}

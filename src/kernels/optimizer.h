/* The optimizers' updates on one vector: parameter w, gradient g, states s1 to s3
 * (formulas: fastnn/optimizers.py).
 *
 *   ROW(code, update) */

#define OPTIMIZERS(ROW)                                                                           \
    ROW(SGD,                                                                                      \
        if (slots) {                                                                              \
            s1 = decay1 * s1 + g;                                                                 \
            w -= rate * (nesterov ? g + decay1 * s1 : s1);                                        \
        } else                                                                                    \
            w -= rate * g)                                                                        \
    ROW(ADAGRAD,                                                                                  \
        s1 += g * g;                                                                              \
        w -= rate * g / (vsqrt(s1) + epsilon))                                                    \
    ROW(RMSPROP,                                                                                  \
        s1 = decay1 * s1 + rest1 * g * g;                                                  \
        if (slots > 1) {                                                                          \
            s2 = decay2 * s2 + g / (vsqrt(s1) + epsilon);                                         \
            w -= rate * s2;                                                                       \
        } else                                                                                    \
            w -= rate * g / (vsqrt(s1) + epsilon))                                                \
    ROW(ADAM,                                                                                     \
        s1 = decay1 * s1 + rest1 * g;                                                      \
        s2 = decay2 * s2 + rest2 * g * g;                                                  \
        w -= rate * s1 / (vsqrt(s2) * root_scale + epsilon))                                      \
    ROW(AMSGRAD,                                                                                  \
        s1 = decay1 * s1 + rest1 * g;                                                             \
        s2 = decay2 * s2 + rest2 * g * g;                                                         \
        s3 = vmax(s3, s2);                                                                        \
        w -= rate * s1 / (vsqrt(s3) * root_scale + epsilon))                                      \
    ROW(ADADELTA,                                                                                 \
        s1 = decay1 * s1 + rest1 * g * g;                                                         \
        g *= vsqrt(s2 + epsilon) / vsqrt(s1 + epsilon);                                           \
        s2 = decay1 * s2 + rest1 * g * g;                                                         \
        w -= rate * g)                                                                            \
    ROW(NADAM,                                                                                    \
        s1 = decay1 * s1 + rest1 * g;                                                             \
        s2 = decay2 * s2 + rest2 * g * g;                                                         \
        w -= (gradient_rate * g + rate * s1) / (vsqrt(s2) * root_scale + epsilon))                \
    ROW(LION,                                                                                     \
        const vec towards = decay1 * s1 + rest1 * g;                                              \
        w -= select((towards > 0) | (towards < 0), copy_sign(rate, towards), towards);            \
        s1 = decay2 * s1 + rest2 * g)                                                             \
    ROW(VELOCITY,                                                                                 \
        s1 = decay1 * s1 - rate * g;                                                              \
        w += nesterov ? decay1 * s1 - rate * g : s1)

/* What some want added to the gradient: g = scale g + decay w + lasso sign(w), and then w *= keep. */
static void NAME(regularize)(REAL *w_, REAL *g_, double scale, double decay, double lasso, double keep,
                             ptrdiff_t rows, ptrdiff_t cols)
{
    const vec s = splat((REAL)scale), d = splat((REAL)decay), l = splat((REAL)lasso), k = splat((REAL)keep);
    VECTORS (rows, cols, at) {
        const vec w = LOAD(w_ + at), sign = (vec)((ivec)(w != 0) & (ivec)copy_sign(l, w));
        STORE(g_ + at, LOAD(g_ + at) * s + d * w + sign);
        STORE(w_ + at, w * k);
    }
}

static void NAME(update)(const optimizer_step *step, double l1, double l2, void *w_, void *g_,
                         void *s1_, void *s2_, void *s3_, ptrdiff_t rows, ptrdiff_t cols)
{
    /* AdamW and Lion shrink the weights themselves; the others add the decay to the gradient */
    const int decoupled = step->kind == ADAMW || step->kind == LION;
    const double decay = 2 * l2 + (decoupled ? 0 : step->weight_decay);
    const double keep = decoupled ? 1 - step->weight_decay : 1;
    if (step->grad_scale != 1 || decay != 0 || l1 != 0 || keep != 1)
        NAME(regularize)(w_, g_, step->grad_scale, decay, l1, keep, rows, cols);

    const vec rate = splat((REAL)step->rate), epsilon = splat((REAL)step->epsilon);
    const vec decay1 = splat((REAL)step->decay1), decay2 = splat((REAL)step->decay2);
    /* what is left of 1 is found in double: of 0.999 in float32, it would lose five digits */
    const vec rest1 = splat((REAL)(1 - step->decay1)), rest2 = splat((REAL)(1 - step->decay2));
    const vec root_scale = splat((REAL)step->root_scale);
    const vec gradient_rate = splat((REAL)step->gradient_rate);
    const int slots = step->slots, nesterov = step->nesterov;
    REAL *wp = w_, *p1 = s1_, *p2 = s2_, *p3 = s3_;
    const REAL *gp = g_;
#define UPDATE_ROW(code, formula)                                                                 \
    case code:                                                                                    \
        VECTORS (rows, cols, at) {                                                                \
            vec w = LOAD(wp + at), g = LOAD(gp + at);                                             \
            vec s1 = slots > 0 ? LOAD(p1 + at) : w, s2 = slots > 1 ? LOAD(p2 + at) : w;           \
            vec s3 = code == AMSGRAD ? LOAD(p3 + at) : w;                                         \
            (void)s3;                                                                             \
            formula;                                                                              \
            STORE(wp + at, w);                                                                    \
            if (slots > 0)                                                                        \
                STORE(p1 + at, s1);                                                               \
            if (slots > 1)                                                                        \
                STORE(p2 + at, s2);                                                               \
            if (code == AMSGRAD)                                                                  \
                STORE(p3 + at, s3);                                                               \
        }                                                                                         \
        break;
    const int kind = step->kind == ADAMW ? ADAM : step->kind;
    switch (kind == ADAM && slots > 2 ? AMSGRAD : kind) {
        OPTIMIZERS(UPDATE_ROW)
    }
}

static double NAME(penalty)(double l1, double l2, void *g_, const void *w_, ptrdiff_t rows,
                            ptrdiff_t cols)
{
    const vec lasso = splat((REAL)l1), decay = splat((REAL)(2 * l2));
    REAL *g = g_;
    const REAL *wp = w_;
    vec absolutes = {0}, squares = {0};
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < cols; c += LANES) {
            const vec w = (vec)(first_lanes(cols - c) & (ivec)LOAD(wp + r * NR + c));
            absolutes += absolute(w);
            squares += w * w;
            if (g)
                STORE(g + r * NR + c, LOAD(g + r * NR + c) + decay * w +
                                          (vec)((ivec)(w != 0) & (ivec)copy_sign(lasso, w)));
        }
    return l1 * (double)sum_lanes(absolutes)[0] + l2 * (double)sum_lanes(squares)[0];
}

static double NAME(sum_of_squares)(const void *x_, ptrdiff_t rows, ptrdiff_t cols)
{
    const REAL *x = x_;
    vec sum = {0};
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < cols; c += LANES) {
            const vec v = (vec)(first_lanes(cols - c) & (ivec)LOAD(x + r * NR + c));
            sum += v * v;
        }
    return (double)sum_lanes(sum)[0];
}

static void NAME(average)(void *average_, const void *w_, double share, ptrdiff_t rows, ptrdiff_t cols)
{
    const vec s = splat((REAL)share), keep = splat((REAL)(1 - share));
    REAL *average = average_;
    const REAL *w = w_;
    VECTORS (rows, cols, at)
        STORE(average + at, keep * LOAD(average + at) + s * LOAD(w + at));
}

static int NAME(bound_norms)(void *w_, double bound, ptrdiff_t rows, ptrdiff_t cols)
{
    const vec most = splat((REAL)bound);
    int any = 0;
    for (ptrdiff_t c = 0; c < cols; c += LANES) {
        REAL *w = (REAL *)w_ + c;
        vec squares = {0};
        for (ptrdiff_t r = 0; r < rows; r++)
            squares += LOAD(w + r * NR) * LOAD(w + r * NR);
        const vec norm = vsqrt(squares);
        if (!any_lane(first_lanes(cols - c) & (ivec)(norm > most)))
            continue;
        any = 1;
        const vec scale = select(norm > most, most / norm, splat(1));
        for (ptrdiff_t r = 0; r < rows; r++)
            STORE(w + r * NR, LOAD(w + r * NR) * scale);
    }
    return any;
}

static void NAME(clip)(void *x_, double bound, ptrdiff_t rows, ptrdiff_t cols)
{
    REAL *x = x_;
    VECTORS (rows, cols, at)
        STORE(x + at, NAME(clamp)(LOAD(x + at), -(REAL)bound, (REAL)bound));
}

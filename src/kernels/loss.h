/* The losses: value of each row and gradient with respect to the net's output.
 *
 *   ROW(code, value, gradient)     where every output has a term of its own
 *
 * o is the output, t the target.  The cross entropy of a class couples the
 * columns of a row and has a function of its own below. */

#define PROBABILITY (NAME(clamp)(o, EPSILON, 1 - EPSILON))
/* log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)) */
#define LOG1P_EXP(x) (vmax(splat(0), x) + NAME(vlog1p)(NAME(vexp)(-absolute(x))))

#define TERM_LOSSES(ROW)                                                                          \
    ROW(MSE, (o - t) * (o - t), (o - t) * 2)                                                      \
    ROW(MAE, absolute(o - t), select(o > t, splat(1), select(o < t, splat(-1), o - t)))           \
    ROW(HUBER,                                                                                    \
        select(absolute(o - t) <= p, (o - t) * (o - t) * (REAL)0.5,                               \
               p * (absolute(o - t) - p * (REAL)0.5)),                                            \
        NAME(clamp)(o - t, -(REAL)parameter, (REAL)parameter))                                    \
    ROW(POISSON, NAME(vexp)(o) - t * o, NAME(vexp)(o) - t)                                        \
    ROW(BINARY_CROSS_ENTROPY,                                                                     \
        -(t * NAME(vlog)(PROBABILITY) + (1 - t) * NAME(vlog1p)(-PROBABILITY)),                    \
        (PROBABILITY - t) / (PROBABILITY * (1 - PROBABILITY)))                                    \
    ROW(SIGMOID_CROSS_ENTROPY, LOG1P_EXP(o) - t * o, NAME(vsigmoid)(o) - t)

typedef struct {
    const int32_t *labels;
    const REAL *dense;
    ptrdiff_t dense_stride;
} NAME(target);

/* The target of a row in the columns from `col`: one-hot from the label, or dense. */
INLINE vec NAME(target_at)(const NAME(target) *t, ptrdiff_t r, ptrdiff_t panel, ptrdiff_t c)
{
    if (t->dense)
        return LOAD(t->dense + panel * t->dense_stride + r * NR + c);
    const ivec hit = NAME(lane_numbers)() == (ivec){0} + (INTEGER)(t->labels[r] - panel * NR - c);
    return (vec)(hit & (ivec)splat(1));
}

#define OUTPUT(o, stride, r, col) ((o)[(col) / NR * (stride) + (r) * NR + (col) % NR])

/* Whether the first maximum of the outputs is where the target's is. */
static int64_t NAME(class_hit)(const REAL *o, ptrdiff_t stride, const NAME(target) *t, ptrdiff_t r,
                               ptrdiff_t cols)
{
    if (!t->dense) {
        const REAL own = OUTPUT(o, stride, r, t->labels[r]);
        const vec top = splat(own);
        ivec beaten = {0};
        PANELS_OF(cols, p, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const vec x = LOAD(o + p * stride + r * NR + c);
                const ivec before =
                    NAME(lane_numbers)() + (INTEGER)(p * NR + c) < (ivec){0} + (INTEGER)t->labels[r];
                beaten |= first_lanes(width - c) & ((ivec)(x > top) | (before & (ivec)(x == top)));
            }
        return own == own && !any_lane(beaten);
    }
    ptrdiff_t best = 0, wanted = 0;
    for (ptrdiff_t j = 1; j < cols; j++) {
        if (OUTPUT(o, stride, r, j) > OUTPUT(o, stride, r, best))
            best = j;
        if (OUTPUT(t->dense, t->dense_stride, r, j) > OUTPUT(t->dense, t->dense_stride, r, wanted))
            wanted = j;
    }
    return best == wanted;
}

/* The sums of one row that the cross entropy of its softmax is made of, o shifted by its maximum:
 * e = exp(o), into d if given, its sum, that of the target, and target times o. */
typedef struct {
    REAL exponentials, target, dot;
} NAME(row_sums);

INLINE NAME(row_sums) NAME(sum_row)(REAL *d, const REAL *o, ptrdiff_t stride, const NAME(target) *t,
                                    ptrdiff_t r, ptrdiff_t cols)
{
    vec top = splat(-INFINITE), sum = {0}, target_sum = {0}, dot = {0};
    PANELS_OF(cols, p, width)
        for (ptrdiff_t c = 0; c < NR && c < width; c += LANES)
            top = vmax(top, select(first_lanes(width - c), LOAD(o + p * stride + r * NR + c), top));
    const vec shift = max_lanes(top);
    PANELS_OF(cols, p, width)
        for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
            const ptrdiff_t at = p * stride + r * NR + c;
            const ivec valid = first_lanes(width - c);
            const vec x = LOAD(o + at) - shift, e = (vec)(valid & (ivec)NAME(vexp)(x));
            sum += e;
            if (d)
                STORE(d + at, e);
            if (t->dense) {
                const vec wanted = (vec)(valid & (ivec)LOAD(t->dense + p * t->dense_stride + r * NR + c));
                target_sum += wanted;
                /* a class that is not wanted adds nothing, even at a logit of -inf */
                dot += select(wanted == 0, splat(0), wanted * x);
            }
        }
    if (t->dense)
        return (NAME(row_sums)){sum_lanes(sum)[0], sum_lanes(target_sum)[0], sum_lanes(dot)[0]};
    return (NAME(row_sums)){sum_lanes(sum)[0], 1, OUTPUT(o, stride, r, t->labels[r]) - shift[0]};
}

/* -sum_j t_j log softmax(o)_j, gradient softmax(o)_j sum(t) - t_j: log-sum-exp shifted by the maximum. */
static int64_t NAME(softmax_cross_entropy)(REAL *d, const REAL *o, ptrdiff_t stride,
                                           const NAME(target) *t, const REAL *weight, REAL scale,
                                           double *row_loss, ptrdiff_t rows, ptrdiff_t cols)
{
    int64_t hits = 0;
    NAME(row_sums) sums[LANES];
    for (ptrdiff_t first = 0; first < rows; first += LANES) {
        const ptrdiff_t group = rows - first < LANES ? rows - first : LANES;
        vec totals = splat(1); /* of a group of rows, for one logarithm */
        for (ptrdiff_t i = 0; i < group; i++) {
            const ptrdiff_t r = first + i;
            hits += NAME(class_hit)(o, stride, t, r, cols);
            sums[i] = NAME(sum_row)(d, o, stride, t, r, cols);
            ((REAL *)&totals)[i] = sums[i].exponentials;
            if (!d)
                continue;
            const vec factor = splat(weight ? weight[r] * scale : scale);
            const vec share = splat(sums[i].target / sums[i].exponentials);
            PANELS_OF(cols, p, width)
                for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                    REAL *at = d + p * stride + r * NR + c;
                    STORE(at, (LOAD(at) * share - NAME(target_at)(t, r, p, c)) * factor);
                }
        }
        const vec logs = NAME(vlog)(totals);
        for (ptrdiff_t i = 0; i < group; i++)
            row_loss[first + i] = (double)(sums[i].target * logs[i] - sums[i].dot);
    }
    return hits;
}

/* -sum_j t_j log o_j on given probabilities, gradient -t_j / o_j */
static int64_t NAME(cross_entropy)(REAL *d, const REAL *o, ptrdiff_t stride, const NAME(target) *t,
                                   const REAL *weight, REAL scale, double *row_loss, ptrdiff_t rows,
                                   ptrdiff_t cols)
{
    int64_t hits = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        vec sum = {0};
        const vec factor = splat(weight ? weight[r] * scale : scale);
        hits += NAME(class_hit)(o, stride, t, r, cols);
        PANELS_OF(cols, p, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const ptrdiff_t at = p * stride + r * NR + c;
                const ivec valid = first_lanes(width - c);
                const vec x = NAME(clamp)(LOAD(o + at), SMALLEST_NORMAL, 1);
                const vec wanted = (vec)(valid & (ivec)NAME(target_at)(t, r, p, c));
                sum += (vec)(valid & (ivec)(wanted * NAME(vlog)(x)));
                if (d)
                    STORE(d + at, (vec)(valid & (ivec)(-wanted / x * factor)));
            }
        row_loss[r] = (double)-sum_lanes(sum)[0];
    }
    return hits;
}

static int64_t NAME(loss)(int loss, double parameter, void *d_, const void *out, ptrdiff_t stride,
                          const loss_target *target, double *row_loss, ptrdiff_t rows,
                          ptrdiff_t cols)
{
    const NAME(target) t = {target->labels, target->dense, target->dense_stride};
    const REAL *weight = target->weight, *base = out;
    REAL *d = d_;
    if (loss == SOFTMAX_CROSS_ENTROPY)
        return NAME(softmax_cross_entropy)(d, base, stride, &t, weight, (REAL)target->scale, row_loss, rows, cols);
    if (loss == CROSS_ENTROPY)
        return NAME(cross_entropy)(d, base, stride, &t, weight, (REAL)target->scale, row_loss, rows, cols);

    const vec p = splat((REAL)parameter);
    (void)p;
    const REAL threshold = loss == BINARY_CROSS_ENTROPY ? (REAL)0.5 : 0;
    const int binary = loss == BINARY_CROSS_ENTROPY || loss == SIGMOID_CROSS_ENTROPY;
    int64_t hits = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        vec sum = {0};
        ivec wrong = {0};
        const vec factor = splat((weight ? weight[r] : 1) * (REAL)(target->scale / (double)cols));
        PANELS_OF(cols, panel, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const ptrdiff_t at = panel * stride + r * NR + c;
                const ivec valid = first_lanes(width - c);
                const vec o = LOAD(base + at), t_ = NAME(target_at)(&t, r, panel, c);
                vec value = {0}, gradient = {0};
                switch (loss) {
#define LOSS_ROW(code, value_, gradient_)                                                         \
    case code: {                                                                                  \
        const vec t = t_;                                                                         \
        value = value_;                                                                           \
        if (d)                                                                                    \
            gradient = gradient_;                                                                 \
        break;                                                                                    \
    }
                    TERM_LOSSES(LOSS_ROW)
                }
                sum += (vec)(valid & (ivec)value);
                wrong |= valid & ((ivec)(o >= threshold) ^ (ivec)(t_ >= (REAL)0.5));
                if (d)
                    STORE(d + at, (vec)(valid & (ivec)(gradient * factor)));
            }
        row_loss[r] = (double)(sum_lanes(sum)[0] / (REAL)cols);
        hits += binary && !any_lane(wrong);
    }
    return hits;
}

/* The losses: value of each row and gradient with respect to the net's output.
 *
 *   ROW(code, value, gradient)     where every output has a term of its own
 *
 * o is the output, t the target.  The cross entropy of a class couples the
 * columns of a row and has a function of its own below. */

/* Where the cross entropies keep -log of a probability: as if that were held between `clip` and
 * 1 - `clip`, for the value but not for the gradient, as scikit-learn has it. */
typedef struct {
    REAL least, most;
} NAME(range);

static NAME(range) NAME(range_of)(double clip)
{
    const vec p = splat((REAL)clip);
    return clip > 0 ? (NAME(range)){-NAME(vlog1p)(-p)[0], -NAME(vlog)(p)[0]}
                    : (NAME(range)){-INFINITE, INFINITE};
}
#define HELD(x) (NAME(clamp)(x, range.least, range.most))

#define PROBABILITY (NAME(clamp)(o, EPSILON, 1 - EPSILON))
/* log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)) */
#define LOG1P_EXP(x) (vmax(splat(0), x) + NAME(vlog1p)(NAME(vexp)(-absolute(x))))

/* Lin et al. 2017, by p = exp(log_p), the probability of yes, and q = 1 - p; slope by p's logit. */
INLINE vec NAME(focal)(vec t, vec log_p, vec log_q, vec gamma)
{
    return -(t * NAME(vexp)(gamma * log_q) * log_p + (1 - t) * NAME(vexp)(gamma * log_p) * log_q);
}
INLINE vec NAME(focal_slope)(vec t, vec log_p, vec log_q, vec gamma)
{
    const vec p = NAME(vexp)(log_p), q = NAME(vexp)(log_q);
    return (1 - t) * NAME(vexp)(gamma * log_p) * (p - gamma * q * log_q) -
           t * NAME(vexp)(gamma * log_q) * (q - gamma * p * log_p);
}

#define TERM_LOSSES(ROW)                                                                          \
    ROW(MSE, (o - t) * (o - t), (o - t) * 2)                                                      \
    ROW(MAE, absolute(o - t), select(o > t, splat(1), select(o < t, splat(-1), o - t)))           \
    ROW(HUBER,                                                                                    \
        select(absolute(o - t) <= p, (o - t) * (o - t) * (REAL)0.5,                               \
               p * (absolute(o - t) - p * (REAL)0.5)),                                            \
        NAME(clamp)(o - t, -(REAL)parameter, (REAL)parameter))                                    \
    ROW(POISSON, NAME(vexp)(o) - t * o, NAME(vexp)(o) - t)                                        \
    ROW(BINARY_CROSS_ENTROPY,                                                                     \
        HELD(-(t * NAME(vlog)(PROBABILITY) + (1 - t) * NAME(vlog1p)(-PROBABILITY))),              \
        (PROBABILITY - t) / (PROBABILITY * (1 - PROBABILITY)))                                    \
    ROW(SIGMOID_CROSS_ENTROPY, HELD(LOG1P_EXP(o) - t * o), NAME(vsigmoid)(o) - t)                 \
    ROW(QUANTILE, select(o > t, (o - t) * (1 - p), (t - o) * p),                                  \
        select(o > t, 1 - p, select(o < t, -p, o - t)))                                           \
    ROW(GAMMA, o + t * NAME(vexp)(-o), 1 - t * NAME(vexp)(-o))                                    \
    ROW(BINARY_FOCAL, NAME(focal)(t, NAME(vlog)(PROBABILITY), NAME(vlog1p)(-PROBABILITY), p),     \
        NAME(focal_slope)(t, NAME(vlog)(PROBABILITY), NAME(vlog1p)(-PROBABILITY), p) /            \
            (PROBABILITY * (1 - PROBABILITY)))                                                    \
    ROW(SIGMOID_FOCAL, NAME(focal)(t, -LOG1P_EXP(-o), -LOG1P_EXP(o), p),                          \
        NAME(focal_slope)(t, -LOG1P_EXP(-o), -LOG1P_EXP(o), p))                                   \
    ROW(GIVEN_GRADIENT, splat(0), t * (REAL)cols)

typedef struct {
    const int32_t *labels;
    const REAL *dense;
    ptrdiff_t dense_stride;
    REAL keep, add;
    const REAL *weight;
    double scale; /* 1 / sum of weights, which may be beyond a float */
} NAME(target);

/* What the gradient of a row's loss is multiplied by. */
INLINE REAL NAME(factor)(const NAME(target) *t, ptrdiff_t r)
{
    return (REAL)(t->weight ? (double)t->weight[r] * t->scale : t->scale);
}

/* The target of a row in the columns from `col`, as it is given: one-hot from the label, or dense. */
INLINE vec NAME(given_at)(const NAME(target) *t, ptrdiff_t r, ptrdiff_t panel, ptrdiff_t c)
{
    if (t->dense)
        return LOAD(t->dense + panel * t->dense_stride + r * NR + c);
    const ivec hit = NAME(lane_numbers)() == (ivec){0} + (INTEGER)(t->labels[r] - panel * NR - c);
    return (vec)(hit & (ivec)splat(1));
}

/* The same, smoothed. */
INLINE vec NAME(target_at)(const NAME(target) *t, ptrdiff_t r, ptrdiff_t panel, ptrdiff_t c)
{
    return NAME(given_at)(t, r, panel, c) * t->keep + t->add;
}

#define OUTPUT(o, stride, r, col) ((o)[(col) / NR * (stride) + (r) * NR + (col) % NR])

/* Whether the first maximum of the outputs is where the target's is. */
static int64_t NAME(class_hit)(const REAL *o, ptrdiff_t stride, const NAME(target) *t, ptrdiff_t r,
                               ptrdiff_t cols)
{
    ptrdiff_t wanted = t->dense ? 0 : t->labels[r];
    for (ptrdiff_t j = 1; t->dense && j < cols; j++)
        if (OUTPUT(t->dense, t->dense_stride, r, j) > OUTPUT(t->dense, t->dense_stride, r, wanted))
            wanted = j;
    const REAL own = OUTPUT(o, stride, r, wanted);
    const vec top = splat(own);
    ivec beaten = {0};
    PANELS_OF(cols, p, width)
        for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
            const vec x = LOAD(o + p * stride + r * NR + c);
            const ivec before =
                NAME(lane_numbers)() + (INTEGER)(p * NR + c) < (ivec){0} + (INTEGER)wanted;
            beaten |= first_lanes(width - c) & ((ivec)(x > top) | (before & (ivec)(x == top)));
        }
    return own == own && !any_lane(beaten);
}

/* The sums of one row that the cross entropy of its softmax is made of, o shifted by its maximum:
 * e = exp(o), into d if given, its sum, that of the target, and target times o. */
typedef struct {
    REAL exponentials, target, dot;
} NAME(row_sums);

INLINE NAME(row_sums) NAME(sum_row)(REAL *d, const REAL *o, ptrdiff_t stride, const NAME(target) *t,
                                    ptrdiff_t r, ptrdiff_t cols)
{
    vec sum = {0}, target_sum = {0}, dot = {0};
    const vec shift = NAME(row_max)(o, stride, r, cols);
    PANELS_OF(cols, p, width)
        for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
            const ptrdiff_t at = p * stride + r * NR + c;
            const ivec valid = first_lanes(width - c);
            const vec x = LOAD(o + at) - shift, e = (vec)(valid & (ivec)NAME(vexp)(x));
            sum += e;
            if (d)
                STORE(d + at, e);
            if (t->dense || t->add != 0) {
                const vec wanted = (vec)(valid & (ivec)NAME(target_at)(t, r, p, c));
                target_sum += wanted;
                /* a class that is not wanted adds nothing, even at a logit of -inf */
                dot += select(wanted == 0, splat(0), wanted * x);
            }
        }
    if (t->dense || t->add != 0)
        return (NAME(row_sums)){sum_lanes(sum)[0], sum_lanes(target_sum)[0], sum_lanes(dot)[0]};
    return (NAME(row_sums)){sum_lanes(sum)[0], 1, OUTPUT(o, stride, r, t->labels[r]) - shift[0]};
}

/* -sum_j t_j log softmax(o)_j, gradient softmax(o)_j sum(t) - t_j: log-sum-exp shifted by the maximum. */
static int64_t NAME(softmax_cross_entropy)(REAL *d, const REAL *o, ptrdiff_t stride,
                                           const NAME(target) *t, NAME(range) range,
                                           double *row_loss, ptrdiff_t rows, ptrdiff_t cols)
{
    int64_t hits = 0;
    NAME(row_sums) sums[LANES];
    GROUPS_OF(rows, first, group) {
        vec totals = splat(1); /* of a group of rows, for one logarithm */
        for (ptrdiff_t i = 0; i < group; i++) {
            const ptrdiff_t r = first + i;
            hits += NAME(class_hit)(o, stride, t, r, cols);
            sums[i] = NAME(sum_row)(d, o, stride, t, r, cols);
            ((REAL *)&totals)[i] = sums[i].exponentials;
            if (!d)
                continue;
            const vec factor = splat(NAME(factor)(t, r));
            const vec share = splat(sums[i].target / sums[i].exponentials);
            PANELS_OF(cols, p, width)
                for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                    REAL *at = d + p * stride + r * NR + c;
                    STORE(at, (LOAD(at) * share - NAME(target_at)(t, r, p, c)) * factor);
                }
        }
        const vec logs = NAME(vlog)(totals);
        for (ptrdiff_t i = 0; i < group; i++)
            row_loss[first + i] = (double)HELD(splat(sums[i].target * logs[i] - sums[i].dot))[0];
    }
    return hits;
}

/* -sum_j t_j log o_j on given probabilities, gradient -t_j / o_j */
static int64_t NAME(cross_entropy)(REAL *d, const REAL *o, ptrdiff_t stride, const NAME(target) *t,
                                   NAME(range) range, double *row_loss, ptrdiff_t rows,
                                   ptrdiff_t cols)
{
    int64_t hits = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        vec sum = {0};
        const vec factor = splat(NAME(factor)(t, r));
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
        row_loss[r] = (double)HELD(-sum_lanes(sum))[0];
    }
    return hits;
}

/* -sum_j t_j (1 - p_j)^gamma log p_j on given probabilities. */
static int64_t NAME(focal_loss)(REAL *d, const REAL *o, ptrdiff_t stride, const NAME(target) *t,
                                REAL gamma, double *row_loss, ptrdiff_t rows, ptrdiff_t cols)
{
    int64_t hits = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        vec sum = {0};
        const vec factor = splat(NAME(factor)(t, r));
        hits += NAME(class_hit)(o, stride, t, r, cols);
        PANELS_OF(cols, panel, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const ptrdiff_t at = panel * stride + r * NR + c;
                const vec p = NAME(clamp)(LOAD(o + at), EPSILON, 1 - EPSILON), q = 1 - p;
                const vec wanted =
                    (vec)(first_lanes(width - c) & (ivec)NAME(target_at)(t, r, panel, c));
                const vec log_p = NAME(vlog)(p), power = NAME(vexp)(gamma * NAME(vlog)(q));
                sum += wanted * power * log_p;
                if (d)
                    STORE(d + at, wanted * power * (gamma * log_p / q - 1 / p) * factor);
            }
        row_loss[r] = (double)-sum_lanes(sum)[0];
    }
    return hits;
}

/* The same on the logits of a softmax: with a_j = dL/dp_j p_j, the gradient is a_j - p_j sum(a). */
static int64_t NAME(softmax_focal)(REAL *d, const REAL *o, ptrdiff_t stride, const NAME(target) *t,
                                   REAL gamma, double *row_loss, ptrdiff_t rows, ptrdiff_t cols)
{
    int64_t hits = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        const vec factor = splat(NAME(factor)(t, r));
        const vec shift = NAME(row_max)(o, stride, r, cols);
        vec sum = {0}, value = {0}, total = {0};
        hits += NAME(class_hit)(o, stride, t, r, cols);
        PANELS_OF(cols, panel, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES)
                sum += (vec)(first_lanes(width - c) &
                             (ivec)NAME(vexp)(LOAD(o + panel * stride + r * NR + c) - shift));
        const vec log_sum = NAME(vlog)(sum_lanes(sum));
        for (int pass = 0; pass < (d ? 2 : 1); pass++) {
            PANELS_OF(cols, panel, width)
                for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                    const ptrdiff_t at = panel * stride + r * NR + c;
                    const vec wanted =
                        (vec)(first_lanes(width - c) & (ivec)NAME(target_at)(t, r, panel, c));
                    const vec log_p = LOAD(o + at) - shift - log_sum, p = NAME(vexp)(log_p);
                    /* stable where p is close to 1, and no 0 to divide by where it is 1 */
                    const vec q = vmax(splat(SMALLEST_NORMAL), -NAME(vexpm1)(log_p));
                    const vec power = NAME(vexp)(gamma * NAME(vlog)(q));
                    const vec a = select(wanted == 0, wanted,
                                         wanted * power * (gamma * p * (log_p / q) - 1));
                    if (pass == 0) {
                        total += a;
                        value -= select(wanted == 0, wanted, wanted * power * log_p);
                    } else
                        STORE(d + at, (a - p * total) * factor);
                }
            total = pass == 0 ? sum_lanes(total) : total;
        }
        row_loss[r] = (double)sum_lanes(value)[0];
    }
    return hits;
}

/* What an output adds to the loss of its row; its gradient, if wanted. */
INLINE vec NAME(term)(int loss, double parameter, vec p, NAME(range) range, vec o, vec t, vec *gradient,
                      ptrdiff_t cols)
{
    vec value = {0};
    (void)p, (void)cols;
    switch (loss) {
#define LOSS_ROW(code, value_, gradient_) \
    case code:                            \
        value = value_;                   \
        if (gradient)                     \
            *gradient = gradient_;        \
        break;
        TERM_LOSSES(LOSS_ROW)
    }
    return value;
}

typedef struct {
    NAME(turned) columns; /* given */
    ivec labels;
    REAL keep, add;
    int dense;
} NAME(narrow_target);

INLINE void NAME(turn_target)(NAME(narrow_target) *n, const NAME(target) *t, ptrdiff_t first,
                              ptrdiff_t rows, ptrdiff_t cols)
{
    n->dense = t->dense != NULL;
    n->keep = t->keep;
    n->add = t->add;
    n->labels = (ivec){0};
    if (n->dense)
        NAME(transpose_square)(n->columns, t->dense + first * NR, rows, cols);
    else
        for (ptrdiff_t i = 0; i < rows; i++)
            n->labels[i] = t->labels[first + i];
}

INLINE vec NAME(given_in)(const NAME(narrow_target) *n, ptrdiff_t j)
{
    if (n->dense)
        return COLUMN(n->columns, j);
    return (vec)((n->labels == (ivec){0} + (INTEGER)j) & (ivec)splat(1));
}

INLINE vec NAME(factors)(const NAME(target) *t, ptrdiff_t first, ptrdiff_t rows)
{
    vec factors = splat((REAL)t->scale);
    if (t->weight)
        for (ptrdiff_t i = 0; i < rows; i++)
            factors[i] = NAME(factor)(t, first + i);
    return factors;
}

INLINE void NAME(put_losses)(double *row_loss, vec losses, ptrdiff_t rows)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        row_loss[i] = (double)losses[i];
}

INLINE int64_t NAME(count)(ivec mask)
{
    int64_t count = 0;
    for (ptrdiff_t i = 0; i < LANES; i++)
        count += mask[i] != 0;
    return count;
}

/* Where the first maximum of the outputs is where the target's is. */
INLINE ivec NAME(class_hits)(const REAL *x, const NAME(narrow_target) *t, ptrdiff_t cols)
{
    ivec wanted = t->labels, beaten = {0};
    if (t->dense) {
        vec most = COLUMN(t->columns, 0);
        for (ptrdiff_t j = 1; j < cols; j++) {
            const vec given = COLUMN(t->columns, j);
            const ivec more = (ivec)(given > most);
            most = select(more, given, most);
            wanted = (more & (INTEGER)j) | (~more & wanted);
        }
    }
    vec own = splat(NOT_A_NUMBER);
    for (ptrdiff_t j = 0; j < cols; j++)
        own = select(wanted == (ivec){0} + (INTEGER)j, COLUMN(x, j), own);
    for (ptrdiff_t j = 0; j < cols; j++) {
        const vec other = COLUMN(x, j);
        beaten |= (ivec)(other > own) | ((wanted > (ivec){0} + (INTEGER)j) & (ivec)(other == own));
    }
    return (ivec)(own == own) & ~beaten;
}

static int64_t NAME(narrow_softmax_cross_entropy)(REAL *d, const REAL *o, ptrdiff_t stride,
                                                  const NAME(target) *t, NAME(range) range,
                                                  double *row_loss, ptrdiff_t rows, ptrdiff_t cols)
{
    int64_t hits = 0;
    (void)stride;
    GROUPS_OF(rows, first, group) {
        NAME(turned) x;
        NAME(narrow_target) target;
        NAME(transpose_square)(x, o + first * NR, group, cols);
        NAME(turn_target)(&target, t, first, group, cols);
        hits += NAME(count)(NAME(class_hits)(x, &target, cols) & first_lanes(group));
        vec top = splat(-INFINITE), sum = {0}, target_sum = {0}, dot = {0};
        for (ptrdiff_t j = 0; j < cols; j++)
            top = vmax(top, COLUMN(x, j));
        for (ptrdiff_t j = 0; j < cols; j++) {
            const vec shifted = COLUMN(x, j) - top, e = NAME(vexp)(shifted);
            const vec wanted = NAME(given_in)(&target, j) * t->keep + t->add;
            sum += e;
            target_sum += wanted;
            /* a class that is not wanted adds nothing, even at a logit of -inf */
            dot += select(wanted == 0, splat(0), wanted * shifted);
            COLUMN(x, j) = e;
        }
        NAME(put_losses)(row_loss + first, HELD(target_sum * NAME(vlog)(sum) - dot), group);
        if (!d)
            continue;
        const vec share = target_sum / sum, factor = NAME(factors)(t, first, group);
        for (ptrdiff_t j = 0; j < cols; j++) {
            const vec wanted = NAME(given_in)(&target, j) * t->keep + t->add;
            COLUMN(x, j) = (COLUMN(x, j) * share - wanted) * factor;
        }
        NAME(transpose_square)(d + first * NR, x, cols, group);
    }
    return hits;
}

static int64_t NAME(narrow_terms)(int loss, double parameter, REAL *d, const REAL *base,
                                  const NAME(target) *t, const REAL *parameters, int binary,
                                  REAL threshold, NAME(range) range, double *row_loss,
                                  ptrdiff_t rows, ptrdiff_t cols)
{
    int64_t hits = 0;
    GROUPS_OF(rows, first, group) {
        const vec factor = NAME(factors)(t, first, group);
        NAME(turned) x;
        NAME(narrow_target) target;
        vec sum = {0};
        ivec right = first_lanes(group);
        NAME(transpose_square)(x, base + first * NR, group, cols);
        NAME(turn_target)(&target, t, first, group, cols);
        for (ptrdiff_t j = 0; j < cols; j++) {
            const vec o = COLUMN(x, j), given = NAME(given_in)(&target, j);
            const vec p = splat(parameters ? parameters[j] : (REAL)parameter);
            vec gradient = {0};
            sum += NAME(term)(loss, parameter, p, range, o, given * t->keep + t->add,
                              d ? &gradient : NULL, cols);
            right &= ~((ivec)(o >= threshold) ^ (ivec)(given >= (REAL)0.5));
            COLUMN(x, j) = gradient * factor;
        }
        NAME(put_losses)(row_loss + first, sum / (REAL)cols, group);
        if (binary)
            hits += NAME(count)(right);
        if (d)
            NAME(transpose_square)(d + first * NR, x, cols, group);
    }
    return hits;
}

static int64_t NAME(loss)(int loss, double parameter, void *d_, const void *out, ptrdiff_t stride,
                          const loss_target *target, double *row_loss, ptrdiff_t rows,
                          ptrdiff_t cols)
{
    NAME(target) t = {target->labels, target->dense, target->dense_stride, (REAL)target->keep,
                      (REAL)target->add, target->weight, target->scale};
    const REAL *base = out, *parameters = target->parameters;
    REAL *d = d_;
    if (loss == SOFTMAX_CROSS_ENTROPY)
        return (cols <= LANES ? NAME(narrow_softmax_cross_entropy) : NAME(softmax_cross_entropy))(
            d, base, stride, &t, NAME(range_of)(parameter), row_loss, rows, cols);
    if (loss == CROSS_ENTROPY)
        return NAME(cross_entropy)(d, base, stride, &t, NAME(range_of)(parameter), row_loss, rows, cols);
    if (loss == SOFTMAX_FOCAL)
        return NAME(softmax_focal)(d, base, stride, &t, (REAL)parameter, row_loss, rows, cols);
    if (loss == FOCAL)
        return NAME(focal_loss)(d, base, stride, &t, (REAL)parameter, row_loss, rows, cols);

    t.scale /= (double)cols;
    const int of_probabilities = loss == BINARY_CROSS_ENTROPY || loss == BINARY_FOCAL;
    const int binary = of_probabilities || loss == SIGMOID_CROSS_ENTROPY || loss == SIGMOID_FOCAL;
    const REAL threshold = of_probabilities ? (REAL)0.5 : 0;
    const int clips = loss == BINARY_CROSS_ENTROPY || loss == SIGMOID_CROSS_ENTROPY;
    const NAME(range) range = NAME(range_of)(clips ? parameter : 0);
    int64_t hits = 0;
    if (cols <= LANES)
        return NAME(narrow_terms)(loss, parameter, d, base, &t, parameters, binary, threshold, range,
                                  row_loss, rows, cols);
    for (ptrdiff_t r = 0; r < rows; r++) {
        vec sum = {0};
        ivec wrong = {0};
        const vec factor = splat(NAME(factor)(&t, r));
        PANELS_OF(cols, panel, width)
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const ptrdiff_t at = panel * stride + r * NR + c;
                const ivec valid = first_lanes(width - c);
                const vec o = LOAD(base + at), given = NAME(given_at)(&t, r, panel, c);
                const vec p = parameters ? LOAD(parameters + panel * NR + c) : splat((REAL)parameter);
                vec gradient = {0};
                const vec value = NAME(term)(loss, parameter, p, range, o, given * t.keep + t.add,
                                             d ? &gradient : NULL, cols);
                sum += (vec)(valid & (ivec)value);
                wrong |= valid & ((ivec)(o >= threshold) ^ (ivec)(given >= (REAL)0.5));
                if (d)
                    STORE(d + at, (vec)(valid & (ivec)(gradient * factor)));
            }
        row_loss[r] = (double)(sum_lanes(sum)[0] / (REAL)cols);
        hits += binary && !any_lane(wrong);
    }
    return hits;
}

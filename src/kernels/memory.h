/* Into panels and out of them, dropout, and the check for NaN and infinity. */

#define VECTORS(rows, cols, at) /* `at` runs over the vectors in use of one panel */              \
    for (ptrdiff_t r_ = 0, nv_ = panel_vectors(0, cols); r_ < (rows); r_++)                       \
        for (ptrdiff_t v_ = 0, at = r_ * NR; v_ < nv_; v_++, at += LANES)

#define PANELS_OF(cols, panel, width)                                                             \
    for (ptrdiff_t panel = 0, width; (width = (cols) - panel * NR) > 0; panel++)

#define GROUPS_OF(rows, first, group) /* as many rows as a vector has lanes; the last has the rest */ \
    for (ptrdiff_t first = 0, group;                                                              \
         (group = (rows) - first < LANES ? (rows) - first : LANES) > 0; first += LANES)

/* Less than a row of a panel: as halves, quarters ... of one, each a move of fixed size. */
INLINE void NAME(copy_few)(REAL *dst, const REAL *src, ptrdiff_t n)
{
#pragma GCC unroll 8
    for (ptrdiff_t size = LANES; size > 0; size /= 2)
        if (n & size) {
            __builtin_memcpy(dst, src, (size_t)size * sizeof(REAL));
            dst += size;
            src += size;
        }
}

/* The next row is asked for while one is copied: it may be anywhere. */
static void NAME(pack)(void *dst_, ptrdiff_t dst_stride, const void *src_, const int32_t *order,
                       ptrdiff_t rows, ptrdiff_t cols)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        const ptrdiff_t after = r + 1 < rows ? r + 1 : r;
        const REAL *src = (const REAL *)src_ + (order ? order[r] : r) * cols;
        const REAL *next = (const REAL *)src_ + (order ? order[after] : after) * cols;
        REAL *dst = (REAL *)dst_ + r * NR;
        ptrdiff_t left = cols;
        for (; left >= NR; left -= NR, src += NR, next += NR, dst += dst_stride) {
            prefetch(next, NR);
            STORE(dst, *(const uvec *)src);
            STORE(dst + LANES, *(const uvec *)(src + LANES));
        }
        if (left > 0) {
            STORE(dst, splat(0));
            STORE(dst + LANES, splat(0));
            NAME(copy_few)(dst, src, left);
        }
    }
}

/* Tiles of several rows take runs of columns: one more would take as long as a gap of up to four. */
INLINE uint64_t NAME(without_gaps)(uint64_t bits)
{
    bits |= bits << 1 | bits << 2 | bits << 3 | bits << 4;
    return bits & bits >> 1 & bits >> 2 & bits >> 3 & bits >> 4;
}

static ptrdiff_t NAME(used_columns)(uint32_t *used, const void *x_, ptrdiff_t stride, ptrdiff_t rows,
                                    ptrdiff_t cols)
{
    ptrdiff_t count = 0;
    PANELS_OF(cols, p, width) {
        const REAL *x = (const REAL *)x_ + p * stride, *end = x + rows * NR;
        ivec zero[2] = {first_lanes(width), first_lanes(width - LANES)};
        for (; x < end && any_lane(zero[0] | zero[1]); x += NR) {
            zero[0] &= LOAD(x) == 0;
            zero[1] &= LOAD(x + LANES) == 0;
        }
        used[p] |= first_bits(width) & ~(lane_bits(zero[0]) | lane_bits(zero[1]) << LANES);
        if (rows > 1)
            used[p] = (uint32_t)NAME(without_gaps)(used[p]);
        count += __builtin_popcount(used[p]);
    }
    return count;
}

static void NAME(unpack)(void *dst_, const void *src_, ptrdiff_t src_stride, ptrdiff_t rows,
                         ptrdiff_t cols)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        const REAL *src = (const REAL *)src_ + r * NR;
        REAL *dst = (REAL *)dst_ + r * cols;
        ptrdiff_t left = cols;
        for (; left >= NR; left -= NR, src += src_stride, dst += NR) {
            *(uvec *)dst = LOAD(src);
            *(uvec *)(dst + LANES) = LOAD(src + LANES);
        }
        NAME(copy_few)(dst, src, left);
    }
}

/* One vector by one vector: shuffling the rows as halves of a deck of cards moves the index's top
 * bit to its end, so after log2(LANES) times rows and columns have changed places. */
INLINE void NAME(transpose_square)(REAL *wt, const REAL *w, ptrdiff_t rows, ptrdiff_t cols)
{
#define LOWER_HALVES(i) (i) / 2 + (i) % 2 * LANES
#define UPPER_HALVES(i) (i) / 2 + (i) % 2 * LANES + LANES / 2
    vec a[LANES], b[LANES];
#pragma GCC unroll 16
    for (ptrdiff_t i = 0; i < LANES; i++)
        a[i] = i < rows ? LOAD(w + i * NR) : splat(0);
#pragma GCC unroll 4
    for (ptrdiff_t h = 1; h < LANES; h *= 2) {
#pragma GCC unroll 8
        for (ptrdiff_t i = 0; i < LANES / 2; i++) {
            b[2 * i] = SHUFFLE(a[i], a[i + LANES / 2], LOWER_HALVES);
            b[2 * i + 1] = SHUFFLE(a[i], a[i + LANES / 2], UPPER_HALVES);
        }
#pragma GCC unroll 16
        for (ptrdiff_t i = 0; i < LANES; i++)
            a[i] = b[i];
    }
#pragma GCC unroll 16
    for (ptrdiff_t i = 0; i < LANES; i++)
        if (i < cols)
            STORE(wt + i * NR, a[i]);
}

/* Of few columns, LANES rows at a time are turned, so that vector j is column j and no lane idles. */
typedef REAL NAME(turned)[LANES * NR] __attribute__((aligned(VECTOR_BYTES)));

#define COLUMN(columns, j) (*(vec *)((columns) + (j) * NR))

static void NAME(transpose)(void *wt, const void *w, ptrdiff_t rows, ptrdiff_t cols)
{
    for (ptrdiff_t r = 0; r < rows; r += LANES)
        for (ptrdiff_t c = 0; c < cols; c += LANES)
            NAME(transpose_square)((REAL *)wt + c * NR + r, (const REAL *)w + r * NR + c, rows - r,
                                   cols - c);
}

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011 */
INLINE void NAME(philox)(uint32_t word[4], uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * word[0], b = (uint64_t)0xCD9E8D57 * word[2];
        const uint32_t w1 = word[1], w3 = word[3];
        word[0] = (uint32_t)(b >> 32) ^ w1 ^ key0;
        word[1] = (uint32_t)b;
        word[2] = (uint32_t)(a >> 32) ^ w3 ^ key1;
        word[3] = (uint32_t)a;
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
}

/* x *= mask, and slope *= mask if given: the counter is (column / 4, row, layer, step). */
static void NAME(dropout)(void *x_, void *slope_, ptrdiff_t stride, const dropout_mask *mask,
                          ptrdiff_t first_row, ptrdiff_t rows, ptrdiff_t cols)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < cols; c += 4) {
            uint32_t word[4] = {(uint32_t)(c / 4), (uint32_t)(first_row + r), mask->layer, mask->step};
            NAME(philox)(word, (uint32_t)mask->seed, (uint32_t)(mask->seed >> 32));
            const ptrdiff_t at = c / NR * stride + r * NR + c % NR;
            for (int i = 0; i < 4; i++) { /* NR is a multiple of 4: padding may be touched, no more */
                const REAL factor = word[i] < mask->threshold ? 0 : (REAL)mask->scale;
                ((REAL *)x_)[at + i] *= factor;
                if (slope_)
                    ((REAL *)slope_)[at + i] *= factor;
            }
        }
}

/* x += stddev n, n by Box and Muller's transform: of the words w of a counter, for four columns, the
 * first pair gives sqrt(-2 ln u) cos(2 pi v) and ... sin(2 pi v) with u = (w[0] + 1/2) / 2^32 and
 * v = w[1] / 2^32, the second pair likewise.  The highest bit of the layer's word in the counter
 * keeps these words apart from those of dropout. */
static void NAME(add_noise)(void *x_, ptrdiff_t stride, const gaussian_noise *noise,
                            ptrdiff_t first_row, ptrdiff_t rows, ptrdiff_t cols)
{
    const vec stddev = splat((REAL)noise->stddev);
    for (ptrdiff_t r = 0; r < rows; r++)
        PANELS_OF(cols, p, width) {
            REAL *x = (REAL *)x_ + p * stride + r * NR;
            vec u[2] = {splat(1), splat(1)}, v[2] = {{0}}; /* the panel may end before a vector does */
            for (ptrdiff_t c = 0; c < NR && c < width; c += 4) {
                uint32_t word[4] = {(uint32_t)((p * NR + c) / 4), (uint32_t)(first_row + r),
                                    noise->layer | 0x80000000, noise->step};
                NAME(philox)(word, (uint32_t)noise->seed, (uint32_t)(noise->seed >> 32));
                for (int i = 0; i < 4; i++) {
                    ((REAL *)u)[c + i] = ((REAL)word[i & 2] + (REAL)0.5) * (REAL)0x1p-32;
                    /* between half a turn back and half a turn on; a cosine is a quarter ahead */
                    ((REAL *)v)[c + i] = (REAL)(int32_t)word[(i & 2) + 1] * (REAL)0x1p-32 +
                                         (i & 1 ? 0 : (REAL)0.25);
                }
            }
            for (ptrdiff_t c = 0; c < NR && c < width; c += LANES) {
                const vec radius = vsqrt(-2 * NAME(vlog)(u[c / LANES]));
                const vec n = radius * NAME(sin_turns)(v[c / LANES]);
                STORE(x + c, LOAD(x + c) + (vec)(first_lanes(width - c) & (ivec)(stddev * n)));
            }
        }
}

/* x - x is 0 where x is finite and NaN elsewhere */
static int NAME(all_finite)(const void *x_, ptrdiff_t n)
{
    const REAL *x = x_;
    vec s0 = {0}, s1 = {0};
    ptrdiff_t i = 0;
    for (; i + NR <= n; i += NR) {
        const vec a = *(const uvec *)(x + i), b = *(const uvec *)(x + i + LANES);
        s0 += a - a;
        s1 += b - b;
    }
    REAL sum = sum_lanes(s0 + s1)[0];
    for (; i < n; i++)
        sum += x[i] - x[i];
    return sum == 0;
}

static void NAME(add_up)(void *sum_, const void *terms_, ptrdiff_t stride, int count, ptrdiff_t rows,
                         ptrdiff_t cols)
{
    REAL *sum = sum_;
    const REAL *terms = terms_;
    VECTORS (rows, cols, at) {
        vec total = LOAD(terms + at);
        for (int i = 1; i < count; i++)
            total += LOAD(terms + i * stride + at);
        STORE(sum + at, total);
    }
}

/* Asks for a row of a row-major matrix, to be read once. */
static void NAME(prefetch_row)(const void *row, ptrdiff_t cols)
{
    const char *at = row, *end = at + cols * (ptrdiff_t)sizeof(REAL);
    for (; at < end; at += 64)
        __builtin_prefetch(at, 0, 2);
}

/* The micro-kernels: a tile of at most MR rows and one or two vectors (or half of one: nv = 0)
 * stays in registers while k runs.  Accumulators are named scalars, since GCC keeps an
 * array of them in memory.  Each output is bias + a_0 w_0 + a_1 w_1 + ... in
 * that order for every tile shape, so no element depends on how a matrix was
 * cut into tiles. */

#define ROWS(DO) \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)

/* The runs of columns whose bits are set.  A compiler that did not know where they end at the latest would
 * keep numbers in registers for the next row. */
#define FOR_RUNS(begin, end, bits)                                                       \
    for (ptrdiff_t left_ = (bits), begin, end;                                           \
         left_ > 0 && (begin = __builtin_ctzll((uint64_t)left_),                         \
                       end = begin + __builtin_ctzll(~(uint64_t)left_ >> begin),         \
                       end > NR ? __builtin_unreachable() : (void)0, 1);                 \
         left_ = left_ >> end << end)

static const REAL NAME(zeros)[NR] __attribute__((aligned(VECTOR_BYTES)));

#define START(i)                                                        \
    vec c##i##0 = LOAD(start + i * step);                               \
    vec c##i##1 = nv > 1 ? LOAD(start + i * step + LANES) : c##i##0;    \
    hvec h##i = LOAD_HALF(start + i * step);
#define FINISH(i)                                          \
    if (mr > i) {                                          \
        if (nv == 0)                                       \
            c##i##0 = NAME(widened)(h##i);                 \
        STORE(c + i * NR, vmax(low, c##i##0));             \
        if (nv > 1)                                        \
            STORE(c + i * NR + LANES, vmax(low, c##i##1)); \
    }
/* c_i += x * w for each row's x, over nv vectors from w on */
#define ACCUMULATE(i, x_)                           \
    if (mr > i) {                                   \
        if (nv == 0) {                              \
            h##i += x_ * half0;                     \
        } else {                                    \
            const vec x = splat(x_);                \
            c##i##0 += x * w0;                      \
            if (nv > 1)                             \
                c##i##1 += x * w1;                  \
        }                                           \
    }

/* Lines are asked for ahead of a tile: W goes by once and comes from far, and A goes on in another
 * panel, where the processor does not expect it.  NR steps of mr elements each ask for all that a tile
 * reads of the next panel, or for every other line of it.  Only high tiles of long vectors do: others
 * have no registers to spare, or no time to win. */
#define LOOKS_AHEAD(mr) (VECTOR_BYTES >= 32 && (mr) > MR / 2)
#define AHEAD (2048 / (ptrdiff_t)sizeof(REAL))

/* C (mr, nv vectors) = max(low, start + A (mr, n) W (n, nv vectors)); A's panels a_stride apart, and
 * the rows that the sums start from `step`.  Columns of A that are not in `used`, if that is given, are
 * passed over. */
INLINE void NAME(row_tile)(const int mr, const int nv, REAL *c, const REAL *a, ptrdiff_t a_stride,
                           const REAL *w, const REAL *start, ptrdiff_t step, REAL floor,
                           ptrdiff_t n, const uint32_t *used)
{
    const vec low = splat(floor);
    ROWS(START)
    for (; n > 0; n -= NR, a += a_stride, w += NR * NR) {
        const REAL *const next = n > NR ? a + a_stride : a;
        const ptrdiff_t ahead = n > NR ? AHEAD : 0; /* a branch in the loop would cost a register */
        FOR_RUNS (k, end, first_bits(n) & (used ? *used++ : ALL_BITS)) {
            _Pragma("GCC unroll 1") for (const REAL *w_k = w + k * NR; k < end; k++, w_k += NR) {
                if (LOOKS_AHEAD(mr)) {
                    prefetch(w_k + ahead, nv > 1 ? NR : LANES);
                    __builtin_prefetch(next + k * mr, 0, 3);
                }
                const vec w0 = LOAD(w_k), w1 = nv > 1 ? LOAD(w_k + LANES) : w0;
                const hvec half0 = LOAD_HALF(w_k);
                (void)half0;
#define ROW_STEP(i) ACCUMULATE(i, a[i * NR + k])
                ROWS(ROW_STEP)
            }
        }
    }
    ROWS(FINISH)
}

/* C (mr, nv vectors) += A' D over `rows` rows of two panels; C starts as zero if `fresh`. */
INLINE void NAME(column_tile)(const int mr, const int nv, REAL *c, const REAL *a, const REAL *d,
                              ptrdiff_t rows, int fresh)
{
    const vec low = splat(-INFINITE);
    const REAL *start = fresh ? NAME(zeros) : c;
    const ptrdiff_t step = fresh ? 0 : NR;
    ROWS(START)
    for (const REAL *end = d + rows * NR; d < end; a += NR, d += NR) {
        if (LOOKS_AHEAD(mr) && end - d > AHEAD) {
            prefetch(a + AHEAD, NR);
            prefetch(d + AHEAD, nv > 1 ? NR : LANES);
        }
        const vec w0 = LOAD(d), w1 = nv > 1 ? LOAD(d + LANES) : w0;
        const hvec half0 = LOAD_HALF(d);
        (void)half0;
#define COLUMN_STEP(i) ACCUMULATE(i, a[i])
        ROWS(COLUMN_STEP)
    }
    ROWS(FINISH)
}

/* One row times up to four panels of W, so that as many sums are under way as hide their latency. */
INLINE void NAME(wide_tile)(const int panels, const int nv, REAL *c, ptrdiff_t c_stride,
                            const REAL *a, ptrdiff_t a_stride, const REAL *w, ptrdiff_t w_stride,
                            const REAL *start, ptrdiff_t step, REAL floor, ptrdiff_t n,
                            const uint32_t *used)
{
    const vec low = splat(floor);
#define PANELS(DO) DO(0, 2) DO(1, 2) DO(2, 2) DO(3, nv)
#define FIRST_PANEL(p) (p - 4 + panels) /* panels 4-panels .. 3 are in use, so the last may be narrow */
#define WIDE_START(p, v)                                     \
    vec c##p##0 = {0}, c##p##1 = {0};                        \
    if (FIRST_PANEL(p) >= 0) {                               \
        c##p##0 = LOAD(start + FIRST_PANEL(p) * step);       \
        if (v > 1)                                           \
            c##p##1 = LOAD(start + FIRST_PANEL(p) * step + LANES); \
    }
    PANELS(WIDE_START)
    for (; n > 0; n -= NR, a += a_stride, w += NR * NR) {
        for (uint32_t left = first_bits(n) & (used ? *used++ : ALL_BITS); left; left &= left - 1) {
            const ptrdiff_t k = __builtin_ctz(left);
            const REAL *w_k = w + k * NR;
            const vec x = splat(a[k]);
#define WIDE_STEP(p, v)                                                   \
    if (FIRST_PANEL(p) >= 0) {                                            \
        c##p##0 += x * LOAD(w_k + FIRST_PANEL(p) * w_stride);             \
        if (v > 1)                                                        \
            c##p##1 += x * LOAD(w_k + FIRST_PANEL(p) * w_stride + LANES); \
    }
            PANELS(WIDE_STEP)
        }
    }
#define WIDE_FINISH(p, v)                                                        \
    if (FIRST_PANEL(p) >= 0) {                                                   \
        STORE(c + FIRST_PANEL(p) * c_stride, vmax(low, c##p##0));                \
        if (v > 1)                                                               \
            STORE(c + FIRST_PANEL(p) * c_stride + LANES, vmax(low, c##p##1));    \
    }
    PANELS(WIDE_FINISH)
}

typedef void NAME(row_tile_fn)(REAL *, const REAL *, ptrdiff_t, const REAL *, const REAL *, ptrdiff_t,
                               REAL, ptrdiff_t, const uint32_t *);
typedef void NAME(column_tile_fn)(REAL *, const REAL *, const REAL *, ptrdiff_t, int);
typedef void NAME(wide_tile_fn)(REAL *, ptrdiff_t, const REAL *, ptrdiff_t, const REAL *, ptrdiff_t,
                                const REAL *, ptrdiff_t, REAL, ptrdiff_t, const uint32_t *);

#define DEFINE_TILES(mr, nv)                                                                      \
    static __attribute__((noinline)) void NAME(row_tile_##mr##x##nv)(                             \
        REAL *c, const REAL *a, ptrdiff_t as, const REAL *w, const REAL *start, ptrdiff_t step,   \
        REAL low, ptrdiff_t n, const uint32_t *used)                                              \
    {                                                                                             \
        NAME(row_tile)(mr, nv, c, a, as, w, start, step, low, n, used);                           \
    }                                                                                             \
    static __attribute__((noinline)) void NAME(column_tile_##mr##x##nv)(                          \
        REAL *c, const REAL *a, const REAL *d, ptrdiff_t rows, int fresh)                         \
    {                                                                                             \
        NAME(column_tile)(mr, nv, c, a, d, rows, fresh);                                          \
    }
#define DEFINE_WIDE(panels, nv)                                                                   \
    static __attribute__((noinline)) void NAME(wide_tile_##panels##x##nv)(                        \
        REAL *c, ptrdiff_t cs, const REAL *a, ptrdiff_t as, const REAL *w, ptrdiff_t ws,          \
        const REAL *start, ptrdiff_t step, REAL low, ptrdiff_t n, const uint32_t *used)           \
    {                                                                                             \
        NAME(wide_tile)(panels, nv, c, cs, a, as, w, ws, start, step, low, n, used);              \
    }
#ifdef HALF_TILES
#define DEFINE_ALL(mr) DEFINE_TILES(mr, 0) DEFINE_TILES(mr, 1) DEFINE_TILES(mr, 2)
#define NARROWEST 0
#else
#define DEFINE_ALL(mr) DEFINE_TILES(mr, 1) DEFINE_TILES(mr, 2)
#define NARROWEST 1
#endif
#define ENTRY_(kind, mr, narrowest) \
    {NAME(kind##_tile_##mr##x##narrowest), NAME(kind##_tile_##mr##x1), NAME(kind##_tile_##mr##x2)},
#define ENTRY(kind, mr, narrowest) ENTRY_(kind, mr, narrowest)
#define ROW_ENTRY(mr) ENTRY(row, mr, NARROWEST)
#define COLUMN_ENTRY(mr) ENTRY(column, mr, NARROWEST)
#define WIDE_ENTRY(panels) ENTRY(wide, panels, 1)
#define DEFINE_WIDE_BOTH(panels) DEFINE_WIDE(panels, 1) DEFINE_WIDE(panels, 2)

#if MR == 14
#define TILE_HEIGHTS(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14)
#elif MR == 8
#define TILE_HEIGHTS(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)
#elif MR == 6
#define TILE_HEIGHTS(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6)
#elif MR == 5
#define TILE_HEIGHTS(DO) DO(1) DO(2) DO(3) DO(4) DO(5)
#elif MR == 4
#define TILE_HEIGHTS(DO) DO(1) DO(2) DO(3) DO(4)
#else
#error "no list of tile heights for this MR"
#endif
#define WIDTHS(DO) DO(1) DO(2) DO(3) DO(4)

TILE_HEIGHTS(DEFINE_ALL)
WIDTHS(DEFINE_WIDE_BOTH)
static NAME(row_tile_fn) *const NAME(row_tiles)[MR][3] = {TILE_HEIGHTS(ROW_ENTRY)};
static NAME(column_tile_fn) *const NAME(column_tiles)[MR][3] = {TILE_HEIGHTS(COLUMN_ENTRY)};
static NAME(wide_tile_fn) *const NAME(wide_tiles)[4][3] = {WIDTHS(WIDE_ENTRY)};

/* Vectors in use in the panel that starts at column `col`, as tiles count: 0 for up to half a one. */
INLINE int NAME(tile_vectors)(ptrdiff_t col, ptrdiff_t cols)
{
    return cols - col <= LANES / 2 ? 0 : panel_vectors(col, cols);
}
#define tile_vectors NAME(tile_vectors)

/* Rows are cut into as few tiles as MR allows, all within one row of the same height. */
#define FOR_TILES(start, height, rows)                                                      \
    for (ptrdiff_t tiles_ = ((rows) + MR - 1) / MR, start = 0, height;                      \
         tiles_ > 0 && (height = ((rows) - start + tiles_ - 1) / tiles_, 1);                \
         start += height, tiles_--)

static void NAME(dense)(void *c_, ptrdiff_t c_stride, const void *a_, ptrdiff_t a_stride,
                        const void *w_, const void *bias_, double floor, ptrdiff_t rows,
                        ptrdiff_t n_in, ptrdiff_t n_out, ptrdiff_t first, ptrdiff_t last,
                        ptrdiff_t from, ptrdiff_t to, const uint32_t *used)
{
    const ptrdiff_t w_stride = n_in * NR, n = to - from;
    const REAL low = to < n_in ? -INFINITE : (REAL)floor;
    REAL *c = (REAL *)c_ + first * c_stride;
    const REAL *a = (const REAL *)a_ + from / NR * a_stride;
    const REAL *w = (const REAL *)w_ + first * w_stride + from * NR;
    /* sums go on from C, or start from the bias or from zero: the next panel's, and the next row's */
    const REAL *start = from > 0 ? c : bias_ ? (const REAL *)bias_ + first * NR : NAME(zeros);
    const ptrdiff_t start_step = from > 0 ? c_stride : bias_ ? NR : 0, row_step = from > 0 ? NR : 0;
    if (used)
        used += from / NR;
    if (rows == 1) {
        for (ptrdiff_t j = first, panels; j < last; j += panels) {
            panels = last - j < 4 ? last - j : 4;
            const int nv = tile_vectors((j + panels - 1) * NR, n_out);
            NAME(wide_tiles)[panels - 1][nv](c, c_stride, a, a_stride, w, w_stride, start, start_step,
                                             low, n, used);
            c += panels * c_stride;
            w += panels * w_stride;
            start += panels * start_step;
        }
        return;
    }
    for (ptrdiff_t j = first; j < last; j++, c += c_stride, w += w_stride, start += start_step) {
        const int nv = tile_vectors(j * NR, n_out);
        FOR_TILES (r, height, rows)
            NAME(row_tiles)[height - 1][nv](c + r * NR, a + r * NR, a_stride, w, start + r * row_step,
                                            row_step, low, n, used);
    }
}

/* Rows whose part of two panels stays in the cache while all tiles of a block go over it: in L2, or,
 * where vectors are too short for what L2 gives in that time, in L1. */
#define GRADIENT_ROWS ((VECTOR_BYTES >= 64 ? 131072 : 12288) / (NR * (ptrdiff_t)sizeof(REAL)))

/* The rows `runs` of C = A' D, of one panel each, in vectors of D's columns. */
static void NAME(products_of_panels)(REAL *c, const REAL *a, const REAL *d, ptrdiff_t rows,
                                     ptrdiff_t runs, int nv)
{
    for (ptrdiff_t first = 0; first < rows; first += GRADIENT_ROWS) {
        const ptrdiff_t take = rows - first < GRADIENT_ROWS ? rows - first : GRADIENT_ROWS;
        FOR_RUNS (run, end, runs)
            FOR_TILES (i, height, end - run)
                NAME(column_tiles)[height - 1][nv](c + (run + i) * NR, a + first * NR + run + i,
                                                   d + first * NR, take, first == 0);
    }
}

/* So many multiply-adds of vectors take as long as it takes to turn a block. */
#define TURNING 512

/* Of few columns most lanes would idle, so D' A is found and turned: sums of the same products in the
 * same order. */
static void NAME(weight_gradient)(void *g, const void *a, const void *d, ptrdiff_t rows,
                                  ptrdiff_t n_in, ptrdiff_t cols, uint32_t used)
{
    const ptrdiff_t all = first_bits(n_in), runs = used & all;
    const ptrdiff_t vectors = __builtin_popcountll((uint64_t)runs) * panel_vectors(0, cols);
    const ptrdiff_t turned_vectors = cols * panel_vectors(0, n_in);
    if (rows * (vectors - turned_vectors) > TURNING) {
        REAL turned[NR * NR] __attribute__((aligned(VECTOR_BYTES)));
        NAME(products_of_panels)(turned, d, a, rows, first_bits(cols), panel_vectors(0, n_in));
        NAME(transpose)(g, turned, cols, n_in);
        return;
    }
    if (runs != all)
        __builtin_memset(g, 0, (size_t)(n_in * NR) * sizeof(REAL));
    NAME(products_of_panels)(g, a, d, rows, runs, tile_vectors(0, cols));
}

static void NAME(bias_gradient)(void *g_, const void *d_, ptrdiff_t rows, ptrdiff_t cols)
{
    REAL *g = g_;
    const REAL *d = d_;
    for (ptrdiff_t v = 0; v < panel_vectors(0, cols); v++) {
        /* four sums a vector hide the adder's latency */
        vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        ptrdiff_t r = 0;
        for (; r + 4 <= rows; r += 4) {
            s0 += LOAD(d + (r + 0) * NR + v * LANES);
            s1 += LOAD(d + (r + 1) * NR + v * LANES);
            s2 += LOAD(d + (r + 2) * NR + v * LANES);
            s3 += LOAD(d + (r + 3) * NR + v * LANES);
        }
        for (; r < rows; r++)
            s0 += LOAD(d + r * NR + v * LANES);
        STORE(g + v * LANES, (s0 + s1) + (s2 + s3));
    }
}

/* The processor's limit: twelve chains of multiply-adds, which hide each other's latency, `n` long.
 * Returns how much arithmetic that was. */
static double NAME(multiply_add)(ptrdiff_t n)
{
#define CHAINS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define CHAIN_START(i) vec c##i = splat((REAL)i);
#define CHAIN_STEP(i) c##i = c##i * x + y;
#define CHAIN_SUM(i) sum += c##i;
    CHAINS(CHAIN_START)
    const vec x = splat(1 / (REAL)(n + 1)), y = splat(1); /* unknown, or chains would fold */
    vec sum = {0};
    for (ptrdiff_t k = 0; k < n; k++) {
        CHAINS(CHAIN_STEP)
    }
    CHAINS(CHAIN_SUM)
    return sum[0] > 0 ? 24.0 * (double)LANES * (double)n : 0;
}

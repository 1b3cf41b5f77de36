/* What one core does on one block of rows, as a table of functions for each
 * instruction set and dtype.  The loops over layers, batches and threads
 * (../step.pxi, ../forward.pxi) know nothing of either: they work in elements
 * and call through this table.
 *
 * Panels.  Every matrix inside the core is stored as panels of `nr` columns:
 * element (r, c) is at [c / nr][r][c % nr], panels `stride` elements apart.
 * A row of a panel is then a constant distance from the next, whatever the
 * shape, so a micro-kernel addresses all its rows from one pointer, and no
 * power-of-two width can make rows collide in the cache.  Columns beyond the
 * last are padding: never NaN when it matters, never read as data.
 */
#ifndef FASTNN_KERNELS_H
#define FASTNN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* The codes are the positions in fastnn/activations.py, losses.py and optimizers.py. */
enum activation {
    IDENTITY, STEP, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SELU, SOFTPLUS, GELU, SILU, SOFTMAX
};
enum loss {
    MSE, MAE, HUBER, POISSON,
    CROSS_ENTROPY, BINARY_CROSS_ENTROPY, SOFTMAX_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY,
    QUANTILE, GAMMA, FOCAL, BINARY_FOCAL, SOFTMAX_FOCAL, SIGMOID_FOCAL,
    GIVEN_GRADIENT /* the target is the gradient by the outputs, and the value is 0 */
};
enum optimizer {
    SGD, ADAGRAD, RMSPROP, ADAM, ADAMW, ADADELTA, NADAM, LION,
    VELOCITY = 100, EPSILON_HAT, /* fastnn/sklearn/_optimizers.py */
    AMSGRAD /* what Adam and AdamW are with a third state */
};
enum vector_function { V_EXP, V_EXPM1, V_LOG, V_LOG1P, V_TANH, V_SIGMOID, V_ERF };

/* One optimizer step, its numbers already computed for this step's count. */
typedef struct {
    int kind;            /* enum optimizer */
    int slots;           /* state arrays in use: 0 to 3 */
    int nesterov;
    double rate;         /* step size; Adam's first bias correction is in it */
    double gradient_rate; /* NAdam's for the gradient itself */
    double decay1;       /* momentum, rho or beta_1 */
    double decay2;       /* RMSProp's momentum, or beta_2 */
    double epsilon;
    double root_scale;   /* Adam: 1 / sqrt(1 - beta_2^t) */
    double weight_decay; /* AdamW, Lion: rate * weight_decay */
    double grad_scale;   /* from clipping by the norm; 1 when off */
    double share;        /* of the new weights in their running mean; 0 when off */
} optimizer_step;

/* Which units a dropout mask keeps: Philox4x32-10 words below `threshold` drop. */
typedef struct {
    uint64_t seed;
    uint32_t layer, step, threshold;
    double scale;
} dropout_mask;

/* Gaussian noise from the same generator. */
typedef struct {
    uint64_t seed;
    uint32_t layer, step;
    double stddev;
} gaussian_noise;

/* The target of a block of rows: class labels, or rows of panels. */
typedef struct {
    const int32_t *labels; /* NULL for dense targets */
    const void *dense;
    ptrdiff_t dense_stride;
    const void *weight; /* one a row, or NULL */
    double scale;       /* 1 / (sum of weights of the batch) */
    double keep, add;   /* label smoothing: keep t + add is the target; 1 and 0 when off */
    const void *parameters; /* of each output, panels of one row, or NULL: one for all */
} loss_target;

typedef struct {
    const char *isa;
    int itemsize;
    int lanes; /* elements of a vector */
    int nr;    /* columns of a panel: two vectors */
    int narrowest; /* columns of the narrowest tile: a vector, or half of one */
    int mr;    /* most rows of a tile */

    /* Rows of a row-major matrix, `order[r]` or r, into panels, padding zeroed. */
    void (*pack)(void *dst, ptrdiff_t dst_stride, const void *src, const int32_t *order,
                 ptrdiff_t rows, ptrdiff_t cols);
    void (*unpack)(void *dst, const void *src, ptrdiff_t src_stride, ptrdiff_t rows, ptrdiff_t cols);

    /* used[p] |= the columns of panel p, as bits, that are not zero in all rows, and a few between them.
     * Products leave the others out: blank pixels of all images of a batch, units of one row that
     * ReLU has cut off.  Returns how many are used. */
    ptrdiff_t (*used_columns)(uint32_t *used, const void *x, ptrdiff_t stride, ptrdiff_t rows,
                              ptrdiff_t cols);

    /* C = max(A W + bias, floor) for the panels [first, last) of C (rows, n_out); bias may be NULL, and
     * `used`, which is of A.  Or the part of these sums over the columns [from, to) of A, which are
     * whole panels: from > 0 goes on from what is in C, and the floor is the last one's. */
    void (*dense)(void *c, ptrdiff_t c_stride, const void *a, ptrdiff_t a_stride,
                  const void *w, const void *bias, double floor, ptrdiff_t rows,
                  ptrdiff_t n_in, ptrdiff_t n_out, ptrdiff_t first, ptrdiff_t last,
                  ptrdiff_t from, ptrdiff_t to, const uint32_t *used);
    /* G (n_in, cols) of one panel = A' D: A (rows, n_in <= nr) and D (rows, cols) one panel each. */
    void (*weight_gradient)(void *g, const void *a, const void *d, ptrdiff_t rows,
                            ptrdiff_t n_in, ptrdiff_t cols, uint32_t used);
    void (*bias_gradient)(void *g, const void *d, ptrdiff_t rows, ptrdiff_t cols);
    /* A panel that is the sum of `count` panels, each `stride` after the other, in this order. */
    void (*add_up)(void *sum, const void *terms, ptrdiff_t stride, int count, ptrdiff_t rows,
                   ptrdiff_t cols);

    /* In place over panels of `cols` columns; `slope`, if given, gets the derivative. */
    void (*activate)(int activation, double parameter, void *z, void *slope, ptrdiff_t stride,
                     ptrdiff_t rows, ptrdiff_t cols);
    /* d *= slope, or the derivative found from the activation's output h. */
    void (*activate_backward)(int activation, double parameter, void *d, const void *h,
                              const void *slope, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t cols);
    void (*dropout)(void *x, void *slope, ptrdiff_t stride, const dropout_mask *mask,
                    ptrdiff_t first_row, ptrdiff_t rows, ptrdiff_t cols);
    void (*add_noise)(void *x, ptrdiff_t stride, const gaussian_noise *noise, ptrdiff_t first_row,
                      ptrdiff_t rows, ptrdiff_t cols);

    /* Loss of each row, unweighted, into row_loss; the gradient with respect to
     * `out`, weighted and scaled, into `d` if given (may be `out` itself).
     * Returns the number of rows predicted right (class losses). */
    int64_t (*loss)(int loss, double parameter, void *d, const void *out, ptrdiff_t stride,
                    const loss_target *target, double *row_loss, ptrdiff_t rows, ptrdiff_t cols);

    /* The optimizer's update of `rows` rows of a panel; l1 and l2 are the layer's; g is spent. */
    void (*update)(const optimizer_step *step, double l1, double l2, void *w, void *g,
                   void *state1, void *state2, void *state3, ptrdiff_t rows, ptrdiff_t cols);
    /* average = (1 - share) average + share w */
    void (*average)(void *average, const void *w, double share, ptrdiff_t rows, ptrdiff_t cols);
    /* Columns whose norm is larger than `bound` are scaled to it; returns whether there are any. */
    int (*bound_norms)(void *w, double bound, ptrdiff_t rows, ptrdiff_t cols);
    /* wt (cols, rows) = w (rows, cols)', one block of at most nr by nr. */
    void (*transpose)(void *wt, const void *w, ptrdiff_t rows, ptrdiff_t cols);

    /* g += l1 sign(w) + 2 l2 w; returns l1 sum|w| + l2 sum w^2. */
    double (*penalty)(double l1, double l2, void *g, const void *w, ptrdiff_t rows, ptrdiff_t cols);
    /* Ask for a row of a row-major matrix. */
    void (*prefetch_row)(const void *row, ptrdiff_t cols);
    double (*sum_of_squares)(const void *x, ptrdiff_t rows, ptrdiff_t cols);
    /* Into [-bound, bound]. */
    void (*clip)(void *x, double bound, ptrdiff_t rows, ptrdiff_t cols);
    int (*all_finite)(const void *x, ptrdiff_t n);
    /* y = f(x), for tests and benchmarks of the vector math. */
    void (*map)(int function, void *y, const void *x, ptrdiff_t n);
    /* Does nothing but multiply and add in registers, for benchmarks; returns how many times. */
    double (*multiply_add)(ptrdiff_t n);
} kernels;

/* Instruction sets that are built in and that this processor runs, best first. */
int fastnn_isa_count(void);
const char *fastnn_isa_name(int index);
/* Kernels of instruction set `index` for 4- or 8-byte elements. */
const kernels *fastnn_kernels(int index, int itemsize);

#endif

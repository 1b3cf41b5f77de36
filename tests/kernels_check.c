/* Checks every instruction set that is built in and runs here against plain loops, for processors
 * that the Python tests do not run on.  Prints what is wrong; the exit status is the number. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static int wrong = 0;
static const kernels *K;

static void expect(double got, double wanted, double scale, const char *what)
{
    const double epsilon = K->itemsize == 4 ? 1.2e-7 : 2.2e-16;
    if (!(fabs(got - wanted) <= 16 * epsilon * scale) && wrong++ < 20)
        printf("%s, %d bytes, %s: got %.17g, expected %.17g\n", K->isa, K->itemsize, what, got, wanted);
}

static double get(const void *p, ptrdiff_t i)
{
    return K->itemsize == 4 ? ((const float *)p)[i] : ((const double *)p)[i];
}

static void set(void *p, ptrdiff_t i, double x)
{
    if (K->itemsize == 4)
        ((float *)p)[i] = (float)x;
    else
        ((double *)p)[i] = x;
}

static ptrdiff_t at(ptrdiff_t r, ptrdiff_t c, ptrdiff_t rows)
{
    return c / K->nr * rows * K->nr + r * K->nr + c % K->nr;
}

/* Panels of rows by columns, filled with numbers in [-1, 1), padding zero. */
static void *panels(ptrdiff_t rows, ptrdiff_t cols, int random)
{
    static unsigned state = 1;
    const size_t items = (size_t)((cols + K->nr - 1) / K->nr * K->nr * rows);
    void *p = NULL;
    if (posix_memalign(&p, 64, (items * (size_t)K->itemsize + 63) / 64 * 64 + 64))
        exit(99);
    memset(p, 0, items * (size_t)K->itemsize);
    for (ptrdiff_t r = 0; random && r < rows; r++)
        for (ptrdiff_t c = 0; c < cols; c++) {
            state = state * 1664525u + 1013904223u;
            set(p, at(r, c, rows), state / 2147483648.0 - 1);
        }
    return p;
}

/* Which columns are not zero: those that `pattern`, over and over, has a bit for. */
static int is_set(uint32_t pattern, ptrdiff_t i) { return pattern >> i % 32 & 1; }

/* Whether the next ones that are not, of the same panel, have at most four zero ones between them. */
static int in_gap(uint32_t pattern, ptrdiff_t i, ptrdiff_t n_in)
{
    const ptrdiff_t first = i / K->nr * K->nr, end = first + K->nr < n_in ? first + K->nr : n_in;
    ptrdiff_t before = i, after = i;
    while (before >= first && !is_set(pattern, before))
        before--;
    while (after < end && !is_set(pattern, after))
        after++;
    return before >= first && after < end && after - before <= 5;
}

/* Products do not look at the weights of columns of A that are zero. */
static void check_products(ptrdiff_t rows, ptrdiff_t n_in, ptrdiff_t n_out, uint32_t pattern)
{
    const ptrdiff_t nr = K->nr, n_panels = (n_out + nr - 1) / nr;
    void *a = panels(rows, n_in, 1), *w = panels(n_in, n_out, 1), *bias = panels(1, n_out, 1);
    void *c = panels(rows, n_out, 0), *d = panels(rows, n_out, 1), *g = panels(nr, nr, 1);
    uint32_t used[100] = {0};
    for (ptrdiff_t i = 0; i < n_in; i++)
        for (ptrdiff_t r = 0; !is_set(pattern, i) && r < rows; r++)
            set(a, at(r, i, rows), r % 2 ? 0.0 : -0.0);
    ptrdiff_t count = K->used_columns(used, a, rows * nr, rows, n_in);
    for (ptrdiff_t i = 0; i < (n_in + nr - 1) / nr * nr; i++) {
        const int found = used[i / nr] >> i % nr & 1;
        count -= found;
        expect(found, i < n_in && (rows > 1 ? in_gap(pattern, i, n_in) : is_set(pattern, i)), 0,
               "used_columns");
        for (ptrdiff_t j = 0; !found && i < n_in && j < n_out; j++)
            set(w, at(i, j, n_in), NAN);
    }
    expect((double)count, 0, 0, "count of used_columns");
    const ptrdiff_t cut = n_in / nr / 2 * nr; /* the sums in two parts, or in one */
    if (cut > 0)
        K->dense(c, rows * nr, a, rows * nr, w, bias, 0, rows, n_in, n_out, 0, n_panels, 0, cut, used);
    K->dense(c, rows * nr, a, rows * nr, w, bias, 0, rows, n_in, n_out, 0, n_panels, cut, n_in, used);
    for (ptrdiff_t i = 0; i < n_in; i++)
        for (ptrdiff_t j = 0; !is_set(pattern, i) && j < n_out; j++)
            set(w, at(i, j, n_in), 1);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < n_out; j++) {
            double sum = get(bias, at(0, j, 1));
            for (ptrdiff_t i = 0; i < n_in; i++)
                sum += get(a, at(r, i, rows)) * get(w, at(i, j, n_in));
            expect(get(c, at(r, j, rows)), sum > 0 ? sum : 0, (double)n_in + 1, "dense");
        }
    const ptrdiff_t block = n_in < nr ? n_in : nr, cols = n_out < nr ? n_out : nr;
    K->weight_gradient(g, a, d, rows, block, cols, used[0]);
    for (ptrdiff_t i = 0; i < block; i++)
        for (ptrdiff_t j = 0; j < cols; j++) {
            double sum = 0;
            for (ptrdiff_t r = 0; r < rows; r++)
                sum += get(a, at(r, i, rows)) * get(d, at(r, j, rows));
            expect(get(g, i * nr + j), sum, (double)rows + 1, "weight_gradient");
        }
    /* the same as if there were more columns, to the last bit: those that few have are summed otherwise */
    void *t = panels(nr, nr, 0);
    K->weight_gradient(t, a, d, rows, block, nr, used[0]);
    for (ptrdiff_t i = 0; i < block; i++)
        for (ptrdiff_t j = 0; j < cols; j++)
            expect(get(t, i * nr + j), get(g, i * nr + j), 0, "weight_gradient of more columns");
    K->transpose(t, g, block, cols);
    for (ptrdiff_t i = 0; i < block; i++)
        for (ptrdiff_t j = 0; j < cols; j++)
            expect(get(t, j * nr + i), get(g, i * nr + j), 0, "transpose");
    free(a), free(w), free(bias), free(c), free(d), free(g), free(t);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static void check_functions(void)
{
    static double (*const functions[])(double) = {exp, expm1, log, log1p, tanh, sigmoid, erf};
    void *x = panels(100, 1, 0), *y = panels(100, 1, 0);
    for (int f = 0; f < 7; f++) {
        for (int i = 0; i < 100; i++)
            set(x, i, f == V_LOG ? 0.07 * (i + 1) : f == V_LOG1P ? 0.05 * i - 0.9 : 0.11 * i - 5.5);
        K->map(f, y, x, 100);
        for (int i = 0; i < 100; i++)
            expect(get(y, i), functions[f](get(x, i)), fabs(functions[f](get(x, i))), "map");
    }
    free(x), free(y);
}

static void check_loss(ptrdiff_t rows, ptrdiff_t cols)
{
    void *o = panels(rows, cols, 1), *d = panels(rows, cols, 0);
    int32_t *labels = calloc((size_t)rows, sizeof *labels);
    double *row_loss = calloc((size_t)rows, sizeof *row_loss);
    int64_t hits = 0;
    for (ptrdiff_t r = 0; r < rows; r++)
        labels[r] = (int32_t)(r % cols);
    const loss_target target = {.labels = labels, .scale = 1, .keep = 1};
    const int64_t got = K->loss(SOFTMAX_CROSS_ENTROPY, 0, d, o, rows * K->nr, &target, row_loss, rows, cols);
    for (ptrdiff_t r = 0; r < rows; r++) {
        double sum = 0, own = get(o, at(r, labels[r], rows));
        int best = 1;
        for (ptrdiff_t j = 0; j < cols; j++) {
            sum += exp(get(o, at(r, j, rows)));
            best &= get(o, at(r, j, rows)) <= own;
        }
        hits += best;
        expect(row_loss[r], log(sum) - own, 8, "loss");
        for (ptrdiff_t j = 0; j < cols; j++)
            expect(get(d, at(r, j, rows)), exp(get(o, at(r, j, rows))) / sum - (j == labels[r]), 1, "slope");
    }
    expect((double)got, (double)hits, 0, "hits");
    free(o), free(d), free(labels), free(row_loss);
}

static void check_adam(void)
{
    const ptrdiff_t nr = K->nr;
    const optimizer_step step = {.kind = ADAM,
                                 .slots = 2,
                                 .rate = 0.01,
                                 .decay1 = 0.9,
                                 .decay2 = 0.999,
                                 .epsilon = 1e-8,
                                 .root_scale = 31.6,
                                 .grad_scale = 1};
    void *w = panels(3, nr, 1), *old = panels(3, nr, 0), *g = panels(3, nr, 1);
    void *m = panels(3, nr, 0), *v = panels(3, nr, 0);
    memcpy(old, w, (size_t)(3 * nr * K->itemsize));
    K->update(&step, 0, 0, w, g, m, v, NULL, 3, nr);
    for (ptrdiff_t i = 0; i < 3 * nr; i++) {
        const double slope = get(g, i), root = sqrt(0.001 * slope * slope) * 31.6 + 1e-8;
        expect(get(w, i), get(old, i) - 0.01 * (0.1 * slope) / root, 1, "update");
    }
    free(w), free(old), free(g), free(m), free(v);
}

int main(void)
{
    static const ptrdiff_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 33, 100};
    static const uint32_t patterns[] = {~0u, 0, 1u << 31, 0x00fff0f5, 0xaaaaaaaa, 0x7c21087f};
    const int n = sizeof sizes / sizeof *sizes;
    for (int i = 0; i < fastnn_isa_count(); i++)
        for (int itemsize = 4; itemsize <= 8; itemsize += 4) {
            K = fastnn_kernels(i, itemsize);
            for (int r = 0; r < n; r++)
                for (int j = 0; j < n; j++) {
                    for (int p = 0; p < 6; p++)
                        check_products(sizes[r], sizes[(r + j) % n], sizes[j], patterns[p]);
                    check_loss(sizes[r], sizes[j]);
                }
            check_functions();
            check_adam();
            printf("%s, %d bytes: %d wrong\n", K->isa, itemsize, wrong);
        }
    return wrong > 99 ? 99 : wrong;
}

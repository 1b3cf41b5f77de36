# The C side of the core: see kernels/kernels.h and runtime.h.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "kernels.h" nogil:
    enum: IDENTITY, RELU, GELU, SILU, SOFTMAX
    enum: SGD, ADAGRAD, RMSPROP, ADAM, ADAMW, ADADELTA, NADAM, LION, EPSILON_HAT

    ctypedef struct optimizer_step:
        int kind
        int slots
        int nesterov
        double rate
        double gradient_rate
        double decay1
        double decay2
        double epsilon
        double root_scale
        double weight_decay
        double grad_scale
        double share

    ctypedef struct dropout_mask:
        uint64_t seed
        uint32_t layer
        uint32_t step
        uint32_t threshold
        double scale

    ctypedef struct gaussian_noise:
        uint64_t seed
        uint32_t layer
        uint32_t step
        double stddev

    ctypedef struct loss_target:
        const int32_t *labels
        const void *dense
        ptrdiff_t dense_stride
        const void *weight
        double scale
        double keep
        double add
        const void *parameters

    ctypedef struct kernels:
        const char *isa
        int itemsize
        int lanes
        int nr
        int narrowest
        int mr
        void (*pack)(void *dst, ptrdiff_t dst_stride, const void *src, const int32_t *order,
                     ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        void (*unpack)(void *dst, const void *src, ptrdiff_t src_stride, ptrdiff_t rows,
                       ptrdiff_t cols) noexcept nogil
        ptrdiff_t (*used_columns)(uint32_t *used, const void *x, ptrdiff_t stride, ptrdiff_t rows,
                                  ptrdiff_t cols) noexcept nogil
        void (*dense)(void *c, ptrdiff_t c_stride, const void *a, ptrdiff_t a_stride,
                      const void *w, const void *bias, double floor, ptrdiff_t rows,
                      ptrdiff_t n_in, ptrdiff_t n_out, ptrdiff_t first, ptrdiff_t last,
                      ptrdiff_t begin, ptrdiff_t end, const uint32_t *used) noexcept nogil
        void (*weight_gradient)(void *g, const void *a, const void *d, ptrdiff_t rows,
                                ptrdiff_t n_in, ptrdiff_t cols, uint32_t used) noexcept nogil
        void (*bias_gradient)(void *g, const void *d, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        void (*add_up)(void *sum, const void *terms, ptrdiff_t stride, int count, ptrdiff_t rows,
                       ptrdiff_t cols) noexcept nogil
        void (*activate)(int activation, double parameter, void *z, void *slope, ptrdiff_t stride,
                         ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        void (*activate_backward)(int activation, double parameter, void *d, const void *h,
                                  const void *slope, ptrdiff_t stride, ptrdiff_t rows,
                                  ptrdiff_t cols) noexcept nogil
        void (*dropout)(void *x, void *slope, ptrdiff_t stride, const dropout_mask *mask,
                        ptrdiff_t first_row, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        void (*add_noise)(void *x, ptrdiff_t stride, const gaussian_noise *noise,
                          ptrdiff_t first_row, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        int64_t (*loss)(int loss, double parameter, void *d, const void *out, ptrdiff_t stride,
                        const loss_target *target, double *row_loss, ptrdiff_t rows,
                        ptrdiff_t cols) noexcept nogil
        void (*update)(const optimizer_step *step, double l1, double l2, void *w, void *g,
                       void *state1, void *state2, void *state3, ptrdiff_t rows,
                       ptrdiff_t cols) noexcept nogil
        void (*average)(void *average, const void *w, double share, ptrdiff_t rows,
                        ptrdiff_t cols) noexcept nogil
        int (*bound_norms)(void *w, double bound, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        void (*transpose)(void *wt, const void *w, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        double (*penalty)(double l1, double l2, void *g, const void *w, ptrdiff_t rows,
                          ptrdiff_t cols) noexcept nogil
        void (*prefetch_row)(const void *row, ptrdiff_t cols) noexcept nogil
        double (*sum_of_squares)(const void *x, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        void (*clip)(void *x, double bound, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil
        int (*all_finite)(const void *x, ptrdiff_t n) noexcept nogil
        void (*map)(int function, void *y, const void *x, ptrdiff_t n) noexcept nogil
        double (*multiply_add)(ptrdiff_t n) noexcept nogil

    int fastnn_isa_count()
    const char *fastnn_isa_name(int index)
    const kernels *fastnn_kernels(int index, int itemsize)


cdef extern from "runtime.h" nogil:
    ctypedef struct fastnn_barrier:
        pass
    ctypedef struct fastnn_progress:
        pass
    void fastnn_call_team(fastnn_barrier *b)
    uint64_t fastnn_join(fastnn_barrier *b, int thread, int team)
    void fastnn_set_float_mode(uint64_t mode)
    void fastnn_wait(fastnn_barrier *b, int thread, int team)
    double fastnn_seconds()
    int fastnn_team_size()
    int fastnn_possible_team(int team)
    void fastnn_tell(int *place, int value)
    int fastnn_told(const int *place)
    int fastnn_add(int *place, int value)
    void fastnn_relax(int i)
    void fastnn_tell_progress(fastnn_progress *p, int64_t number)
    bint fastnn_wait_for(const fastnn_progress *p, int64_t number, const int *stop)
    void fastnn_tell_steps(int64_t *place, int64_t value)
    int64_t fastnn_told_steps(const int64_t *place)
    int fastnn_forked
    void fastnn_watch_forks()
    bint fastnn_must_be_serial()
    int fastnn_max_threads()
    int fastnn_openmp_version()
    const char *fastnn_openmp_runtime()
    const char *fastnn_compiler()
    void *fastnn_alloc(size_t count, size_t size)
    void fastnn_free(void *p)

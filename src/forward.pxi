# Rows through all layers.  Rows do not depend on each other, so each thread takes its own rows the
# whole way, in blocks whose activations stay in its cache; only where there are less than a few rows
# for each do they share out the weights.

cdef double INFINITY_ = float("inf")

# Of the widest activations of a block of rows; but what comes from memory for it is to serve more rows.
cdef ptrdiff_t BLOCK_BYTES = 384 * 1024
cdef ptrdiff_t BLOCK_ROWS_FROM_MEMORY = 256

# One row passes over the weights of inputs that are zero.  Out of a cache that pays for any of them; out
# of memory, which brings all in turn sooner than every other one, where few are left.
cdef enum:
    BYTES_IN_CACHE = 16 * 1024 * 1024
    FEW_INPUTS = 4         # one of so many


cdef inline bint comes_from_memory(const Network *net) noexcept nogil:
    """Whether the weights do, each time, since they are more than a cache holds."""
    return net.n_params * net.K.itemsize > BYTES_IN_CACHE


cdef inline ptrdiff_t block_rows(const Network *net) noexcept nogil:
    """Rows of a block: a multiple of the tile's, so that only a thread's last tile is short."""
    cdef ptrdiff_t rows = BLOCK_BYTES // (net.widest * net.K.nr * net.K.itemsize)
    if comes_from_memory(net):
        rows = max(rows, BLOCK_ROWS_FROM_MEMORY)
    return max(rows // net.K.mr, 2) * net.K.mr


cdef struct Forward:
    # a call of predict or loss
    const Network *net
    const char *X
    ptrdiff_t n
    char *out              # (n, n_out) row-major, or NULL
    bint check             # look for NaN and infinity in X and in the outputs
    const int32_t *labels
    const char *dense
    const char *weight
    double *row_loss       # or NULL
    char *buffers          # two per thread
    ptrdiff_t buffer_bytes
    int threads
    int taken              # told to the team: how many blocks of rows are taken,
    int there              # how many threads have come,
    int bad                # there was NaN or infinity in X,
    int overflows          # or is in the outputs
    Watch watch
    int64_t hits[MAX_THREADS]
    fastnn_barrier barrier


cdef inline ptrdiff_t used_bytes(const Network *net) noexcept nogil:
    return panels(net.widest, 16) * 16 * sizeof(uint32_t)


cdef ptrdiff_t forward_buffer_bytes(const Network *net, ptrdiff_t rows) noexcept nogil:
    """Of panels, and of a word for each: its columns that are not zero."""
    return net.widest * net.K.nr * rows * net.K.itemsize + used_bytes(net)


cdef bint pack_checked(Forward *f, ptrdiff_t first, ptrdiff_t rows, char *x) noexcept nogil:
    """Rows [first, first + rows) of X into x; False, and f.bad, if they are to be finite and not."""
    cdef const kernels *K = f.net.K
    cdef ptrdiff_t n_in = f.net.layers[0].n_in
    cdef const char *X = f.X + first * n_in * K.itemsize
    if f.check and not K.all_finite(X, rows * n_in):
        fastnn_tell(&f.bad, True)
        return False
    K.pack(x, rows * K.nr, X, NULL, rows, n_in)
    return True


cdef void unpack_checked(Forward *f, ptrdiff_t first, ptrdiff_t rows, const char *x) noexcept nogil:
    """Panels x into rows [first, first + rows) of the outputs."""
    cdef const kernels *K = f.net.K
    cdef ptrdiff_t n_out = f.net.layers[f.net.n_layers - 1].n_out
    cdef char *out = f.out + first * n_out * K.itemsize
    K.unpack(out, x, rows * K.nr, rows, n_out)
    if f.check and not K.all_finite(out, rows * n_out):
        fastnn_tell(&f.overflows, True)


cdef inline bint skips_zeros(const Network *net, const Layer *layer, const char *x, ptrdiff_t rows,
                             uint32_t *used) noexcept nogil:
    """Find the inputs that are not zero; whether those alone are to be taken."""
    cdef ptrdiff_t count
    memset(used, 0, layer.in_panels * sizeof(uint32_t))
    count = net.K.used_columns(used, x, rows * net.K.nr, rows, layer.n_in)
    return rows > 1 or count <= layer.n_in // FEW_INPUTS or not comes_from_memory(net)


cdef inline void dense_panels(const Network *net, const Layer *layer, int activation, const char *x,
                              char *y, ptrdiff_t rows, ptrdiff_t first, ptrdiff_t last,
                              uint32_t *used) noexcept nogil:
    """Panels [first, last) of the layer's outputs y for its inputs x; `used` is room."""
    cdef const kernels *K = net.K
    cdef ptrdiff_t stride = rows * K.nr
    if not (is_large(layer) and skips_zeros(net, layer, x, rows, used)):
        used = NULL
    K.dense(y, stride, x, stride, at(net, net.params, layer.weight),
            at(net, net.params, layer.bias), 0 if activation == RELU else -INFINITY_,
            rows, layer.n_in, layer.n_out, first, last, 0, layer.n_in, used)
    if activation != RELU and activation != IDENTITY:
        K.activate(activation, layer.parameter, y + first * stride * K.itemsize, NULL, stride, rows,
                   min(layer.n_out, last * K.nr) - first * K.nr)


cdef void forward_rows(Forward *f, ptrdiff_t first, ptrdiff_t rows, char *x, char *y,
                       uint32_t *used, int64_t *hits) noexcept nogil:
    """Rows [first, first + rows) through the net, x and y being buffers of panels."""
    cdef const Network *net = f.net
    cdef const kernels *K = net.K
    cdef ptrdiff_t stride = rows * K.nr
    cdef Layer *layer = net.layers
    cdef bint with_loss = f.row_loss != NULL
    cdef loss_target target
    cdef int i, activation
    if not pack_checked(f, first, rows, x):
        return
    for i in range(net.n_layers):
        layer = &net.layers[i]
        activation = layer.inner if with_loss else layer.activation
        dense_panels(net, layer, activation, x, y, rows, 0, layer.out_panels, used)
        x, y = y, x
    if with_loss:
        target = no_target(net)
        target.labels = f.labels + first if f.labels else NULL
        if f.dense:
            K.pack(y, stride, f.dense + first * layer.n_out * K.itemsize, NULL, rows, layer.n_out)
            target.dense = y
            target.dense_stride = stride
        hits[0] += K.loss(net.loss, net.loss_parameter, NULL, x, stride, &target,
                          f.row_loss + first, rows, layer.n_out)
    else:
        unpack_checked(f, first, rows, x)


cdef inline uint32_t *used_room(const Forward *f, int thread) noexcept nogil:
    return <uint32_t *>(f.buffers + (2 * thread + 1) * f.buffer_bytes - used_bytes(f.net))


# Threads that sleep take so long to wake.
cdef double SECONDS_TO_WAKE = 60e-6


cdef void await_others(const Forward *f, int team) noexcept nogil:
    """Leave a thread that has just been woken its block: else it would find nothing to do, fall asleep
    again before this one has done all, and be woken too late for the next call, and so on."""
    cdef double end
    cdef int i = 0
    if fastnn_told(&f.there) < team:
        end = fastnn_seconds() + SECONDS_TO_WAKE
        while fastnn_told(&f.there) < team and fastnn_seconds() < end:
            fastnn_relax(i)
            i += 1


cdef void forward_share(Forward *f, int thread, int team) noexcept nogil:
    """Blocks of rows, of which each thread of a team takes the next while there are any: one that
    another program keeps from its processor takes fewer."""
    cdef ptrdiff_t rows = team * block_rows(f.net)
    cdef ptrdiff_t blocks = min(f.n, (f.n + rows - 1) // rows * team), block = 0, first
    cdef char *x = f.buffers + 2 * thread * f.buffer_bytes
    if team > 1:
        fastnn_add(&f.there, 1)
    while not fastnn_told(&f.bad) and not fastnn_told(&f.watch.stop):
        if team > 1:
            if block > 0 and blocks == team:
                await_others(f, team)
            block = fastnn_add(&f.taken, 1)
        if block >= blocks:
            return
        first = f.n * block // blocks
        forward_rows(f, first, f.n * (block + 1) // blocks - first, x, x + f.buffer_bytes,
                     used_room(f, thread), &f.hits[thread])
        block += 1
        if thread == 0:
            look(&f.watch, True)


cdef inline bint takes_panels(const Forward *f) noexcept nogil:
    """Whether rows are too few to share, so that the threads share each layer's panels instead.

    They go through the buffers of one block then."""
    return (f.threads > 1 and f.n < 4 * f.threads and f.n <= block_rows(f.net)
            and f.row_loss == NULL)


cdef void panels_share(Forward *f, int thread, int team) noexcept nogil:
    """The panels of one thread of a team, layer by layer, in the buffers of the first."""
    cdef const Network *net = f.net
    cdef char *x = f.buffers
    cdef char *y = x + f.buffer_bytes
    cdef Layer *layer = net.layers
    cdef int i, activation
    cdef bint whole
    if thread == 0:
        pack_checked(f, 0, f.n, x)
    fastnn_wait(&f.barrier, thread, team)
    if fastnn_told(&f.bad):
        return
    for i in range(net.n_layers):
        layer = &net.layers[i]
        activation = layer.activation
        whole = activation == SOFTMAX  # which couples all columns of a row
        dense_panels(net, layer, IDENTITY if whole else activation, x, y, f.n,
                     layer.out_panels * thread // team, layer.out_panels * (thread + 1) // team,
                     used_room(f, thread))
        fastnn_wait(&f.barrier, thread, team)
        if whole and thread == 0:
            net.K.activate(activation, layer.parameter, y, NULL, f.n * net.K.nr, f.n, layer.n_out)
        x, y = y, x
    if thread == 0:
        unpack_checked(f, 0, f.n, x)


cdef void forward_in_team(Forward *f, int thread, int team) noexcept nogil:
    cdef uint64_t mode = fastnn_join(&f.barrier, thread, team)
    if takes_panels(f):
        panels_share(f, thread, team)
    else:
        forward_share(f, thread, team)
    fastnn_set_float_mode(mode)


cdef void forward(Forward *f) noexcept nogil:
    memset(f.hits, 0, f.threads * sizeof(int64_t))  # OpenMP may give fewer threads
    if f.threads > 1:
        f.threads = fastnn_possible_team(f.threads)
    if f.threads == 1:
        forward_share(f, 0, 1)
        return
    f.taken = f.there = 0
    memset(&f.barrier, 0, sizeof(fastnn_barrier))
    fastnn_call_team(&f.barrier)
    with parallel(num_threads=f.threads):
        forward_in_team(f, threadid(), fastnn_team_size())


cdef double mean_loss(const Forward *f, int64_t *hits) noexcept nogil:
    """Mean of the rows' losses that `forward` has found, penalties included; and hits, not NULL."""
    cdef const Network *net = f.net
    cdef const Block *k
    cdef double total = 0, weight_sum = 0, penalty = 0, w, scale
    cdef ptrdiff_t r, j
    cdef int i
    for r in range(f.n):
        w = item(f.weight, r, net.K.itemsize) if f.weight else 1
        total += w * f.row_loss[r]
        weight_sum += w
    hits[0] = 0
    for i in range(f.threads):
        hits[0] += f.hits[i]
    if net.penalized:
        for j in range(net.n_blocks):
            k = &net.blocks[j]
            penalty += net.K.penalty(k.layer.l1, k.layer.l2, NULL, at(net, net.params, k.weight),
                                     k.rows, k.cols)
    scale = 1 / weight_sum if weight_sum != 0 else 0.0
    return total * net.loss_scale * scale + penalty * (scale if net.mean_penalty else 1.0)

# Rows through all layers.  Rows do not depend on each other, so each thread takes its own rows the
# whole way, in blocks whose activations stay in its cache.

cdef double INFINITY_ = float("inf")
cdef ptrdiff_t BLOCK_BYTES = 384 * 1024  # of the widest activations of a row block


cdef inline ptrdiff_t block_rows(const Network *net) noexcept nogil:
    """Rows of a block: a multiple of the tile's, so that only a thread's last tile is short."""
    cdef ptrdiff_t rows = BLOCK_BYTES // (net.widest * net.K.nr * net.K.itemsize)
    return max(rows // net.K.mr, 2) * net.K.mr


cdef struct Forward:
    # a call of predict or loss
    const Network *net
    const char *X
    ptrdiff_t X_stride
    ptrdiff_t n
    char *out              # (n, n_out) row-major, or NULL
    bint check             # look for NaN and infinity in X
    const int32_t *labels
    const char *dense
    const char *weight
    double *row_loss       # or NULL
    char *buffers          # two per thread
    ptrdiff_t buffer_bytes
    int threads
    bint bad               # there was NaN or infinity
    int64_t hits[MAX_THREADS]


cdef ptrdiff_t forward_buffer_bytes(const Network *net, ptrdiff_t rows) noexcept nogil:
    return net.widest * net.K.nr * rows * net.K.itemsize


cdef void forward_rows(Forward *f, ptrdiff_t first, ptrdiff_t rows, char *x, char *y,
                       int64_t *hits) noexcept nogil:
    """Rows [first, first + rows) through the net, x and y being buffers of panels."""
    cdef const Network *net = f.net
    cdef const kernels *K = net.K
    cdef ptrdiff_t stride = rows * K.nr, r
    cdef Layer *layer = net.layers
    cdef const char *X = f.X + first * f.X_stride * K.itemsize
    cdef bint with_loss = f.row_loss != NULL
    cdef loss_target target
    cdef int i, activation
    if f.check:
        for r in range(rows):
            if not K.all_finite(X + r * f.X_stride * K.itemsize, layer.n_in):
                f.bad = True
                return
    K.pack(x, stride, X, f.X_stride, NULL, rows, layer.n_in)
    for i in range(net.n_layers):
        layer = &net.layers[i]
        activation = layer.inner if with_loss else layer.activation
        K.dense(y, stride, x, stride, at(net, net.params, layer.weight),
                at(net, net.params, layer.bias), 0 if activation == RELU else -INFINITY_,
                rows, layer.n_in, layer.n_out, 0, layer.out_panels)
        if activation != RELU and activation != IDENTITY:
            K.activate(activation, layer.parameter, y, NULL, stride, rows, layer.n_out)
        x, y = y, x
    if with_loss:
        target.labels = f.labels + first if f.labels else NULL
        target.weight = NULL
        target.scale = 1
        target.dense = NULL
        if f.dense:
            K.pack(y, stride, f.dense + first * layer.n_out * K.itemsize, layer.n_out, NULL, rows,
                   layer.n_out)
            target.dense = y
            target.dense_stride = stride
        hits[0] += K.loss(net.loss, net.loss_parameter, NULL, x, stride, &target,
                          f.row_loss + first, rows, layer.n_out)
    else:
        K.unpack(f.out + first * layer.n_out * K.itemsize, layer.n_out, x, stride, rows,
                 layer.n_out)


cdef void forward_share(Forward *f, int thread, int team) noexcept nogil:
    """The rows of one thread of a team, block by block."""
    cdef ptrdiff_t first = f.n * thread // team, last = f.n * (thread + 1) // team
    cdef ptrdiff_t rows = block_rows(f.net), blocks, take
    cdef char *x = f.buffers + 2 * thread * f.buffer_bytes
    f.hits[thread] = 0
    blocks = (last - first + rows - 1) // rows
    while blocks > 0 and not f.bad:
        take = (last - first + blocks - 1) // blocks
        forward_rows(f, first, take, x, x + f.buffer_bytes, &f.hits[thread])
        first += take
        blocks -= 1


cdef void forward(Forward *f) noexcept nogil:
    if f.threads == 1:
        forward_share(f, 0, 1)
    else:
        with parallel(num_threads=f.threads):
            forward_share(f, threadid(), fastnn_team_size())

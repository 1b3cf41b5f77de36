# Training steps as a team of threads takes them, in phases with a barrier after each:
#
#   units    only where the first layer is large: each thread takes the sums of its units of that
#            layer, for the whole batch;
#   rows     each thread takes its rows through all (other) layers, the loss and back, leaving the
#            activations x and the gradients d of the layers' sums for the whole batch;
#   blocks   each thread takes its blocks of the weights: gradient x' d of the block, and the
#            optimizer's update while that is in the cache.
#
# A thread's part of the units' sums is that of the weights in its blocks, so that these weights and the
# packed inputs stay in its own cache: where processors share none, taking back what another has read
# costs more than the arithmetic.
#
# A small network is trained apart: in the phase of the rows each thread also makes what its parts of
# the batch add to the gradients, which is less to hand over than activations and weights; afterwards
# each adds the parts up and updates weights of its own, all of them.
#
# Every sum runs over the batch, or a part of it, within one block, and what the parts are follows from
# the batch alone, so no result depends on the number of threads.

# Up to so many weights, and so many for each row of the batch, a network is small; its batches are
# cut into up to so many parts.
cdef enum:
    SIZE_OF_SMALL_NETWORK = 16384
    WEIGHTS_FOR_A_ROW = 100
    MOST_PARTS = 4
cdef double FLOP_OF_PART = 700e3


# So many tiles of rows at a time where two threads take sums one after the other.
cdef enum:
    TILES_TO_SHARE = 4


cdef enum Mode:
    TRAIN              # update in the blocks
    TRAIN_CLIPPED      # gradients first, then their norm, then the update
    GRADIENTS          # leave the gradients in net.grads
    OUTPUTS            # leave the outputs in the place of the target


# Where a team stops when a signal's handler raises.  The second time may be before all threads have
# seen that it was not the first.
cdef enum:
    STOP_IN_ROWS = 1
    STOP_IN_BLOCKS = 2

# From here on a step's update waits for all gradients, since it cannot be given up half-way.
cdef double FLOP_OF_LATER_UPDATE = 60e9


cdef struct Steps:
    # a run of steps and its workspace
    Network *net
    Mode mode
    bint later             # TRAIN: update once all gradients are there, so that it is short
    int threads
    Watch watch
    # the data
    const char *X
    const int32_t *labels  # or
    const char *dense
    const char *weight
    const int32_t *order   # or NULL: rows in place
    ptrdiff_t n, batch
    int64_t step           # number of the first step of the run, for dropout and Adam
    # the optimizer; rates[i] of batch i
    optimizer_step optimizer
    double clip_norm       # 0: off
    double clip_value      # 0: off
    double momentum_decay  # NAdam's, and the product of its momentums before batch i
    const double *momentums
    const double *rates
    const double *shares   # of each batch's weights in the average, or NULL
    double *losses
    int64_t *hits
    # the workspace, sized for `capacity` rows
    ptrdiff_t capacity
    bint by_units          # whether there is the phase of the units
    int n_inputs           # input of the first layer: for each thread, or for all
    char **inputs
    fastnn_progress *begun # of so many rows, by each thread: the sums that the next one goes on with
    uint32_t *used         # the inputs that are not zero in all rows, by threads; or NULL
    char **x               # input of each other layer, and the output of the last
    char **d               # gradient of the loss by each layer's output sums
    char **slope
    char *dense_panels
    int32_t *batch_labels
    char *batch_weight
    double *row_loss       # of even and odd batches, since one thread may be a step ahead
    double *block_value    # of each block: penalty, or sum of squares
    double *block_penalty
    char *scratch          # a block of gradients for each of so many threads:
    int scratches
    int64_t *thread_hits   # as row_loss, of even and odd batches
    double began, ended    # by the clock: after the first step, and after the last
    fastnn_barrier *barrier
    # of a small network
    bint apart             # whether it is trained apart
    int parts              # room for what so many add to the gradients,
    char *part_grads       # of even and odd batches
    Steps *views           # this, as each thread sees it: with
    Network *replicas      # weights and optimizer states of its own, but for the first


cdef ptrdiff_t without_collisions(const Network *net, ptrdiff_t rows) noexcept nogil:
    """At least `rows`, as the distance of panels: those of a block of rows are to lie side by side
    in the cache, and not all in the same sets, as at a distance of 128 KB they would."""
    return rows if rows <= 512 else rows + ((block_rows(net) - rows) & 127)


cdef struct Batch:
    ptrdiff_t index, first, rows
    const int32_t *order
    double scale           # 1 / sum of weights
    double penalty_scale
    uint32_t step


cdef Batch the_batch(const Steps *s, ptrdiff_t index) noexcept nogil:
    cdef Batch b
    cdef ptrdiff_t r
    cdef double total = 0
    b.index = index
    b.first = index * s.batch
    b.rows = min(s.batch, s.n - b.first)
    b.order = s.order + b.first if s.order else NULL
    b.step = <uint32_t>(s.step + index)
    if s.weight:
        for r in range(b.rows):
            total += weight_of(s, row_number(&b, r))
    else:
        total = <double>b.rows
    b.scale = 1 / total if total != 0 else 0
    b.penalty_scale = b.scale if s.net.mean_penalty else 1
    return b


cdef inline ptrdiff_t row_number(const Batch *b, ptrdiff_t r) noexcept nogil:
    return b.order[r] if b.order else b.first + r


cdef inline double item(const void *array, ptrdiff_t i, int itemsize) noexcept nogil:
    return (<const float *>array)[i] if itemsize == 4 else (<const double *>array)[i]


cdef inline double weight_of(const Steps *s, ptrdiff_t row) noexcept nogil:
    return item(s.weight, row, s.net.K.itemsize) if s.weight else 1.0


cdef inline bint is_disturbed(const Layer *layer) noexcept nogil:
    return layer.noise > 0 or layer.dropout > 0


cdef inline void disturb(const Steps *s, const Batch *b, int layer, char *x, char *slope,
                         ptrdiff_t first, ptrdiff_t rows) noexcept nogil:
    """Noise and dropout on a layer's input."""
    cdef Layer *l = &s.net.layers[layer]
    cdef gaussian_noise noise
    cdef dropout_mask mask
    if l.noise > 0:
        noise.seed = s.net.seed
        noise.layer = <uint32_t>layer
        noise.step = b.step
        noise.stddev = l.noise
        s.net.K.add_noise(x, s.capacity * s.net.K.nr, &noise, first, rows, l.n_in)
    if l.dropout == 0:
        return
    mask.seed = s.net.seed
    mask.layer = <uint32_t>layer
    mask.step = b.step
    mask.threshold = <uint32_t>(l.dropout * 4294967296.0)
    mask.scale = 1 / (1 - l.dropout)
    s.net.K.dropout(x, slope, s.capacity * s.net.K.nr, &mask, first, rows, l.n_in)


cdef inline void pack_batch(const Steps *s, const Batch *b, char *dst, const char *src,
                            ptrdiff_t first, ptrdiff_t rows, ptrdiff_t cols) noexcept nogil:
    cdef const kernels *K = s.net.K
    if b.order:
        K.pack(dst, s.capacity * K.nr, src, b.order + first, rows, cols)
    else:
        K.pack(dst, s.capacity * K.nr, src + (b.first + first) * cols * K.itemsize, NULL, rows, cols)


cdef struct Part:
    # of the list of blocks, what one thread of a team has: two runs, of equal cost for all
    ptrdiff_t first, last, rest, rest_last


cdef Part part_of(const Steps *s, int thread, int team) noexcept nogil:
    cdef const Network *net = s.net
    if s.apart:
        thread, team = 0, 1
    cdef double cost = net.first_cost if s.by_units else net.cost, rest = net.cost - cost
    cdef Part part
    part.first = block_at(net, cost * thread / team)
    part.last = block_at(net, cost * (thread + 1) / team)
    part.rest = block_at(net, cost + rest * thread / team)
    part.rest_last = block_at(net, cost + rest * (thread + 1) / team)
    return part


cdef inline bint takes_units(const Network *net, int threads) noexcept nogil:
    """Whether the first layer is worth a phase of its own."""
    return 1 < threads <= net.layers.out_panels and is_large(net.layers)


cdef inline bint is_small(const Network *net, ptrdiff_t rows) noexcept nogil:
    return net.flop <= 2.0 * min(SIZE_OF_SMALL_NETWORK, WEIGHTS_FOR_A_ROW * rows)


cdef int parts_of(const Network *net, ptrdiff_t rows) noexcept nogil:
    """Into how many a batch is cut, of a network that is trained apart."""
    cdef double flop = 3 * net.flop * rows
    cdef int parts = 1
    while is_small(net, rows) and parts < MOST_PARTS and flop >= 2 * parts * FLOP_OF_PART:
        parts *= 2
    return parts


cdef bint goes_apart(const Network *net, Mode mode, ptrdiff_t rows) noexcept nogil:
    """Whether steps of `rows` rows are taken apart; long ones look at signals, for all together."""
    return ((mode == TRAIN or mode == TRAIN_CLIPPED) and is_small(net, rows)
            and not is_long(3 * net.flop * rows, rows))


cdef inline char *part_gradients(const Steps *s, const Batch *b, int part) noexcept nogil:
    return at(s.net, s.part_grads, ((b.index & 1) * s.parts + part) * s.net.n_params)


cdef inline double *row_losses(const Steps *s, const Batch *b) noexcept nogil:
    return s.row_loss + (b.index & 1) * s.capacity


cdef inline int64_t *hits_of(const Steps *s, const Batch *b) noexcept nogil:
    return s.thread_hits + (b.index & 1) * s.scratches


cdef inline char *input_of(const Steps *s, int layer, int thread) noexcept nogil:
    return s.x[layer] if layer else s.inputs[thread if s.by_units else 0]


cdef inline uint32_t *used_by(const Steps *s, int thread) noexcept nogil:
    return s.used + thread * s.net.layers.in_panels


cdef void take_inputs(const Steps *s, const Batch *b, int thread, ptrdiff_t first,
                      ptrdiff_t rows) noexcept nogil:
    cdef Layer *layer = s.net.layers
    cdef char *x = input_of(s, 0, thread) + first * s.net.K.nr * s.net.K.itemsize
    pack_batch(s, b, x, s.X, first, rows, layer.n_in)
    if is_disturbed(layer):
        disturb(s, b, 0, x, NULL, first, rows)
    if s.used:
        s.net.K.used_columns(used_by(s, thread), x, s.capacity * s.net.K.nr, rows, layer.n_in)


cdef void take_sums(const Steps *s, int i, int thread, ptrdiff_t first, ptrdiff_t last,
                    ptrdiff_t first_panel, ptrdiff_t last_panel, ptrdiff_t begin,
                    ptrdiff_t end) noexcept nogil:
    """Panels of the sums of layer i over inputs [begin, end), of rows [first, last) of the batch;
    ReLU, if it can be."""
    cdef Network *net = s.net
    cdef const kernels *K = net.K
    cdef Layer *layer = &net.layers[i]
    cdef ptrdiff_t stride = s.capacity * K.nr, offset = first * K.nr * K.itemsize
    if begin < end:
        K.dense(s.x[i + 1] + offset, stride, input_of(s, i, thread) + offset, stride,
                at(net, net.params, layer.weight), at(net, net.params, layer.bias),
                0 if layer.inner == RELU and not layer.keeps_slope else -INFINITY_,
                last - first, layer.n_in, layer.n_out, first_panel, last_panel, begin, end,
                used_by(s, thread) if s.used and i == 0 else NULL)


cdef inline ptrdiff_t group_of(const Network *net, ptrdiff_t block) noexcept nogil:
    """The first of the panels that are listed abreast with a block of the first layer."""
    cdef ptrdiff_t abreast = panels_abreast(net, net.layers)
    return block // (abreast * net.layers.in_panels) * abreast


cdef inline ptrdiff_t inputs_before(const Network *net, ptrdiff_t block, ptrdiff_t j) noexcept nogil:
    """How many of the first layer's inputs have their weights for panel j in front of a block."""
    cdef Layer *layer = net.layers
    cdef ptrdiff_t abreast = panels_abreast(net, layer), group = j // abreast * abreast
    cdef ptrdiff_t width = min(abreast, layer.out_panels - group)
    cdef ptrdiff_t listed = max(0, block - group * layer.in_panels + width - 1 - (j - group))
    return min(listed // width * net.K.nr, layer.n_in)


cdef void units_phase(Steps *s, const Batch *b, int thread, int team) noexcept nogil:
    """The sums of a thread's units.  Where two threads share the weights of some, the second goes on
    from what the first has summed, and both take few rows at a time."""
    cdef Network *net = s.net
    cdef Part part = part_of(s, thread, team)
    cdef ptrdiff_t first_panel = group_of(net, part.first), head = group_of(net, part.last - 1)
    cdef ptrdiff_t end_panel = min(head + panels_abreast(net, net.layers), net.layers.out_panels)
    cdef ptrdiff_t first = 0, last, j, begin, end
    cdef ptrdiff_t rows = block_rows(net), chunks
    if inputs_before(net, part.first, first_panel) > 0 or (
            inputs_before(net, part.last, end_panel - 1) < net.layers.n_in):
        rows = min(rows, TILES_TO_SHARE * net.K.mr)
    chunks = (b.rows + rows - 1) // rows
    while chunks > 0 and not fastnn_told(&s.watch.stop):
        last = first + (b.rows - first + chunks - 1) // chunks
        take_inputs(s, b, thread, first, last - first)
        for j in range(end_panel - 1, first_panel - 1, -1):
            begin, end = inputs_before(net, part.first, j), inputs_before(net, part.last, j)
            if begin > 0 and not fastnn_wait_for(&s.begun[thread - 1], b.first + last,
                                                 &s.watch.stop):
                return
            take_sums(s, 0, thread, first, last, j, j + 1, begin, end)
            if j == head:
                fastnn_tell_progress(&s.begun[thread], b.first + last)
        first = last
        chunks -= 1
        if thread == 0:
            look(&s.watch, STOP_IN_ROWS)


cdef int64_t loss_of_rows(const Steps *s, const Batch *b, ptrdiff_t first, ptrdiff_t rows,
                          const char *x, char *d) noexcept nogil:
    """The losses of rows of the batch and, as d, their gradient with respect to the outputs x."""
    cdef Network *net = s.net
    cdef const kernels *K = net.K
    cdef ptrdiff_t stride = s.capacity * K.nr, offset = first * K.nr * K.itemsize, r
    cdef ptrdiff_t n_out = net.layers[net.n_layers - 1].n_out
    cdef loss_target target = no_target(net)
    target.scale = b.scale * net.gradient_scale
    if s.labels:
        target.labels = s.batch_labels + first
        for r in range(first, first + rows):
            s.batch_labels[r] = s.labels[row_number(b, r)]
    else:
        target.dense = s.dense_panels + offset
        target.dense_stride = stride
        pack_batch(s, b, s.dense_panels + offset, s.dense, first, rows, n_out)
    if s.weight:
        target.weight = s.batch_weight + first * K.itemsize
        for r in range(first, first + rows):
            memcpy(s.batch_weight + r * K.itemsize, s.weight + row_number(b, r) * K.itemsize,
                   K.itemsize)
    return K.loss(net.loss, net.loss_parameter, d, x, stride, &target, row_losses(s, b) + first, rows,
                  n_out)


cdef int64_t rows_there_and_back(const Steps *s, const Batch *b, int thread, ptrdiff_t first,
                                 ptrdiff_t rows) noexcept nogil:
    """Rows [first, first + rows) of the batch through all layers, the loss, and back."""
    cdef Network *net = s.net
    cdef const kernels *K = net.K
    cdef ptrdiff_t stride = s.capacity * K.nr, offset = first * K.nr * K.itemsize
    cdef int last = net.n_layers - 1, i
    cdef Layer *layer
    cdef char *x
    cdef char *d
    cdef char *slope
    cdef int64_t hits

    if not s.by_units:
        take_inputs(s, b, thread, first, rows)
    for i in range(net.n_layers):
        layer = &net.layers[i]
        x = s.x[i + 1] + offset
        slope = s.slope[i] + offset if layer.keeps_slope else NULL
        if i > 0 or not s.by_units:
            take_sums(s, i, thread, first, first + rows, 0, layer.out_panels, 0, layer.n_in)
        if slope or (layer.inner != RELU and layer.inner != IDENTITY):
            K.activate(layer.inner, layer.parameter, x, slope, stride, rows, layer.n_out)
        if i < last and is_disturbed(&net.layers[i + 1]):
            disturb(s, b, i + 1, x, slope, first, rows)

    layer = &net.layers[last]
    x = s.x[last + 1] + offset
    if s.mode == OUTPUTS:
        K.unpack(<char *>s.dense + first * layer.n_out * K.itemsize, x, stride, rows, layer.n_out)
        return 0
    d = s.d[last] + offset
    hits = loss_of_rows(s, b, first, rows, x, d)
    if layer.inner != IDENTITY:
        K.activate_backward(layer.inner, layer.parameter, d, x,
                            s.slope[last] + offset if layer.keeps_slope else NULL, stride, rows,
                            layer.n_out)

    for i in range(last, 0, -1):
        layer = &net.layers[i]
        d = s.d[i - 1] + offset
        K.dense(d, stride, s.d[i] + offset, stride, at(net, net.transposed, layer.transposed),
                NULL, -INFINITY_, rows, layer.n_out, layer.n_in, 0, layer.in_panels, 0, layer.n_out,
                NULL)
        layer = &net.layers[i - 1]
        if layer.keeps_slope or layer.inner != IDENTITY:
            K.activate_backward(layer.inner, layer.parameter, d, s.x[i] + offset,
                                s.slope[i - 1] + offset if layer.keeps_slope else NULL, stride,
                                rows, layer.n_out)
    return hits


cdef inline uint32_t used_inputs(const Steps *s, const Block *k, int first,
                                 int last) noexcept nogil:
    """A block's inputs that are not zero in all rows, of threads [first, last)."""
    cdef uint32_t used = 0
    cdef int thread
    if s.used == NULL or k.layer > s.net.layers:
        return <uint32_t>-1
    for thread in range(first, last):
        used |= used_by(s, thread)[k.p]
    return used


cdef void gradient_of_rows(const Steps *s, const Block *k, uint32_t used, int thread,
                           ptrdiff_t first, ptrdiff_t rows, char *g, char *bias_g) noexcept nogil:
    """What rows [first, first + rows) of the batch add to the gradient of a block."""
    cdef const kernels *K = s.net.K
    cdef int i = <int>(k.layer - s.net.layers)
    cdef ptrdiff_t row = K.nr * K.itemsize
    cdef char *d = s.d[i] + (k.j * s.capacity + first) * row
    K.weight_gradient(g, input_of(s, i, thread) + (k.p * s.capacity + first) * row, d, rows, k.rows,
                      k.cols, used)
    if k.p == 0 and k.layer.use_bias:
        K.bias_gradient(bias_g, d, rows, k.cols)


cdef inline bint adds_parts(const Steps *s, const Batch *b, int team) noexcept nogil:
    return s.apart and (team > 1 or parts_of(s.net, b.rows) > 1)


cdef void gradient_of_part(const Steps *s, const Batch *b, int part, int thread, ptrdiff_t first,
                           ptrdiff_t rows) noexcept nogil:
    """What a part of the batch adds to the gradients of all weights."""
    cdef const Network *net = s.net
    cdef char *sums = part_gradients(s, b, part)
    cdef const Block *k
    cdef ptrdiff_t i
    for i in range(net.n_blocks):
        k = &net.blocks[i]
        gradient_of_rows(s, k, used_inputs(s, k, thread, thread + 1), thread, first, rows,
                         at(net, sums, k.weight), at(net, sums, k.bias))


cdef int64_t rows_by_blocks(Steps *s, const Batch *b, int thread, ptrdiff_t first,
                            ptrdiff_t last) noexcept nogil:
    """Rows [first, last) of the batch, as many at a time as stay in the cache; returns hits."""
    cdef ptrdiff_t rows = block_rows(s.net), blocks = (last - first + rows - 1) // rows
    cdef int64_t hits = 0
    while blocks > 0 and not fastnn_told(&s.watch.stop):
        rows = (last - first + blocks - 1) // blocks
        hits += rows_there_and_back(s, b, thread, first, rows)
        first += rows
        blocks -= 1
        if thread == 0:
            look(&s.watch, STOP_IN_ROWS)
    return hits


cdef void rows_phase(Steps *s, const Batch *b, int thread, int team) noexcept nogil:
    cdef int parts = parts_of(s.net, b.rows) if s.apart else team, part
    cdef ptrdiff_t first, last
    cdef int64_t hits = 0
    for part in range(parts * thread // team, parts * (thread + 1) // team):
        first = b.rows * part // parts
        last = b.rows * (part + 1) // parts
        hits += rows_by_blocks(s, b, thread, first, last)
        if adds_parts(s, b, team):
            gradient_of_part(s, b, part, thread, first, last - first)
    hits_of(s, b)[thread] = hits


cdef inline void update_part(const Network *net, const optimizer_step *step, double l1, double l2,
                             ptrdiff_t offset, char *g, ptrdiff_t rows,
                             ptrdiff_t cols) noexcept nogil:
    net.K.update(step, l1, l2, at(net, net.params, offset), g,
                 at(net, net.state[0], offset) if step.slots > 0 else NULL,
                 at(net, net.state[1], offset) if step.slots > 1 else NULL,
                 at(net, net.state[2], offset) if step.slots > 2 else NULL, rows, cols)


cdef inline void average_part(const Network *net, const optimizer_step *step, ptrdiff_t offset,
                              ptrdiff_t rows, ptrdiff_t cols) noexcept nogil:
    net.K.average(at(net, net.average, offset), at(net, net.params, offset), step.share, rows, cols)


cdef void update_block(const Network *net, const optimizer_step *step, const Block *k,
                       char *g, char *bias_g, double l1, double l2) noexcept nogil:
    update_part(net, step, l1, l2, k.weight, g, k.rows, k.cols)
    transpose_block(net, k)
    if step.share > 0 and k.layer.max_norm == INFINITY_:
        average_part(net, step, k.weight, k.rows, k.cols)
    if k.p == 0 and k.layer.use_bias:
        update_part(net, step, 0, 0, k.bias, bias_g, 1, k.cols)
        if step.share > 0:
            average_part(net, step, k.bias, 1, k.cols)


cdef inline bint updates_at_once(const Steps *s) noexcept nogil:
    return s.mode == TRAIN and not s.later


cdef void add_parts(const Steps *s, const Batch *b, const Block *k, char *g,
                    char *bias_g) noexcept nogil:
    """The gradient of a block, from what the parts of the batch add to it."""
    cdef const Network *net = s.net
    cdef const kernels *K = net.K
    cdef char *parts = part_gradients(s, b, 0)
    cdef int count = parts_of(net, b.rows)
    K.add_up(g, at(net, parts, k.weight), net.n_params, count, k.rows, k.cols)
    if k.p == 0 and k.layer.use_bias:
        K.add_up(bias_g, at(net, parts, k.bias), net.n_params, count, 1, k.cols)


cdef void gradient_block(Steps *s, const Batch *b, const optimizer_step *step, int thread, int team,
                         ptrdiff_t number) noexcept nogil:
    cdef Network *net = s.net
    cdef const kernels *K = net.K
    cdef const Block *k = &net.blocks[number]
    cdef const Layer *layer = k.layer
    cdef double l1 = layer.l1 * b.penalty_scale, l2 = layer.l2 * b.penalty_scale
    cdef char *g
    cdef char *bias_g
    cdef bint clip = s.clip_value > 0 and s.mode != GRADIENTS
    if updates_at_once(s):
        g = s.scratch + thread * (K.nr + 1) * K.nr * K.itemsize
        bias_g = g + K.nr * K.nr * K.itemsize
    else:
        g = at(net, net.grads, k.weight)
        bias_g = at(net, net.grads, k.bias)
    if adds_parts(s, b, team):
        add_parts(s, b, k, g, bias_g)
    else:
        gradient_of_rows(s, k, used_inputs(s, k, 0, team), thread, 0, b.rows, g, bias_g)
    if net.penalized:
        s.block_penalty[number] = K.penalty(
            l1, l2, NULL if s.mode == TRAIN and not clip else g, at(net, net.params, k.weight),
            k.rows, k.cols)
    if clip:
        K.clip(g, s.clip_value, k.rows, k.cols)
        if k.p == 0 and layer.use_bias:
            K.clip(bias_g, s.clip_value, 1, k.cols)
    if updates_at_once(s):
        update_block(net, step, k, g, bias_g, 0 if clip else l1, 0 if clip else l2)
    elif s.mode == TRAIN_CLIPPED:
        s.block_value[number] = K.sum_of_squares(g, k.rows, k.cols)
        if k.p == 0 and layer.use_bias:
            s.block_value[number] += K.sum_of_squares(bias_g, 1, k.cols)


cdef void blocks_phase(Steps *s, const Batch *b, const optimizer_step *step, int thread, int team,
                       bint update) noexcept nogil:
    """The blocks of one thread; every other step from the last to the first, which are then still
    in the cache."""
    cdef Network *net = s.net
    cdef Part part = part_of(s, thread, team)
    cdef ptrdiff_t ours = part.last - part.first, count = ours + part.rest_last - part.rest
    cdef ptrdiff_t i, number
    cdef const Block *k
    # the penalties' gradients are in net.grads already where those had to be clipped
    cdef double penalty_scale = b.penalty_scale if s.mode == TRAIN and s.clip_value == 0 else 0
    for i in range(count):
        number = count - 1 - i if b.step & 1 else i
        number += part.first if number < ours else part.rest - ours
        if update:
            k = &net.blocks[number]
            update_block(net, step, k, at(net, net.grads, k.weight), at(net, net.grads, k.bias),
                         k.layer.l1 * penalty_scale, k.layer.l2 * penalty_scale)
        else:
            gradient_block(s, b, step, thread, team, number)
            if s.by_units:
                prefetch_rows(s, b.index + 1, 0, 1, i, count)
            else:
                prefetch_rows(s, b.index + 1, thread, team, i, count)
            if thread == 0 and not updates_at_once(s):
                look(&s.watch, STOP_IN_BLOCKS)
            if fastnn_told(&s.watch.stop) and not updates_at_once(s):
                break


cdef void bound_phase(const Network *net, const optimizer_step *step, int thread,
                      int team) noexcept nogil:
    """Norms of the weights of each unit: whole panels, since a block has a part of a unit's only.
    The average is of the weights afterwards."""
    cdef Layer *layer
    cdef int i
    cdef ptrdiff_t j, p, nr = net.K.nr, count = 0
    cdef Block k
    for i in range(net.n_layers):
        layer = &net.layers[i]
        for j in range(layer.out_panels):
            count += 1
            if layer.max_norm == INFINITY_ or count % team != thread:
                continue
            k = block_of(layer, j, 0, nr)
            if net.K.bound_norms(at(net, net.params, k.weight), layer.max_norm, layer.n_in, k.cols):
                for p in range(layer.in_panels):
                    k = block_of(layer, j, p, nr)
                    transpose_block(net, &k)
            if step.share > 0:
                average_part(net, step, layer.weight + j * layer.n_in * nr, layer.n_in,
                             min(nr, layer.n_out - j * nr))


cdef inline void prefetch_rows(const Steps *s, ptrdiff_t index, int thread, int team,
                               ptrdiff_t part, ptrdiff_t parts) noexcept nogil:
    """Ask for a part of the rows that this thread takes of batch `index`."""
    cdef ptrdiff_t n_in = s.net.layers[0].n_in, r, row
    cdef ptrdiff_t begin = index * s.batch, rows = min(s.batch, s.n - begin)
    cdef ptrdiff_t first = rows * thread // team, mine = rows * (thread + 1) // team - first
    for r in range(begin + first + mine * part // parts, begin + first + mine * (part + 1) // parts):
        row = s.order[r] if s.order else r
        s.net.K.prefetch_row(s.X + row * n_in * s.net.K.itemsize, n_in)


cdef double power(double base, int64_t exponent) noexcept nogil:
    cdef double result = 1
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


cdef double nadam_momentum(const Steps *s, int64_t t) noexcept nogil:
    return s.optimizer.decay1 * (1 - 0.5 * pow(0.96, t * s.momentum_decay))


cdef void list_momentums(const Steps *s, double *products, ptrdiff_t steps) noexcept nogil:
    """products[i]: NAdam's momentums of all steps before batch i of the run, multiplied."""
    cdef double product = 1
    cdef int64_t t = 0
    cdef ptrdiff_t i
    while t < s.step and product > 1e-40:  # of which nothing is left beside 1
        t += 1
        product *= nadam_momentum(s, t)
    products[0] = product
    for i in range(steps):
        products[i + 1] = products[i] * nadam_momentum(s, s.step + i + 1)


cdef optimizer_step the_step(const Steps *s, ptrdiff_t index) noexcept nogil:
    """The optimizer's numbers for batch `index`: rate, and Adam's bias corrections."""
    cdef optimizer_step o = s.optimizer
    cdef int64_t t = s.step + index + 1
    o.rate = s.rates[index]
    o.share = s.shares[index] if s.shares else 0
    if o.kind == ADAMW or o.kind == LION:
        o.weight_decay *= o.rate
    if o.kind == EPSILON_HAT:
        o.kind = ADAM
        o.rate *= sqrt(1 - power(o.decay2, t)) / (1 - power(o.decay1, t))
    elif o.kind == ADAM or o.kind == ADAMW:
        o.rate /= 1 - power(o.decay1, t)
        o.root_scale = 1 / sqrt(1 - power(o.decay2, t))
    elif o.kind == NADAM:
        o.root_scale = 1 / sqrt(1 - power(o.decay2, t))
        o.gradient_rate = o.rate * (1 - nadam_momentum(s, t)) / (1 - s.momentums[index + 1])
        o.rate *= nadam_momentum(s, t + 1) / (1 - s.momentums[index + 1] * nadam_momentum(s, t + 1))
    return o


cdef void finish_loss(Steps *s, const Batch *b, int team) noexcept nogil:
    """The batch's loss and hits, summed in the order of the rows."""
    cdef double total = 0
    cdef int64_t hits = 0
    cdef ptrdiff_t r
    cdef int t
    for r in range(b.rows):
        total += row_losses(s, b)[r] * weight_of(s, row_number(b, r))
    for t in range(team):
        hits += hits_of(s, b)[t]
    s.losses[b.index] = total * b.scale * s.net.loss_scale
    s.hits[b.index] = hits


cdef void add_penalty(Steps *s, const Batch *b) noexcept nogil:
    cdef ptrdiff_t k
    for k in range(s.net.n_blocks):
        s.losses[b.index] += s.block_penalty[k]


cdef inline void wait(const Steps *s, int thread, int team) noexcept nogil:
    if team > 1:
        fastnn_wait(s.barrier, thread, team)


cdef inline void wait_for_weights(const Steps *s, int thread, int team) noexcept nogil:
    if not s.apart:
        wait(s, thread, team)


cdef void take_steps(Steps *s, ptrdiff_t first, ptrdiff_t last, int thread,
                     int team) noexcept nogil:
    """Batches [first, last) as one thread of the team takes part in them."""
    cdef Batch b
    cdef optimizer_step step
    cdef ptrdiff_t i, k
    cdef double norm
    for i in range(first, last):
        b = the_batch(s, i)
        if s.used:
            memset(used_by(s, thread), 0, s.net.layers.in_panels * sizeof(uint32_t))
        if s.by_units:
            units_phase(s, &b, thread, team)
            wait(s, thread, team)
        rows_phase(s, &b, thread, team)
        if s.mode == OUTPUTS:
            continue
        step = the_step(s, i)
        if s.apart and thread > 0:
            step.share = 0  # the average is the first thread's
        wait(s, thread, team)
        if fastnn_told(&s.watch.stop) == STOP_IN_ROWS:
            return
        if thread == 0:
            finish_loss(s, &b, team)
        blocks_phase(s, &b, &step, thread, team, False)
        wait_for_weights(s, thread, team)
        if fastnn_told(&s.watch.stop):
            return
        if thread == 0 and s.net.penalized:
            add_penalty(s, &b)
        if s.mode == TRAIN_CLIPPED:
            norm = 0
            for k in range(s.net.n_blocks):
                norm += s.block_value[k]
            norm = sqrt(norm)
            step.grad_scale = min(1.0, s.clip_norm / (norm + 1e-6))
        if s.mode == TRAIN_CLIPPED or (s.mode == TRAIN and s.later):
            blocks_phase(s, &b, &step, thread, team, True)
            wait_for_weights(s, thread, team)
        if s.net.bounded and s.mode != GRADIENTS:
            if s.apart:
                bound_phase(s.net, &step, 0, 1)
            else:
                bound_phase(s.net, &step, thread, team)
            wait_for_weights(s, thread, team)
        if thread == 0 and i == first:
            s.began = fastnn_seconds()
    if thread == 0:
        s.ended = fastnn_seconds()


cdef void begin_replica(const Steps *s, Network *replica) noexcept nogil:
    """Weights and states of its own for one more thread."""
    cdef const Network *net = s.net
    cdef size_t size = net.n_params * net.K.itemsize
    cdef int i
    memcpy(replica.params, net.params, size)
    memcpy(replica.transposed, net.transposed, net.n_transposed * net.K.itemsize)
    for i in range(s.optimizer.slots):
        memcpy(replica.state[i], net.state[i], size)


cdef void take_steps_in_team(Steps *s, ptrdiff_t first, ptrdiff_t last, int thread,
                             int team) noexcept nogil:
    cdef uint64_t mode = fastnn_join(s.barrier, thread, team)
    if s.apart and thread > 0:
        begin_replica(s, &s.replicas[thread])
        s = &s.views[thread]
    take_steps(s, first, last, thread, team)
    fastnn_set_float_mode(mode)


cdef void list_views(Steps *s) noexcept nogil:
    """`s` as each thread but the first is to see it."""
    cdef Network *replica
    cdef Network own
    cdef int thread, i
    for thread in range(1, s.threads):
        replica = &s.replicas[thread]
        own = replica[0]
        replica[0] = s.net[0]
        replica.params = own.params
        replica.transposed = own.transposed
        replica.grads = own.grads
        for i in range(3):
            replica.state[i] = own.state[i]
        s.views[thread] = s[0]
        s.views[thread].net = replica
        s.views[thread].block_value += thread * s.net.n_blocks
        s.views[thread].block_penalty += thread * s.net.n_blocks


cdef void run_steps(Steps *s, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    if s.threads > 1:
        s.threads = fastnn_possible_team(s.threads)
    s.apart = goes_apart(s.net, s.mode, min(s.batch, s.n))
    s.by_units = (s.mode != OUTPUTS and not s.apart and takes_units(s.net, s.threads)
                  and s.threads <= s.n_inputs)  # it was sized for the threads that were asked for
    if s.threads == 1:
        take_steps(s, first, last, 0, 1)
    else:
        if s.apart:
            list_views(s)
        memset(s.begun, 0, s.threads * sizeof(fastnn_progress))
        fastnn_call_team(s.barrier)
        with parallel(num_threads=s.threads):
            take_steps_in_team(s, first, last, threadid(), fastnn_team_size())

# A network and its memory.  Offsets and strides are in elements, so nothing here depends on the
# dtype; a matrix is stored as panels of K.nr columns (kernels.h).

cdef enum:
    MAX_SLOTS = 3          # states of an optimizer for each parameter


cdef struct Layer:
    ptrdiff_t n_in, n_out
    ptrdiff_t in_panels, out_panels
    int activation         # what predict applies
    int inner              # what training applies: identity where the loss is fused with it
    double parameter
    bint use_bias
    double noise           # standard deviation of the noise on the layer's input
    double dropout         # rate on the layer's input, after the noise
    double l1, l2
    double max_norm        # of the weights of each unit; infinity: off
    bint keeps_slope       # the derivative is kept from the way forward
    ptrdiff_t weight, bias  # offsets of W (n_in, n_out) and b (n_out) in the parameters
    ptrdiff_t transposed   # offset of W' (n_out, n_in), for all layers but the first


cdef struct Block:
    # rows [p nr, p nr + rows) of panel j of a layer's W; p == 0 brings the panel's biases along
    Layer *layer
    ptrdiff_t j, p, rows, cols
    ptrdiff_t weight, bias  # offsets in the parameters
    double begin            # the cost of all blocks before this one


cdef struct Network:
    const kernels *K
    int n_layers
    Layer *layers
    int loss               # where the last activation is fused: the loss on logits
    double loss_parameter
    char *loss_parameters  # of each output, panels of one row, or NULL
    double smoothing       # of the labels, in favour of this many classes
    int smoothing_classes
    double loss_scale, gradient_scale  # of the data's loss, and of its gradient
    bint mean_penalty      # penalties divided by the batch's rows, or weights
    uint64_t seed
    ptrdiff_t n_params     # with padding
    ptrdiff_t n_transposed
    Block *blocks          # all weights, layer by layer
    ptrdiff_t n_blocks
    double cost            # of all blocks, and
    double first_cost      # of those of the first layer
    ptrdiff_t widest       # panels of the widest layer, input included
    double flop            # of one row forward
    bint penalized
    bint bounded           # some layer has a max_norm
    char *params
    char *transposed
    char *state[MAX_SLOTS]
    char *average          # of the weights over the steps
    bint has_average       # whether any step counted yet
    char *grads


cdef inline ptrdiff_t panels(ptrdiff_t columns, ptrdiff_t nr) noexcept nogil:
    return (columns + nr - 1) // nr


cdef inline char *at(const Network *net, char *base, ptrdiff_t offset) noexcept nogil:
    return base + offset * net.K.itemsize


cdef inline loss_target no_target(const Network *net) noexcept nogil:
    """The part of a loss_target that is the same for all rows; the others have no value yet."""
    cdef loss_target target
    memset(&target, 0, sizeof(loss_target))
    target.scale = 1
    target.keep = 1 - net.smoothing
    target.add = net.smoothing / net.smoothing_classes
    target.parameters = net.loss_parameters
    return target


cdef inline bint derivative_needs_input(int activation) noexcept nogil:
    return activation == GELU or activation == SILU


# From about so many weights on, a look for inputs that are zero in all rows, and one more barrier to
# share the weights out, save more than they take.
cdef enum:
    SIZE_OF_LARGE_LAYER = 4096


cdef inline bint is_large(const Layer *layer) noexcept nogil:
    return layer.n_in * layer.n_out >= SIZE_OF_LARGE_LAYER


# Blocks of so many panels of one layer are listed row by row: the panels' gradients d stay in the
# cache while the layer's input goes by once.  Of the first layer a thread is to have whole panels.
cdef inline ptrdiff_t panels_abreast(const Network *net, const Layer *layer) noexcept nogil:
    if layer == net.layers and layer.out_panels < 16:
        return layer.out_panels // 2 if layer.out_panels >= 8 else 1
    return 8


cdef inline Block block_of(Layer *layer, ptrdiff_t j, ptrdiff_t p, ptrdiff_t nr) noexcept nogil:
    cdef Block block
    block.begin = 0
    block.layer = layer
    block.j = j
    block.p = p
    block.rows = min(nr, layer.n_in - p * nr)
    block.cols = min(nr, layer.n_out - j * nr)
    block.weight = layer.weight + (j * layer.n_in + p * nr) * nr
    block.bias = layer.bias + j * nr
    return block


cdef double cost_of(const Block *block, const kernels *K) noexcept nogil:
    """About proportional to the time; a whole number, so that sums of costs are exact."""
    cdef ptrdiff_t width = K.nr
    if block.cols <= K.narrowest:
        width = K.narrowest
    elif block.cols <= K.lanes:
        width = K.lanes
    # the optimizer's part is not in proportion; a block of a later layer is also transposed
    return (<double>block.rows * <double>(8 * width + K.nr)
            * (5 if block.layer.transposed >= 0 else 4))


cdef void list_blocks(Network *net) noexcept nogil:
    cdef int i
    cdef ptrdiff_t abreast, group, j, p, nr = net.K.nr
    cdef Layer *layer
    cdef Block *block = net.blocks
    for i in range(net.n_layers):
        layer = &net.layers[i]
        abreast = panels_abreast(net, layer)
        for group in range(panels(layer.out_panels, abreast)):
            for p in range(layer.in_panels):
                for j in range(group * abreast, min((group + 1) * abreast, layer.out_panels)):
                    block[0] = block_of(layer, j, p, nr)
                    block.begin = net.cost
                    net.cost += cost_of(block, net.K)
                    block += 1
        if i == 0:
            net.first_cost = net.cost


cdef ptrdiff_t block_at(const Network *net, double cost) noexcept nogil:
    """How many blocks begin before that cost."""
    cdef ptrdiff_t low = 0, high = net.n_blocks, middle
    while low < high:
        middle = (low + high) // 2
        if net.blocks[middle].begin < cost:
            low = middle + 1
        else:
            high = middle
    return low


cdef void refresh_transposed(const Network *net) noexcept nogil:
    """W' from W, for all layers that pass a gradient on."""
    cdef ptrdiff_t i
    for i in range(net.n_blocks):
        transpose_block(net, &net.blocks[i])


cdef void begin_average(Network *net) noexcept nogil:
    """The average, if there is none yet, from the present weights."""
    if not net.has_average:
        memcpy(net.average, net.params, net.n_params * net.K.itemsize)
        net.has_average = True


cdef inline void transpose_block(const Network *net, const Block *k) noexcept nogil:
    cdef ptrdiff_t nr = net.K.nr
    if k.layer.transposed >= 0:
        net.K.transpose(
            at(net, net.transposed, k.layer.transposed + (k.p * k.layer.n_out + k.j * nr) * nr),
            at(net, net.params, k.weight), k.rows, k.cols)

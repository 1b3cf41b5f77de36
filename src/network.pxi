# A network and its memory.  Offsets and strides are in elements, so nothing here depends on the
# dtype; a matrix is stored as panels of K.nr columns (kernels.h).

cdef struct Layer:
    ptrdiff_t n_in, n_out
    ptrdiff_t in_panels, out_panels
    int activation         # what predict applies
    int inner              # what training applies: identity where the loss is fused with it
    double parameter
    bint use_bias
    double dropout         # rate on the layer's input
    double l1, l2
    bint keeps_slope       # the derivative is kept from the way forward
    ptrdiff_t weight, bias  # offsets of W (n_in, n_out) and b (n_out) in the parameters
    ptrdiff_t transposed   # offset of W' (n_out, n_in), for all layers but the first
    ptrdiff_t first_block  # number of the layer's first block of W


cdef struct Network:
    const kernels *K
    int n_layers
    Layer *layers
    int loss               # where the last activation is fused: the loss on logits
    double loss_parameter
    uint64_t seed
    ptrdiff_t n_params     # with padding
    ptrdiff_t n_transposed
    ptrdiff_t n_blocks
    ptrdiff_t widest       # panels of the widest layer, input included
    double flop            # of one row forward
    bint penalized
    char *params
    char *transposed
    char *state[2]
    char *grads


cdef inline ptrdiff_t panels(ptrdiff_t columns, ptrdiff_t nr) noexcept nogil:
    return (columns + nr - 1) // nr


cdef inline char *at(const Network *net, char *base, ptrdiff_t offset) noexcept nogil:
    return base + offset * net.K.itemsize


cdef inline bint derivative_needs_input(int activation) noexcept nogil:
    return activation == GELU or activation == SILU


cdef void refresh_transposed(const Network *net) noexcept nogil:
    """W' from W, for all layers that pass a gradient on."""
    cdef int i
    cdef ptrdiff_t j, p
    for i in range(1, net.n_layers):
        for j in range(net.layers[i].out_panels):
            for p in range(net.layers[i].in_panels):
                transpose_block(net, &net.layers[i], j, p)


cdef inline void transpose_block(const Network *net, const Layer *layer, ptrdiff_t j,
                                 ptrdiff_t p) noexcept nogil:
    cdef ptrdiff_t nr = net.K.nr
    net.K.transpose(
        at(net, net.transposed, layer.transposed + (p * layer.n_out + j * nr) * nr),
        at(net, net.params, layer.weight + (j * layer.n_in + p * nr) * nr),
        min(nr, layer.n_in - p * nr), min(nr, layer.n_out - j * nr))

# The order of an epoch's rows, drawn from a bit generator of NumPy's as NumPy itself does.

cdef struct BitGenerator:
    # bitgen_t of numpy/random/bitgen.h, whose layout NumPy promises to extensions
    void *state
    uint64_t (*next_uint64)(void *state) noexcept nogil
    uint32_t (*next_uint32)(void *state) noexcept nogil
    double (*next_double)(void *state) noexcept nogil
    uint64_t (*next_raw)(void *state) noexcept nogil


cdef BitGenerator *bit_generator(generator) except NULL:
    return <BitGenerator *>PyCapsule_GetPointer(generator.capsule, "BitGenerator")


cdef enum:
    DRAWN_AHEAD = 256


cdef void shuffle(int32_t *order, ptrdiff_t n, BitGenerator *g) noexcept nogil:
    """The permutation of 0 to n - 1 that `numpy.random.Generator.permutation` draws.

    Row i changes places with one of the rows up to i, whose number is drawn again and again until it
    is not too large.  No branch hangs on that, as the processor could only guess it.
    """
    cdef uint32_t drawn[DRAWN_AHEAD]
    cdef uint32_t mask, i, j
    cdef ptrdiff_t first, last = n - 1
    for i in range(<uint32_t>n):
        order[i] = <int32_t>i
    while last > 0:  # rows (first, last], for which as many bits are drawn
        mask = <uint32_t>last
        mask |= mask >> 1
        mask |= mask >> 2
        mask |= mask >> 4
        mask |= mask >> 8
        mask |= mask >> 16
        first = max(<ptrdiff_t>(mask >> 1), last - DRAWN_AHEAD)
        i = <uint32_t>last
        while i > <uint32_t>first:
            j = g.next_uint32(g.state) & mask
            drawn[last - i] = j
            i -= j <= i
        for i in range(<uint32_t>last, <uint32_t>first, -1):
            j = drawn[last - i]
            order[i], order[j] = order[j], order[i]
        last = first


def permutation(generator, ptrdiff_t n):
    """The numbers below n in an order drawn from a `numpy.random.Generator`, as int32.

    They are those that its own `permutation` gives, and it goes on from there as after that.
    """
    order = empty(n, "int32")
    cdef _Buffer view = _Buffer.of(order, "order", "i", True)
    cdef int32_t *rows = <int32_t *>view.data
    cdef BitGenerator *g = bit_generator(generator.bit_generator)
    with generator.bit_generator.lock, nogil:
        shuffle(rows, n, g)
    return order

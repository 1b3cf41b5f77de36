# The extension type that Python holds: it owns a Network's memory and a workspace, checks what it is
# given, and lets the GIL go while it computes.


# Formats of the buffer protocol, of which a C long may be either
cdef str INT32 = "i" if sizeof(long) == 8 else "il"
cdef str INT64 = "ql" if sizeof(long) == 8 else "q"


cdef class _Buffer:
    """A view of a C-contiguous array of one item type, or of nothing for None."""
    cdef Py_buffer view
    cdef bint held
    cdef void *data

    def __cinit__(self):
        self.held = False
        self.data = NULL

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    @staticmethod
    cdef _Buffer of(object array, str name, str formats, bint writable=False):
        cdef _Buffer b = _Buffer.__new__(_Buffer)
        if array is None:
            return b
        PyObject_GetBuffer(array, &b.view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT |
                           (PyBUF_WRITABLE if writable else 0))
        b.held = True
        if (<bytes>b.view.format).decode() not in formats:
            raise TypeError(f"{name}: expected items of type {formats}, got "
                            f"{(<bytes>b.view.format).decode()}")
        b.data = b.view.buf
        return b

    cdef ptrdiff_t size(self):
        return self.view.len // self.view.itemsize


cdef class _Data:
    """Rows to learn from, as buffers: X, the target (int32 labels or rows), sample weights or none."""
    cdef _Buffer X, target, weight
    cdef ptrdiff_t rows

    def __init__(self, Core core, X, target, weight):
        self.X = _Buffer.of(X, "X", core.format)
        self.target = _Buffer.of(target, "target", INT32 + core.format)
        self.weight = _Buffer.of(weight, "sample_weight", core.format)
        self.rows = self.X.size() // core.n_in
        if self.target.size() != self.rows * (1 if self.labels() else core.n_out):
            raise ValueError("target: expected one for each row of X")
        if self.weight.data and self.weight.size() != self.rows:
            raise ValueError("sample_weight: expected one for each row of X")

    cdef int32_t *labels(self):
        return NULL if self.is_dense() else <int32_t *>self.target.data

    cdef char *dense(self):
        return <char *>self.target.data if self.is_dense() else NULL

    cdef bint is_dense(self):
        return self.target.view.format[0] in b"fd"


cdef class _Workspace:
    """Memory handed out in pieces; one allocation a piece, all freed together."""
    cdef void **pieces
    cdef int count, room

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            fastnn_free(self.pieces[i])
        free(self.pieces)

    cdef void *take(self, size_t count, size_t size) except NULL:
        cdef int room = max(16, 2 * self.room)
        cdef void *p
        if self.count == self.room:
            p = realloc(self.pieces, room * sizeof(void *))
            if p == NULL:
                raise MemoryError(f"could not allocate {room} pointers")
            self.pieces = <void **>p
            self.room = room
        p = fastnn_alloc(count, size)
        if p == NULL:
            raise MemoryError(f"could not allocate {count} x {size} bytes")
        self.pieces[self.count] = p
        self.count += 1
        return p


cdef double SECONDS_BETWEEN_READERS = 1e-4  # between looks whether predictions have ended


cdef class Core:
    """A network in the compiled core.

    Parameters
    ----------
    layers : list of tuple
        (n_in, n_out, activation, parameter, use_bias, dropout, l1, l2, noise, max_norm) of each
        dense layer.
    loss : int
    on_logits : bool
        Whether it computes the last activation, too: it takes the sums of the last layer.
    loss_parameter : float or ndarray
        One for all outputs, or one for each, of the dtype.
    smoothing : (float, int)
        Part of the labels that goes to all of so many classes alike.
    itemsize : int
        4 for float32, 8 for float64.
    seed : int
        Key of the dropout masks.
    isa : str, optional
        Instruction set, by default the one in use.
    loss_scale, gradient_scale : float
        What the data's loss and its gradient are multiplied by.
    mean_penalty : bool
        Whether penalties are divided by the batch's rows, or their weights.
    """
    cdef Network net
    cdef _Workspace memory       # of the network
    cdef _Workspace workspace    # of training
    cdef Steps steps
    cdef Pace pace
    cdef Calls predictions[SIZES]      # under the object's lock
    cdef Calls single_steps[SIZES]
    cdef ptrdiff_t n_in, n_out
    cdef object dtype
    cdef str format
    cdef bint training           # who uses the network, and the buffers: under the object's lock
    cdef int predicting
    cdef unsigned long reader    # the thread that began last, 0 when it has ended
    cdef int forks               # when that was written down
    cdef int slots
    cdef char *buffers           # of predict, when no other call has them
    cdef ptrdiff_t buffers_size
    cdef int64_t steps_taken     # which any thread may ask for, also in a training

    def __cinit__(self, layers, int loss, bint on_logits, loss_parameter, smoothing, int itemsize,
                  seed, isa=None, double loss_scale=1, double gradient_scale=1, bint mean_penalty=False):
        cdef Network *net = &self.net
        cdef Layer *layer
        cdef int i
        cdef ptrdiff_t nr
        cdef _Buffer of_each
        self.memory = _Workspace()
        self.format = "f" if itemsize == 4 else "d"
        self.dtype = dtype("float32" if itemsize == 4 else "float64")
        net.K = fastnn_kernels(_isa if isa is None else _choose_isa(isa), itemsize)
        nr = net.K.nr
        net.n_layers = len(layers)
        net.layers = <Layer *>self.memory.take(len(layers), sizeof(Layer))
        net.loss = loss
        net.smoothing, net.smoothing_classes = smoothing
        net.loss_scale = loss_scale
        net.gradient_scale = gradient_scale
        net.mean_penalty = mean_penalty
        net.seed = seed
        for i in range(net.n_layers):
            layer = &net.layers[i]
            (layer.n_in, layer.n_out, layer.activation, layer.parameter, layer.use_bias,
             layer.dropout, layer.l1, layer.l2, layer.noise, layer.max_norm) = layers[i]
            # sizes whose products overflow are refused in Python numbers, before C ones are made
            if layers[i][0] * (layers[i][1] + nr) * itemsize >= 1 << 62:
                raise MemoryError(f"layer {i} of {layers[i][0]} x {layers[i][1]} does not fit in memory")
            layer.in_panels = panels(layer.n_in, nr)
            layer.out_panels = panels(layer.n_out, nr)
            layer.inner = layer.activation
            net.n_blocks += layer.in_panels * layer.out_panels
            layer.bias = net.n_params
            layer.weight = layer.bias + layer.out_panels * nr
            net.n_params = layer.weight + layer.out_panels * layer.n_in * nr
            layer.transposed = -1
            if i > 0:
                layer.transposed = net.n_transposed
                net.n_transposed += layer.in_panels * layer.n_out * nr
            net.widest = max(net.widest, layer.in_panels, layer.out_panels)
            net.flop += 2.0 * layer.n_in * layer.n_out
            net.penalized |= layer.l1 > 0 or layer.l2 > 0
            net.bounded |= layer.max_norm < INFINITY_
        layer = &net.layers[net.n_layers - 1]
        if on_logits:
            layer.inner = IDENTITY
        for i in range(net.n_layers):
            net.layers[i].keeps_slope = derivative_needs_input(net.layers[i].inner) or (
                i + 1 < net.n_layers and is_disturbed(&net.layers[i + 1]))
        net.params = <char *>self.memory.take(net.n_params, itemsize)
        net.blocks = <Block *>self.memory.take(net.n_blocks, sizeof(Block))
        list_blocks(net)
        self.n_in = net.layers[0].n_in
        self.n_out = layer.n_out
        if isinstance(loss_parameter, float):
            net.loss_parameter = loss_parameter
        else:
            net.loss_parameters = <char *>self.memory.take(layer.out_panels * nr, itemsize)
            of_each = _Buffer.of(loss_parameter, "loss_parameter", self.format)
            if of_each.size() != self.n_out:
                raise ValueError(f"loss_parameter: expected one for each of {self.n_out} outputs")
            net.K.pack(net.loss_parameters, nr, of_each.data, NULL, 1, self.n_out)

    def __dealloc__(self):
        fastnn_free(self.buffers)

    # -- weights and the optimizer's state, as lists of (W, b) in rows and columns

    cdef object _read(self, char *base):
        cdef Network *net = &self.net
        cdef Layer *layer
        cdef int i
        cdef _Buffer view
        result = []
        for i in range(net.n_layers):
            layer = &net.layers[i]
            W = empty((layer.n_in, layer.n_out), self.dtype)
            view = _Buffer.of(W, "W", self.format, True)
            net.K.unpack(view.data, at(net, base, layer.weight), layer.n_in * net.K.nr,
                         layer.n_in, layer.n_out)
            b = None
            if layer.use_bias:
                b = empty(layer.n_out, self.dtype)
                view = _Buffer.of(b, "b", self.format, True)
                net.K.unpack(view.data, at(net, base, layer.bias), net.K.nr, 1, layer.n_out)
            result.append((W, b))
        return result

    cdef list _views(self, pairs):
        """Buffers of the arrays of all layers, of the right sizes."""
        cdef Network *net = &self.net
        cdef Layer *layer
        cdef int i
        cdef _Buffer W, b
        views = []
        if len(pairs) != net.n_layers:
            raise ValueError(f"expected {net.n_layers} pairs (W, b), got {len(pairs)}")
        for i in range(net.n_layers):
            layer = &net.layers[i]
            W = _Buffer.of(pairs[i][0], "W", self.format)
            b = _Buffer.of(pairs[i][1] if layer.use_bias else None, "b", self.format)
            if W.size() != layer.n_in * layer.n_out or (layer.use_bias and b.size() != layer.n_out):
                raise ValueError(f"layer {i}: expected W of {layer.n_in} x {layer.n_out}")
            views.append((W, b))
        return views

    cdef void _write(self, char *base, list views):
        cdef Network *net = &self.net
        cdef Layer *layer
        cdef int i
        cdef _Buffer W, b
        for i in range(net.n_layers):
            layer = &net.layers[i]
            W, b = views[i]
            net.K.pack(at(net, base, layer.weight), layer.n_in * net.K.nr, W.data, NULL, layer.n_in,
                       layer.n_out)
            if layer.use_bias:
                net.K.pack(at(net, base, layer.bias), net.K.nr, b.data, NULL, 1, layer.n_out)

    def weights(self):
        """Copies of the weights, [(W, b), ...]; b is None without bias."""
        self._begin_predicting()
        try:
            return self._read(self.net.params)
        finally:
            self._end_predicting()

    def first_broken(self):
        """The number of the first layer with a weight that is infinite or nan, or None."""
        cdef Network *net = &self.net
        cdef Layer *layer
        cdef int i
        self._begin_predicting()
        try:
            for i in range(net.n_layers):
                layer = &net.layers[i]
                if (not self._is_finite(layer.weight, layer.n_in, layer.n_out)
                        or not self._is_finite(layer.bias, 1, layer.n_out)):
                    return i
            return None
        finally:
            self._end_predicting()

    def has_weights(self, pairs):
        """Whether the weights are those of contiguous `pairs`, bit by bit."""
        cdef Network *net = &self.net
        cdef Layer *layer
        cdef int i
        cdef _Buffer W, b
        if len(pairs) != net.n_layers:
            return False
        self._begin_predicting()
        try:
            for i in range(net.n_layers):
                layer = &net.layers[i]
                W = _Buffer.of(pairs[i][0], "W", self.format)
                b = _Buffer.of(pairs[i][1], "b", self.format)
                if W.size() != layer.n_in * layer.n_out or b.size() != layer.n_out:
                    return False
                if (not self._same(layer.weight, <const char *>W.data, layer.n_in, layer.n_out)
                        or not self._same(layer.bias, <const char *>b.data, 1, layer.n_out)):
                    return False
            return True
        finally:
            self._end_predicting()

    cdef bint _is_finite(self, ptrdiff_t offset, ptrdiff_t n, ptrdiff_t cols):
        """Of padding nothing is known."""
        cdef Network *net = &self.net
        cdef ptrdiff_t nr = net.K.nr, whole = cols // nr, r
        if not net.K.all_finite(at(net, net.params, offset), whole * n * nr):
            return False
        for r in range(n if cols % nr else 0):
            if not net.K.all_finite(at(net, net.params, offset + (whole * n + r) * nr), cols % nr):
                return False
        return True

    cdef bint _same(self, ptrdiff_t offset, const char *rows, ptrdiff_t n, ptrdiff_t cols):
        cdef Network *net = &self.net
        cdef ptrdiff_t nr = net.K.nr, r, c
        for c in range(0, cols, nr):
            for r in range(n):
                if memcmp(at(net, net.params, offset + (c * n + r * nr)),
                          rows + (r * cols + c) * net.K.itemsize,
                          min(nr, cols - c) * net.K.itemsize) != 0:
                    return False
        return True

    def set_weights(self, pairs):
        self._begin_training()
        try:
            self._write(self.net.params, self._views(pairs))
            if self.net.transposed != NULL:
                refresh_transposed(&self.net)
        finally:
            self._end_training()

    @property
    def step(self):
        """How many steps were taken."""
        return fastnn_told_steps(&self.steps_taken)

    def state(self):
        """The optimizer's state arrays in use, each like `weights`."""
        self._begin_predicting()
        try:
            return [self._read(self.net.state[i]) for i in range(self.slots)]
        finally:
            self._end_predicting()

    def set_state(self, int64_t step, slots):
        self._begin_training()
        try:
            views = [self._views(slot) for slot in slots]
            self._need_slots(len(slots))
            for i in range(len(slots)):
                self._write(self.net.state[i], views[i])
            fastnn_tell_steps(&self.steps_taken, step)
            if not slots:
                for i in range(self.slots):
                    memset(self.net.state[i], 0, self.net.n_params * self.net.K.itemsize)
        finally:
            self._end_training()

    cdef int _need_slots(self, int slots) except -1:
        if slots > MAX_SLOTS:
            raise ValueError(f"slots: expected at most {MAX_SLOTS}, got {slots}")
        while self.slots < slots:
            self.net.state[self.slots] = <char *>self.memory.take(self.net.n_params,
                                                                  self.net.K.itemsize)
            self.slots += 1
        return 0

    cdef int _need_average(self) except -1:
        if self.net.average == NULL:
            self.net.average = <char *>self.memory.take(self.net.n_params, self.net.K.itemsize)
        return 0

    def average(self):
        """A copy of the average of the weights, like `weights`, or None."""
        self._begin_predicting()
        try:
            return self._read(self.net.average) if self.net.has_average else None
        finally:
            self._end_predicting()

    def set_average(self, pairs):
        """Take over a copy of an average of the weights; of None, that there is none."""
        self._begin_training()
        try:
            if pairs is not None:
                self._need_average()
                self._write(self.net.average, self._views(pairs))
            self.net.has_average = pairs is not None
        finally:
            self._end_training()

    # -- who uses the network at the moment: one that changes it, or any number that do not

    cdef int _begin_training(self) except -1:
        """Keep all others off, and wait for those that predict."""
        cdef bint free
        with critical_section(self):
            self._forget_lost_threads()
            # This thread may be in the middle of a prediction, in a signal's handler.
            free = not self.training and not (
                self.predicting and self.reader == PyThread_get_thread_ident())
            if free:
                self.training = True
        if not free:
            raise RuntimeError("the network is in use by another thread")
        try:
            while fastnn_told(&self.predicting):
                time.sleep(SECONDS_BETWEEN_READERS)
        except BaseException:
            self._end_training()
            raise
        return 0

    cdef int _begin_predicting(self) except -1:
        cdef bint free
        with critical_section(self):
            self._forget_lost_threads()
            free = not self.training
            if free:
                fastnn_tell(&self.predicting, self.predicting + 1)
                self.reader = PyThread_get_thread_ident()
        if not free:
            raise RuntimeError("the network is being trained by another thread")
        return 0

    cdef void _end_training(self) noexcept:
        with critical_section(self):
            self.training = False

    cdef void _end_predicting(self) noexcept:
        with critical_section(self):
            fastnn_tell(&self.predicting, max(0, self.predicting - 1))
            if self.reader == PyThread_get_thread_ident():
                self.reader = 0

    cdef void _forget_lost_threads(self) noexcept:
        """A forked child has none of its parent's threads.  Those that predicted left nothing behind;
        one that trained, weights of which some are new, and it stays in charge of them."""
        if self.forks != fastnn_forked:
            self.forks = fastnn_forked
            fastnn_tell(&self.predicting, 0)

    # -- forward

    def predict(self, X, out=None):
        """Outputs for the rows of X in `out` or a new array; None, unless all can be used as it is.

        That is: X is a C-contiguous ndarray (n, n_in) of the network's dtype and of finite numbers, of
        no subclass; and so is `out`, (n, n_out), writable and apart from X, also of a subclass.  Outputs that are not finite are
        written, but not returned.
        """
        cdef Py_buffer x, y
        cdef Forward f
        if type(X) is not ndarray or not (out is None or isinstance(out, ndarray)):
            return None
        try:
            PyObject_GetBuffer(X, &x, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (BufferError, ValueError):
            return None
        try:
            if not self._fits(&x, self.n_in):
                return None
            if out is None:
                out = empty((x.shape[0], self.n_out), self.dtype)
            try:
                PyObject_GetBuffer(out, &y, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE)
            except (BufferError, ValueError):
                return None
            try:
                if (not self._fits(&y, self.n_out) or y.shape[0] != x.shape[0]
                        or not (<char *>y.buf + y.len <= <char *>x.buf
                                or <char *>x.buf + x.len <= <char *>y.buf)):
                    return None
                f.X = <const char *>x.buf
                f.n = x.shape[0]
                f.out = <char *>y.buf
                f.check = True
                f.row_loss = NULL
                self._begin_predicting()
                try:
                    self._forward(&f)
                finally:
                    self._end_predicting()
            finally:
                PyBuffer_Release(&y)
        finally:
            PyBuffer_Release(&x)
        return None if f.bad or f.overflows else out

    cdef bint _fits(self, Py_buffer *view, ptrdiff_t columns):
        cdef int itemsize = self.net.K.itemsize
        return (view.ndim == 2 and view.shape[1] == columns
                and view.format[0] == (c"f" if itemsize == 4 else c"d") and view.format[1] == 0
                and <size_t>view.buf % itemsize == 0)

    def loss(self, X, target, weight):
        """Mean loss (penalties included) and hits of all rows, without dropout."""
        cdef _Data data = _Data(self, X, target, weight)
        cdef Forward f
        cdef _Workspace memory = _Workspace()
        cdef int64_t hits
        cdef double mean
        self._set_rows(&f, data)
        f.row_loss = <double *>memory.take(f.n, sizeof(double))
        self._begin_predicting()
        try:
            self._forward(&f)
            mean = mean_loss(&f, &hits)
        finally:
            self._end_predicting()
        return mean, hits

    cdef int _set_rows(self, Forward *f, _Data data) except -1:
        """Sets f to find the loss of the rows."""
        f.X = <const char *>data.X.data
        f.n = data.rows
        f.check = False
        f.labels = data.labels()
        f.dense = data.dense()
        f.weight = <const char *>data.weight.data
        return 0

    cdef int _forward(self, Forward *f) except -1:
        """Runs f, whose data are set, with memory of its own or the network's."""
        cdef Network *net = &self.net
        cdef ptrdiff_t size, capacity
        cdef double flop = net.flop * f.n, began = 0
        cdef int share = _share()
        cdef Calls *calls = calls_of(self.predictions, flop, share)
        f.net = net
        f.bad = f.overflows = False
        f.watch.careful = False
        f.watch.stop = 0
        f.threads = _team(flop, flop, share)
        f.buffer_bytes = forward_buffer_bytes(net, min(block_rows(net), max(f.n, 1)))
        with critical_section(self):
            if calls != NULL:
                began = fastnn_seconds()
                f.threads = team_for(calls, flop, share, began)
            f.buffers = self.buffers
            capacity = self.buffers_size
            self.buffers = NULL  # so that another thread makes its own
            self.buffers_size = 0
        size = 2 * f.threads * f.buffer_bytes
        if capacity < size:
            fastnn_free(f.buffers)
            capacity = size
            f.buffers = <char *>fastnn_alloc(size, 1)
            if f.buffers == NULL:
                raise MemoryError(f"could not allocate {size} bytes")
        try:
            if flop < 20e3:
                forward(f)
            else:
                begin_watch(&f.watch, is_long(flop, f.n))
                forward(f)
                end_watch(&f.watch)
        finally:
            with critical_section(self):
                if calls != NULL:
                    learn(calls, f.threads, flop, began, fastnn_seconds())
                fastnn_free(self.buffers)
                self.buffers = f.buffers
                self.buffers_size = capacity
        return 0

    # -- training

    cdef int _need_workspace(self, ptrdiff_t rows, int threads, Mode mode, bint dense) except -1:
        """A workspace for batches of `rows` rows; kept while it is large enough."""
        cdef Steps *s = &self.steps
        cdef Network *net = &self.net
        cdef const kernels *K = net.K
        cdef _Workspace m
        cdef size_t panel
        cdef int i, inputs = threads if takes_units(net, threads) else 1
        cdef int parts = parts_of(net, rows) if goes_apart(net, TRAIN, rows) else 0
        if net.n_transposed and net.transposed == NULL:
            net.transposed = <char *>self.memory.take(net.n_transposed, K.itemsize)
            refresh_transposed(net)
        if (mode == TRAIN_CLIPPED or mode == GRADIENTS or s.later) and net.grads == NULL:
            net.grads = <char *>self.memory.take(net.n_params, K.itemsize)
        s.threads = threads
        if (self.workspace is not None and s.capacity >= rows and s.scratches >= threads
                and s.n_inputs >= inputs and s.parts >= parts and (s.dense_panels != NULL or not dense)):
            return 0
        m = _Workspace()
        self.workspace = None
        s.capacity = 0
        rows = without_collisions(net, rows)
        panel = <size_t>rows * K.nr
        s.x = <char **>m.take(net.n_layers + 1, sizeof(char *))
        s.d = <char **>m.take(net.n_layers, sizeof(char *))
        s.slope = <char **>m.take(net.n_layers, sizeof(char *))
        s.n_inputs = inputs
        s.inputs = <char **>m.take(inputs, sizeof(char *))
        for i in range(inputs):
            s.inputs[i] = <char *>m.take(net.layers[0].in_panels * panel, K.itemsize)
        for i in range(net.n_layers):
            s.x[i + 1] = <char *>m.take(net.layers[i].out_panels * panel, K.itemsize)
            s.d[i] = <char *>m.take(net.layers[i].out_panels * panel, K.itemsize)
            if net.layers[i].keeps_slope:
                s.slope[i] = <char *>m.take(net.layers[i].out_panels * panel, K.itemsize)
        s.dense_panels = NULL
        if dense:
            s.dense_panels = <char *>m.take(net.layers[net.n_layers - 1].out_panels * panel,
                                            K.itemsize)
        s.batch_labels = <int32_t *>m.take(rows, sizeof(int32_t))
        s.batch_weight = <char *>m.take(rows, K.itemsize)
        s.row_loss = <double *>m.take(2 * rows, sizeof(double))
        s.thread_hits = <int64_t *>m.take(2 * threads, sizeof(int64_t))
        s.block_value = <double *>m.take(threads * net.n_blocks, sizeof(double))
        s.block_penalty = <double *>m.take(threads * net.n_blocks, sizeof(double))
        s.barrier = <fastnn_barrier *>m.take(1, sizeof(fastnn_barrier))
        s.parts = parts
        if parts:
            self._take_replicas(m, threads)
        s.begun = <fastnn_progress *>m.take(threads, sizeof(fastnn_progress))
        s.used = NULL
        if is_large(net.layers):
            s.used = <uint32_t *>m.take(threads * net.layers.in_panels, sizeof(uint32_t))
        s.scratch = <char *>m.take(threads * (K.nr + 1) * K.nr, K.itemsize)
        s.net = net
        s.capacity = rows
        s.scratches = threads
        self.workspace = m
        return 0

    cdef int _take_replicas(self, _Workspace m, int threads) except -1:
        """What a small network needs to be trained apart."""
        cdef Steps *s = &self.steps
        cdef Network *net = &self.net
        cdef Network *replica
        cdef int itemsize = net.K.itemsize, thread, i
        s.part_grads = <char *>m.take(2 * s.parts * net.n_params, itemsize)
        s.views = <Steps *>m.take(threads, sizeof(Steps))
        s.replicas = <Network *>m.take(threads, sizeof(Network))
        for thread in range(1, threads):
            replica = &s.replicas[thread]
            replica.params = <char *>m.take(net.n_params, itemsize)
            replica.transposed = <char *>m.take(net.n_transposed, itemsize)
            replica.grads = <char *>m.take(net.n_params, itemsize)
            for i in range(MAX_SLOTS):
                replica.state[i] = <char *>m.take(net.n_params, itemsize)
        return 0

    cdef int _set_data(self, _Data data) except -1:
        cdef Steps *s = &self.steps
        s.X = <const char *>data.X.data
        s.labels = data.labels()
        s.dense = data.dense()
        s.weight = <const char *>data.weight.data
        s.n = data.rows
        return 0

    cdef int _training_team(self, double flop, double flop_of_call, ptrdiff_t rows):
        cdef int team = _team(flop, flop_of_call, _threads())
        return min(team, parts_of(&self.net, rows)) if goes_apart(&self.net, TRAIN, rows) else team

    cdef int _run_one(self, double flop) except -1:
        cdef Steps *s = &self.steps
        begin_watch(&s.watch, is_long(flop, s.n))
        run_steps(s, 0, 1)
        return end_watch(&s.watch)

    cdef int _set_optimizer(self, optimizer) except -1:
        """From (code, slots, coefficients, clip_norm or None, clip_value or None)."""
        cdef Steps *s = &self.steps
        code, slots, (decay1, decay2, epsilon, weight_decay, last), clip_norm, clip_value = optimizer
        self._need_slots(slots)
        s.mode = TRAIN_CLIPPED if clip_norm is not None else TRAIN
        s.clip_norm = clip_norm or 0
        s.clip_value = clip_value or 0
        s.optimizer.kind = code
        s.optimizer.slots = slots
        s.optimizer.nesterov = code != NADAM and last != 0
        s.momentum_decay = last
        s.optimizer.decay1 = decay1
        s.optimizer.decay2 = decay2
        s.optimizer.epsilon = epsilon
        s.optimizer.weight_decay = weight_decay
        s.optimizer.grad_scale = 1
        s.optimizer.root_scale = 1
        return 0

    def train(self, X, target, weight, order, ptrdiff_t batch_size, optimizer, rates, losses, hits,
              tick, shares=None):
        """One optimizer step for each batch of `batch_size` of the rows that `order` lists, or all.

        `optimizer` is as `_set_optimizer` takes it; losses and hits are filled.  `shares`, if given,
        are those of the weights in their average.
        Between runs of steps, signals are looked at and tick(batches done) is called.
        """
        cdef Steps *s = &self.steps
        cdef _Data data = _Data(self, X, target, weight)
        cdef _Buffer rows = _Buffer.of(order, "order", INT32)
        cdef _Buffer rate = _Buffer.of(rates, "rates", "d")
        cdef _Buffer share = _Buffer.of(shares, "shares", "d")
        cdef _Buffer loss = _Buffer.of(losses, "losses", "d", True)
        cdef _Buffer hit = _Buffer.of(hits, "hits", INT64, True)
        cdef ptrdiff_t n = rows.size() if rows.data else data.rows
        cdef ptrdiff_t steps = (n + batch_size - 1) // batch_size, done = 0
        cdef double flop = 3 * self.net.flop * min(batch_size, n)
        cdef int team = self._training_team(flop, flop * steps, min(batch_size, n))
        cdef bint careful = is_long(flop, min(batch_size, n))
        cdef Calls *calls = calls_of(self.single_steps, flop, team) if steps == 1 else NULL
        cdef double began = 0
        cdef Run run
        cdef _Buffer momentums
        if min(rate.size(), loss.size(), hit.size()) < steps or (
                share.data and share.size() < steps):
            raise ValueError(f"rates, shares, losses, hits: expected {steps} items")
        self._begin_training()
        try:
            self._set_optimizer(optimizer)
            s.later = s.mode == TRAIN and flop > FLOP_OF_LATER_UPDATE
            self._need_workspace(min(batch_size, n), team, s.mode, data.dense() != NULL)
            self._set_data(data)
            s.order = <const int32_t *>rows.data
            s.n = n
            s.batch = batch_size
            s.step = self.steps_taken
            s.rates = <const double *>rate.data
            s.shares = <const double *>share.data
            if share.data:
                self._need_average()
                begin_average(&self.net)
            s.losses = <double *>loss.data
            s.hits = <int64_t *>hit.data
            if s.optimizer.kind == NADAM:
                momentums = _Buffer.of(empty(steps + 1), "momentums", "d", True)
                s.momentums = <const double *>momentums.data
                list_momentums(s, <double *>momentums.data, steps)
            while done < steps:
                run = next_run(&self.pace, flop, team, careful)
                run.steps = min(run.steps, steps - done)
                run.threads = min(run.threads, _share())  # other calls begin and end meanwhile
                if calls != NULL and run.threads == team:
                    began = fastnn_seconds()
                    run.threads = team_for(calls, flop, team, began)
                s.threads = run.threads
                begin_watch(&s.watch, careful)
                run_steps(s, done, done + run.steps)
                end_watch(&s.watch)
                if began > 0:
                    learn(calls, run.threads, flop, began, fastnn_seconds())
                keep_pace(&self.pace, &run, s.ended - s.began)
                done += run.steps
                fastnn_tell_steps(&self.steps_taken, s.step + done)
                PyErr_CheckSignals()
                if tick is not None:
                    tick(done)
        finally:
            self._end_training()

    def outputs(self, X, int64_t step):
        """Outputs for the rows of X in training, with the dropout masks of step `step`."""
        cdef Steps *s = &self.steps
        cdef double flop
        out = empty((len(X), self.n_out), self.dtype)
        cdef _Data data = _Data(self, X, out, None)
        self._begin_training()
        try:
            s.mode = OUTPUTS
            s.later = False
            flop = self.net.flop * data.rows
            self._need_workspace(data.rows, _team(flop, flop, _share()), s.mode, True)
            self._set_data(data)
            s.order = NULL
            s.batch = data.rows
            s.step = step
            self._run_one(flop)
            return out
        finally:
            self._end_training()

    def gradients(self, X, target, weight, int64_t step):
        """Mean loss and the gradients, [(dW, db), ...], with the dropout masks of step `step`."""
        cdef Steps *s = &self.steps
        cdef _Data data = _Data(self, X, target, weight)
        cdef double rate = 0, loss = 0, flop
        cdef int64_t hits = 0
        self._begin_training()
        try:
            s.mode = GRADIENTS
            s.later = False
            flop = 3 * self.net.flop * data.rows
            self._need_workspace(
                data.rows, _team(flop, flop, _share()), s.mode, data.dense() != NULL
            )
            self._set_data(data)
            s.order = NULL
            s.batch = data.rows
            s.step = step
            s.rates = &rate
            s.shares = NULL
            s.losses = &loss
            s.hits = &hits
            s.optimizer.kind = SGD
            self._run_one(flop)
            return loss, self._read(self.net.grads)
        finally:
            self._end_training()


def all_finite(array):
    """Whether a C-contiguous array of float32 or float64 has neither NaN nor infinity."""
    cdef _Buffer b = _Buffer.of(array, "array", "fd")
    cdef const kernels *K = fastnn_kernels(_isa, b.view.itemsize)
    cdef ptrdiff_t n = b.size(), i
    cdef int parts = _team(INFINITY_, <double>n, _share()), bad = 0
    if parts > 1:
        parts = fastnn_possible_team(parts)
    with nogil:
        for i in prange(parts, num_threads=parts, schedule="static"):
            bad += not K.all_finite(<const char *>b.data + n * i // parts * K.itemsize,
                                    n * (i + 1) // parts - n * i // parts)
    return bad == 0


VECTOR_FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf")


def vector_math(function, x, out, isa=None):
    """out = function(x) by the core's own vector math; `function` is one of VECTOR_FUNCTIONS."""
    cdef int code = VECTOR_FUNCTIONS.index(function)
    cdef _Buffer source = _Buffer.of(x, "x", "fd")
    cdef _Buffer target = _Buffer.of(out, "out", "fd", True)
    cdef const kernels *K = fastnn_kernels(_isa if isa is None else _choose_isa(isa),
                                           source.view.itemsize)
    cdef ptrdiff_t n = source.size()
    if target.view.len != source.view.len or target.view.itemsize != source.view.itemsize:
        raise ValueError("out: expected the size and dtype of x")
    with nogil:
        K.map(code, target.data, source.data, n)


def fma_peak(int itemsize, int threads, double seconds):
    """The most FLOP/s that the processor gives to multiply-adds of 4- or 8-byte numbers.

    The best of several runs of `threads` threads, together about `seconds` long.
    """
    cdef const kernels *K = fastnn_kernels(_isa, 4 if itemsize == 4 else 8)
    cdef ptrdiff_t n = 1000
    cdef double flop, best = 0, end = time.perf_counter() + seconds, began, took = 0
    cdef int i
    if threads < 1 or (threads > 1 and fastnn_must_be_serial()):
        raise ValueError(f"threads: expected a number from 1 to {_threads()}, got {threads}")
    threads = _team(INFINITY_, INFINITY_, threads)
    if threads > 1:
        threads = fastnn_possible_team(threads)
    while took < 1e-3 or time.perf_counter() < end:
        began = time.perf_counter()
        flop = 0
        with nogil:
            if threads == 1:
                flop = K.multiply_add(n)
            else:
                for i in prange(threads, num_threads=threads, schedule="static"):
                    flop += K.multiply_add(n)
        took = time.perf_counter() - began
        best = max(best, flop / took)
        if took < 5e-3:
            n *= 2
    return best

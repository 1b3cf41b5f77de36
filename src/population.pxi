# A population: networks that are trained at once, each by one thread from its first step to its last.
# The steps are those of Core.train, so a network ends with the same bits as if it were trained alone;
# the threads take networks from one queue.

# As much as one thread does in about a millisecond.
cdef double FLOP_BETWEEN_LOOKS = 10e6


cdef struct Course:
    # the training of one network
    Network *net
    Steps *steps
    int64_t *step          # taken, of the Core
    const int32_t *rows    # to train on, or NULL: all
    ptrdiff_t n            # how many
    int32_t *order         # of the present epoch, or NULL: in place
    BitGenerator *generator  # of the order, or NULL: as in rows
    ptrdiff_t batches, epochs
    ptrdiff_t at_once      # batches between two looks at the clock
    const double *rates    # of an epoch, and how much further are those of the next
    ptrdiff_t next_rates
    const double *shares   # likewise, or NULL
    ptrdiff_t next_shares
    double *momentums      # room for NAdam's of an epoch
    # how far it is
    ptrdiff_t epoch, batch
    bint ended, diverged
    # figures of the present epoch's batches; the weight is what each counts
    double *batch_loss
    int64_t *batch_hits
    double *batch_weight
    double *product
    # and of each epoch
    double *loss
    int64_t *hits
    double *val_loss
    int64_t *val_hits
    Forward *judge         # of the validation rows, or NULL
    # early stopping
    ptrdiff_t patience     # 0: none
    bint by_hits           # or by the validation loss
    bint rising            # whether more is better
    double min_delta
    double best
    ptrdiff_t waited
    char *best_params      # or NULL
    bint has_best


cdef void begin_epoch(Course *c) noexcept nogil:
    cdef Steps *s = c.steps
    cdef ptrdiff_t i
    if c.generator:
        shuffle(c.order, c.n, c.generator)
        if c.rows:
            for i in range(c.n):
                c.order[i] = c.rows[c.order[i]]
    s.step = c.step[0]
    s.rates = c.rates + c.epoch * c.next_rates
    s.shares = NULL
    if c.shares:
        for i in range(c.batches):
            if c.shares[c.epoch * c.next_shares + i] != 0:
                s.shares = c.shares + c.epoch * c.next_shares
                begin_average(c.net)
                break
    if s.optimizer.kind == NADAM:
        s.momentums = c.momentums
        list_momentums(s, c.momentums, c.batches)


cdef void end_epoch(Course *c) noexcept nogil:
    """The figures of the epoch, of which the loss is summed as `fastnn.training` does."""
    cdef Steps *s = c.steps
    cdef ptrdiff_t i, r
    cdef double total = 0, weight = 0
    cdef int64_t hits = 0
    for i in range(c.batches):
        if not isfinite(s.losses[i]):
            c.diverged = c.ended = True
            return
    for i in range(c.batches):
        c.batch_weight[i] = min(s.batch, c.n - i * s.batch)
        if s.weight:
            c.batch_weight[i] = 0
            for r in range(i * s.batch, min((i + 1) * s.batch, c.n)):
                c.batch_weight[i] += weight_of(s, s.order[r] if s.order else r)
        weight += c.batch_weight[i]
    if weight == 0:
        for i in range(c.batches):
            c.batch_weight[i] = 1
        weight = <double>c.batches
    # Products apart from their sum: a compiler may fuse the two into an operation that rounds once.
    for i in range(c.batches):
        c.product[i] = s.losses[i] * c.batch_weight[i]
    for i in range(c.batches):
        total += c.product[i]
        hits += s.hits[i]
    c.loss[c.epoch] = total / weight
    c.hits[c.epoch] = hits
    if c.judge:
        forward(c.judge)
        c.val_loss[c.epoch] = mean_loss(c.judge, &c.val_hits[c.epoch])
        look_whether_better(c)
    c.epoch += 1
    c.batch = 0
    c.ended = c.ended or c.epoch == c.epochs
    if c.ended and c.has_best:
        memcpy(c.net.params, c.best_params, c.net.n_params * c.net.K.itemsize)
        refresh_transposed(c.net)


cdef void look_whether_better(Course *c) noexcept nogil:
    """As `fastnn.EarlyStopping` does."""
    cdef double figure = (<double>c.val_hits[c.epoch] / <double>c.judge.n if c.by_hits
                          else c.val_loss[c.epoch])
    if c.patience == 0:
        return
    if (figure - c.best if c.rising else c.best - figure) > c.min_delta:
        c.best = figure
        c.waited = 0
        if c.best_params:
            memcpy(c.best_params, c.net.params, c.net.n_params * c.net.K.itemsize)
            c.has_best = True
    else:
        c.waited += 1
        c.ended = c.waited >= c.patience


cdef void go_on(Course *c, char *buffers, double *row_loss, double until) noexcept nogil:
    """Train to the end, or until it is so late; the memory is to judge in."""
    cdef ptrdiff_t last
    if c.judge:
        c.judge.buffers = buffers
        c.judge.row_loss = row_loss
    while not c.ended and fastnn_seconds() < until:
        if c.batch == 0:
            begin_epoch(c)
        last = min(c.batches, c.batch + c.at_once)
        take_steps(c.steps, c.batch, last, 0, 1)
        fastnn_tell_steps(c.step, c.step[0] + last - c.batch)
        c.batch = last
        if last == c.batches:
            end_epoch(c)


cdef class Member:
    """A network of a population, and how it is to be trained.

    Parameters
    ----------
    core, X, target, weight, batch_size, optimizer
        As of Core.train.
    rows : ndarray of int32 or None
        Those to train on, in their order without shuffling; they may repeat.
    epochs : int
        At least 1.
    generator : numpy.random.BitGenerator or None
        Of the shuffles, which go as those of `numpy.random.Generator.permutation`.
    rates, shares
        As of Core.train, either of an epoch, which are then the same in all, or of all.
    validation : (X, target, weight) or None
        Rows to judge by after each epoch.
    stopping : (patience, by_hits, rising, min_delta, restore) or None
        Early stopping by them.

    Attributes
    ----------
    epoch, batch : int
        How far the training is.
    ended : bool
        Whether it is over.
    diverged : bool
        Whether a loss became infinite or nan, which ended the training after that epoch.
    batch_loss, batch_hits, batch_weight : ndarray
        Of the present epoch's batches.
    loss, hits, val_loss, val_hits : ndarray
        Of each epoch.
    """
    cdef Core core
    cdef Course course
    cdef Forward forward
    cdef list kept               # what the course points into
    cdef _Data data
    cdef ptrdiff_t batch_size
    cdef object optimizer
    cdef double flop
    cdef readonly object batch_loss, batch_hits, batch_weight, loss, hits, val_loss, val_hits

    def __init__(self, Core core, X, target, weight, rows, ptrdiff_t batch_size, ptrdiff_t epochs,
                 optimizer, rates, shares, generator, validation, stopping):
        cdef Course *c = &self.course
        cdef _Buffer numbers = _Buffer.of(rows, "rows", INT32)
        cdef _Buffer rate = _Buffer.of(rates, "rates", "d")
        cdef _Buffer share = _Buffer.of(shares, "shares", "d")
        self.core = core
        self.data = _Data(core, X, target, weight)
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.kept = [numbers, rate, share, generator]
        c.net = &core.net
        c.steps = &core.steps
        c.step = &core.steps_taken
        c.rows = <const int32_t *>numbers.data
        c.n = numbers.size() if rows is not None else self.data.rows
        c.epochs = epochs
        c.batches = (c.n + batch_size - 1) // batch_size
        c.at_once = <ptrdiff_t>max(1.0, FLOP_BETWEEN_LOOKS / (3 * c.net.flop * batch_size))
        c.rates = <const double *>rate.data
        c.next_rates = c.batches if rate.size() >= epochs * c.batches else 0
        c.shares = <const double *>share.data
        c.next_shares = c.batches if share.data and share.size() >= epochs * c.batches else 0
        if rate.size() < c.batches or (share.data and share.size() < c.batches):
            raise ValueError(f"rates, shares: expected {c.batches} items an epoch")
        self.flop = 3 * c.net.flop * c.n * epochs
        if generator is not None:
            c.generator = bit_generator(generator)
            c.order = <int32_t *>self._room(empty(c.n, "int32"), INT32)
        if optimizer[0] == NADAM:
            c.momentums = <double *>self._room(empty(c.batches + 1), "d")
        self.batch_loss, self.batch_weight = empty(c.batches), empty(c.batches)
        self.batch_hits = empty(c.batches, "int64")
        c.batch_loss = <double *>self._room(self.batch_loss, "d")
        c.batch_hits = <int64_t *>self._room(self.batch_hits, INT64)
        c.batch_weight = <double *>self._room(self.batch_weight, "d")
        c.product = <double *>self._room(empty(c.batches), "d")
        self.loss, self.hits = empty(epochs), empty(epochs, "int64")
        c.loss = <double *>self._room(self.loss, "d")
        c.hits = <int64_t *>self._room(self.hits, INT64)

        if validation is not None:
            self._judge_by(_Data(core, *validation), stopping)

    cdef int _take_core(self) except -1:
        """Let the core, which nobody else may use, take its steps on this course."""
        cdef Course *c = &self.course
        cdef Steps *s = c.steps
        cdef ptrdiff_t rows = min(self.batch_size, c.n)
        self.core._set_optimizer(self.optimizer)
        s.later = s.by_units = False
        s.apart = goes_apart(c.net, s.mode, rows)
        s.watch.careful = False  # signals are looked at between the steps
        s.watch.stop = 0
        self.core._need_workspace(rows, 1, s.mode, self.data.dense() != NULL)
        self.core._set_data(self.data)
        s.n = c.n
        s.batch = self.batch_size
        s.order = c.rows
        if c.generator:
            s.order = c.order
        s.losses = c.batch_loss
        s.hits = c.batch_hits
        if c.shares:
            self.core._need_average()
        return 0

    cdef int _judge_by(self, _Data validation, stopping) except -1:
        cdef Course *c = &self.course
        cdef Forward *f = &self.forward
        self.kept.append(validation)
        self.core._set_rows(f, validation)
        f.net = c.net
        f.threads = 1
        f.bad = False
        f.buffer_bytes = forward_buffer_bytes(c.net, min(block_rows(c.net), f.n))
        c.judge = f
        self.val_loss, self.val_hits = empty(c.epochs), empty(c.epochs, "int64")
        c.val_loss = <double *>self._room(self.val_loss, "d")
        c.val_hits = <int64_t *>self._room(self.val_hits, INT64)
        if stopping is not None:
            c.patience, c.by_hits, c.rising, c.min_delta, restore = stopping
            c.best = -INFINITY_ if c.rising else INFINITY_
            if restore:
                c.best_params = <char *>self._room(empty(c.net.n_params, self.core.dtype),
                                                   self.core.format)
        return 0

    cdef void *_room(self, array, str format) except? NULL:
        cdef _Buffer buffer = _Buffer.of(array, "array", format, True)
        self.kept.append(buffer)
        return buffer.data

    @property
    def epoch(self):
        return self.course.epoch

    @property
    def batch(self):
        return self.course.batch

    @property
    def ended(self):
        return self.course.ended

    @property
    def diverged(self):
        return self.course.diverged


cdef bint has_begun(Member m):
    return m.course.epoch > 0 or m.course.batch > 0


def train_many(members, tick=None):
    """Train all members to their ends.

    Between runs of some 50 ms, signals are looked at and tick(number of those that ended) is called.
    """
    cdef Member m
    cdef int i, count, team
    cdef double flop = 0, until
    cdef ptrdiff_t room = 0, rows = 0
    cdef _Workspace memory = _Workspace()
    cdef Course **courses = <Course **>memory.take(len(members), sizeof(Course *))
    cdef char *buffers
    cdef double *row_loss
    # The longest first, lest one of them be left over for one thread at the end.
    waiting = sorted(members, key=lambda m: -(<Member>m).flop)
    for m in waiting:
        flop += m.flop
        if m.course.judge:
            room = max(room, 2 * m.forward.buffer_bytes)
            rows = max(rows, m.forward.n)
    team = <int>max(1, min(_team(INFINITY_, flop, _share()), len(waiting)))
    buffers = <char *>memory.take(team * room, 1)
    row_loss = <double *>memory.take(team * rows, sizeof(double))
    training = []
    fastnn_add(&_calls, 1)
    try:
        for m in waiting:
            m.core._begin_training()
            training.append(m)
            m._take_core()
        while waiting:
            count = len(waiting)
            for i in range(count):
                m = waiting[i]
                courses[i] = &m.course
            until = fastnn_seconds() + CHUNK_SECONDS
            with nogil:
                go_on_with_all(courses, count, team, buffers, room, row_loss, rows, until)
            waiting = [m for m in waiting if not (<Member>m).course.ended]
            waiting.sort(key=lambda m: not has_begun(m))
            PyErr_CheckSignals()
            if tick is not None:
                tick(len(members) - len(waiting))
    finally:
        fastnn_add(&_calls, -1)
        for m in training:
            m.core._end_training()


cdef void go_on_with_all(Course **courses, int count, int team, char *buffers, ptrdiff_t room,
                         double *row_loss, ptrdiff_t rows, double until) noexcept nogil:
    """Those that have begun come first, so no more than one for each thread is ever unfinished."""
    cdef fastnn_barrier places
    cdef uint64_t mode = 0
    cdef int i, thread = 0
    if team > 1:
        team = fastnn_possible_team(team)
    if team == 1:
        for i in range(count):
            go_on(courses[i], buffers, row_loss, until)
        return
    memset(&places, 0, sizeof(fastnn_barrier))
    fastnn_call_team(&places)
    with parallel(num_threads=team):
        thread = threadid()
        mode = fastnn_join(&places, thread, fastnn_team_size())
        for i in prange(count, schedule="dynamic", chunksize=1):
            go_on(courses[i], buffers + thread * room, row_loss + thread * rows, until)
        fastnn_set_float_mode(mode)

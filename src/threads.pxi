# Which instruction set and how many threads.

cdef enum:
    MAX_THREADS = 256

cdef int _wanted_threads = 0  # what the user asked for, told between threads; 0: the default
cdef int _default_threads = 1
cdef int _isa = 0

fastnn_watch_forks()


def available_isas():
    """Names of the instruction sets built in that this processor runs, best first."""
    return [fastnn_isa_name(i).decode() for i in range(fastnn_isa_count())]


def _choose_isa(name):
    names = available_isas()
    if not name:
        return 0
    if name not in names:
        raise ImportError(
            f"FASTNN_ISA={name!r} is not among the instruction sets that this build and "
            f"processor have: {', '.join(names)}"
        )
    return names.index(name)


def _quota(folder):
    """Processors that the control group of a folder may use, or None; version 2, then version 1."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            words = []
            for name in names:
                with open(os.path.join(folder, name)) as file:
                    words += file.read().split()
            quota, period = map(int, words)  # "max" or -1: none
            if quota > 0 and period > 0:
                return -(-quota // period)
        except (OSError, ValueError):
            continue
    return None


def usable_processors(count, root="/"):
    """Those of `count` processors that the quotas of control groups leave: of this process's group
    and of all above it.  In a container the names of groups may be those outside of it."""
    paths = ["/"]
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if not controllers or "cpu" in controllers.split(","):
                    paths.append(path)
    except (OSError, ValueError):
        pass
    for path in paths:
        while True:
            for top in ("sys/fs/cgroup", "sys/fs/cgroup/cpu"):
                quota = _quota(os.path.join(root, top, path.strip("/")))
                if quota is not None:
                    count = min(count, quota)
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return count


def _processors():
    """Of this process, by its affinity."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


_isa = _choose_isa(os.environ.get("FASTNN_ISA"))
_default_threads = (
    fastnn_max_threads() if os.environ.get("OMP_NUM_THREADS")
    else min(fastnn_max_threads(), usable_processors(_processors()))
)


def isa():
    """Name of the instruction set in use."""
    return fastnn_isa_name(_isa).decode()


def set_num_threads(n):
    """Most threads that a call uses; None or 0 for the default."""
    fastnn_tell(&_wanted_threads, n or 0)


def get_num_threads():
    """Most threads that a call started now would use."""
    return _share()


cdef int _calls = 0  # that compute at the moment, each for a thread of Python's


cdef int _share() noexcept nogil:
    """Threads of one more call: those that compute at once share them."""
    return max(1, _threads() // (fastnn_told(&_calls) + 1))


cdef int _threads() noexcept nogil:
    cdef int wanted = fastnn_told(&_wanted_threads)
    if fastnn_must_be_serial():
        return 1
    return wanted if wanted > 0 else min(_default_threads, fastnn_max_threads())


# One more thread pays from about this much arithmetic on: between two barriers, which take a
# microsecond, and in a call, for which sleeping threads may have to be woken.
cdef double FLOP_PER_BARRIER = 400e3
cdef double FLOP_PER_CALL = 2e6


cdef int _team(double flop, double flop_of_call, int threads) noexcept nogil:
    cdef double pays = min(flop / FLOP_PER_BARRIER, flop_of_call / FLOP_PER_CALL)
    return <int>max(1.0, min(pays, <double>min(threads, MAX_THREADS)))


cdef double CHUNK_SECONDS = 0.05  # between looks at the signals and the progress

# Of a call or a step that may last longer than that, on however slow a machine, the calling thread
# looks at the signals on the way.
cdef double LONG_FLOP = 1e9
cdef double FLOP_OF_ROW = 1e3  # whatever the network


cdef inline bint is_long(double flop, ptrdiff_t rows) noexcept nogil:
    return flop + FLOP_OF_ROW * rows > LONG_FLOP


cdef struct Watch:
    bint careful            # look at all
    double looked           # when last
    PyThreadState *python   # of the calling thread, while it does without the GIL
    int stop                # told to the team; not 0: a signal's handler raised, and all are to end


cdef void begin_watch(Watch *watch, bint careful) noexcept:
    """Let the GIL go, and have others know that there is one more who computes."""
    fastnn_add(&_calls, 1)
    watch.careful = careful
    watch.stop = 0
    if careful:
        watch.looked = fastnn_seconds()
    watch.python = PyEval_SaveThread()


cdef int end_watch(Watch *watch) except -1:
    """Take the GIL again, and raise what a signal's handler raised."""
    PyEval_RestoreThread(watch.python)
    fastnn_add(&_calls, -1)
    return -1 if watch.stop else 0


cdef void look(Watch *watch, int stop) noexcept nogil:
    """By the calling thread: have signals' handlers run now and then, and tell `stop` if one raises."""
    if not watch.careful or watch.stop or fastnn_seconds() - watch.looked < CHUNK_SECONDS:
        return
    PyEval_RestoreThread(watch.python)
    if check_signals() != 0:
        fastnn_tell(&watch.stop, stop)
    watch.python = PyEval_SaveThread()
    watch.looked = fastnn_seconds()


# Very short steps may take longer by several threads than by one, where the processors share no cache:
# that is not to be known beforehand, and on a virtual machine changes as one looks.  The number of
# threads changes no bit of the result, so a training begins by trying both, and looks again whether the
# other has become the faster: soon, since threads of another library may have been in the way, and ever
# more seldom, until it spends a hundredth of its time on that.
cdef double TRIAL_SECONDS = 3e-3
cdef double FIRST_PATIENCE = 10 * TRIAL_SECONDS
cdef double LAST_PATIENCE = 100 * TRIAL_SECONDS
cdef double FLOP_OF_SHORT_STEP = 20e6


cdef struct Pace:
    double flop            # of a step, and
    int team               # threads at most, for which these hold:
    double alone           # seconds a step by one thread, 0 if unknown
    double together        # and by the team
    double since           # seconds since the one that is not taken was tried,
    double patience        # and after how many it is tried again


cdef struct Run:
    int threads
    ptrdiff_t steps


cdef inline int faster(const Pace *p) noexcept nogil:
    """How many threads to take; one only if it is faster beyond doubt."""
    return 1 if p.alone > 0 and p.alone < 0.8 * p.together else p.team


cdef Run next_run(Pace *p, double flop, int team, bint one_by_one) noexcept nogil:
    cdef Run run
    cdef double known, seconds = CHUNK_SECONDS
    if p.flop != flop or p.team != team:
        p.flop = flop
        p.team = team
        p.alone = p.together = p.since = 0
        p.patience = FIRST_PATIENCE
    run.threads = team
    if team > 1 and flop < FLOP_OF_SHORT_STEP:
        run.threads = faster(p)
        if p.together == 0 or p.alone == 0:
            run.threads = 1 if p.together > 0 else team
            seconds = TRIAL_SECONDS
        elif p.since > p.patience:
            run.threads = 1 if run.threads > 1 else team
            seconds = TRIAL_SECONDS
    known = p.alone if run.threads == 1 else p.together
    if known == 0:
        known = max(p.alone, p.together, flop / 50e9, 1e-6)
    run.steps = 1 if one_by_one else max(2, <ptrdiff_t>(seconds / known))
    return run


cdef inline double smoothed(double old, double new) noexcept nogil:
    """A faster pace is believed at once; a slower one may be another program's doing."""
    return new if old == 0 or new < old else old + 0.1 * min(new - old, old)


cdef void keep_pace(Pace *p, const Run *run, double took) noexcept nogil:
    """`took` is without the first step, before which threads may have had to be woken."""
    p.since += took
    if run.steps < 2 or took <= 0:
        return
    if run.threads == 1:
        p.alone = smoothed(p.alone, took / (run.steps - 1))
    if run.threads == p.team:
        p.together = smoothed(p.together, took / (run.steps - 1))
    if run.threads != faster(p):
        p.since = 0
        p.patience = min(2 * p.patience, LAST_PATIENCE)


# A single call may take longer by several threads than by one: threads that sleep take 50 us to wake, and
# where those of another library spin, as OpenBLAS's do after each product of NumPy's, one of ours may wait
# for a processor a hundred times as long.  It depends on what the caller does between the calls.  So after
# some calls in a row that were slower than one thread would have been, one thread takes them for a while:
# longer each time that it turns out to be so still.
cdef enum:
    SIZES = 10             # of calls by their arithmetic, each twice the one before, from
    CALLS_TO_LEARN = 4     # first by one thread, where they are short and threads would have to be woken
    SLOW_CALLS = 10        # in a row: after a pause, processors and caches take as many to be quick again
cdef double LEAST_FLOP = 1e6
cdef double FLOP_OF_SHORT_CALL = 50e6
cdef double SECONDS_AWAKE = 20e-6     # that threads are, at least, after a call
cdef double SECONDS_OF_SLOW_CALLS = 5e-3  # of several, which is worse than any pause
cdef double FLOP_A_SECOND = 10e9      # of one thread, as long as nothing is known
cdef double FIRST_REST = 20           # in times that the slow calls took,
cdef double LAST_REST = 1600
cdef double LONGEST_REST = 5.0        # but in seconds no more than that


cdef struct Calls:
    # of one size
    ptrdiff_t by_one       # how many were by one thread,
    double alone           # and seconds a FLOP of these
    int slow               # calls of the team in a row that took more than that,
    double cost            # and how long
    double rest            # how many times as long it is to rest, if there are more,
    double rests           # and until when, by the clock, it does
    double ended           # when the last call did


cdef int _learning = 1  # told between threads


def learn_from_calls(bint learn):
    """Whether calls find out how many threads are best, which they do; for tests of threads."""
    fastnn_tell(&_learning, learn)


cdef Calls *calls_of(Calls *sizes, double flop, int threads) noexcept nogil:
    """Those as large; NULL where there is nothing to choose."""
    if threads == 1 or not LEAST_FLOP <= flop < LEAST_FLOP * (1 << SIZES) or not fastnn_told(&_learning):
        return NULL
    return &sizes[ilogb(flop / LEAST_FLOP)]


cdef int team_for(const Calls *c, double flop, int threads, double now) noexcept nogil:
    """How many threads a call takes that begins now."""
    cdef int team = _team(flop, flop, threads)
    cdef bint awake = now < c.ended + SECONDS_AWAKE
    if now < c.rests or (
            not awake and c.by_one < CALLS_TO_LEARN and flop < FLOP_OF_SHORT_CALL):
        return 1
    return 2 if team == 1 and awake and c.by_one > SLOW_CALLS else team


cdef void learn(Calls *c, int threads, double flop, double began, double ended) noexcept nogil:
    """From a call by so many threads."""
    cdef double took = ended - began, pace = took / flop
    c.ended = ended
    if threads == 1:  # the first of all has the weights to fetch, too
        c.alone = pace if c.by_one < CALLS_TO_LEARN else c.alone + 0.25 * (pace - c.alone)
        c.by_one += 1
    elif pace <= (c.alone if c.by_one > 0 else 1 / FLOP_A_SECOND):
        c.slow = 0
        c.rest = FIRST_REST
    else:
        c.cost = took if c.slow == 0 else c.cost + took
        c.slow += 1
        if c.slow == SLOW_CALLS or c.slow > 1 and c.cost > SECONDS_OF_SLOW_CALLS:
            c.slow = 0
            c.rest = max(c.rest, FIRST_REST)
            c.rests = ended + min(c.rest * c.cost, LONGEST_REST)
            c.rest = min(2 * c.rest, LAST_REST)


def simulated_calls(seconds, pauses, double flop):
    """How many of two threads each call takes, of calls with such pauses in seconds before them.

    For tests: `seconds(threads, now)` tells how long a call lasts.
    """
    cdef Calls calls
    cdef double now = 1, took
    cdef int threads
    memset(&calls, 0, sizeof(Calls))
    taken = []
    for pause in pauses:
        now += pause
        threads = team_for(&calls, flop, 2, now)
        took = seconds(threads, now)
        learn(&calls, threads, flop, now, now + took)
        now += took
        taken.append(threads)
    return taken


def openmp():
    """The OpenMP that the core is compiled for: its version and whose runtime; None without."""
    if not fastnn_openmp_version():
        return None
    return {"version": fastnn_openmp_version(), "runtime": fastnn_openmp_runtime().decode()}


def compiler():
    """The compiler that built the core."""
    return fastnn_compiler().decode()

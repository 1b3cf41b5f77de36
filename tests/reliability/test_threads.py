"""Several Python threads at once, and what happens to the threads of the core."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import run, shared_library, times

import fastnn
from fastnn import Network, _config

pytestmark = pytest.mark.usefixtures("threads")


def problem(rows=300):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 64)).astype(np.float32), rng.integers(10, size=rows)


def network(backend, seed=0):
    return Network([64, 128, 128, 10], loss="cross_entropy", backend=backend, seed=seed)


def together(*functions):
    """Call all at the same moment, each in its own thread, and raise what any of them raises."""
    barrier = threading.Barrier(len(functions))

    def call(function):
        barrier.wait(60)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))


def many_predict_while_others_train(backend, repeats, n_threads):
    fastnn.set_num_threads(n_threads)
    X, y = problem()
    shared = network(backend, 99)
    expected = {rows: shared.predict(X[:rows]) for rows in (1, 7, 300)}
    alone = [network(backend, seed) for seed in range(4)]
    for net in alone:
        net.fit(X, y, 2, 100)
    trained = [network(backend, seed) for seed in range(4)]

    def predict():
        for _ in range(repeats):
            for rows, outputs in expected.items():
                np.testing.assert_array_equal(shared.predict(X[:rows]), outputs)

    train = [lambda net=net: net.fit(X, y, 2, 100) for net in trained]
    together(*[predict] * 16, *train)
    for net, other in zip(trained, alone, strict=True):
        np.testing.assert_equal(net.weights, other.weights)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_sixteen_predict_while_others_train(backend, n_threads):
    many_predict_while_others_train(backend, 5, n_threads)


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
def test_sixteen_predict_while_others_train_for_long(native, n_threads):
    many_predict_while_others_train(native, times(200), n_threads)


def use_the_same_network(backend, repeats):
    """Training and whatever else, all on one network: each call works or is refused."""
    X, y = problem()
    net = network(backend)
    before = net.weights
    steps = []

    def call(function):
        def calls():
            for _ in range(repeats):
                try:
                    function()
                except RuntimeError as error:
                    assert "another thread" in str(error)

        return calls

    def train():
        net.train_step(X[:100], y[:100])
        steps.append(1)

    def set_weights():
        net.set_weights(before)

    together(
        *[call(train)] * 4,
        *[call(lambda: net.predict(X))] * 4,
        *[call(lambda: net.evaluate(X, y))] * 2,
        *[call(lambda: net.gradients(X, y))] * 2,
        *[call(lambda: net.weights), call(lambda: net.__getstate__())],
        call(set_weights),
    )
    assert net.steps == len(steps)
    # Nothing is left behind: it is free, and trains as any other with these weights and state.
    twin = network(backend)
    twin.__setstate__(net.__getstate__())
    for other in (net, twin):
        other.fit(X, y, 1, 100, shuffle=False)
    np.testing.assert_equal(net.weights, twin.weights)


def test_one_network_is_used_by_all(backend):
    use_the_same_network(backend, 20)


@pytest.mark.slow
def test_one_network_is_used_by_all_for_long(native):
    use_the_same_network(native, times(1000))


def test_training_waits_for_predictions(backend):
    """They are in its way for as long as they take, whenever they begin."""
    X, y = problem(3000)
    net, other = network(backend), network(backend)
    trained = threading.Event()

    def predict():
        done = 0
        while not trained.is_set() or not done:
            try:
                net.predict(X)
                done += 1
            except RuntimeError as error:
                assert "another thread" in str(error)

    def train():
        try:
            for _ in range(10):
                net.fit(X[:100], y[:100], 2, 50)
                net.set_weights(net.weights)
        finally:
            trained.set()

    together(predict, predict, train)
    for _ in range(10):
        other.fit(X[:100], y[:100], 2, 50)
    np.testing.assert_equal(net.weights, other.weights)


def test_a_thread_that_reads_and_then_trains_while_another_predicts(native):
    X, _ = problem(5000)
    net = Network([64, 2048, 2048, 10], loss="cross_entropy", backend=native, seed=0)

    def predict():
        with contextlib.suppress(RuntimeError):  # it may come too late
            net.predict(X)

    with ThreadPoolExecutor(1) as pool:
        predicting = pool.submit(predict)
        while not predicting.done():
            net.set_weights(net.weights)
        predicting.result()


def test_a_handler_of_signals_that_trains_while_its_thread_predicts(native):
    """Nobody could wait for that prediction."""
    refused = []

    def handler(signum, frame):
        with pytest.raises(RuntimeError, match="in use"):
            net.train_step(X[:1], y[:1])
        refused.append(True)

    X, y = problem(10_000)
    net = Network([64, 2048, 2048, 10], loss="cross_entropy", backend=native, seed=0)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        deadline = time.monotonic() + 60
        while not refused and time.monotonic() < deadline:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            net.predict(X)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert refused


def test_a_changed_number_of_threads(native):
    """While others compute."""
    X, y = problem()
    expected = network(native)
    expected.fit(X, y, 20, 100)
    net = network(native)

    def change():
        for n in range(200):
            fastnn.set_num_threads(1 + n % 4)

    together(change, lambda: net.fit(X, y, 20, 100))
    np.testing.assert_equal(net.weights, expected.weights)


def test_labels_changed_during_training(backend):
    """They were checked when it began, so later ones must not be looked at."""
    X, y = problem()
    y = y.astype(np.int32)
    net, other = network(backend), network(backend)
    other.fit(X, y.copy(), 3, 100)

    class Spoil(fastnn.Callback):
        def on_epoch_end(self, net, epoch, logs):
            y[:] = 2**30

    net.fit(X, y, 3, 100, callbacks=[Spoil()])
    np.testing.assert_equal(net.weights, other.weights)


# -- free-threaded Python


def test_free_threaded_python_stays_so():
    """The core says that it needs no GIL."""
    if getattr(sys, "_is_gil_enabled", lambda: True)() and "t" not in sys.abiflags:
        pytest.skip("this Python has a GIL: use one configured with --disable-gil")
    code = "import sys, fastnn._native; print(sys._is_gil_enabled())"
    assert run(code, PYTHONWARNINGS="error").strip() == "False"


# -- the system's limits


@pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_without_room_for_threads(native):
    """OpenMP would end the process where the system refuses it a thread."""
    code = """
        import resource, threading
        import numpy as np
        import fastnn

        X = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
        def network():
            return fastnn.Network([64, 512, 512, 64], seed=0)
        def bits(net):
            return net.predict(X).tobytes(), net.train_step(X, X), net.predict(X).tobytes()
        fastnn.set_num_threads(1)
        expected = bits(network())
        fastnn.set_num_threads(8)
        limit = resource.getrlimit(resource.RLIMIT_AS)
        found = []

        def within(room):  # in a thread that has no team yet
            net = network()
            begin.wait()
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (room << 20), limit[1]))
            try:
                right = bits(net) == expected
            except MemoryError:
                right = None
            finally:
                resource.setrlimit(resource.RLIMIT_AS, limit)
            found.append(right)

        for room in range(0, 200, 4):
            begin = threading.Event()
            thread = threading.Thread(target=within, args=(room,))
            thread.start()
            begin.set()
            thread.join()
        assert len(found) == 50 and False not in found, found
        assert found[-1], found
    """
    run(code, OMP_STACKSIZE="8M")


# -- rounding and denormal numbers


class FloatingPoint:
    """The modes of this thread's floating-point arithmetic, by x86's MXCSR or C's fenv."""

    FLUSH = 0x8040  # flush-to-zero and denormals-are-zero
    UPWARD = 0x4000

    def __init__(self):
        if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
            pytest.skip("reads x86-64's control register: run it on such a machine with Linux")
        # fegetenv's structure of 32 bytes ends with MXCSR
        self._m = ctypes.CDLL("libm.so.6")

    def get(self):
        environment = (ctypes.c_uint32 * 8)()
        assert self._m.fegetenv(environment) == 0
        return environment[7] & 0xFFC0

    def set(self, mode):
        environment = (ctypes.c_uint32 * 8)()
        self._m.fegetenv(environment)
        environment[7] = (environment[7] & 0x3F) | mode
        assert self._m.fesetenv(environment) == 0


@pytest.fixture
def floating_point():
    modes = FloatingPoint()
    before = modes.get()
    yield modes
    modes.set(before)


def test_importing_changes_no_mode(floating_point):
    code = """
        import ctypes
        m = ctypes.CDLL("libm.so.6")
        def mode():
            environment = (ctypes.c_uint32 * 8)()
            m.fegetenv(environment)
            return environment[7] & 0xffc0
        before = mode()
        import numpy as np
        import fastnn
        net = fastnn.Network([64, 512, 512, 1], seed=0)
        X = np.ones((1000, 64), np.float32)
        net.fit(X, X[:, :1])
        net.predict(X)
        assert mode() == before
    """
    run(code, OMP_NUM_THREADS="2")


@pytest.mark.parametrize("mode", [0, FloatingPoint.FLUSH, FloatingPoint.UPWARD])
def test_all_threads_compute_in_the_callers_mode(native, floating_point, mode):
    """Which they were not started in; and nobody is left in it."""
    default = floating_point.get()
    fastnn.set_num_threads(2)
    X, y = problem()
    tiny = [(W * np.float32(1e-20), b) for W, b in network(native).weights]

    def results(n_threads):
        fastnn.set_num_threads(n_threads)
        net = network(native)
        net.set_weights(tiny)
        outputs = net.predict(X * np.float32(1e-20))
        net.fit(X, y, 2, 100)
        return outputs, net.weights

    plain = results(2)  # so that the team is there
    floating_point.set(default | mode)
    one, two = results(1), results(2)
    assert floating_point.get() == default | mode
    np.testing.assert_equal(one, two)
    floating_point.set(default)
    np.testing.assert_equal(results(2), plain)


def test_the_mode_does_matter(native, floating_point):
    """So that the test above can fail."""
    net = Network([1, 1], seed=0)
    net.set_weights([([[1e-20]], [0.0])])
    assert net.predict([[1e-20]])[0, 0] > 0
    floating_point.set(floating_point.get() | FloatingPoint.FLUSH)
    assert net.predict(np.full((1, 1), 1e-20, np.float32))[0, 0] == 0


def test_no_thread_is_left_waiting():
    """A team that waits for long sleeps, and takes no processor from others."""
    X, y = problem()
    net = network("native" if _config.openmp_enabled() else "numpy")
    net.fit(X, y, 3, 100)
    time.sleep(0.3)  # past the time for which OpenMP's own threads look for more work
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


REFUSE = """
#include <errno.h>
#include <pthread.h>
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x)
{
    return EAGAIN;
}
"""

WITHOUT_THREADS = """
    import numpy as np
    import fastnn
    from fastnn import _native

    fastnn.set_num_threads(4)
    X = np.zeros((50_000, 100), np.float32)
    net = fastnn.Network([100, 64, 64, 10], seed=0)
    assert _native.all_finite(X)
    net.fit(X, X[:, :10], 1, 512)
    fastnn.train_many([net, fastnn.Network([100, 64, 10], seed=1)], X, X[:, :10])
    assert _native.fma_peak(4, 4, 0.01) > 0
    print(net.predict(X).shape)
"""


@pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
@pytest.mark.skipif(sys.platform != "linux", reason="the system refuses threads by LD_PRELOAD")
@pytest.mark.usefixtures("native")
def test_a_system_that_gives_no_threads(tmp_path):
    """The calling thread does all, and libgomp does not end the process."""
    library = shared_library(REFUSE, tmp_path)
    printed = run(WITHOUT_THREADS, LD_PRELOAD=library, OPENBLAS_NUM_THREADS="1")
    assert printed.strip() == "(50000, 10)"

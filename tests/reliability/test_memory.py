"""Memory: none lost, none taken within a run of steps, and a clear error where there is none."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from processes import EFFORT, run, shared_library

from fastnn import Adam, Network, _config

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory is in use"),
    pytest.mark.usefixtures("native"),
]

SOAK = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from soak import soak
    count, warm, end = soak(float(sys.argv[2]))
    print(count, end - warm)
"""


def soaked(seconds):
    from pathlib import Path

    count, growth = run(SOAK, Path(__file__).parent, seconds, timeout=seconds * 3 + 120).split()
    return int(count), int(growth)


def test_soak():
    count, growth = soaked(12)
    assert count >= 50
    # The allocator of a Python without a GIL takes and gives back megabytes at a time.
    assert growth < (1 << 22 if "t" in sys.abiflags else 1 << 20)


@pytest.mark.slow
def test_soak_for_a_minute():
    _, growth = soaked(60 * EFFORT)
    assert growth < 1 << 20


# -- no room


WITHOUT_ROOM = """
    import os, resource, sys, tempfile
    import numpy as np
    import fastnn

    fastnn.set_num_threads(int(sys.argv[1]))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 100)).astype(np.float32)
    y = X[:, :10].copy()
    limit = resource.getrlimit(resource.RLIMIT_AS)
    file = os.path.join(tempfile.mkdtemp(), "model")

    def network():
        return fastnn.Network([100, 700, 700, 10], optimizer=fastnn.Adam(clip_norm=1.0), seed=0)

    calls = {
        "Network": lambda net: network(),
        "fit": lambda net: net.fit(X, y, 1, 500),
        "train_step": lambda net: net.train_step(X, y),
        "predict": lambda net: net.predict(X),
        "evaluate": lambda net: net.evaluate(X, y),
        "gradients": lambda net: net.gradients(X, y),
        "weights": lambda net: net.weights,
        "set_weights": lambda net: net.set_weights(net.weights),
        "pickle": lambda net: net.__getstate__(),
        "save": lambda net: net.save(file, include_optimizer=True),
        "load": lambda net: fastnn.Network.load(file),
    }
    first = network()
    first.fit(X, y, 1, 500)
    first.save(file, include_optimizer=True)
    before = first.predict(X)
    ended = {name: [0, 0] for name in calls}
    for name, call in calls.items():
        for room in [0, 256, 1024, 3000, 6000, 9000, 15000, 25000, 40000, 80000]:
            net = fastnn.Network.load(file)
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (room << 10), limit[1]))
            try:
                call(net)
                ended[name][0] += 1
            except MemoryError:
                ended[name][1] += 1
            finally:
                resource.setrlimit(resource.RLIMIT_AS, limit)
            if name not in ("fit", "train_step"):
                assert np.array_equal(net.predict(X), before), name
            net.fit(X, y, 1, 500)
            assert np.isfinite(net.predict(X)).all()
    assert all(done and refused for done, refused in ended.values()), ended
"""


@pytest.mark.parametrize("n_threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_without_room(n_threads):
    """Each call either does its work or is a MemoryError, and the network goes on either way."""
    # so that freed memory goes back to the system, and is missing the next time
    run(WITHOUT_ROOM, n_threads, MALLOC_TRIM_THRESHOLD_="0", MALLOC_MMAP_THRESHOLD_="65536")


def test_sizes_whose_products_overflow(backend):
    n = 2**31 - 1
    for layers in ([n, n], [1, n, n, 1], [n, 1, n, n]):
        with pytest.raises(ValueError, match="fit in memory"):
            Network(layers, backend=backend)
    _native = pytest.importorskip("fastnn._native", reason="fastnn._native is not built")
    layer = (2**31, 2**31, 0, 0.0, True, 0.0, 0.0, 0.0, 0.0, float("inf"))
    with pytest.raises(MemoryError, match="does not fit in memory"):
        _native.Core([layer], 0, False, 0.0, (0.0, 2), 4, 0)


# -- how often, and how much


COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
static long count;
long allocations(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }
#define COUNTED __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED)
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { COUNTED; return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { COUNTED; return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { COUNTED; return __libc_realloc(p, n); }
void *memalign(size_t line, size_t n) { COUNTED; return __libc_memalign(line, n); }
void *aligned_alloc(size_t line, size_t n) { COUNTED; return __libc_memalign(line, n); }
int posix_memalign(void **p, size_t line, size_t n)
{
    COUNTED;
    return (*p = __libc_memalign(line, n)) ? 0 : ENOMEM;
}
"""

COUNT = """
    import ctypes, sys
    import numpy as np
    import fastnn
    allocations = ctypes.CDLL(None).allocations
    allocations.restype = ctypes.c_long
    fastnn.set_num_threads(int(sys.argv[1]))
    X = np.random.default_rng(0).normal(size=(4096, 64)).astype(np.float32)
    y = X[:, :8].copy()
    net = fastnn.Network([64, 128, 8], optimizer=fastnn.Adam(0.001), seed=0)
    out = np.empty((1, 8), np.float32)
    def during(call):
        call()
        before = allocations()
        call()
        return allocations() - before
    epochs = [min(during(lambda: net.fit(X, y, 1, size)) for _ in range(5)) for size in (16, 4)]
    nothing = min(during(lambda: None) for _ in range(5))
    predict = min(during(lambda: net.predict(X[:1], out)) for _ in range(5))
    slicing = min(during(lambda: X[:1]) for _ in range(5))
    print(*epochs, predict - slicing, nothing)
"""


@pytest.mark.parametrize("n_threads", [1, 2])
def test_steps_allocate_nothing(n_threads, tmp_path):
    """256 steps an epoch or 1024: an epoch allocates as often; and predict(X, out) not at all."""
    if "t" in sys.abiflags:
        pytest.skip("this Python never takes its memory from malloc: use one with a GIL")
    library = shared_library(COUNTER, tmp_path)
    printed = run(COUNT, n_threads, LD_PRELOAD=library, PYTHONMALLOC="malloc")
    few, many, predict, nothing = map(int, printed.split())
    assert few > nothing  # it does count
    assert abs(many - few) < 768 / 40  # NumPy's own, of longer arrays of figures
    assert predict <= 6  # Python's and NumPy's own: arguments, and what describes a buffer


PEAK = """
    import resource, sys
    import numpy as np
    import fastnn
    sizes, batch, states = [1024, 2048, 2048, 1000], 1024, int(sys.argv[1])
    fastnn.set_num_threads(2)
    optimizer = [fastnn.SGD(), fastnn.SGD(momentum=0.9), fastnn.Adam()][states]
    X = np.zeros((batch, sizes[0]), np.float32)
    y = np.zeros((batch, sizes[-1]), np.float32)
    # what making any network and NumPy's random numbers takes is not the training's
    fastnn.Network([8, 8, 8], optimizer=optimizer).fit(X[:, :8], y[:, :8])
    def peak():
        return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
    before = peak()
    net = fastnn.Network(sizes, optimizer=optimizer, seed=0)
    net.fit(X, y, 2, batch)
    print(peak() - before)
"""


def bound(states, sizes=(1024, 2048, 2048, 1000), batch=1024, threads=2):
    """KiB: parameters (2 + states), the activations of a batch, packed inputs; float32."""
    pairs = list(itertools.pairwise(sizes))
    parameters = sum(n_in * n_out + n_out for n_in, n_out in pairs)
    # each layer's outputs and their gradients, inputs for each thread, the packed target
    activations = batch * (threads * sizes[0] + 2 * sum(sizes[1:]) + sizes[-1])
    return 4 * (parameters * (2 + states) + activations) / 1024


@pytest.mark.parametrize("states", [0, 1, 2])
def test_peak(states):
    """W' takes the place of the second copy, and 8 % or 4 MB are for padding and blocks."""
    if not _config.openmp_enabled():
        pytest.skip("built without OpenMP, it has inputs for one thread only")
    found = int(run(PEAK, states))
    assert found < 1.08 * bound(states) + 4096, (found, bound(states))


def test_a_failed_step_count_stays():
    """A state that does not fit changes nothing, the number of steps included."""
    net = Network([3, 2], optimizer=Adam(), seed=0)
    net.train_step(np.ones((2, 3)), np.ones((2, 2)))
    steps, slots = net._backend.state()
    with pytest.raises(ValueError, match="layer 0"):
        net._backend.set_state(99, [[(W[:1], b)] for [(W, b)] in slots])
    assert net.steps == steps

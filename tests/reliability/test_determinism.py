"""The same bits, as docs/reliability.md promises them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run

import fastnn
from fastnn import Adam, Dense, Dropout, Network
from fastnn.activations import ACTIVATIONS

_native = pytest.importorskip(
    "fastnn._native", reason="fastnn._native is not built", exc_type=ModuleNotFoundError
)
from fastnn.backends.native import NativeBackend  # noqa: E402

pytestmark = pytest.mark.usefixtures("threads")
ISAS = _native.available_isas()


def on(isa, net):
    """The same network on an instruction set."""
    backend = NativeBackend(net._spec, isa)
    backend.set_weights(net.weights)
    return backend


WIDTHS = st.integers(1, 40) | st.sampled_from([63, 64, 65, 127, 128, 129, 300, 1000])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    widths=st.lists(WIDTHS, min_size=2, max_size=4),
    hidden=st.sampled_from(sorted(ACTIVATIONS.keys() - {"softmax"})),
    last=st.sampled_from(sorted(ACTIVATIONS)),
    dtype=st.sampled_from(["float32", "float64"]),
    isa=st.sampled_from(ISAS),
    rows=st.sampled_from([1, 2, 3, 5, 8, 13, 14, 15, 29, 64, 100, 257]),
    n_threads=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 257), max_size=12),
)
def test_a_row_does_not_depend_on_its_neighbours(
    widths, hidden, last, dtype, isa, rows, n_threads, cuts
):
    """Nor on how a prediction is cut into calls, down to single rows."""
    fastnn.set_num_threads(n_threads)
    layers = [widths[0], *[Dense(units, hidden) for units in widths[1:-1]], Dense(widths[-1], last)]
    backend = on(isa, Network(layers, dtype=dtype, seed=0))
    X = np.random.default_rng(1).normal(size=(rows, widths[0])).astype(dtype)

    def predict(part):
        out = np.empty((len(part), widths[-1]), dtype)
        backend.predict(part, out)
        return out

    whole = predict(X)
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    parts = [predict(X[a:b]) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(
        np.concatenate([predict(row[None]) for row in X[:20]]), whole[:20]
    )
    order = np.random.default_rng(2).permutation(rows)
    np.testing.assert_array_equal(predict(X[order]), whole[order])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("widths", [(8192, 96, 10), (2048, 512, 10)])
def test_few_rows_by_many_threads(widths, isa, dtype, assert_same_with_threads):
    """They share the weights of more rows than one block has, where there are enough of them."""
    backend = on(isa, Network(widths, dtype=dtype, seed=0))
    X = np.random.default_rng(1).normal(size=(127, widths[0])).astype(dtype)

    def predict():
        found = []
        for rows in (1, 7, 8, 13, 24, 31, 63, 127):
            found.append(np.empty((rows, widths[-1]), dtype))
            backend.predict(X[:rows], found[-1])
        return found

    assert_same_with_threads(predict, 2, 8, 32)


TRAIN = """
    import hashlib, sys
    import numpy as np
    import fastnn
    from fastnn import Adam, Dense, Dropout, GaussianNoise, Network

    fastnn.set_num_threads(int(sys.argv[1]))
    dtype = sys.argv[2]
    hidden = [GaussianNoise(0.1), Dense(200, "tanh", l1=1e-4), Dropout(0.3), Dense(96, "gelu")]
    optimizer = Adam(0.01, clip_norm=float(sys.argv[3]) or None)
    net = Network(
        [64, *hidden, 10], loss="cross_entropy", optimizer=optimizer, dtype=dtype, seed=0
    )
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(700, 64)), rng.integers(10, size=700)
    history = net.fit(X, y, 3, 128, validation_data=(X[:100], y[:100]))
    net.save(sys.argv[4], include_optimizer=True)
    net = Network.load(sys.argv[4])
    net.fit(X, y, 2, 99)
    found = hashlib.sha256(repr(sorted(history.history.items())).encode())
    for array in (net.predict(X), *(a for pair in net.weights for a in pair)):
        found.update(array.tobytes())
    print(found.hexdigest())
"""


@pytest.mark.parametrize("clip_norm", [0, 0.5])
@pytest.mark.parametrize(
    "isa", [ISAS[0], *(pytest.param(isa, marks=pytest.mark.slow) for isa in ISAS[1:])]
)
def test_runs_and_numbers_of_threads(isa, dtype, clip_norm, tmp_path):
    """In processes of their own, through a file in the middle."""
    arguments = (dtype, clip_norm, tmp_path / "model")
    found = {
        run(TRAIN, n_threads, *arguments, FASTNN_ISA=isa, **environment)
        for n_threads, environment in [
            *((n, {}) for n in (1, 2, 3)),
            (2, {"OMP_THREAD_LIMIT": "1"}),
            (4, {"OMP_DYNAMIC": "true"}),
            (2, {"PYTHONHASHSEED": "7"}),
        ]
    }
    assert len(found) == 1


def test_an_interrupted_and_a_whole_run_of_steps():
    """How an epoch is cut into calls of the core changes nothing."""

    class EverySoOften(fastnn.Callback):
        every_steps = 3

        def on_step(self, net, step):
            pass

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 20)), rng.normal(size=(300, 3))
    nets = [Network([20, Dropout(0.2), 50, 3], seed=0) for _ in range(2)]
    nets[0].fit(X, y, 3, 7)
    nets[1].fit(X, y, 3, 7, callbacks=[EverySoOften()])
    np.testing.assert_equal(*(net.weights for net in nets))


@pytest.mark.parametrize("rows", [200, 60_000])
def test_updates_at_once_and_later(rows):
    """A long step updates once all gradients are there, as clipping by the norm does."""
    layers = [256, Dense(512, "tanh"), 128]
    assert (6 * (256 * 512 + 512 * 128) * rows > 60e9) == (rows > 1000)
    X = np.random.default_rng(0).normal(size=(rows, 256)).astype(np.float32)
    nets = [Network(layers, optimizer=Adam(0.01, clip_norm=c), seed=0) for c in (None, 1e30)]
    for net in nets:
        net.train_step(X, X[:, :128])
    np.testing.assert_equal(*(net.weights for net in nets))


def differences(dtype):
    """Largest difference of predictions and of trained weights between instruction sets, in eps."""
    rng = np.random.default_rng(0)
    eps = np.finfo(dtype).eps
    worst = [0.0, 0.0]
    for hidden in ("relu", "tanh", "gelu", "sigmoid"):
        X, y = rng.normal(size=(256, 100)).astype(dtype), rng.normal(size=(256, 5)).astype(dtype)
        layers = [100, Dense(64, hidden), Dense(64, hidden), 5]
        found = []
        for isa in ISAS:
            net = Network(layers, optimizer=fastnn.SGD(0.01), dtype=dtype, seed=0)
            net._backend = on(isa, net)
            net._predict_directly = net._backend.predict_directly
            before = net.predict(X)
            net.fit(X, y, 10, 32)
            found.append((before, np.concatenate([W.ravel() for W, _ in net.weights])))
        for one, other in itertools.combinations(found, 2):
            for i in range(2):
                scale = np.abs(one[i]).max()
                worst[i] = max(worst[i], float(np.abs(one[i] - other[i]).max() / scale / eps))
    return worst


@pytest.mark.skipif(len(ISAS) < 2, reason="this processor runs one instruction set of the core")
def test_instruction_sets_agree(dtype):
    """Measured: 4.1 and 1.3 eps of the largest output and weight, see docs/reliability.md.

    A sum of a hundred terms may round differently in each, which an activation passes on; ten
    epochs of eight steps add up such differences of gradients, times the rate of 0.01.
    """
    predicted, trained = differences(dtype)
    assert predicted <= 16
    assert trained <= 64

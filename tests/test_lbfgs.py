"""L-BFGS: SciPy's, on arrays and on networks."""

from __future__ import annotations

import pickle
import sys
import threading
import time

import numpy as np
import pytest

import fastnn
from fastnn import LBFGS, Callback, Dense, Dropout, EarlyStopping, Network, StopTraining
from fastnn._weights import flat, unflat
from fastnn.callbacks import Checkpoint, ReduceLROnPlateau, TensorBoardLogger

scipy_optimize = pytest.importorskip("scipy.optimize", reason='needs pip install "fastnn[lbfgs]"')

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:3]
CLASSES = (Y[:, 0] > 0).astype(int)


def rosenbrock(x, y):
    return float((1 - x) ** 2 + 100 * (y - x**2) ** 2), [
        -2 * (1 - x) - 400 * x * (y - x**2),
        200 * (y - x**2),
    ]


def of_arrays(x, y):
    loss, (dx, dy) = rosenbrock(x.item(), y.item())
    return loss, [[[dx]], dy]


@pytest.mark.parametrize("options", [{}, {"memory": 3, "line_search": 5, "tolerance": 1e-3}])
def test_alone_is_scipys(options):
    x, y = np.array([[-1.0]]), np.array(2.0)
    loss = LBFGS(**options).minimize(lambda: of_arrays(x, y), [x, y], iterations=200)
    scipys = {"maxcor": options.get("memory", 10), "maxls": options.get("line_search", 20)}
    expected = scipy_optimize.minimize(
        lambda v: (rosenbrock(*v)[0], np.array(rosenbrock(*v)[1])), [-1.0, 2.0], jac=True,
        method="L-BFGS-B", options={**scipys, "gtol": options.get("tolerance", 1e-5)},
    )  # fmt: skip
    assert (x.item(), y.item()) == tuple(expected.x)
    assert loss == expected.fun


def test_alone_in_float32():
    x = np.array([3.0, -2.0], np.float32)
    LBFGS().minimize(lambda: (x @ x, [2 * x]), [x])
    assert x.dtype == np.float32
    assert np.abs(x).max() < 1e-5


def make(backend, dtype="float64", **options):
    options = {"activation": "tanh", "optimizer": LBFGS(), **options}
    return Network([4, 8, 1], backend=backend, dtype=dtype, seed=0, **options)


def test_fit_is_scipys_search_of_the_networks_loss(backend):
    weight = RNG.uniform(0, 2, len(X))
    net, other = make(backend), make(backend)
    history = net.fit(X, Y, epochs=15, sample_weight=weight)
    start = other.weights
    points = [flat(start)]

    def at(vector):
        other.set_weights(unflat(vector, start))
        loss, gradients = other.gradients(X, Y, weight)
        return loss, flat(gradients)

    found = scipy_optimize.minimize(
        at, points[0], jac=True, method="L-BFGS-B",
        callback=lambda x: points.append(x.copy()), options={"maxiter": 15, "ftol": 2.2e-9},
    )  # fmt: skip
    np.testing.assert_array_equal(flat(net.weights), found.x)
    assert len(history) == net.steps == net.epochs == 15
    # each before the iteration it led to, as of the other optimizers
    np.testing.assert_allclose(history["loss"], [at(point)[0] for point in points[:15]], rtol=1e-12)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_native_and_reference_agree(native):
    # By the 5th iteration rounding has not grown beyond this.
    losses = [make(name).fit(X, Y, epochs=5)["loss"] for name in ("native", "numpy")]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_beats_adam_on_a_small_smooth_problem(backend):
    found = make(backend).fit(X, Y, epochs=100)["loss"][-1]
    adam = make(backend, optimizer="adam").fit(X, Y, epochs=100, batch_size=len(X))["loss"][-1]
    assert found < 0.5 * adam


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_figures_and_convergence(backend, dtype):
    net = Network([4, 1], loss="binary_cross_entropy", optimizer="lbfgs", dtype=dtype,
                  backend=backend, seed=0)  # fmt: skip
    history = net.fit(
        X[:40], CLASSES[:40], epochs=10**6, batch_size=7, validation_data=(X[40:], CLASSES[40:])
    )
    assert 5 < len(history) < 200  # there is one minimum, and it has been found
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    _, gradients = net.gradients(X[:40], CLASSES[:40])
    assert np.abs(flat(gradients)).max() < 1e-3
    judged = net.evaluate(X[40:], CLASSES[40:])
    assert judged == {"loss": history["val_loss"][-1], "accuracy": history["val_accuracy"][-1]}
    loss = net.evaluate(X[:40], CLASSES[:40])["loss"]
    again = net.fit(X[:40], CLASSES[:40], epochs=3)
    assert again.history.get("loss", [loss])[0] == loss


def test_penalties_and_functions_as_loss(backend):
    def mean_square(y, out):
        return ((out - y) ** 2).mean(axis=1), 2 * (out - y) / out.shape[1]

    nets = [
        Network([4, Dense(6, "tanh", l2=0.1), Dense(1, l1=1e-3)], loss=loss, optimizer=LBFGS(),
                dtype="float64", backend=backend, seed=0)
        for loss in ("mse", mean_square)
    ]  # fmt: skip
    one, two = (net.fit(X, Y, epochs=10)["loss"] for net in nets)
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_callbacks(backend):
    class Stop(Callback):
        seen = ()

        def on_epoch_begin(self, net, epoch):
            self.seen += (("begin", epoch),)

        def on_epoch_end(self, net, epoch, logs):
            self.seen += (("end", epoch),)
            self.weights = net.weights
            if epoch == 2:
                raise StopTraining

        def on_train_end(self, net, history):
            self.seen += ("over",)

    stop, net = Stop(), make(backend)
    history = net.fit(X, Y, epochs=9, callbacks=[stop])
    steps = [(what, epoch) for epoch in range(3) for what in ("begin", "end")]
    assert list(stop.seen) == [*steps, "over"]
    assert len(history) == net.epochs == 3
    np.testing.assert_array_equal(flat(net.weights), flat(stop.weights))

    net = make(backend)
    stopping = EarlyStopping(patience=2, restore_best_weights=True)
    history = net.fit(X[:30], Y[:30], 200, validation_data=(X[30:], Y[30:]), callbacks=[stopping])
    assert len(history) < 200
    assert net.evaluate(X[30:], Y[30:])["loss"] == min(history["val_loss"])


def test_callbacks_within_an_iteration(backend, tmp_path):
    class Step(Callback):
        every_steps = 2
        seen = ()

        def on_step(self, net, step):
            self.seen += (step,)
            self.weights = net.weights
            if step == 6:
                raise StopTraining

    step, net = Step(), make(backend)
    checkpoint = Checkpoint(tmp_path / "{step}", every_epochs=None, every_steps=3)
    history = net.fit(X, Y, epochs=9, callbacks=[step, checkpoint])
    assert step.seen == (2, 4, 6)
    assert (len(history), net.epochs, net.steps) == (5, 5, 6)
    np.testing.assert_array_equal(flat(net.weights), flat(step.weights))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "6"]
    last = Network.load(tmp_path / "6", backend)
    np.testing.assert_array_equal(flat(last.weights), flat(net.weights))


def test_tensorboard_gets_no_learning_rate(backend, tmp_path):
    pytest.importorskip("tensorboardX", reason="needs pip install tensorboardX")
    make(backend).fit(X, Y, epochs=3, callbacks=[TensorBoardLogger(tmp_path)])
    (file,) = tmp_path.iterdir()
    recorded = file.read_bytes()
    assert recorded.count(b"loss") == 3
    assert b"learning_rate" not in recorded


def test_an_exception_leaves_the_last_iteration(backend):
    class Fail(Callback):
        def on_epoch_end(self, net, epoch, logs):
            self.weights = net.weights
            if epoch == 3:
                raise KeyboardInterrupt

    fail, net = Fail(), make(backend)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=50, callbacks=[fail])
    np.testing.assert_array_equal(flat(net.weights), flat(fail.weights))
    assert net.epochs == 4


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c(backend):
    import signal

    net = make(backend)
    before = net.evaluate(X, Y)["loss"]
    threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(10**6):
            net.fit(X, Y, epochs=100)
        time.sleep(10)
    assert net.evaluate(X, Y)["loss"] <= before


def test_divergence(backend):
    net = make(backend)
    net.set_weights([(np.full((4, 8), 1e200), np.zeros(8)), (np.full((8, 1), 1e200), [0])])
    with pytest.raises(FloatingPointError, match="the loss became inf"):
        net.fit(X, Y, epochs=3)


def test_saved_and_pickled(backend, tmp_path):
    net = make(backend, optimizer=LBFGS(5, tolerance=1e-4))
    net.fit(X, Y, epochs=3)
    net.save(tmp_path / "a.safetensors", include_optimizer=True)
    others = [Network.load(tmp_path / "a.safetensors", backend), pickle.loads(pickle.dumps(net))]
    net.fit(X, Y, epochs=2)
    for other in others:
        assert other.optimizer == net.optimizer
        other.fit(X, Y, epochs=2)
        np.testing.assert_array_equal(flat(other.weights), flat(net.weights))
    assert repr(net.optimizer) == "LBFGS(memory=5, tolerance=0.0001)"


def test_in_a_population(backend):
    together, alone = make(backend), make(backend)
    fastnn.train_many([make(backend, optimizer="adam"), together], X, Y, 4)
    alone.fit(X, Y, 4)
    np.testing.assert_array_equal(flat(together.weights), flat(alone.weights))
    assert together.history.history == alone.history.history


@pytest.mark.parametrize("b", [True, False])
def test_vectors(b):
    pairs = [(RNG.normal(size=(3, 2)).astype("f4"), np.ones(2, "f4") if b else None) for _ in "ab"]
    vector = flat(pairs)
    assert vector.shape == (16 if b else 12,)
    for (W, c), (V, d) in zip(pairs, unflat(vector.astype("f8"), pairs), strict=True):
        np.testing.assert_array_equal(W, V)
        assert V.dtype == np.float32
        np.testing.assert_array_equal(c, d)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LBFGS(0), ValueError, "memory must be an integer >= 1; got 0"),
        (lambda: LBFGS(tolerance=-1), ValueError, "tolerance must be a finite number >= 0"),
        (lambda: LBFGS(relative_tolerance="x"), TypeError, "relative_tolerance must be a finite"),
        (lambda: LBFGS(line_search=2.5), TypeError, "line_search must be an integer >= 1"),
        (lambda: LBFGS(learning_rate=1.0), TypeError, "learning_rate"),
        (lambda: LBFGS().update([X], [X]), TypeError, r"got LBFGS\(memory=10\), for which"),
        (lambda: LBFGS().minimize(lambda: (0, []), [[1.0]]), TypeError, r"params\[0\] must be a"),
        (lambda: LBFGS().minimize(lambda: (0, []), [], 0), ValueError, "iterations must be an"),
        (lambda: LBFGS().minimize(lambda: (0, [[1.0]]), [np.ones(2)]), ValueError,
         r"grads\[0\] must have the shape of params\[0\]"),
        (lambda: make("numpy", averaging=fastnn.EMA()), ValueError, "used without averaging"),
        (lambda: Network([4, Dropout(0.5), 1], optimizer=LBFGS()), ValueError,
         "must be used without Dropout and GaussianNoise"),
        (lambda: Network([4, Dense(1, max_norm=1)], optimizer=LBFGS()), ValueError,
         "must be used without max_norm"),
        (lambda: make("numpy").train_step(X, Y), TypeError, "takes steps by gradients alone"),
        (lambda: make("numpy").fit([(X, Y)]), ValueError, "needs X and y of all rows"),
        (lambda: make("numpy").fit(X, Y, resume=True), ValueError, "resume=False"),
        (lambda: fastnn.find_learning_rate(make("numpy"), X, Y), TypeError, "takes steps by"),
        (lambda: setattr(make("numpy"), "learning_rate", 0.1), TypeError, "LBFGS has no learning"),
        (lambda: make("numpy").fit(X, Y, callbacks=[ReduceLROnPlateau("loss")]), TypeError,
         "ReduceLROnPlateau needs a learning rate, and LBFGS has none"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_find_learning_rate_in_the_core(native):
    with pytest.raises(TypeError, match="takes steps by gradients alone"):
        fastnn.find_learning_rate(make(native), X, Y)


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[lbfgs\]"'):
        make("numpy").fit(X, Y)

"""Ctrl-C ends whatever the core does, soon, and leaves a usable network."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import fastnn
from fastnn import Adam, Callback, Dense, Dropout, Network

SECONDS = 0.3
pytestmark = pytest.mark.usefixtures("interruptible", "threads", "native")


def interrupted(call, after=0.2):
    """Send this process Ctrl-C while it calls; return how long it took to raise."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, send)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
        return time.perf_counter() - sent[0]
    finally:
        timer.cancel()


def soon(call):
    """Whether a call ends in time; of three, since another program may have had the processor."""
    return any(interrupted(call) < SECONDS for _ in range(3))


def large(rows=60_000, **options):
    """A network and rows of which one step or prediction takes more than a second."""
    net = Network([256, Dense(2048, "tanh"), 2048, 64], seed=0, **options)
    X = np.random.default_rng(0).normal(size=(rows, 256)).astype(np.float32)
    return net, X, X[:, :64].copy()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("call", ["predict", "evaluate", "gradients"])
def test_calls_over_many_rows(call, n_threads):
    fastnn.set_num_threads(n_threads)
    net, X, y = large()
    arguments = (X,) if call == "predict" else (X, y)
    assert soon(lambda: getattr(net, call)(*arguments))
    np.testing.assert_array_equal(net.predict(X[:5]), large(5)[0].predict(X[:5]))
    net.train_step(X[:5], y[:5])


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("optimizer", [Adam(), Adam(clip_norm=1.0), Adam(clip_value=0.1)], ids=repr)
@pytest.mark.parametrize("after", [0.05, 0.6])  # on the way forward, and rather later
def test_one_huge_step(optimizer, n_threads, after):
    """It is not taken at all, or taken in full."""
    fastnn.set_num_threads(n_threads)
    net, X, y = large(optimizer=optimizer)
    took = min(interrupted(lambda: net.fit(X, y, 10**6, len(X)), after) for _ in range(2))
    assert took < SECONDS
    other, *_ = large(optimizer=optimizer)
    if net.steps:
        other.fit(X, y, net.steps, len(X))
    np.testing.assert_equal(net.weights, other.weights)


class Steps(Callback):
    """The number of steps after each epoch."""

    def __init__(self):
        self.steps = []

    def on_epoch_end(self, net, epoch, logs):
        self.steps.append(net.steps)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("layers", "batch_size"), [([8, 16, 1], 32), ([8, Dropout(0.5), 256, 1], 4096)], ids=str
)
def test_the_longest_epoch(layers, batch_size, n_threads):
    fastnn.set_num_threads(n_threads)
    X = np.random.default_rng(0).normal(size=(4_000_000, 8)).astype(np.float32)
    y = X[:, :1].copy()
    told = Steps()
    net = Network(layers, seed=0)
    net.fit(X[:1000], y[:1000], 2, 100)
    assert soon(lambda: net.fit(X, y, 50, batch_size, shuffle=False, callbacks=[told]))
    assert len(net.history) <= len(told.steps) <= 3 * 50
    before = net.steps
    net.fit(X[:1000], y[:1000], 2, 100)
    assert net.steps == before + 20
    assert len(net.history) == 2


def test_of_a_loss_that_is_a_function():
    def loss(y, out):
        return ((out - y) ** 2).mean(axis=1), 2 * (out - y) / out.shape[1]

    net, X, y = large(loss=loss)
    assert soon(lambda: net.fit(X, y, 10**6, len(X)))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_scikit_learns_solvers(solver):
    """scikit-learn itself makes a warning of Ctrl-C in the stochastic ones."""
    pytest.importorskip("sklearn", reason="scikit-learn is missing: pip install 'fastnn[sklearn]'")
    from fastnn.sklearn import MLPRegressor

    _, X, y = large(20_000)
    net = MLPRegressor(
        hidden_layer_sizes=(1024, 1024), solver=solver, max_iter=10**6, batch_size=20_000
    )

    def fit():
        if solver == "lbfgs":
            net.fit(X, y)
        else:
            with pytest.warns(UserWarning, match="interrupted"):
                net.fit(X, y)
            raise KeyboardInterrupt

    assert min(interrupted(fit, 1.0) for _ in range(2)) < SECONDS


def test_a_signal_that_raises_nothing_changes_nothing():
    """Its handler runs in the middle of a step."""
    net, X, y = large(3000)
    other, *_ = large(1)
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(time.perf_counter()))
    signal.setitimer(signal.ITIMER_REAL, 0.06, 0.06)
    try:
        began = time.perf_counter()
        net.fit(X, y, 1, len(X))
        ended = time.perf_counter()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert any(began < moment < ended for moment in seen)
    other.fit(X, y, 1, len(X))
    np.testing.assert_equal(net.weights, other.weights)

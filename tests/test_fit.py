"""fit: its figures and callbacks, what interrupts it, and what may go on beside it."""

from __future__ import annotations

import copy
import io
import multiprocessing
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Callback, Dense, Network, StopTraining
from fastnn.callbacks import Progress


def sample(rows=12, features=4, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features)).astype(np.float32)
    return X, rng.integers(outputs, size=rows)


def classifier(backend="native", *, sizes=(4, 5, 3), **options):
    return Network(sizes, loss="cross_entropy", backend=backend, **{"seed": 0, **options})


# -- figures


def test_figures_of_an_epoch(backend):
    X, y = sample()
    weight = np.arange(12.0)
    validation = sample(rows=7, seed=1)
    net, other = classifier(backend), classifier(backend)
    history = net.fit(X, y, 2, 5, sample_weight=weight, validation_data=validation, shuffle=False)
    assert history is net.history
    assert history.epoch == [0, 1]
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    for epoch in history.epoch:
        losses, weights, hits = [], [], 0
        for batch in (slice(0, 5), slice(5, 10), slice(10, 12)):
            hits += (other.predict(X[batch]).argmax(axis=1) == y[batch]).sum()
            losses.append(other.train_step(X[batch], y[batch], weight[batch]))
            weights.append(weight[batch].sum())
        assert history["loss"][epoch] == pytest.approx(np.average(losses, weights=weights))
        assert history["accuracy"][epoch] == hits / 12
        judged = other.evaluate(*validation)
        assert history["val_loss"][epoch] == judged["loss"]
        assert history["val_accuracy"][epoch] == judged["accuracy"]
    np.testing.assert_equal(net.weights, other.weights)


def test_figures_of_a_regression(backend):
    X, _ = sample()
    net = Network([4, 1], backend=backend)
    assert list(net.fit(X, X[:, 0], validation_split=0.5).history) == ["loss", "val_loss"]


def test_validation_split_takes_the_last_rows(backend):
    X, y = sample()
    split = classifier(backend).fit(X, y, 2, 4, validation_split=0.25)
    given = classifier(backend).fit(X[:9], y[:9], 2, 4, validation_data=(X[9:], y[9:]))
    assert split.history == given.history


@pytest.mark.parametrize("part", [0.1, 0.3, 0.6, 0.7, 0.9])
def test_validation_split_is_not_cut_down_by_rounding(part):
    X, y = sample()
    last = -round(10 * part)
    split = classifier("numpy").fit(X[:10], y[:10], validation_split=part)
    given = classifier("numpy").fit(
        X[:10][:last], y[:10][:last], validation_data=(X[:10][last:], y[:10][last:])
    )
    assert split.history == given.history


def test_another_fit_goes_on(backend):
    X, y = sample()
    net, other = classifier(backend), classifier(backend)
    whole = net.fit(X, y, epochs=5, batch_size=5)
    parts = [other.fit(X, y, epochs=epochs, batch_size=5) for epochs in (2, 0, 3)]
    assert [len(part) for part in parts] == [2, 0, 3]
    assert parts[0]["loss"] + parts[2]["loss"] == whole["loss"]
    np.testing.assert_equal(net.weights, other.weights)


@pytest.mark.parametrize("bad", [[], [(np.zeros((1, 3)), [0])]], ids=["none", "bad"])
def test_batches_that_are_refused_leave_the_history(backend, bad):
    X, y = sample()
    net = classifier(backend)
    before = net.fit(X, y)
    with pytest.raises(ValueError, match="X "):
        net.fit(bad)
    assert net.history is before
    assert net.fit(X, y, epochs=2, resume=True) is before


def test_a_training_within_a_training_has_its_own_history(backend):
    class Nested(Callback):
        every_steps = 2

        def on_step(self, net, step):
            self.every_steps = None
            outer = net.history
            self.history = net.fit(X, y, epochs=1)
            assert net.history is outer

    X, y = sample()
    net, nested = classifier(backend), Nested()
    history = net.fit(X, y, epochs=3, batch_size=5, callbacks=[nested])
    assert net.history is history
    assert (history.epoch, nested.history.epoch) == ([0, 1, 2], [0])
    assert net.fit(X, y, epochs=4, batch_size=5, resume=True).epoch == [0, 1, 2, 3]


# -- callbacks


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_train_begin(self, net):
        self.events.append("begin")

    def on_epoch_begin(self, net, epoch):
        self.events.append(epoch)

    def on_epoch_end(self, net, epoch, logs):
        self.events.append((epoch, logs))

    def on_train_end(self, net, history):
        self.events.append(history)


class AtTheEndOf(Callback):
    """Raises an error at the end of an epoch."""

    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_epoch_end(self, net, epoch, logs):
        if epoch == self.epoch:
            raise self.error


def test_callbacks(backend):
    recorder = Recorder()
    history = classifier(backend).fit(*sample(), epochs=2, callbacks=[recorder])
    logs = [{name: history[name][epoch] for name in ("loss", "accuracy")} for epoch in (0, 1)]
    assert recorder.events == ["begin", 0, (0, logs[0]), 1, (1, logs[1]), history]


def test_a_callback_may_stop_the_training(backend):
    recorder = Recorder()
    callbacks = [AtTheEndOf(1, StopTraining()), recorder]
    history = classifier(backend).fit(*sample(), epochs=5, callbacks=callbacks)
    assert history.epoch == [0, 1]
    assert recorder.events[-1] is history


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_a_callback_may_fail(backend, error):
    X, y = sample()
    net, other = classifier(backend), classifier(backend)
    with pytest.raises(type(error)):
        net.fit(X, y, epochs=5, callbacks=[AtTheEndOf(1, error)])
    assert net.history.epoch == [0, 1]
    other.fit(X, y, epochs=2)
    assert net.fit(X, y).history == other.fit(X, y).history
    np.testing.assert_equal(net.weights, other.weights)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def assert_lines(text, history):
    pattern = r"Epoch {}/2  \d+\.\d\d s  loss {:.4f}  accuracy {:.4f}"
    lines = text.splitlines()
    for epoch, line in zip(history.epoch, lines, strict=True):
        figures = history["loss"][epoch], history["accuracy"][epoch]
        assert re.fullmatch(pattern.format(epoch + 1, *figures), line)


def test_lines(backend, capsys, monkeypatch):
    assert_lines("", classifier(backend).fit(*sample(), epochs=0, verbose=2))
    history = classifier(backend).fit(*sample(), epochs=2, verbose=2)
    assert_lines(capsys.readouterr().out, history)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    history = classifier(backend).fit(*sample(), epochs=2, verbose=1)
    assert_lines(capsys.readouterr().out, history)


def test_bars(backend, monkeypatch):
    pytest.importorskip("tqdm", reason="the bars are tqdm's: pip install 'fastnn[progress]'")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    history = classifier(backend).fit(*sample(), epochs=2, batch_size=5, verbose=1)
    bars = terminal.getvalue()
    for epoch in history.epoch:
        shown = f"loss={history['loss'][epoch]:.4f}, accuracy={history['accuracy'][epoch]:.4f}"
        assert re.search(rf"Epoch {epoch + 1}/2: 100%\|.* 3/3 .*{shown}", bars)


# -- interruptions

ROWS = 500_000  # of an epoch, in steps of one row: not over when the interruption comes


def long_epochs(backend):
    """A network, and a function that trains it on so many rows, step by step."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 8)), rng.normal(size=ROWS)
    net = Network([8, 16, 1], activation="tanh", backend=backend, seed=0)

    def fit(rows=ROWS, epochs=1, **options):
        net.fit(X[:rows], y[:rows], epochs, batch_size=1, shuffle=False, **options)

    return net, fit


class Interrupted(Progress):
    """What Ctrl-C does while the progress is shown."""

    def __init__(self, *args):
        self.tick = self.interrupt

    def interrupt(self, done):
        raise KeyboardInterrupt


@pytest.mark.parametrize("by_signal", [True, False])
def test_interruption(backend, by_signal, monkeypatch, interruptible):
    net, fit = long_epochs(backend)
    if by_signal:
        interruptible(lambda: net.steps > 0)
    else:
        monkeypatch.setattr(fastnn.network, "progress", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(epochs=10**6)
    monkeypatch.undo()

    steps, _ = net._backend.state()
    assert steps > 0
    # an epoch may have ended, but not have been noted down yet
    assert len(net.history) in (steps // ROWS, steps // ROWS - 1)
    other, fit_other = long_epochs(backend)
    fit_other(epochs=steps // ROWS)
    if steps % ROWS:
        fit_other(rows=steps % ROWS)
    np.testing.assert_equal(net.weights, other.weights)
    fit(rows=100)
    fit_other(rows=100)
    np.testing.assert_equal(net.weights, other.weights)


class Overflow(Callback):
    """Weights with which, after the first epoch, an input of ones leads to a loss above float32."""

    def on_epoch_end(self, net, epoch, logs):
        net.set_weights([(np.ones((2, 100)), np.zeros(100)), (np.full((100, 1), 3e17), [0])])


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(1e30, r"net\.weights\[1\] is no longer finite"), (1e-30, "all weights are still finite")],
)
def test_divergence(backend, rate, expected):
    # `step` lets no gradient through, so that layer 0 stays as it is
    net = Network([2, Dense(100, "step"), 1], optimizer=SGD(rate), backend=backend, seed=0)
    X, y = [[0, 0], [0, 0], [1, 1], [1, 1]], np.zeros(4)
    message = rf"the loss became inf at step 4 \(epoch 2, batch 2\), and {expected}"
    with pytest.raises(FloatingPointError, match=message):
        net.fit(X, y, epochs=5, batch_size=2, shuffle=False, callbacks=[Overflow()])
    assert net.history.epoch == [0]
    with pytest.raises(FloatingPointError, match=r"the loss became (inf|nan) at step 5, and"):
        net.train_step(X[2:], y[2:])


# -- beside it


def test_functions_cannot_write_to_what_they_are_given(backend):
    X, _ = sample()
    target = X[:, :1].copy()
    before = target.copy()

    def loss(y, out):
        y[...] = 0
        return ((out - y) ** 2).sum(axis=1), 2 * (out - y)

    def metric(y, out):
        y[...] = 0
        return 0.0

    for options, further in (({"loss": loss}, {}), ({}, {"metrics": [metric]})):
        net = Network([4, 1], backend=backend, seed=0, **options)
        with pytest.raises(ValueError, match="read-only"):
            net.fit(X, target, shuffle=False, **further)
        np.testing.assert_array_equal(target, before)


@pytest.mark.parametrize("batches", [False, True])
def test_class_weights_that_overflow(batches, backend):
    X, y = sample()
    net = classifier(backend)
    before = net.weights
    with pytest.raises(ValueError, match=r"class_weight must .*finite in float32; got 1e\+300"):
        net.fit(*([[(X, y)]] if batches else [X, y]), class_weight={0: 1e300})
    np.testing.assert_equal(net.weights, before)


def test_weights_whose_sum_overflows(backend):
    X, y = sample()
    expected = classifier(backend).gradients(X, y)
    loss, gradients = classifier(backend).gradients(X, y, np.full(12, 3e38))
    assert loss == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(gradients[0][0], expected[1][0][0], rtol=1e-4, atol=1e-7)


def test_the_core_guards_a_network_in_training(native, monkeypatch):
    X, y = sample()
    net = classifier(native)
    refused = []

    class Intruder(Progress):
        def __init__(self, *args):
            self.tick = self.intrude

        def intrude(self, done):
            for call in (net.evaluate, net.gradients, net.train_step, net.fit):
                refused.append(pool.submit(call, X, y).exception(timeout=30))
            refused.append(pool.submit(net.predict, X).exception(timeout=30))
            refused.append(pool.submit(lambda: net.weights).exception(timeout=30))
            refused.append(pool.submit(copy.deepcopy, net).exception(timeout=30))

    monkeypatch.setattr(fastnn.network, "progress", Intruder)
    with ThreadPoolExecutor(1) as pool:
        net.fit(X, y)
    assert [type(error) for error in refused] == [RuntimeError] * 7
    for error in refused:
        assert "another thread" in str(error)
    monkeypatch.undo()
    other = classifier(native)
    other.fit(X, y)
    np.testing.assert_equal(net.weights, other.weights)
    net.train_step(X, y)


def large_sample(rows=300):
    """Enough work in each batch of 100 for several threads."""
    return sample(rows, 64, 10)


def large(seed=0, width=128):
    return classifier(sizes=(64, width, width, 10), seed=seed)


def predict_in_threads():
    """Predictions of few rows and of more, all at once, by a network that made none before."""
    fastnn.set_num_threads(1)
    X, _ = large_sample()
    sizes = (8, 64) * 4
    together = threading.Barrier(len(sizes))

    def compare(net, rows):
        together.wait(30)
        for _ in range(20):
            np.testing.assert_array_equal(net.predict(X[:rows]), expected[rows])

    expected = {rows: large(width=256).predict(X[:rows]) for rows in sizes}
    with ThreadPoolExecutor(len(sizes)) as pool:
        for _ in range(60):
            list(pool.map(compare, [large(width=256)] * len(sizes), sizes))


def run_in_child(method, function, *arguments):
    """Run a function in a process of its own, which must end well, and soon."""
    process = multiprocessing.get_context(method).Process(target=function, args=arguments)
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail("the child process hangs")
    assert process.exitcode == 0


def test_threads_predict_at_once(native):
    run_in_child("spawn", predict_in_threads)  # which writing out of bounds may end


def trained(net):
    X, y = large_sample()
    net.fit(X, y, epochs=3, batch_size=100)
    return net


def test_threads_train_networks_of_their_own(native):
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(trained, [large(seed) for seed in range(8)]))
    for seed, net in enumerate(together):
        np.testing.assert_equal(net.weights, trained(large(seed)).weights)


def go_on(net, predicted, expected):
    np.testing.assert_array_equal(net.predict(large_sample()[0]), predicted)
    np.testing.assert_equal(trained(net).weights, expected.weights)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.usefixtures("threads")
def test_a_forked_child_goes_on(native):
    fastnn.set_num_threads(2)
    net = trained(large())
    parents = copy.deepcopy(net)
    predicted = parents.predict(large_sample()[0])
    run_in_child("fork", go_on, net, predicted, trained(parents))

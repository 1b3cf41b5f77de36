"""Callbacks: when each is called, and what each does."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import sys
import types

import numpy as np
import pytest
from conftest import import_torch

from fastnn import SGD, Adam, Callback, Dropout, Network, StopTraining
from fastnn.callbacks import (
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    ReduceLROnPlateau,
    TensorBoardLogger,
    TerminateOnNaN,
)
from fastnn.schedules import Cosine


def rows(n=40, outputs=3):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    return X, (X[:, 0] > 0) + (X[:, 1] > 0)


def network(backend="numpy", **options):
    options = {"loss": "cross_entropy", "seed": 0, **options}
    return Network([4, 5, 3], backend=backend, **options)


def told(callback, values, name="val_loss", net=None):
    """Tell a callback of epochs with these figures; return how many until it stops."""
    net = net or network()
    callback.on_train_begin(net)
    for epoch, value in enumerate(values):
        try:
            callback.on_epoch_end(net, epoch, {name: value})
        except StopTraining:
            return epoch + 1
    return None


# -- the protocol


class Log(Callback):
    def __init__(self, every_steps=None):
        self.every_steps = every_steps
        self.calls = []

    def on_train_begin(self, net):
        self.calls.append("begin")

    def on_epoch_begin(self, net, epoch):
        self.calls.append(f"epoch {epoch}")

    def on_step(self, net, step):
        assert net.steps == step
        self.calls.append(step)

    def on_epoch_end(self, net, epoch, logs):
        self.calls.append(f"end of {epoch}: {', '.join(logs)}")

    def on_train_end(self, net, history):
        self.calls.append("end")


def test_order_of_calls(backend):
    X, y = rows()
    log = Log(every_steps=3)
    network(backend).fit(X, y, epochs=2, batch_size=10, callbacks=[log])
    ends = "end of {}: loss, accuracy"
    assert log.calls == [
        "begin", "epoch 0", 3, ends.format(0), "epoch 1", 6, ends.format(1), "end"
    ]  # fmt: skip


@pytest.mark.parametrize("every", [1, 3, 4, 100])
def test_being_called_changes_nothing(backend, every):
    X, y = rows()
    plain, watched = network(backend), network(backend)
    expected = plain.fit(X, y, epochs=3, batch_size=9)
    history = watched.fit(X, y, epochs=3, batch_size=9, callbacks=[Log(every)])
    assert history.history == expected.history
    np.testing.assert_equal(plain.weights, watched.weights)


def test_called_every_so_many_seconds(backend):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20000, 50)), np.zeros(20000, int)
    plain, watched = (
        Network([50, 200, 3], loss="cross_entropy", backend=backend, seed=0) for _ in range(2)
    )
    log = Log()
    log.every_seconds = 1e-6  # at each opportunity, which comes every 50 ms
    plain.fit(X, y, batch_size=10)
    watched.fit(X, y, batch_size=10, callbacks=[log])
    assert sum(isinstance(call, int) for call in log.calls) >= 1
    np.testing.assert_array_equal(plain.weights[0][0], watched.weights[0][0])


def test_seconds_go_on_from_epoch_to_epoch(backend, training_clock):
    class Slow(Callback):
        every_seconds = 25
        epochs = ()

        def on_epoch_begin(self, net, epoch):
            self.epoch = epoch
            training_clock.now += 10

        def on_step(self, net, step):
            self.epochs += (self.epoch,)

    X, y = rows()
    slow = Slow()
    network(backend).fit(X, y, epochs=8, batch_size=10, callbacks=[slow])
    assert slow.epochs == (2, 5)


def test_stop_within_an_epoch(backend):
    class Stop(Callback):
        every_steps = 5

        def on_step(self, net, step):
            raise StopTraining

    X, y = rows()
    net, log = network(backend), Log()
    history = net.fit(X, y, epochs=9, batch_size=10, callbacks=[Stop(), log])
    assert (len(history), net.steps, log.calls[-1]) == (1, 5, "end")


def test_all_hear_of_the_last_epoch(backend):
    class Stop(Callback):
        def on_epoch_end(self, net, epoch, logs):
            raise StopTraining

    log = Log()
    X, y = rows()
    network(backend).fit(X, y, epochs=9, callbacks=[Stop(), log])
    assert log.calls[-2:] == ["end of 0: loss, accuracy", "end"]


def test_set_learning_rate_within_an_epoch(backend):
    class Set(Callback):
        every_steps = 2

        def on_step(self, net, step):
            net.learning_rate = 0.1 / step

    X, y = rows()
    net = network(backend, optimizer=SGD(0.1), dtype="float64")
    other = network(backend, optimizer=SGD(0.1), dtype="float64")
    net.fit(X, y, batch_size=10, shuffle=False, callbacks=[Set()])
    for batch, rate in enumerate([0.1, 0.1, 0.05, 0.05]):
        other.learning_rate = rate
        other.train_step(X[10 * batch :][:10], y[10 * batch :][:10])
    np.testing.assert_array_equal(net.weights[0][0], other.weights[0][0])


# -- stopping


@pytest.mark.parametrize(
    ("options", "values", "stops"),
    [
        ({"patience": 2}, [3, 2, 2.5, 2.1, 1], 4),
        ({"patience": 2}, [3, 2, 2.5, 1, 1.5, 1.5], 6),
        ({"patience": 1}, [3, 2, 1], None),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.6, 0], 3),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.4, 2.3, 2.2], 5),
        ({"patience": 2, "mode": "max"}, [1, 2, 1.5, 1.5, 3], 4),
        ({"patience": 2}, [3, math.nan, math.nan], 3),
        ({"patience": 1}, [math.inf], 1),
    ],
)
def test_early_stopping(options, values, stops):
    assert told(EarlyStopping(**options), values) == stops


def test_early_stopping_restores_the_best_weights(backend):
    class Weights(Callback):
        def __init__(self):
            self.after = []

        def on_epoch_end(self, net, epoch, logs):
            self.after.append(net.weights)

    X, y = rows()
    net, weights = network(backend, optimizer=SGD(2.0)), Weights()
    stopping = EarlyStopping("loss", 3, restore_best_weights=True)
    history = net.fit(X, y, epochs=200, callbacks=[weights, stopping])
    assert len(history) < 200
    best = int(np.argmin(history["loss"]))
    assert (stopping.best_epoch, stopping.best) == (best, min(history["loss"]))
    np.testing.assert_equal(net.weights, weights.after[best])


def test_early_stopping_can_be_used_again():
    stopping = EarlyStopping(patience=2)
    assert told(stopping, [1, 2, 2]) == told(stopping, [3, 4, 4]) == 3


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("val_loss", "min"),
        ("accuracy", "max"),
        ("val_roc_auc", "max"),
        ("mean_absolute_error", "min"),
        ("neg_log_loss", "max"),
        ("r2_score", "max"),
    ],
)
def test_mode_from_the_name(monitor, mode):
    assert EarlyStopping(monitor).mode == mode


def test_mode_of_all_of_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    losses = ("_loss", "_error", "_deviance")
    functions = [name for name in dir(metrics) if name.endswith(("_score", *losses))]
    assert "brier_score_loss" in functions
    for name in functions:
        falls = name.endswith(losses)
        assert EarlyStopping(f"val_{name}").mode == ("min" if falls else "max"), name
    for name in metrics.get_scorer_names():
        assert EarlyStopping(f"val_{name}").mode == "max", name


def test_terminate_on_nan(backend):
    X, y = rows()
    net = Network([4, 8, 1], optimizer=SGD(1e30), backend=backend, seed=0)
    with pytest.raises(FloatingPointError, match=r"(step [123]\b.*|after step [123]\b.*)") as error:
        net.fit(X, y, epochs=5, batch_size=4, callbacks=[TerminateOnNaN()])
    assert "net.weights[" in str(error.value)
    assert net.steps <= 3
    net = Network([4, 8, 1], optimizer=SGD(1e30), backend=backend, seed=0)
    with pytest.raises(FloatingPointError, match=r"at step [1-4] \(epoch 1, batch [1-4]\)"):
        net.fit(X, y, epochs=5, batch_size=4)
    assert net.steps == 10


def test_terminate_on_nan_names_the_layer():
    """Gradients run from the last layer to the first, so the last broken one was the first."""
    net = network()
    (W1, b1), (W2, b2) = net.weights
    W1[0, 0] = W2[0, 0] = np.inf
    net._backend.set_weights([(W1, b1), (W2, b2)])
    with pytest.raises(FloatingPointError, match=r"net.weights\[1\] .* after step 7"):
        TerminateOnNaN().on_step(net, 7)


class Enlarge(Callback):
    """Make a layer's weights so large, after a step, that its outputs overflow at the next."""

    def __init__(self, layer, after):
        self.layer, self.every_steps, self.done = layer, after, False

    def on_step(self, net, step):
        weights = net.weights
        if not self.done:
            W, b = weights[self.layer]
            weights[self.layer] = (np.full_like(W, 3e38), b)
        net.set_weights(weights)
        self.done = True


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("in_batches", [False, True])
def test_terminate_on_nan_finds_where_it_began(backend, layer, in_batches):
    X, y = rows()
    X, y = np.abs(X), y.astype(float)
    net = Network([4, 6, Dropout(0.1), 5, 1], activation="softplus", backend=backend, seed=0)
    rows_of = ([(X[i : i + 4], y[i : i + 4]) for i in range(0, 40, 4)],) if in_batches else (X, y)
    message = (
        r"the loss became (inf|nan) at step 4 \(epoch 1, batch 4\), and it began with the outputs"
        rf" of the layer of net\.weights\[{layer}\]"
    )
    with pytest.raises(FloatingPointError, match=message):
        net.fit(*rows_of, batch_size=4, callbacks=[Enlarge(layer, 3), TerminateOnNaN()])
    assert net.steps == 4


def test_terminate_on_nan_says_when_the_loss_overflows(backend):
    net = Network([4, 1], loss="poisson", backend=backend, seed=0)
    net.set_weights([(np.full((4, 1), 50.0), [0.0])])
    with pytest.raises(FloatingPointError, match=r"inf at step 1 .* all outputs were finite"):
        net.fit(np.ones((8, 4)), np.ones(8), callbacks=[TerminateOnNaN()])


def test_terminate_on_nan_that_looks_seldom_names_the_step(backend):
    X, y = rows()
    net = Network([4, 8, 1], optimizer=SGD(1e30), backend=backend, seed=0)
    with pytest.raises(FloatingPointError, match=r"at step [1-3] .*net.weights\[\d\] is no longer"):
        net.fit(X, y, batch_size=4, callbacks=[TerminateOnNaN(5)])
    assert net.steps == 5


# -- the learning rate


def test_reduce_on_plateau_as_pytorch_does():
    torch = import_torch()
    rng = np.random.default_rng(0)
    losses = (1 / np.arange(1, 60) + rng.uniform(0, 0.2, 59)).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=3, threshold=1e-3, threshold_mode="abs", min_lr=0.004
    )
    net = network(optimizer=SGD(0.1))
    ours = ReduceLROnPlateau(factor=0.5, patience=3, min_delta=1e-3, min_rate=0.004)
    ours.on_train_begin(net)
    for epoch, loss in enumerate(losses):
        theirs.step(loss)
        ours.on_epoch_end(net, epoch, {"val_loss": loss})
        assert net.learning_rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert net.learning_rate == 0.004


def test_reduce_on_plateau_in_fit(backend):
    X, y = rows()
    net = network(backend, optimizer=Adam(0.1))
    net.fit(X, y, epochs=5, callbacks=[ReduceLROnPlateau("loss", 0.5, 0, min_delta=100)])
    assert net.optimizer == Adam(0.1 * 0.5**4)


def test_reduce_on_plateau_needs_a_number():
    X, y = rows()
    with pytest.raises(TypeError, match="needs a number as the optimizer's learning_rate; got Cos"):
        network(optimizer=Adam(Cosine(0.1, 3))).fit(X, y, callbacks=[ReduceLROnPlateau("loss")])


# -- files


def test_checkpoint_after_each_epoch(backend, tmp_path):
    X, y = rows()
    net = network(backend)
    path = tmp_path / "net-{epoch:02d}-{loss:.3f}.safetensors"
    history = net.fit(X, y, epochs=4, callbacks=[Checkpoint(path, every_epochs=2)])
    expected = {f"net-{e:02d}-{history['loss'][e - 1]:.3f}.safetensors" for e in (2, 4)}
    assert {path.name for path in tmp_path.iterdir()} == expected
    last = Network.load(max(tmp_path.iterdir()), backend=backend)
    np.testing.assert_array_equal(last.predict(X), net.predict(X))
    assert last.history.history == history.history


def test_checkpoint_of_the_best_only(tmp_path):
    checkpoint = Checkpoint(tmp_path / "{epoch}", monitor="val_accuracy")
    told(checkpoint, [0.1, 0.3, 0.2, 0.3, 0.4], "val_accuracy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "5"]


def test_checkpoint_every_so_many_steps(backend, tmp_path):
    X, y = rows()
    checkpoint = Checkpoint(tmp_path / "{step}", every_epochs=None, every_steps=3)
    network(backend).fit(X, y, epochs=2, batch_size=10, callbacks=[checkpoint])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "6"]
    assert Network.load(tmp_path / "3", backend=backend).steps == 3


def test_checkpoint_of_the_best_and_of_steps(tmp_path):
    X, y = rows()
    checkpoint = Checkpoint(tmp_path / "{step:02d}", monitor="loss", every_steps=3)
    network(optimizer=SGD(1e-9)).fit(X, y, epochs=2, batch_size=10, callbacks=[checkpoint])
    assert {"03", "04", "06"} <= {path.name for path in tmp_path.iterdir()}


def test_checkpoint_counts_the_epochs_of_this_training(backend, tmp_path):
    X, y = rows()
    net = network(backend)
    net.fit(X, y, epochs=3, batch_size=10)
    checkpoint = Checkpoint(tmp_path / "{epoch}-{step}", every_steps=3)
    net.fit(X, y, epochs=2, batch_size=10, callbacks=[checkpoint])
    saved = sorted(path.name for path in tmp_path.iterdir())
    assert saved == ["0-15", "1-16", "1-18", "2-20"]


@pytest.mark.parametrize("epochs", [1, 3])
def test_csv_logger(epochs, tmp_path):
    X, y = rows()
    path = tmp_path / "log.csv"
    for _ in range(2):  # the second makes it anew
        history = network().fit(
            X, y, epochs=epochs, validation_split=0.5, callbacks=[CSVLogger(path)]
        )
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == [str(epoch + 1) for epoch in range(epochs)]
    for name, values in history.history.items():
        assert [float(row[name]) for row in table] == values


def test_tensorboard_logger(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs pip install tensorboardX")
    X, y = rows()
    network().fit(X, y, epochs=3, callbacks=[TensorBoardLogger(tmp_path)])
    (file,) = tmp_path.iterdir()
    recorded = file.read_bytes()
    for name in (b"loss", b"accuracy", b"learning_rate"):
        assert recorded.count(name) == 3


def test_tensorboard_logger_of_pytorch(monkeypatch, tmp_path):
    """Where there is no tensorboardX."""
    written = []

    class SummaryWriter:
        def __init__(self, directory):
            written.append(directory)

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def flush(self):
            written.append("flush")

        def close(self):
            written.append("close")

    theirs = types.ModuleType("torch.utils.tensorboard")
    theirs.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    for parent in ("torch", "torch.utils"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", theirs)
    X, y = rows()
    network().fit(X, y, epochs=2, callbacks=[TensorBoardLogger(tmp_path)])
    epochs = [[*((n, e) for n in ("loss", "accuracy", "learning_rate")), "flush"] for e in (1, 2)]
    assert written == [str(tmp_path), *epochs[0], *epochs[1], "close"]


def test_tensorboard_logger_says_what_to_install(monkeypatch):
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"fastnn\[tensorboard\]"):
        TensorBoardLogger("directory")


# -- displays


def test_lines_where_there_is_no_terminal(capsys):
    X, y = rows()
    network().fit(X, y, epochs=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["Epoch", "1/2"], ["Epoch", "2/2"]]
    assert "\r" not in "".join(lines)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch, backend):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    X, y = rows()
    network(backend).fit(X, y, epochs=2, batch_size=10, verbose=1)
    shown = terminal.getvalue()
    assert "Epoch 2/2: 100%" in shown
    assert "4/4" in shown
    assert "accuracy=" in shown


def test_a_bar_in_a_notebook(monkeypatch):
    tqdm = pytest.importorskip("tqdm.auto")
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    made = []
    monkeypatch.setattr(tqdm, "tqdm", lambda **options: made.append(options) or FakeBar())
    X, y = rows()
    network().fit(X, y, epochs=2, verbose=1)
    assert [bar["desc"] for bar in made] == ["Epoch 1/2", "Epoch 2/2"]


class FakeBar:
    n = 0

    def update(self, n):
        self.n += n

    def set_postfix(self, *args, **kwargs):
        pass

    def close(self):
        pass


def test_nothing_by_default(capsys):
    X, y = rows()
    network().fit(X, y)
    assert capsys.readouterr() == ("", "")


# -- bad input


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EarlyStopping("val_mystery"), ValueError, "mode must be 'min' or 'max' for"),
        (lambda: EarlyStopping(mode="lower"), ValueError, "mode must be one of auto, min, max"),
        (lambda: EarlyStopping(patience=0), ValueError, "patience must be an integer >= 1; got 0"),
        (lambda: EarlyStopping(min_delta=-1), ValueError, "min_delta must be"),
        (lambda: EarlyStopping(3), TypeError, "monitor must be the name of a figure; got 3"),
        (lambda: EarlyStopping(restore_best_weights=1), TypeError, "restore_best_weights must be"),
        (lambda: ReduceLROnPlateau(factor=1.0), ValueError, "factor must be"),
        (lambda: ReduceLROnPlateau(min_rate=-1), ValueError, "min_rate must be"),
        (lambda: Checkpoint("x", every_epochs=0), ValueError, "every_epochs must be"),
        (lambda: Checkpoint("x", every_steps=0), ValueError, "every_steps must be"),
        (lambda: Checkpoint("x", every_seconds=0), ValueError, "every_seconds must be"),
        (lambda: Checkpoint("x", every_epochs=None), ValueError, "must not all be None"),
        (lambda: Checkpoint(3), TypeError, "PathLike"),
        (lambda: Checkpoint("x", monitor="val_loss", every_steps=5), ValueError,
         r"path must hold \{step\} with monitor and every_steps .*; got 'x'"),
        (lambda: Checkpoint("{epoch}", monitor="val_loss", every_seconds=5), ValueError,
         r"path must hold \{step\}"),
        (lambda: TerminateOnNaN(0), ValueError, "every must be"),
    ],
)  # fmt: skip
def test_bad_parameters(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_figure_that_is_not_there():
    X, y = rows()
    with pytest.raises(ValueError, match="monitor must be one of loss, accuracy; got 'val_loss'; "):
        network().fit(X, y, callbacks=[EarlyStopping()])


def test_a_path_with_an_unknown_field(tmp_path):
    X, y = rows()
    message = (
        r"path may hold \{step\}, \{epoch\}, \{loss\}, \{accuracy\} here; got '.*\{val_loss\}'"
    )
    with pytest.raises(ValueError, match=message):
        network().fit(X, y, callbacks=[Checkpoint(tmp_path / "{val_loss}")])


@dataclasses.dataclass
class EachStep(Callback):
    """With ``__eq__``, and so without a hash."""

    every_steps: int | None = 1
    every_seconds: float | None = 1e-9
    calls: int = dataclasses.field(default=0, compare=False)

    def on_step(self, net, step):
        self.calls += 1


def test_callbacks_that_are_equal(backend):
    callbacks = [EachStep(), EachStep(every_steps=None), EachStep()]
    Network([2, 1], backend=backend).fit(np.ones((6, 2)), np.ones(6), 1, 2, callbacks=callbacks)
    assert [callback.calls for callback in callbacks] == [3, 3, 3]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [*(("every_steps", value) for value in (-1, 0, "a", 1.5)),
     *(("every_seconds", value) for value in (-1, 0, "a"))],
)  # fmt: skip
def test_periods_that_are_none(attribute, value, backend):
    net = Network([2, 1], backend=backend)
    with pytest.raises((TypeError, ValueError), match=rf"callbacks\[0\]\.{attribute} must be"):
        net.fit(np.ones((6, 2)), np.ones(6), callbacks=[EachStep(**{attribute: value})])


@pytest.mark.parametrize("path", ["{", "a}", "{epoch", b"model"])
def test_a_path_that_is_no_template(path):
    with pytest.raises((TypeError, ValueError), match=r"path must .*got"):
        Checkpoint(path)


@pytest.mark.parametrize("path", ["{}", "{loss.x}", "{loss:s}", "{mean}"])
def test_a_template_of_what_there_is_not(path, tmp_path, backend):
    net = Network([2, 1], backend=backend)
    with pytest.raises(ValueError, match=r"path may hold {step}, {epoch}, {loss} here; got"):
        net.fit(np.ones((6, 2)), np.ones(6), callbacks=[Checkpoint(tmp_path / path)])
    assert list(tmp_path.iterdir()) == []

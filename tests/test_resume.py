"""An interrupted training, resumed, ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from fastnn import (
    EMA,
    SWA,
    Adam,
    Callback,
    Checkpoint,
    Dropout,
    EarlyStopping,
    Network,
    StopTraining,
    serialization,
)
from fastnn.callbacks import CSVLogger, ReduceLROnPlateau
from fastnn.schedules import Cosine, OneCycle

EPOCHS = 4
STEPS_PER_EPOCH = 7


def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(65, 6))
    return X, (X[:, 0] + rng.normal(size=65) > 0).astype(int)


def network(backend, optimizer="adam"):
    return Network(
        [6, Dropout(0.1), 9, Dropout(0.3), 2],
        loss="cross_entropy",
        optimizer=optimizer,
        backend=backend,
        seed=5,
    )


def fit(net, *callbacks, **options):
    X, y = rows()
    return net.fit(
        X,
        y,
        validation_data=(X[:20], y[:20]),
        **{"epochs": EPOCHS, "batch_size": 10, "callbacks": callbacks, **options},
    )


def assert_same(one, other):
    """All that further training depends on is the same."""
    config, tensors = one._everything()
    other_config, other_tensors = other._everything()
    assert config == other_config
    assert tensors.keys() == other_tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, other_tensors[name], err_msg=name)
    assert (one.history and one.history.history) == (other.history and other.history.history)


class Interrupt(Callback):
    """Ctrl-C after a step, or at the end of an epoch."""

    def __init__(self, step=None, epoch=None):
        self.every_steps = step
        self.epoch = epoch

    def on_step(self, net, step):
        self.every_steps = None
        raise KeyboardInterrupt

    def on_epoch_end(self, net, epoch, logs):
        if epoch == self.epoch:
            self.epoch = None
            raise KeyboardInterrupt


@pytest.fixture(params=["none", "steps", "epochs"])
def optimizer(request):
    """An optimizer with and without schedules."""
    return {
        "none": Adam(0.01),
        "steps": Adam(OneCycle(0.1, EPOCHS * STEPS_PER_EPOCH, per="step")),
        "epochs": Adam(Cosine(0.1, EPOCHS)),
    }[request.param]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("step", [1, 6, 7, 8, 20, 27, 28])
def test_after_ctrl_c(backend, optimizer, step, shuffle):
    whole, parts = network(backend, optimizer), network(backend, optimizer)
    fit(whole, Interrupt(), shuffle=shuffle)
    with pytest.raises(KeyboardInterrupt):
        fit(parts, Interrupt(step), shuffle=shuffle)
    assert parts.steps == step
    fit(parts, Interrupt(), shuffle=shuffle, resume=True)
    assert_same(parts, whole)


def test_after_a_signal_in_the_middle_of_the_core(backend, interruptible):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30000, 100)).astype(np.float32), rng.integers(2, size=30000)
    whole, parts = (
        Network([100, 300, 2], loss="cross_entropy", backend=backend, seed=0) for _ in range(2)
    )
    epochs = {"native": 10, "numpy": 1}[backend]
    whole.fit(X, y, epochs, 30)
    interruptible(lambda: parts.steps > 0)
    with pytest.raises(KeyboardInterrupt):
        parts.fit(X, y, epochs, 30)
    assert 0 < parts.steps < 1000 * epochs
    parts.fit(X, y, epochs, 30, resume=True)
    assert_same(parts, whole)


@pytest.mark.parametrize("interrupt_first", [True, False])
def test_after_ctrl_c_between_callbacks(backend, interrupt_first):
    def callbacks(epoch=None):
        other = ReduceLROnPlateau("val_loss", 0.5, 0, min_delta=0.2)
        both = [Interrupt(epoch=epoch), other]
        return both if interrupt_first else both[::-1]

    whole, parts = network(backend), network(backend)
    fit(whole, *callbacks())
    assert whole.learning_rate < 0.001
    with pytest.raises(KeyboardInterrupt):
        fit(parts, *callbacks(epoch=2))
    fit(parts, *callbacks(), resume=True)
    assert_same(parts, whole)


def test_a_log_has_each_epoch_once(tmp_path):
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    fit(network("numpy"), CSVLogger(whole))
    net, callbacks = network("numpy"), [Interrupt(epoch=2), CSVLogger(parts)]
    with pytest.raises(KeyboardInterrupt):
        fit(net, *callbacks)
    fit(net, *callbacks, resume=True)
    assert parts.read_text() == whole.read_text()


def all_callbacks(tmp_path, name, **options):
    return [
        Checkpoint(tmp_path / f"{name}-{{step}}", **options),
        EarlyStopping("val_loss", 2, min_delta=0.02, restore_best_weights=True),
        ReduceLROnPlateau("val_loss", 0.5, 0),
        CSVLogger(tmp_path / f"{name}.csv"),
    ]


def test_from_each_checkpoint(backend, tmp_path):
    whole = network(backend, Adam(0.05))
    fit(whole, *all_callbacks(tmp_path, "whole", every_steps=1), epochs=12)
    assert len(whole.history) < 12  # stopped early
    expected = (tmp_path / "whole.csv").read_bytes()
    last = whole.steps
    for step in (1, 3, 7, 8, 14, 20, last):
        parts = Network.load(tmp_path / f"whole-{step}", backend=backend)
        assert parts.steps == step
        fit(parts, *all_callbacks(tmp_path, "parts", every_steps=1), epochs=12, resume=True)
        assert_same(parts, whole)
        assert (tmp_path / "parts.csv").read_bytes() == expected


def test_a_pickle_resumes(backend):
    whole, parts = network(backend), network(backend)
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(parts, Interrupt(10))
    parts = pickle.loads(pickle.dumps(parts))
    fit(parts, resume=True)
    assert_same(parts, whole)


def test_resume_from_the_start_and_from_the_end(backend):
    whole, parts = network(backend), network(backend)
    fit(whole)
    fit(parts, resume=True)
    assert_same(parts, whole)
    assert fit(parts, resume=True) is parts.history
    assert_same(parts, whole)


def test_resume_for_more_epochs(backend):
    whole, parts = network(backend), network(backend)
    fit(whole, epochs=6)
    fit(parts, epochs=2)
    fit(parts, epochs=6, resume=True)
    assert_same(parts, whole)
    assert parts.history.epoch == list(range(6))


def test_stopped_is_stopped(backend):
    class Stop(Callback):
        every_steps = 10

        def on_step(self, net, step):
            raise StopTraining

    net = network(backend)
    fit(net, Stop())
    assert (net.steps, len(fit(net, resume=True)), net.steps) == (10, 1, 10)
    fit(net, epochs=1)  # but not for ever
    assert net.steps == 10 + STEPS_PER_EPOCH


def test_without_resume_a_new_training_begins(backend):
    net = network(backend)
    with pytest.raises(KeyboardInterrupt):
        fit(net, Interrupt(10))
    assert len(fit(net, epochs=1)) == 1
    assert net.steps == 10 + STEPS_PER_EPOCH


def test_resume_refuses_another_training(backend):
    net = network(backend)
    with pytest.raises(KeyboardInterrupt):
        fit(net, EarlyStopping(), Interrupt(10))
    before = net.weights[0][0]
    with pytest.raises(ValueError, match=r"callbacks must be those .*EarlyStopping; got none"):
        fit(net, resume=True)
    for options in ({"batch_size": 5}, {"shuffle": False}):
        with pytest.raises(ValueError, match="must be resumed with the rows, batch_size and shuf"):
            fit(net, EarlyStopping(), resume=True, **options)
    with pytest.raises(TypeError, match="resume must be True or False; got 'yes'"):
        fit(net, resume="yes")
    np.testing.assert_array_equal(net.weights[0][0], before)


def test_other_figures_than_before(backend):
    """Epochs have nan for a figure that the others have."""
    X, y = rows()
    net = network(backend)
    net.fit(X, y, 2)
    fit(net, epochs=4, resume=True, batch_size=32)
    history = net.fit(X, y, 5, resume=True)
    np.testing.assert_array_equal(np.isnan(history["val_loss"]), [True, True, False, False, True])
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    ("change", "arrays"),
    [
        ({"generator": {"bit_generator": "PCG64"}}, {}),
        ({"generator": [1]}, {}),
        ({"figures": [1]}, {}),
        ({"states": [{}]}, {}),
        ({"batch": 2}, {}),
        ({}, {"batches": np.zeros(3)}),
        ({}, {"batches": np.zeros((2, 3))}),
        ({}, {"history.loss": np.zeros((1, 1))}),
        ({}, {"history.loss": np.zeros(2)}),
    ],
)
def test_a_file_that_no_training_leaves_behind(change, arrays, tmp_path):
    net = network("numpy")
    with pytest.raises(KeyboardInterrupt):
        fit(net, Interrupt(10))
    net.save(tmp_path / "model", include_optimizer=True)
    tensors, metadata = serialization.read(tmp_path / "model")
    config = json.loads(metadata["network"])
    config["training"] |= change
    tensors |= {f"training.{name}": array for name, array in arrays.items()}
    serialization.write(tmp_path / "model", tensors, metadata | {"network": json.dumps(config)})
    with pytest.raises(ValueError, match=r"path must be of a fastnn model; .* is damaged"):
        Network.load(tmp_path / "model")


@pytest.mark.parametrize("count", ["steps", "epochs"])
def test_a_file_of_more_steps_than_can_be_counted(count, tmp_path):
    net = network("numpy")
    fit(net)
    net.save(tmp_path / "model", include_optimizer=True)
    tensors, metadata = serialization.read(tmp_path / "model")
    config = json.loads(metadata["network"]) | {count: 2**63 - 1}
    serialization.write(tmp_path / "model", tensors, metadata | {"network": json.dumps(config)})
    with pytest.raises(ValueError, match=f"{count} must be an integer in"):
        Network.load(tmp_path / "model")


CHILD = """
    import os, sys
    import numpy as np
    import fastnn
    from fastnn.callbacks import Checkpoint, EarlyStopping, ReduceLROnPlateau

    path, backend = sys.argv[1:]
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 20)), rng.integers(3, size=4000)
    net = (
        fastnn.Network.load(path, backend=backend)
        if os.path.exists(path)
        else fastnn.Network([20, fastnn.Dropout(0.2), 40, 3], loss="cross_entropy",
                            backend=backend, seed=1)
    )
    callbacks = [
        Checkpoint(path, every_steps=None if backend == "native" else 50, every_seconds=0.02),
        EarlyStopping("loss", 50, restore_best_weights=True),
        ReduceLROnPlateau("loss", 0.9, 1, min_delta=0.01),
    ]
    net.fit(X, y, epochs={epochs}, batch_size=5, callbacks=callbacks, resume=True)
    net.save(path + ".end", include_optimizer=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_after_kill_9(backend, tmp_path):
    code = textwrap.dedent(CHILD.replace("{epochs}", "30" if backend == "native" else "6"))

    def start(name):
        return subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / name, backend],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    assert start("whole").wait(120) == 0
    kills = 0
    deadline = time.monotonic() + 120
    while True:
        child = start("parts")
        file = tmp_path / "parts"
        before = file.stat().st_mtime_ns if file.exists() else 0
        # Let it save a few times, and strike at whatever moment.
        seen = 0
        while child.poll() is None and seen < 3 + kills and time.monotonic() < deadline:
            now = file.stat().st_mtime_ns if file.exists() else 0
            seen, before = seen + (now != before), now
            time.sleep(0.001 * (kills + 1))
        if child.poll() is not None:
            break
        child.kill()
        assert child.wait() == -signal.SIGKILL
        kills += 1
        assert time.monotonic() < deadline
    assert child.returncode == 0
    assert kills >= 2
    one, other = (Network.load(tmp_path / f"{name}.end", backend) for name in ("parts", "whole"))
    assert_same(one, other)


@pytest.mark.parametrize("averaging", [EMA(0.9), SWA(5, per="step"), SWA(1)], ids=str)
def test_averages_resume(backend, averaging, tmp_path):
    whole, parts = (
        Network([6, 9, 2], loss="cross_entropy", averaging=averaging, backend=backend, seed=5)
        for _ in range(2)
    )
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(parts, Interrupt(10))
    parts.save(tmp_path / "net", include_optimizer=True)
    parts = Network.load(tmp_path / "net", backend)
    fit(parts, resume=True)
    assert_same(parts, whole)
    assert_same(parts.averaged(), whole.averaged())

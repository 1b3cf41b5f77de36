"""Averages of the weights: against the means of what the weights were, and as descriptions."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from conftest import import_torch

from fastnn import EMA, SWA, Adam, Callback, Dense, Dropout, Network, averaging

BY_STEPS = [EMA(), EMA(0.5), *(SWA(*at, per="step") for at in ((0,), (4,), (3, 4)))]
BY_EPOCHS = [SWA(0), SWA(1, 2)]
EACH_BY_STEPS = pytest.mark.parametrize("average", BY_STEPS, ids=repr)
EACH = pytest.mark.parametrize("average", [*BY_STEPS, *BY_EPOCHS], ids=repr)
LAYERS = (5, Dense(33, "tanh", max_norm=1.0), Dropout(0.2), Dense(7, "relu", use_bias=False), 2)


def problem(rows=24):
    rng = np.random.default_rng(1)
    return rng.normal(size=(rows, 5)), rng.normal(size=(rows, 2))


def network(average, backend, **options):
    options = {"optimizer": Adam(0.01), "seed": 0, **options}
    return Network(LAYERS, averaging=average, backend=backend, **options)


def arrays(net):
    return [a for pair in net.weights for a in pair if a is not None]


def assert_close(got, expected, dtype):
    """Some 20 roundings of weights of about 1."""
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@EACH_BY_STEPS
def test_is_the_mean_of_what_the_weights_were(average, clip_norm, backend, dtype):
    net = network(average, backend, dtype=dtype, optimizer=Adam(0.01, clip_norm=clip_norm))
    mean, snapshots = None, []
    for step in range(1, 18):
        net.train_step(*problem())
        now = [a.astype(np.float64) for a in arrays(net)]
        if isinstance(average, EMA):
            d = average.decay
            mean = [d * a + (1 - d) * b for a, b in zip(mean or now, now, strict=True)]
        elif step > average.start and (step - average.start) % average.every == 0:
            snapshots.append(now)
            mean = [sum(each) / len(snapshots) for each in zip(*snapshots, strict=True)]
        if mean is not None:
            assert_close(arrays(net.averaged()), mean, dtype)
    assert mean is not None


class Snapshots(Callback):
    def __init__(self):
        self.weights = []

    def on_epoch_end(self, net, epoch, logs):
        self.weights.append([a.astype(np.float64) for a in arrays(net)])


@pytest.mark.parametrize("every_steps", [None, 2])
@pytest.mark.parametrize("source", ["rows", "batches", "generator"])
@pytest.mark.parametrize(("average", "counted"), [(SWA(0), [0, 1, 2, 3, 4]), (SWA(1, 2), [2, 4])])
def test_is_the_mean_at_the_ends_of_epochs(average, counted, source, every_steps, backend, dtype):
    net, snapshots = network(average, backend, dtype=dtype), Snapshots()
    snapshots.every_steps = every_steps
    X, y = problem()
    batches = [(X[i : i + 7], y[i : i + 7]) for i in range(0, len(X), 7)]
    for epochs in (2, 3):  # in two calls
        if source == "rows":
            net.fit(X, y, epochs, 7, callbacks=[snapshots])
        elif source == "batches":
            net.fit(batches, epochs=epochs, callbacks=[snapshots])
        else:
            of_epochs = iter(batches * epochs)
            net.fit(of_epochs, epochs=epochs, steps_per_epoch=4, callbacks=[snapshots])
        net.train_step(X, y)  # which counts nothing
    means = [
        np.mean(each, 0) for each in zip(*(snapshots.weights[i] for i in counted), strict=True)
    ]
    assert_close(arrays(net.averaged()), means, dtype)


@EACH
def test_epochs_are_many_steps(average, backend):
    """However the steps are divided up into calls, the averages are the same bits."""
    X, y = problem(6)
    whole, parts = network(average, backend), network(average, backend)
    whole.fit(X, y, epochs=4, batch_size=1, shuffle=False)
    for epochs in (1, 3):
        parts.fit(X, y, epochs=epochs, batch_size=1, shuffle=False)
    np.testing.assert_equal(whole.averaged().weights, parts.averaged().weights)


@EACH
def test_native_like_reference(average, dtype, native):
    nets = [network(average, backend, dtype=dtype) for backend in (native, "numpy")]
    for net in nets:
        net.fit(*problem(), epochs=3, batch_size=7)
    averages = [arrays(net.averaged()) for net in nets]
    for a, b in zip(*averages, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=500 * np.finfo(dtype).eps)


@EACH
def test_the_number_of_threads_changes_no_bit(average, native, assert_same_with_threads):
    def averaged():
        layers = [64, Dense(128, "gelu", max_norm=1.0), 96, 10]
        net = Network(layers, averaging=average, optimizer=Adam(0.01), backend=native, seed=0)
        rng = np.random.default_rng(0)
        net.fit(rng.normal(size=(257, 64)), rng.normal(size=(257, 10)), epochs=3, batch_size=100)
        return net.averaged().weights

    assert_same_with_threads(averaged, 2, 3)


def test_changes_nothing_else(backend):
    with_average, without = network(EMA(0.9), backend), network(None, backend)
    histories = [
        net.fit(*problem(), epochs=3, batch_size=7).history for net in (with_average, without)
    ]
    assert histories[0] == histories[1]
    np.testing.assert_equal(with_average.weights, without.weights)


def test_like_torch():
    torch = import_torch()
    utils = torch.optim.swa_utils
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(12, 7))
    theirs = {
        EMA(0.8): utils.AveragedModel(
            torch.nn.Linear(7, 1, bias=False, dtype=torch.float64),
            multi_avg_fn=utils.get_ema_multi_avg_fn(0.8),
        ),
        SWA(0, per="step"): utils.AveragedModel(
            torch.nn.Linear(7, 1, bias=False, dtype=torch.float64)
        ),
    }
    for ours, model in theirs.items():
        mean = np.zeros(7)
        for weights, share in zip(steps, ours.shares(0, 12, 0, False), strict=True):
            source = torch.nn.Linear(7, 1, bias=False, dtype=torch.float64)
            source.weight.data[:] = torch.tensor(weights)
            model.update_parameters(source)
            mean += share * (weights - mean)
            expected = model.module.weight.detach().numpy()[0]
            np.testing.assert_allclose(mean, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("average", [EMA(0.9), SWA(2, per="step")], ids=repr)
class TestFiles:
    def test_goes_on_from_a_file(self, average, backend, tmp_path):
        X, y = problem()
        whole, saved = network(average, backend), network(average, backend)
        whole.fit(X, y, epochs=2, batch_size=6)
        whole.fit(X, y, epochs=3, batch_size=6)
        saved.fit(X, y, epochs=2, batch_size=6)
        saved.save(tmp_path / "net", include_optimizer=True)
        twins = [
            Network.load(tmp_path / "net", backend),
            copy.deepcopy(saved),
            pickle.loads(pickle.dumps(saved)),
        ]
        for twin in twins:
            assert twin.averaging == average
            twin.fit(X, y, epochs=3, batch_size=6)
            np.testing.assert_equal(twin.averaged().weights, whole.averaged().weights)

    def test_without_the_state_it_starts_anew(self, average, backend, tmp_path):
        net = network(average, backend)
        net.fit(*problem(), epochs=4, batch_size=6)
        net.save(tmp_path / "net")
        loaded = Network.load(tmp_path / "net", backend)
        assert loaded.averaging == average
        with pytest.raises(ValueError, match="averaging must be given"):
            loaded.averaged()

    def test_a_network_of_its_own(self, average, backend):
        net = network(average, backend)
        X, y = problem()
        net.fit(X, y, epochs=4, batch_size=6)
        averaged = net.averaged()
        assert averaged.averaging is None
        assert averaged.layers == net.layers
        before = averaged.predict(X)
        net.fit(X, y)
        np.testing.assert_array_equal(averaged.predict(X), before)
        averaged.fit(X, y)
        with pytest.raises(ValueError, match="averaging must be given"):
            averaged.averaged()


@EACH
def test_round_trips(average):
    assert eval(repr(average)) == average
    config = json.loads(json.dumps(average.get_config()))
    assert averaging.from_config(config) == average
    assert repr(average) in repr(network(average, "numpy"))


@pytest.mark.parametrize(
    ("error", "match", "make"),
    [
        (ValueError, "decay must be", lambda: EMA(1.0)),
        (TypeError, "decay must be", lambda: EMA("0.9")),
        (ValueError, "start must be", lambda: SWA(-1)),
        (TypeError, "start must be", lambda: SWA(0.5)),
        (ValueError, "every must be", lambda: SWA(0, 0)),
        (ValueError, "per must be one of epoch, step", lambda: SWA(0, per="batch")),
        (TypeError, "averaging must be fastnn.EMA", lambda: network("ema", "numpy")),
        (TypeError, "averaging must be fastnn.EMA", lambda: network(0.99, "numpy")),
        (ValueError, "averaging must be given.*None", lambda: network(None, "numpy").averaged()),
        (ValueError, "after 0 epochs and 0 steps", lambda: network(EMA(), "numpy").averaged()),
        (ValueError, "name of averaging", lambda: averaging.from_config({"name": "sma"})),
    ],
)
def test_refuses(error, match, make):
    with pytest.raises(error, match=match):
        make()


def test_before_it_starts_there_is_none(backend):
    net = network(SWA(3), backend)
    X, y = problem()
    net.fit(X, y, epochs=3, batch_size=24)
    net.train_step(X, y)
    with pytest.raises(ValueError, match=r"SWA\(start=3\) after 3 epochs and 4 steps"):
        net.averaged()
    net.fit(X, y, batch_size=24)
    np.testing.assert_equal(net.averaged().weights, net.weights)

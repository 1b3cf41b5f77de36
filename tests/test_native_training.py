"""What a training may be told, on the native backend against the reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fastnn
from fastnn import Adam, AdamW, Dense, Dropout, GaussianNoise, Network
from fastnn._random import gaussian
from fastnn.losses import (
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Focal,
    Huber,
    Quantile,
    SigmoidCrossEntropy,
    SigmoidFocal,
    SoftmaxCrossEntropy,
    SoftmaxFocal,
)
from fastnn.optimizers import OPTIMIZERS

_native = pytest.importorskip(
    "fastnn._native", reason="fastnn._native is not built", exc_type=ModuleNotFoundError
)
from fastnn.backends.native import NativeBackend  # noqa: E402

EACH_OPTIMIZER = pytest.mark.parametrize(
    "optimizer",
    [*(cls() for cls in OPTIMIZERS.values()), Adam(amsgrad=True), AdamW(amsgrad=True)],
    ids=repr,
)


@pytest.fixture(autouse=True, params=_native.available_isas())
def isa(request, monkeypatch):
    """Native networks use each instruction set in turn."""
    init = NativeBackend.__init__
    monkeypatch.setattr(
        NativeBackend, "__init__", lambda self, spec: init(self, spec, request.param)
    )


def pair(layers, **options):
    """The same network on both backends, first the native."""
    return [
        Network(layers, backend=backend, **{"seed": 0, **options})
        for backend in ("native", "numpy")
    ]


def problem(net, rows=33, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, net.n_features)), rng.uniform(size=(rows, net.n_outputs))


def assert_close(native, reference, steps):
    """Weights, and whatever else there is, differ by rounding only.

    A step adds roundings of a few eps to numbers of about 1: in its sums over at most a hundred
    terms, and where it divides by the root of squares.
    """
    tolerance = 100 * steps * float(np.finfo(native.dtype).eps)
    (_, slots), (_, expected) = (net._backend.state() for net in (native, reference))
    assert len(slots) == len(expected)
    for mine, its in zip([native.weights, *slots], [reference.weights, *expected], strict=True):
        for (W, b), (V, c) in zip(mine, its, strict=True):
            np.testing.assert_allclose(W, V, rtol=0, atol=tolerance * max(1, np.abs(V).max()))
            np.testing.assert_allclose(b, c, rtol=0, atol=tolerance * max(1, np.abs(c).max()))


@EACH_OPTIMIZER
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("clip_norm", "clip_value"), [(None, None), (None, 0.01), (0.02, 0.01)])
def test_optimizers(optimizer, clip_norm, clip_value, weight_decay, dtype):
    optimizer = dataclasses.replace(
        optimizer, clip_norm=clip_norm, clip_value=clip_value, weight_decay=weight_decay
    )
    nets = pair(
        [9, Dense(20, "tanh", l1=0.001), Dense(6, l2=0.01)], optimizer=optimizer, dtype=dtype
    )
    X, y = problem(nets[0])
    for _ in range(7):
        losses = [net.train_step(X, y) for net in nets]
        assert losses[0] == pytest.approx(losses[1], rel=100 * float(np.finfo(dtype).eps) * 7)
    assert_close(*nets, 7)


def test_gradients_are_not_clipped():
    plain, clipped = (
        Network([9, 6], optimizer=Adam(clip_value=clip), seed=0) for clip in (None, 1e-3)
    )
    X, y = problem(plain)
    clipped.train_step(X, y)
    clipped.set_weights(plain.weights)
    np.testing.assert_equal(plain.gradients(X, y)[1], clipped.gradients(X, y)[1])


def test_nadam_far_on():
    """Its momentums' product, of all steps since the first, is the same wherever a run begins."""
    nets = pair([3, 2], optimizer=fastnn.NAdam(0.01, 0.99), dtype="float64")
    X, y = problem(nets[0], 8)
    for steps in (0, 3, 250, 5000, 10**6):
        for net in nets:
            net._backend.set_state(steps, [])
            net.fit(X, y, epochs=2, batch_size=3, shuffle=False)
        assert_close(*nets, 50)


@EACH_OPTIMIZER
def test_the_number_of_threads_changes_no_bit(optimizer, assert_same_with_threads):
    def weights():
        net = Network(
            [64, Dense(128, "tanh", l1=1e-4), 96, 10],
            optimizer=dataclasses.replace(optimizer, clip_value=1e-3),
            seed=0,
        )
        net.fit(*problem(net, 257), epochs=2, batch_size=100)
        return net.weights

    assert_same_with_threads(weights, 2, 3)


@pytest.mark.parametrize("units", [2, 6, 40])
@pytest.mark.parametrize(
    "loss",
    [
        Huber(0.25),
        Quantile([0.2, 0.7]),
        CrossEntropy(0.1),
        BinaryCrossEntropy(0.1),
        SoftmaxCrossEntropy(0.1),
        SigmoidCrossEntropy(0.1),
        Focal(0.5),
        SoftmaxFocal(3.0),
        BinaryFocal(0.5),
        SigmoidFocal(3.0),
    ],
    ids=repr,
)
def test_losses(loss, units, dtype):
    nets = pair([9, Dense(20, "tanh"), units], loss=loss, dtype=dtype)
    X, y = problem(nets[0])
    targets = [y[:, ::2] if isinstance(loss, Quantile) else y]
    if "softmax" in loss.name or loss.name in ("focal", "cross_entropy"):
        targets.append(y.argmax(axis=1))
    tolerance = 200 * float(np.finfo(dtype).eps)  # for the sums, and for 1 - p where p is about 1
    for t in targets:
        for weight in (None, np.arange(33)):
            mine, its = (net.evaluate(X, t, weight) for net in nets)
            assert mine == pytest.approx(its, rel=tolerance)
            (mine, gradients), (its, expected) = (net.gradients(X, t, weight) for net in nets)
            assert mine == pytest.approx(its, rel=tolerance)
            for (dW, db), (dV, dc) in zip(gradients, expected, strict=True):
                np.testing.assert_allclose(dW, dV, rtol=0, atol=tolerance * np.abs(dV).max())
                np.testing.assert_allclose(db, dc, rtol=0, atol=tolerance * np.abs(dV).max())


@pytest.mark.parametrize("step", [0, 1, 2**31, 2**32 + 7])
def test_noise(step, dtype):
    """Seen in the gradient of W, which is the noise, where each output has to learn one row's."""
    rows = 16
    for columns in (1, 3, 16, 33, 70):
        net = Network([columns, GaussianNoise(0.3), rows], dtype=dtype, seed=2**40)
        net.set_weights([(np.zeros((columns, rows)), np.zeros(rows))])
        target = (-np.eye(rows) * rows * rows / 2).astype(dtype)
        X = np.zeros((rows, columns), dtype)
        _, [(dW, _)] = net._backend.gradients(X, target, None, step)
        expected = gaussian(net._spec.seed, step, 0, X.shape, 0.3, X.dtype)
        # An angle of up to half a turn is rounded to eps of it, and so is the radius.
        tolerance = 4 * np.pi * np.finfo(dtype).eps
        np.testing.assert_allclose(dW.T, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus", "gelu"])
def test_noise_between_layers(activation, dtype):
    """The slope of what is disturbed is that of what it was."""
    layers = [
        11,
        GaussianNoise(0.5),
        Dense(35, activation),
        GaussianNoise(0.25),
        Dropout(0.3),
        Dense(20, "tanh"),
        GaussianNoise(0.1),
        3,
    ]
    nets = pair(layers, optimizer=Adam(0.01), dtype=dtype)
    X, y = problem(nets[0], 50)
    histories = [net.fit(X, y, epochs=2, batch_size=20).history["loss"] for net in nets]
    tolerance = 300 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(*histories, rtol=tolerance)
    assert_close(*nets, 6)


@pytest.mark.parametrize(
    "layers",
    [
        [784, 100, 100, 10],
        [784, Dense(100, l2=1e-3), 10],  # the penalty is summed over blocks
        [130, Dropout(0.2), Dense(300, "gelu"), Dropout(0.3), 5],
        [33, GaussianNoise(0.1), Dense(700, "tanh", max_norm=1.0), 3],
        [300, 65],  # as one layer alone
        [5000, 33],  # fewer panels than threads
    ],
    ids=str,
)
def test_a_large_first_layer_with_any_number_of_threads(layers, dtype, assert_same_with_threads):
    """Threads share its units instead of the rows; whole panels of them or parts."""

    def weights_and_gradients():
        net = Network(layers, optimizer=Adam(0.01), dtype=dtype, seed=0)
        X, y = problem(net, 130)
        net.fit(X, y, epochs=2, batch_size=61)  # the last batch is short
        return net.weights, net.gradients(X, y)[1]

    assert_same_with_threads(weights_and_gradients, 2, 3, 5)


def unused(pattern, n):
    """Which of n inputs are zero in all rows."""
    rng = np.random.default_rng(n)
    return {
        "none": np.zeros(n, bool),
        "all": np.ones(n, bool),
        "runs": np.arange(n) // 6 % 3 == 0,
        "every other": np.arange(n) % 2 == 0,
        "any": rng.random(n) < 0.5,
    }[pattern]


@pytest.mark.parametrize("pattern", ["none", "all", "runs", "every other", "any"])
@pytest.mark.parametrize(
    "layers",
    [[257, 64, 3], [131, Dense(100, "tanh"), 10], [784, 70, 10], [1030, 16, 2]],
    ids=str,
)
def test_inputs_that_are_zero_in_all_rows(layers, pattern, dtype, assert_same_with_threads):
    """They change nothing: as if they and their weights were not there, to the last bit."""
    zero = unused(pattern, layers[0])
    X, y = problem(Network(layers, seed=0), 130)
    X[:, zero] = np.where(X[:, zero] > 0, 0.0, -0.0)
    (start, bias), *rest = Network(layers, dtype=dtype, seed=0).weights

    def trained(columns):
        net = Network([columns.sum(), *layers[1:]], optimizer=Adam(0.01), dtype=dtype, seed=0)
        net.set_weights([(start[columns], bias), *rest])
        net.fit(X[:, columns], y, epochs=2, batch_size=61)
        return net, X[:, columns]

    def figures(net, X):
        (W, *others), *layers = net.weights
        gradients = net.gradients(X, y)[1]
        return W, others, layers, gradients[1:], net.predict(X), net.evaluate(X, y)

    def with_all():
        return figures(*trained(np.ones_like(zero)))

    assert_same_with_threads(with_all, 2, 3)
    W, *expected = with_all()
    np.testing.assert_array_equal(W[zero], start[zero])
    if not zero.all():
        fewer, *got = figures(*trained(~zero))
        np.testing.assert_array_equal(fewer, W[~zero])
        np.testing.assert_equal(got, expected)


# So many rows that threads make the gradients of parts of each batch.
SMALL = {
    "narrow": [12, Dense(100, "tanh", l2=1e-3), 2],
    "deep": [20, GaussianNoise(0.1), Dense(64, "gelu"), Dropout(0.2), Dense(40, "relu"), 17],
    "bounded": [33, Dense(64, "tanh", max_norm=0.8), Dense(3)],
}


@pytest.mark.parametrize("layers", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("clip_norm", [None, 0.02])
def test_a_small_network_with_any_number_of_threads(
    layers, clip_norm, dtype, assert_same_with_threads
):
    def results():
        optimizer = Adam(0.01, clip_norm=clip_norm, clip_value=0.05)
        net = Network(layers, optimizer=optimizer, dtype=dtype, averaging=fastnn.EMA(0.9), seed=0)
        X, y = problem(net, 1000)
        weight = np.linspace(0, 1, len(X))
        history = net.fit(X, y, epochs=4, batch_size=300, sample_weight=weight)
        net.fit(X, y, epochs=2, batch_size=100)  # so few rows that there are no parts
        return net.weights, net.averaged().weights, net._backend.state(), history["loss"]

    assert_same_with_threads(results, 2, 3, 5)


@pytest.mark.parametrize("layers", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("clip_norm", [None, 0.02])
def test_a_small_network_in_parts(layers, clip_norm, dtype):
    nets = pair(layers, optimizer=fastnn.SGD(0.05, momentum=0.9, clip_norm=clip_norm), dtype=dtype)
    X, y = problem(nets[0], 900)
    for net in nets:
        net.fit(X, y, epochs=3, batch_size=400)
    assert_close(*nets, 9)


def test_a_small_network_by_single_steps():
    fitted, stepped = (Network(SMALL["narrow"], optimizer=Adam(0.01), seed=0) for _ in range(2))
    X, y = problem(fitted, 1000)
    fitted.fit(X, y, epochs=1, batch_size=300, shuffle=False)
    for first in range(0, len(X), 300):
        stepped.train_step(X[first : first + 300], y[first : first + 300])
    np.testing.assert_equal(fitted.weights, stepped.weights)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("units", [1, 2, 3, 7, 8, 9, 15, 16, 17])
def test_rows_and_outputs_about_a_vector(loss, units, dtype):
    """A loss takes as many rows at a time as a vector has lanes, if there are no more outputs."""
    last = {"mse": "identity", "cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}[loss]
    nets = pair([5, Dense(units, last)], loss=loss, dtype=dtype)
    for rows in (1, 2, 7, 8, 9, 15, 16, 17, 33):
        X, y = problem(nets[0], rows)
        if loss == "cross_entropy":
            y = y.argmax(axis=1)
        elif loss == "binary_cross_entropy":
            y = y.round()
        weight = np.linspace(0.5, 1, rows)
        (value, gradients), (expected, theirs) = (net.gradients(X, y, weight) for net in nets)
        tolerance = 50 * float(np.finfo(dtype).eps)
        assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)
        for mine, its in zip(gradients, theirs, strict=True):
            for array, other in zip(mine, its, strict=True):
                np.testing.assert_allclose(array, other, rtol=tolerance, atol=4 * tolerance)
        mine, its = (net.evaluate(X, y) for net in nets)
        assert mine.get("accuracy") == its.get("accuracy")


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_max_norm(clip_norm, dtype):
    layers = [9, Dense(70, "tanh", max_norm=0.8), Dense(33, "tanh"), Dense(6, max_norm=0.25)]
    nets = pair(layers, optimizer=Adam(0.05, clip_norm=clip_norm), dtype=dtype)
    X, y = problem(nets[0])
    for _ in range(6):
        losses = [net.train_step(X, y) for net in nets]
        # the gradient passed on by the last layer is that of its bounded weights
        assert losses[0] == pytest.approx(losses[1], rel=600 * float(np.finfo(dtype).eps))
    assert_close(*nets, 6)
    for W, _ in nets[0].weights[::2]:
        norms = np.linalg.norm(W.astype(np.float64), axis=0)
        bound = 0.8 if len(W) == 9 else 0.25
        assert norms.max() == pytest.approx(bound, rel=20 * float(np.finfo(dtype).eps))


def test_noise_and_max_norm_with_any_number_of_threads(assert_same_with_threads):
    def weights():
        layers = [64, GaussianNoise(0.1), Dense(128, "gelu", max_norm=1.0), GaussianNoise(0.1)]
        net = Network([*layers, Dense(96, max_norm=0.5), 10], optimizer=Adam(0.01), seed=0)
        net.fit(*problem(net, 257), epochs=2, batch_size=100)
        return net.weights

    assert_same_with_threads(weights, 2, 3)


class OwnFormula(fastnn.SGD):
    def apply(self, param, grad, slots, step, rate):
        param[...] = 0


class MoreState(Adam):
    slots = 8


class AnyCode(fastnn.SGD):
    code = 1000


@pytest.mark.parametrize("kind", [OwnFormula, MoreState, AnyCode])
def test_an_optimizer_that_the_core_does_not_know(kind):
    X, y = np.ones((3, 2)), np.ones((3, 1))
    net = Network([2, 1], optimizer=kind(0.1), backend="native", seed=0)
    before = net.weights
    for call in (net.fit, net.train_step):
        with pytest.raises(TypeError, match=f'optimizer must .*got {kind.__name__}.*"numpy"'):
            call(X, y)
    np.testing.assert_equal(net.weights, before)
    with pytest.raises(ValueError, match="at most 3, got 4"):
        net._backend.core.set_state(0, [before] * 4)


def test_what_does_not_fit_changes_nothing():
    net = Network([2, 3, 1], optimizer=Adam(), averaging=fastnn.EMA(0.9), backend="native", seed=0)
    net.fit(np.ones((3, 2)), np.ones((3, 1)))
    core = net._backend.core
    state, average = core.state(), core.average()
    zeros = [(0 * W, 0 * b) for W, b in net.weights]
    for change in (
        lambda: core.set_state(5, [zeros, zeros[:1]]),
        lambda: core.set_average(zeros[:1]),
    ):
        with pytest.raises(ValueError, match="expected 2 pairs"):
            change()
    np.testing.assert_equal(core.state(), state)
    np.testing.assert_equal(core.average(), average)
    X, y = np.ones((3, 2), np.float32), np.ones((3, 1), np.float32)
    with pytest.raises(TypeError, match="order: expected"):
        core.train(X, y, None, np.arange(3), 3, (0, 0, (0.0,) * 5, None, None), np.ones(1),
                   np.empty(1), np.empty(1, np.int64), None)  # fmt: skip


@pytest.mark.parametrize("classes", [3, 16, 40])
@pytest.mark.parametrize("where", [0, 2])
def test_outputs_that_are_not_numbers_are_never_right(classes, where):
    net = Network([2, classes], loss="cross_entropy", backend="native", seed=0)
    (W, b), rows = net.weights[0], 5
    b[where] = np.nan
    net._backend.set_weights([(W, b)])
    X, labels = np.ones((rows, 2), np.float32), np.full(rows, where, np.int32)
    for target in (labels, np.eye(classes, dtype=np.float32)[labels]):
        assert net._backend.loss(X, target, None)[1] == 0

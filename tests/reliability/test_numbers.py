"""Extreme numbers: finite where mathematics says finite, else an error that names the place."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import SGD, Adam, Dense, Network
from fastnn.activations import ACTIVATIONS
from fastnn.losses import LOSSES
from fastnn.optimizers import OPTIMIZERS

CLASSES = ["cross_entropy", "softmax_cross_entropy", "focal", "softmax_focal"]
YES_NO = ["binary_cross_entropy", "sigmoid_cross_entropy", "binary_focal", "sigmoid_focal"]


def all_finite(net):
    return all(np.isfinite(array).all() for pair in net.weights for array in pair)


@pytest.mark.parametrize("loss", CLASSES + YES_NO)
@pytest.mark.parametrize("size", [1e30, -1e30, 88.8, 104.0, 745.0, 1e-40])
def test_logits(loss, size, backend, dtype):
    """The probabilities, the loss and what follows back are finite whatever the logits are."""
    net = Network([1, 3], loss=loss, optimizer=SGD(1e-3), backend=backend, dtype=dtype, seed=0)
    net.set_weights([([[1.0, 0.0, -1.0]], np.zeros(3))])
    X = np.full((4, 1), size)
    y = [0, 1, 2, 0] if loss in CLASSES else np.eye(3)[[0, 1, 2, 0]]
    outputs = net.predict(X)
    assert np.isfinite(outputs).all()
    if net.layers[-1].activation == "softmax":
        np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(net.evaluate(X, y)["loss"])
    _, [(dW, db)] = net.gradients(X, y)
    assert np.isfinite(dW).all()
    assert np.isfinite(db).all()
    if abs(size) < 1e10:
        net.train_step(X, y)
        assert all_finite(net)


def problem(kind):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    if kind == "denormal":
        X = X * 1e-40
    elif kind == "all equal":
        X[:] = 0.25
    elif kind == "zeros":
        X[:] = 0
    elif kind == "one row":
        X, y = X[:1], y[:1]
    elif kind == "one feature":
        X = X[:, :1]
    elif kind == "constant target":
        y[:] = 3
    elif kind == "column without variance":
        X[:, 1] = 7
    elif kind == "rows that count nothing":
        return X, y, np.zeros(20)
    return X, y, None


KINDS = [
    *("denormal", "all equal", "zeros", "one row", "one feature", "constant target"),
    *("column without variance", "rows that count nothing"),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_data(kind, optimizer, backend, dtype):
    X, y, weight = problem(kind)
    net = Network(
        [X.shape[1], Dense(5, "tanh"), 2], optimizer=optimizer, dtype=dtype, backend=backend, seed=0
    )
    history = net.fit(X, y, 5, 7, sample_weight=weight)
    assert np.isfinite(history.history["loss"]).all()
    assert all_finite(net)
    assert np.isfinite(net.predict(X)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_degenerate_data_with_each_loss(loss, kind, backend):
    X, y, weight = problem(kind)
    if loss in CLASSES:
        y = np.zeros(len(X), int)  # one class only
    elif loss in YES_NO:
        y = np.ones_like(y)
    elif loss in ("poisson", "gamma"):
        y = np.abs(y) + 0.1
    net = Network([X.shape[1], 5, 2], loss=loss, backend=backend, seed=0)
    history = net.fit(X, y, 5, 7, sample_weight=weight)
    assert np.isfinite(history.history["loss"]).all()
    assert all_finite(net)


def test_one_class_with_one_output_each_way(backend):
    for labels in (np.zeros(9), np.ones(9)):
        net = Network([2, 4, 1], loss="binary_cross_entropy", backend=backend, seed=0)
        net.fit(np.ones((9, 2)), labels, 200, 9)
        assert np.isfinite(net.predict(np.ones((1, 2)))).all()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("size", [1e30, -1e30, 1e-42])
def test_activations_of_anything(activation, size, backend, dtype):
    last = Dense(2, activation)
    net = Network([2, last], loss="mse", backend=backend, dtype=dtype, seed=0)
    net.set_weights([(np.eye(2), np.zeros(2))])
    X = np.array([[size, size], [0, size], [size, 0]])
    assert np.isfinite(net.predict(X)).all()


# -- beyond the finite numbers


@pytest.mark.parametrize("rows", [1, 3, 500])
def test_outputs_that_overflow(rows, backend):
    net = Network([4, Dense(6, "tanh"), Dense(5, "identity"), 2], backend=backend, seed=0)
    weights = net.weights
    weights[0] = (np.ones((4, 6)), np.zeros(6))  # so that sums overflow in any order
    weights[1] = (np.full((6, 5), 3e38), np.zeros(5))
    net.set_weights(weights)
    X = np.zeros((rows, 4))
    assert np.isfinite(net.predict(X)).all()
    X[-1] = 100
    place = rf"of layer 1 are not: got .* at row {rows - 1}, unit 0"
    with pytest.raises(FloatingPointError, match=f"outputs must be finite; .*{place}"):
        net.predict(X)
    with pytest.raises(FloatingPointError, match=f"outputs must be finite; .*{place}"):
        net.predict(X.astype(np.float32), np.empty((rows, 2), np.float32))
    y = np.zeros((rows, 2))
    with pytest.raises(FloatingPointError, match=f"the loss must be finite; .*{place}"):
        net.evaluate(X, y)
    with pytest.raises(FloatingPointError, match=rf"gradients of layer \d must be .*{place}"):
        net.gradients(X, y)
    with pytest.raises(FloatingPointError, match=r"the loss became (inf|nan) at step 1, and net"):
        net.train_step(X, y)


@pytest.mark.parametrize("optimizer", [SGD(1e30), Adam(1e38), SGD(1e20, clip_norm=1.0)], ids=repr)
def test_huge_rates(optimizer, backend):
    """Either all stays finite, or there is an error that says at which step."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 3)), rng.normal(size=(64, 1))
    net = Network([3, 8, 1], optimizer=optimizer, backend=backend, seed=0)
    with pytest.raises(FloatingPointError, match=r"at step \d+ \(epoch \d+, batch \d+\)"):
        net.fit(X, y, 50, 8)


def test_the_last_step_of_all(backend):
    """Nothing comes after it that would notice."""
    net = Network([1, 1], optimizer=SGD(1e38), backend=backend, seed=0)
    net.set_weights([([[1.0]], [0.0])])
    with pytest.raises(FloatingPointError, match=r"net\.weights\[0\] is no longer .* after step 1"):
        net.fit([[1e3]], [[-1e6]])
    assert net.steps == 1


def test_validation_rows_that_overflow(backend):
    net = Network([1, Dense(4, "identity"), 1], backend=backend, optimizer=SGD(1e-9), seed=0)
    with pytest.warns(RuntimeWarning, match=r"val_loss became (inf|nan) in epoch 1, while"):
        history = net.fit([[1.0]], [[1.0]], validation_data=([[1e30]], [[0.0]]))
    assert np.isfinite(history.history["loss"]).all()

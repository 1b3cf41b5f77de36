"""The native backend against the reference: the same start, the same data, the same numbers."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn
from fastnn import SGD, AdaGrad, Adam, AdamW, Dense, Dropout, Network, RMSProp
from fastnn._random import dropout_mask
from fastnn.activations import ACTIVATIONS
from fastnn.losses import LOSSES

_native = pytest.importorskip(
    "fastnn._native", reason="fastnn._native is not built", exc_type=ModuleNotFoundError
)
from fastnn.backends.native import NativeBackend  # noqa: E402

# About the sizes of vectors, tiles and panels, and above those of blocks of rows.
WIDTHS = (1, 2, 7, 13, 14, 15, 16, 17, 31, 32, 33, 100, 257)
BATCHES = (1, 2, 7, 13, 14, 15, 16, 17, 31, 32, 33, 100, 257, 300, 1100)


@pytest.fixture(params=_native.available_isas())
def isa(request, monkeypatch):
    """Native networks use each instruction set in turn."""
    init = NativeBackend.__init__
    monkeypatch.setattr(
        NativeBackend, "__init__", lambda self, spec: init(self, spec, request.param)
    )


EACH_ISA = pytest.mark.usefixtures("isa")


def pair(layers, **options):
    """The same network on both backends, first the native."""
    native = Network(layers, backend="native", **{"seed": 0, **options})
    reference = Network(layers, backend="numpy", **{"seed": 0, **options})
    return native, reference


def grid(rng, shape, step):
    """Multiples of a step up to 16 of them.

    Sums of products of such numbers are exact, so that rounding does not decide on which side of a
    kink a value lies.
    """
    return rng.integers(-16, 17, shape) * step


def problem(net, rows, *, labels=False):
    """Rows and targets that suit the network's loss."""
    rng = np.random.default_rng(1)
    kind, shape = LOSSES[net.loss].kind, (rows, net.n_outputs)
    X = grid(rng, (rows, net.n_features), 1 / 8)
    if kind == "regression":
        y = rng.normal(size=shape)
        return X, y if LOSSES[net.loss].sign == "any" else np.abs(y)
    if kind == "categorical" and labels:
        return X, rng.integers(net.n_outputs, size=rows)
    return X, rng.uniform(size=shape)


def tolerance(net, rows):
    """What rounding may do to outputs and gradients, as a part of the largest of their layer.

    They come of a chain of sums, over the inputs of each layer, then over its outputs, then over
    the batch; and in both backends each of these may be wrong by an epsilon for each of its terms.
    """
    terms = sum(sum(W.shape) for W, _ in net.weights) + rows
    return 2 * terms * epsilon(net.dtype)


def epsilon(dtype):
    return float(np.finfo(dtype).eps)


def assert_close(got, expected, rtol):
    """The arrays of two layers differ by no more than a part of the largest number there."""
    largest = max(np.abs(e).max(initial=0) for e in expected if e is not None)
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None)
        if e is not None:
            assert g.dtype == e.dtype
            np.testing.assert_allclose(g, e, rtol=0, atol=rtol * largest)


def assert_all_close(got, expected, rtol):
    for g, e in zip(got, expected, strict=True):
        assert_close(g, e, rtol)


def assert_agree(native, reference, X, y, weight=None, rtol=None):
    """Outputs, loss, accuracy and gradients are the same but for rounding."""
    rtol = rtol or tolerance(reference, len(X))
    assert_close([native.predict(X)], [reference.predict(X)], rtol)
    expected = reference.evaluate(X, y, weight)
    assert native.evaluate(X, y, weight) == pytest.approx(expected, rel=rtol, abs=rtol)
    loss, gradients = native.gradients(X, y, weight)
    expected_loss, expected_gradients = reference.gradients(X, y, weight)
    assert loss == pytest.approx(expected_loss, rel=rtol, abs=rtol)
    assert_all_close(gradients, expected_gradients, rtol)


def assert_same_state(native, reference, rtol):
    """Weights and the optimizer's state are the same but for rounding."""
    assert_all_close(native.weights, reference.weights, rtol)
    (steps, slots), (expected_steps, expected_slots) = (
        net._backend.state() for net in (native, reference)
    )
    assert steps == expected_steps
    assert len(slots) == len(expected_slots)
    for slot, expected in zip(slots, expected_slots, strict=True):
        assert_all_close(slot, expected, rtol)


@EACH_ISA
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_losses(activation, loss, dtype):
    hidden = "tanh" if activation == "softmax" else activation
    rng = np.random.default_rng(0)
    for use_bias in (True, False):
        layers = [(18, hidden, use_bias), (7, "sigmoid", use_bias), (5, activation, use_bias)]
        nets = pair([11, *itertools.starmap(Dense, layers)], loss=loss, dtype=dtype)
        start = [[None if a is None else grid(rng, a.shape, 1 / 32) for a in layer]
                 for layer in nets[0].weights]  # fmt: skip
        if LOSSES[loss].on_logits:  # so it takes probabilities: all activations of these are some
            start[-1] = [None if a is None else rng.uniform(0.01, 0.05, a.shape) for a in start[-1]]
        for net in nets:
            net.set_weights(start)
        assert_agree(*nets, *problem(nets[0], 40))
        assert_agree(*nets, *problem(nets[0], 40, labels=True), rng.integers(3, size=40))


@EACH_ISA
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_out", [5, 40])
def test_small_weights(loss, n_out, dtype):
    """However small they are, only their ratios matter."""
    weight = np.random.default_rng(0).integers(3, size=40)
    smallest = 2.0 ** {"float32": -140, "float64": -1000}[dtype]
    for activation in None, "sigmoid":
        for net in pair([11, Dense(n_out, activation)], loss=loss, dtype=dtype):
            X, y = problem(net, 40)
            np.testing.assert_equal(
                net.gradients(X, y, smallest * weight), net.gradients(X, y, weight)
            )


@EACH_ISA
@pytest.mark.parametrize("width", WIDTHS)
def test_shapes(width, dtype):
    rng = np.random.default_rng(width)
    for rows in BATCHES:
        n_in, n_out = rng.choice(WIDTHS, 2)
        # z of relu is not rounded, hence on the same side of 0 in both; after a step it is rounded
        nets = pair([n_in, Dense(width, "relu"), Dense(width, "tanh"), n_out], dtype=dtype)
        assert_agree(*nets, *problem(nets[0], rows))
        nets = pair([n_in, Dense(width, "tanh"), Dense(n_out, "tanh"), width], dtype=dtype)
        X, y = problem(nets[0], rows)
        for net in nets:
            net.train_step(X, y)
        assert_agree(*nets, X, y)


OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, nesterov=True),
    AdaGrad(0.1),
    RMSProp(0.01),
    RMSProp(0.01, momentum=0.9),
    Adam(0.01),
    AdamW(0.01),
]
EACH_OPTIMIZER = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)


@EACH_ISA
@EACH_OPTIMIZER
@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optimizers(optimizer, weight_decay, clip_norm, dtype):
    optimizer = dataclasses.replace(optimizer, weight_decay=weight_decay, clip_norm=clip_norm)
    layers = [9, Dense(20, "tanh", l1=0.001), Dense(6, l2=0.01)]
    nets = pair(layers, optimizer=optimizer, dtype=dtype)
    X, y = problem(nets[0], 33)
    steps = 5
    rtol = steps * tolerance(nets[0], 33)
    for _ in range(steps):
        native, reference = (net.train_step(X, y) for net in nets)
        assert native == pytest.approx(reference, rel=rtol)
    assert_same_state(*nets, rtol)


@EACH_ISA
@EACH_OPTIMIZER
def test_first_step_from_gradients_without_rounding(optimizer, dtype):
    optimizer = dataclasses.replace(optimizer, weight_decay=1 / 8)
    nets = pair([9, Dense(2, l1=1 / 64, l2=1 / 16)], optimizer=optimizer, dtype=dtype)
    rng = np.random.default_rng(0)
    X, start = grid(rng, (8, 9), 1 / 8), grid(rng, (9, 2), 1 / 8)
    for net in nets:
        net.set_weights([(start, [0.5, -0.25])])
        net.train_step(X, np.ones((8, 2)))
    few = 4 * epsilon(dtype)
    assert_same_state(*nets, few)
    for mine, its in zip(*(net._backend.state()[1] for net in nets), strict=True):
        np.testing.assert_allclose(mine[0][0], its[0][0], rtol=few)


@EACH_ISA
def test_rows_that_count_nothing(dtype):
    nets = pair(
        [5, Dense(4, "tanh", l1=0.01), Dense(3, l2=0.01)], loss="cross_entropy", dtype=dtype
    )
    assert_agree(*nets, *problem(nets[0], 6), np.zeros(6))


# -- whole trainings


def train(backend, dtype, optimizer):
    """A network trained with a bit of everything, and the history."""
    layers = [
        11,
        Dropout(0.2),
        Dense(33, "tanh", l1=1e-4),
        Dropout(0.5),
        Dense(17, "silu", use_bias=False, l2=1e-3),
        Dense(20, "elu"),
        5,
    ]
    net = Network(
        layers, loss="cross_entropy", optimizer=optimizer, dtype=dtype, backend=backend, seed=0
    )
    X, y = problem(net, 100, labels=True)
    weight = np.random.default_rng(2).uniform(0, 2, 100)
    return net, net.fit(X, y, 4, 16, sample_weight=weight, validation_split=0.25)


@EACH_ISA
@pytest.mark.parametrize(
    ("dtype", "optimizer"),
    [("float32", OPTIMIZERS[1]), *(("float64", optimizer) for optimizer in OPTIMIZERS)],
    ids=str,
)
def test_whole_training(dtype, optimizer):
    (native, its), (reference, expected) = (
        train(backend, dtype, optimizer) for backend in ("native", "numpy")
    )
    rtol = native._backend.state()[0] * tolerance(native, 16)
    assert its.epoch == expected.epoch
    assert its.history.keys() == expected.history.keys()
    for name, values in expected.history.items():
        np.testing.assert_allclose(its[name], values, rtol=rtol)
    assert_same_state(native, reference, rtol)


def test_shuffles_are_the_same(monkeypatch):
    orders = []
    for net in pair([2, 1]):
        train = net._backend.train

        def spy(X, target, weight, order, *rest, train=train):
            orders.append(order)
            train(X, target, weight, order, *rest)

        monkeypatch.setattr(net._backend, "train", spy)
        net.fit(*problem(net, 50), epochs=2)
    np.testing.assert_array_equal(orders[:2], orders[2:])
    np.testing.assert_array_equal(np.sort(orders, axis=1), [range(50)] * 4)
    assert not np.array_equal(orders[0], orders[1])


@EACH_ISA
@pytest.mark.parametrize("step", [0, 1, 2**31, 2**32 - 1, 2**32 + 7])
def test_dropout_masks_are_the_same(step, dtype):
    """Seen in the gradient of W, since each output has to learn the inputs of one row, all 1."""
    rows, rate = 16, 0.3
    target = (-np.eye(rows) * rows * rows / 2).astype(dtype)
    for columns in (1, 3, 16, 33, 70):
        layers = [columns, Dropout(rate), Dense(columns), Dropout(rate), rows]
        net = Network(layers, dtype=dtype, seed=2**40)
        as_it_is, to_zero = np.eye(columns), np.zeros((columns, rows))
        net.set_weights([(W, np.zeros(W.shape[1])) for W in (as_it_is, to_zero)])
        X = np.ones((rows, columns), dtype)
        _, gradients = net._backend.gradients(X, target, None, step)
        masks = [
            dropout_mask(net._spec.seed, step, layer, X.shape, rate, X.dtype) for layer in (0, 1)
        ]
        np.testing.assert_array_equal(gradients[1][0].T, masks[0] * masks[1])


# -- the same bits


@EACH_ISA
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_the_number_of_threads_changes_no_bit(clip_norm, dtype, assert_same_with_threads):
    def everything():
        layers = [64, Dense(128, "gelu", l1=1e-4), Dropout(0.3), 96, 10]
        optimizer = Adam(0.01, clip_norm=clip_norm)
        net = Network(layers, loss="cross_entropy", optimizer=optimizer, dtype=dtype, seed=0)
        rows, batch_size = 257, 100
        # so that there is work for all of them, also in the last, short batch
        assert 3 * 2 * sum(W.size for W, _ in net.weights) * (rows % batch_size) > 400e3 * 4
        X, y = problem(net, rows, labels=True)
        weight = np.random.default_rng(2).uniform(0, 2, rows)
        history = net.fit(X, y, 3, batch_size, sample_weight=weight)
        return (
            net.predict(X),
            net.weights,
            net.gradients(X, y, weight),
            history.history,
            net.evaluate(X, y, weight),
        )

    assert_same_with_threads(everything, 2, 3, 4)


@EACH_ISA
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_fewer_rows_than_threads(rows, dtype, assert_same_with_threads):
    net = Network([33, 2500, 1800, 13], loss="cross_entropy", dtype=dtype, seed=0)
    X, y = problem(net, rows, labels=True)
    assert_same_with_threads(lambda: (net.evaluate(X, y), net.predict(X)), 2, 5)


def assert_same_in_parts(net, X, *sizes):
    """The outputs have the same bits when so many rows are predicted at a time."""
    whole = net.predict(X)
    for rows in sizes:
        parts = [net.predict(X[start : start + rows]) for start in range(0, len(X), rows)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@EACH_ISA
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_the_other_rows_change_no_bit(n_threads, dtype):
    fastnn.set_num_threads(n_threads)
    # large enough for several threads to share a single row
    layers = [33, Dense(2500, "tanh"), Dense(1800, "gelu"), Dense(13, "softmax")]
    net = Network(layers, dtype=dtype, seed=0)
    assert 2 * sum(W.size for W, _ in net.weights) > 2e6 * n_threads
    X, _ = problem(net, 270)
    assert_same_in_parts(net, X, 1, 7, 13, 111)


@EACH_ISA
@pytest.mark.parametrize("classes", range(1, 18))
def test_softmax_of_few_classes(classes, dtype):
    """Of a few rows it is taken row by row, of more for as many at a time as a vector holds."""
    net = Network([5, Dense(classes, "softmax")], dtype=dtype, seed=0)
    X = np.random.default_rng(1).normal(0, 5, (37, 5))
    assert_same_in_parts(net, X, 1, 9, 16, 30)
    np.testing.assert_allclose(net.predict(X).sum(axis=1), 1, rtol=1e-6)


@EACH_ISA
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("hidden", [(70, 131), (2200, 2100)], ids=str)  # the latter beyond caches
def test_rows_with_zeros(hidden, share, dtype):
    """Inputs, and sums that ReLU cuts off, are left out where they are zero: of one row, of few."""
    fastnn.set_num_threads(2)
    nets = pair([129, *(Dense(width, "relu") for width in hidden), 9], dtype=dtype)
    X, y = problem(nets[0], 60)
    X[np.random.default_rng(0).random(X.shape) >= share] = 0
    X[:30, 50:100] = -0.0
    assert_agree(*nets, X, y)
    assert_same_in_parts(nets[0], X, 1, 2, 7, 30)


# -- anything


@st.composite
def networks(draw, dtype):
    """Two networks of a few layers."""
    # In float32 a value close to a kink may well be on the other side of it.
    kinked = {"step", "relu", "leaky_relu", "selu"} if dtype == "float32" else set()
    penalties = st.sampled_from([0.0, 0.01])
    dense = st.builds(
        Dense,
        st.integers(1, 40),
        st.sampled_from(sorted(ACTIVATIONS.keys() - kinked - {"softmax"})),
        st.booleans(),
        bias_init=st.sampled_from(["zeros", "normal"]),
        l1=penalties,
        l2=penalties,
    )
    dropout = st.lists(st.builds(Dropout, st.sampled_from([0.1, 0.5])), max_size=1)
    hidden = draw(st.lists(st.tuples(dropout, dense), max_size=3))
    return pair(
        [
            draw(st.integers(1, 40)),
            *itertools.chain.from_iterable((*before, layer) for before, layer in hidden),
            draw(st.integers(1, 20)),
        ],
        loss=draw(st.sampled_from(list(LOSSES))),
        optimizer=SGD(0.01),
        dtype=dtype,
        seed=draw(st.integers(0, 2**64)),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_network(dtype, data):
    native, reference = data.draw(networks(dtype))
    rows, labels = data.draw(st.integers(1, 70)), data.draw(st.booleans())
    X, y = problem(native, rows, labels=labels)
    X = X / 4  # where no activation saturates, since rounding leaves little of the slope there
    rtol = 10 * tolerance(native, rows)  # since what little there is to sum may cancel
    weight = data.draw(st.sampled_from([None, np.arange(rows)]))
    for net in (native, reference):
        assert net.predict(X[:0]).shape == (0, net.n_outputs)
    assert_agree(native, reference, X, y, weight, rtol)
    for net in (native, reference):
        net.train_step(X, y, weight)
    assert_agree(native, reference, X, y, weight, rtol)

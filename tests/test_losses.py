"""The table of losses: values, gradients, hits."""

from __future__ import annotations

import copy
import functools
import json
import math
import pickle
import re

import numpy as np
import pytest
from conftest import import_torch

import fastnn
from fastnn import losses
from fastnn.activations import ACTIVATIONS
from fastnn.losses import (
    LOSSES,
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

DTYPES = (np.float32, np.float64)
ROWS = pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES.keys())
FUSED = [row for row in LOSSES.values() if row.on_logits is not None]
ON_OUTPUTS = [row.name for row in FUSED]
LOGITS = {row.activation for row in FUSED}


def outputs_and_targets(row, dtype=np.float64):
    """Outputs that are probabilities, so that they suit any loss; targets of each kind."""
    rng = np.random.default_rng(3)
    o = rng.uniform(0.05, 0.95, (30, 4))
    t = rng.uniform(0.05, 0.95, o.shape)
    if row.kind == "regression":
        t = 6 * t - 3  # near and far: huber has two branches
    return o.astype(dtype), t.astype(dtype)


def test_order_is_the_native_core_s():
    names = "mse mae huber poisson cross_entropy binary_cross_entropy "
    names += "softmax_cross_entropy sigmoid_cross_entropy "
    names += "quantile gamma focal binary_focal softmax_focal sigmoid_focal"
    assert list(LOSSES)[:14] == names.split()
    assert [row.code for row in LOSSES.values()] == list(range(len(LOSSES)))
    assert all(row.name == name for name, row in LOSSES.items())


@ROWS
def test_formula_in_the_documentation(row):
    table = losses.__doc__.split("===\n")[2]
    rows = {name: rest for name, *rest in (re.split("  +", line) for line in table.splitlines())}
    formula, *default = rows[row.name]
    assert [float(value) for value in default] == ([row.parameter] if row.parameter else [])
    o, t = outputs_and_targets(row)
    names = {
        **{name: getattr(np, name) for name in ("abs", "exp", "log", "where")},
        **{name: functools.partial(getattr(np, name), axis=-1) for name in ("mean", "sum")},
        **{name: lambda z, f=ACTIVATIONS[name]: f.forward(z, 0.0) for name in LOGITS},
        **{name: lambda o, f=LOSSES[name]: f.value(o, t, f.parameter) for name in ON_OUTPUTS},
    }
    expected = eval(formula, names | {"o": o, "t": t, "p": row.parameter})
    np.testing.assert_allclose(row.value(o, t, row.parameter), expected, rtol=1e-12)


@ROWS
def test_gradient_is_the_slope(row):
    o, t = outputs_and_targets(row)
    p, step = row.parameter, 1e-5
    assert np.abs(o - t).min() > 2 * step, "mae has a kink there"
    numeric = np.empty_like(o)
    for j in range(o.shape[1]):
        d = np.zeros(o.shape[1])
        d[j] = step
        numeric[:, j] = (row.value(o + d, t, p) - row.value(o - d, t, p)) / (2 * step)
    assert np.abs(numeric).max() > 0.1
    # The error of the difference is step**2 / 6 times the third derivative, 2 t / o**3 at most.
    np.testing.assert_allclose(row.gradient(o, t, p), numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@ROWS
def test_keeps_dtype(row, dtype):
    o, t = outputs_and_targets(row, dtype)
    for rows in (30, 1, 0):
        value = row.value(o[:rows], t[:rows], row.parameter)
        gradient = row.gradient(o[:rows], t[:rows], row.parameter)
        assert value.dtype == gradient.dtype == dtype
        assert value.shape == (rows,)
        assert gradient.shape == (rows, 4)


def test_by_hand():
    o, t = np.array([[1.0, 4.0]]), np.array([[0.0, 2.0]])
    assert LOSSES["mse"].value(o, t, 0.0) == pytest.approx([(1 + 4) / 2])
    assert LOSSES["mse"].gradient(o, t, 0.0).tolist() == [[1, 2]]
    assert LOSSES["mae"].value(o, t, 0.0) == pytest.approx([1.5])
    assert LOSSES["huber"].value(o, t, 1.0) == pytest.approx([(0.5 + 1.5) / 2])
    assert LOSSES["huber"].value(o, t, 3.0) == pytest.approx([(0.5 + 2) / 2])
    assert LOSSES["poisson"].value(o, t, 0.0) == pytest.approx([(math.e + math.exp(4) - 8) / 2])
    probabilities, one_hot = np.array([[0.2, 0.8]]), np.array([[0.0, 1.0]])
    assert LOSSES["cross_entropy"].value(probabilities, one_hot, 0.0) == pytest.approx(
        [-math.log(0.8)]
    )
    assert LOSSES["binary_cross_entropy"].value(probabilities, one_hot, 0.0) == pytest.approx(
        [-math.log(0.8)]
    )


def test_more_by_hand():
    o, t = np.array([[1.0, 4.0]]), np.array([[0.0, 6.0]])
    # 0.9 of the error above, 0.1 of that below
    assert LOSSES["quantile"].value(o, t, 0.1) == pytest.approx([(0.9 * 1 + 0.1 * 2) / 2])
    assert LOSSES["quantile"].gradient(o, t, 0.1).tolist() == [[0.45, -0.05]]
    of_each = np.array([0.1, 0.8])
    assert LOSSES["quantile"].value(o, t, of_each) == pytest.approx([(0.9 * 1 + 0.8 * 2) / 2])
    assert LOSSES["quantile"].gradient(t, t, 0.1).tolist() == [[0, 0]]
    expected = (1 + 0 + 4 + 6 * math.exp(-4)) / 2
    assert LOSSES["gamma"].value(o, t, 0.0) == pytest.approx([expected])
    probabilities, one_hot = np.array([[0.2, 0.8]]), np.array([[0.0, 1.0]])
    for name in ("focal", "binary_focal"):
        value = LOSSES[name].value(probabilities, one_hot, 2.0)
        assert value == pytest.approx([-(0.2**2) * math.log(0.8)])


def test_a_half_quantile_is_half_of_mae():
    o, t = outputs_and_targets(LOSSES["mae"])
    half = LOSSES["quantile"].value(o, t, 0.5)
    np.testing.assert_allclose(half, LOSSES["mae"].value(o, t, 0.0) / 2, rtol=1e-14)


@pytest.mark.parametrize("kind", ["", "binary_", "softmax_", "sigmoid_"])
def test_focal_with_gamma_0_is_the_cross_entropy(kind):
    focal, plain = LOSSES[f"{kind}focal"], LOSSES[f"{kind}cross_entropy"]
    o, t = outputs_and_targets(plain)
    np.testing.assert_allclose(focal.value(o, t, 0.0), plain.value(o, t, 0.0), rtol=1e-13)
    expected = plain.gradient(o, t, 0.0)
    np.testing.assert_allclose(focal.gradient(o, t, 0.0), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_of_rows_that_are_quite_right(gamma, dtype):
    """Where the other probability is too small for 1 less it to differ from 1."""
    o, t = np.array([[80, 0]], dtype=dtype), np.array([[1, 0]], dtype=dtype)
    for name in ("softmax_focal", "sigmoid_focal"):
        row = LOSSES[name]
        assert 0 <= row.value(o, t, gamma) < 1
        assert np.isfinite(row.gradient(o, t, gamma)).all()


def test_gradient_of_softmax_with_cross_entropy_is_y_minus_t():
    z, t = np.array([[0.3, 2.9, 1.0]]), np.array([[0.0, 0.0, 1.0]])
    y = ACTIVATIONS["softmax"].forward(z, 0.0)
    fused = LOSSES["cross_entropy"].fused("softmax")
    np.testing.assert_allclose(fused.gradient(z, t, 0.0), y - t, rtol=1e-14)


@pytest.mark.parametrize("row", FUSED, ids=lambda row: row.name)
def test_fused_equals_composed(row):
    logits, activation = LOSSES[row.on_logits], ACTIVATIONS[row.activation]
    rng = np.random.default_rng(4)
    z = rng.normal(size=(20, 5)) * 3
    t = rng.uniform(0.1, 0.9, z.shape)
    h = activation.forward(z, activation.parameter)
    for p in (row.parameter, 0.0, 0.5):
        np.testing.assert_allclose(logits.value(z, t, p), row.value(h, t, p), rtol=1e-12)
        through = activation.backward(z, h, row.gradient(h, t, p), activation.parameter)
        np.testing.assert_allclose(logits.gradient(z, t, p), through, rtol=1e-9, atol=1e-13)


def test_which_pairs_fuse():
    pairs = {(r.name, a): r.fused(a) for r in LOSSES.values() for a in ACTIVATIONS}
    fused = {pair: loss.name for pair, loss in pairs.items() if loss is not None}
    assert fused == {
        ("cross_entropy", "softmax"): "softmax_cross_entropy",
        ("binary_cross_entropy", "sigmoid"): "sigmoid_cross_entropy",
        ("focal", "softmax"): "softmax_focal",
        ("binary_focal", "sigmoid"): "sigmoid_focal",
    }


@ROWS
def test_default_activation(row):
    expected = {
        "cross_entropy": "softmax",
        "binary_cross_entropy": "sigmoid",
        "focal": "softmax",
        "binary_focal": "sigmoid",
    }
    assert row.activation == expected.get(row.name, "identity")


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_of_0_and_1(dtype):
    o, t = np.array([[0, 1]], dtype=dtype), np.array([[1, 0]], dtype=dtype)
    info = np.finfo(dtype)
    cross_entropy, binary = LOSSES["cross_entropy"], LOSSES["binary_cross_entropy"]
    assert cross_entropy.value(o, t, 0.0) == pytest.approx([-math.log(info.tiny)])
    np.testing.assert_allclose(cross_entropy.gradient(o, t, 0.0), [[-1 / info.tiny, 0]])
    np.testing.assert_allclose(binary.value(o, t, 0.0), [-math.log(info.eps)], rtol=1e-6)
    gradient = [[-0.5 / info.eps, 0.5 / info.eps]]
    np.testing.assert_allclose(binary.gradient(o, t, 0.0), gradient, rtol=1e-5)
    for row in (cross_entropy, binary):
        assert row.value(o, 1 - t, 0.0) == pytest.approx([0], abs=2 * float(info.eps))
        assert np.isfinite(row.gradient(o, 1 - t, 0.0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_large_logits(dtype, size):
    o = np.array([[size, -size]], dtype=dtype)
    right, wrong = np.array([[1, 0]], dtype=dtype), np.array([[0, 1]], dtype=dtype)
    for name, worst in (("softmax_cross_entropy", 2 * size), ("sigmoid_cross_entropy", size)):
        row = LOSSES[name]
        assert row.value(o, right, 0.0) == pytest.approx([0], abs=1e-40)
        assert row.value(o, wrong, 0.0) == pytest.approx([worst], rel=1e-6)
        scale = 1 if name.startswith("softmax") else 0.5
        np.testing.assert_allclose(row.gradient(o, right, 0.0), [[0, 0]], atol=1e-40)
        np.testing.assert_allclose(row.gradient(o, wrong, 0.0), [[scale, -scale]])


def test_small_losses_of_logits_do_not_cancel():
    o, t = np.array([[30.0], [-30.0]]), np.array([[1.0], [0.0]])
    value = LOSSES["sigmoid_cross_entropy"].value(o, t, 0.0)
    np.testing.assert_allclose(value, math.log1p(math.exp(-30)), rtol=1e-14)


def test_difference_of_logits_may_overflow():
    top = np.finfo(np.float32).max
    o = np.array([[top, -top, 0]], dtype=np.float32)
    t = np.array([[1, 0, 0]], dtype=np.float32)
    assert LOSSES["softmax_cross_entropy"].value(o, t, 0.0).tolist() == [0]
    assert LOSSES["softmax_cross_entropy"].gradient(o, t, 0.0).tolist() == [[0, 0, 0]]


def test_huber_does_not_overflow_where_it_is_linear():
    o, t = np.array([[1e30]], dtype=np.float32), np.array([[0]], dtype=np.float32)
    assert LOSSES["huber"].value(o, t, 1.0) == pytest.approx([1e30])


def test_hits_of_classes():
    o = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.2, 0.3, 0.5]])
    t = np.eye(3)[[1, 0, 1, 0]]  # of equal maxima, the first counts
    for name in ("cross_entropy", "softmax_cross_entropy"):
        assert LOSSES[name].hits(o, t).tolist() == [True, True, False, False]


def test_hits_of_yes_and_no():
    o = np.array([[0.5, 0.4], [0.6, 0.4], [0.1, -0.1], [0.0, -0.1]])
    t = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    probabilities, logits = LOSSES["binary_cross_entropy"], LOSSES["sigmoid_cross_entropy"]
    assert probabilities.hits(o, t).tolist() == [True, False, False, False]
    assert logits.hits(o, t).tolist() == [False, True, True, True]


@pytest.mark.parametrize("name", [n for n, row in LOSSES.items() if row.kind == "regression"])
def test_regression_has_no_hits(name):
    assert LOSSES[name].hits(np.ones((3, 2)), np.ones((3, 2))).tolist() == [False] * 3


TORCH = {
    "mse": ("MSELoss", {}),
    "mae": ("L1Loss", {}),
    "huber": ("HuberLoss", {}),
    "poisson": ("PoissonNLLLoss", {"log_input": True, "full": False}),
    "binary_cross_entropy": ("BCELoss", {}),
    "softmax_cross_entropy": ("CrossEntropyLoss", {}),
    "sigmoid_cross_entropy": ("BCEWithLogitsLoss", {}),
}


def test_gamma_like_sklearn():
    reference = pytest.importorskip("sklearn._loss", reason="compared with scikit-learn's")
    o, t = outputs_and_targets(LOSSES["gamma"])
    t = np.abs(t) + 0.1
    theirs = reference.HalfGammaLoss()
    value, gradient = theirs.loss_gradient(y_true=t.ravel(), raw_prediction=o.ravel())
    ours = LOSSES["gamma"].value(o.reshape(-1, 1), t.reshape(-1, 1), 0.0)
    np.testing.assert_allclose(ours, value, rtol=1e-13)
    ours = LOSSES["gamma"].gradient(o.reshape(-1, 1), t.reshape(-1, 1), 0.0)
    np.testing.assert_allclose(ours.ravel(), gradient, rtol=1e-13)


@pytest.mark.parametrize("name", TORCH)
def test_like_torch(name):
    torch = import_torch()
    cls, options = TORCH[name]
    o, t = outputs_and_targets(LOSSES[name])
    leaf = torch.tensor(o, requires_grad=True)
    loss = getattr(torch.nn, cls)(**options)(leaf, torch.tensor(t))
    loss.backward()
    row = LOSSES[name]
    assert row.value(o, t, row.parameter).mean() == pytest.approx(loss.item(), rel=1e-12)
    gradient = row.gradient(o, t, row.parameter) / len(o)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-11, atol=1e-16)


DESCRIPTIONS = [
    Huber(0.5),
    CrossEntropy(0.1),
    BinaryCrossEntropy(label_smoothing=0.2),
    SoftmaxCrossEntropy(0.1),
    SigmoidCrossEntropy(0.2),
    Quantile(0.3),
    Quantile([0.1, 0.5, 0.9]),
    Focal(1.0),
    BinaryFocal(0.5),
    SoftmaxFocal(3),
    SigmoidFocal(0),
]
EACH = pytest.mark.parametrize("loss", DESCRIPTIONS, ids=repr)


def sample(rows=20, outputs=3):
    rng = np.random.default_rng(5)
    return rng.normal(size=(rows, 4)), rng.uniform(0.1, 0.9, size=(rows, outputs))


@EACH
class TestDescriptions:
    def test_round_trips(self, loss):
        assert eval(repr(loss)) == loss
        config = json.loads(json.dumps(losses.get_config(loss)))
        assert losses.from_config(config) == loss
        assert pickle.loads(pickle.dumps(loss)) == copy.deepcopy(loss) == loss

    def test_in_a_model_file(self, loss, backend, tmp_path):
        net = fastnn.Network([4, 3], loss=loss, backend=backend, seed=0)
        X, y = sample()
        y = y[:, :1] if loss == Quantile([0.1, 0.5, 0.9]) else y
        net.save(tmp_path / "net")
        loaded = fastnn.Network.load(tmp_path / "net", backend)
        assert loaded.loss == copy.deepcopy(net).loss == loss
        assert loaded.evaluate(X, y) == copy.deepcopy(net).evaluate(X, y) == net.evaluate(X, y)

    def test_is_named_and_documented(self, loss):
        assert losses.PARAMETRIC[loss.name] is type(loss)
        assert losses.resolve(loss) is LOSSES[loss.name]
        assert all(field.name in type(loss).__doc__ for field in loss._fields())


@pytest.mark.parametrize("name", losses.PARAMETRIC)
def test_a_name_means_the_default_parameters(name):
    loss = losses.PARAMETRIC[name]()
    assert loss.parameters(7) == (1, LOSSES[name].parameter)
    assert loss.smoothing == 0


@pytest.mark.parametrize(
    ("error", "match", "make"),
    [
        (ValueError, "delta must be", lambda: Huber(0)),
        (TypeError, "delta must be", lambda: Huber("1")),
        (ValueError, "gamma must be", lambda: Focal(-1)),
        (ValueError, "label_smoothing must be", lambda: CrossEntropy(1.0)),
        (ValueError, "label_smoothing must be", lambda: BinaryCrossEntropy(-0.1)),
        (ValueError, "quantiles must be numbers between 0 and 1", lambda: Quantile([])),
        (ValueError, "quantiles must be numbers between 0 and 1", lambda: Quantile([0.5, 1.0])),
        (ValueError, r"quantiles\[1\] must be", lambda: Quantile([0.5, 0.0])),
        (TypeError, r"quantiles\[0\] must be", lambda: Quantile("0.5")),
        (
            ValueError,
            "layers must end with a multiple of 3 units.*got 4",
            lambda: fastnn.Network([2, 4], loss=Quantile([0.1, 0.5, 0.9])),
        ),
        (TypeError, r"loss must be a description, Focal\(...\)", lambda: losses.resolve(Focal)),
        (
            ValueError,
            "loss must be one of.*Did you mean 'quantile'",
            lambda: losses.resolve("quantil"),
        ),
        (ValueError, "loss must be one of", lambda: losses.resolve(0.5)),
        (
            ValueError,
            "field of loss 'huber'",
            lambda: losses.from_config({"name": "huber", "d": 1}),
        ),
        (ValueError, "name of loss", lambda: losses.from_config({"name": "mse"})),
        (ValueError, "loss must be one of", lambda: losses.from_config(None)),
    ],
)
def test_refuses(error, match, make):
    with pytest.raises(error, match=match):
        make()


class TestQuantiles:
    def test_columns(self, backend):
        """All quantiles of the first target, then all of the second."""
        loss = Quantile([0.25, 0.75])
        net = fastnn.Network([4, 4], loss=loss, dtype="float64", backend=backend, seed=0)
        X, y = sample(outputs=2)
        d = y.repeat(2, axis=1) - net.predict(X)
        q = np.array([0.25, 0.75, 0.25, 0.75])
        expected = np.maximum(q * d, (q - 1) * d).mean()
        assert net.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-13)
        with pytest.raises(ValueError, match=r"y must have shape \(20, 2\)"):
            net.fit(X, d)

    def test_finds_the_quantiles_of_a_sample(self, backend):
        """Constant outputs go to where the given parts of the targets are below them."""
        y = np.random.default_rng(0).exponential(size=200)
        quantiles = [0.1, 0.5, 0.9]
        net = fastnn.Network(
            [1, 3],
            loss=Quantile(quantiles),
            optimizer=fastnn.SGD(0.3),
            dtype="float64",
            backend=backend,
            seed=0,
        )
        X = np.zeros((200, 1))
        net.fit(X, y, epochs=1500, batch_size=200)
        below = (y[:, np.newaxis] < net.predict(X)).mean(axis=0)
        # A step of 0.3 by at most 0.9 / 3 moves past a few of 200 targets.
        np.testing.assert_allclose(below, quantiles, atol=0.05)


@pytest.mark.parametrize("kind", ["dense", "labels"])
@pytest.mark.parametrize("cls", [CrossEntropy, SoftmaxCrossEntropy])
def test_label_smoothing_like_torch(cls, kind, backend):
    torch = import_torch()
    net = fastnn.Network([4, 5], loss=cls(0.2), dtype="float64", backend=backend, seed=0)
    X, t = sample(outputs=5)
    t = t.argmax(axis=1) if kind == "labels" else t / t.sum(axis=1, keepdims=True)
    [(W, b)] = net.weights
    leaf = torch.tensor(W, requires_grad=True)
    logits = torch.tensor(X) @ leaf + torch.tensor(b)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(t), label_smoothing=0.2)
    expected.backward()
    loss, [(dW, _)] = net.gradients(X, t)
    assert loss == pytest.approx(expected.item(), rel=1e-13)
    assert net.evaluate(X, t)["loss"] == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(dW, leaf.grad.numpy(), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(
    ("smoothed", "plain", "classes"),
    [
        (CrossEntropy(0.2), "cross_entropy", 3),
        (BinaryCrossEntropy(0.2), "binary_cross_entropy", 2),
        (SigmoidCrossEntropy(0.2), "sigmoid_cross_entropy", 2),
    ],
    ids=repr,
)
def test_label_smoothing_is_another_target(smoothed, plain, classes, backend):
    nets = [
        fastnn.Network([4, 3], loss=loss, dtype="float64", backend=backend, seed=0)
        for loss in (smoothed, plain)
    ]
    X, t = sample()
    for given, there in (([], []), ([np.arange(20)], [np.arange(20)])):
        loss, [(dW, _)] = nets[0].gradients(X, t, *given)
        expected, [(dV, _)] = nets[1].gradients(X, 0.8 * t + 0.2 / classes, *there)
        assert loss == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(dW, dV, rtol=1e-12, atol=1e-15)
    before = nets[1].evaluate(X, t)["accuracy"]
    assert nets[0].evaluate(X, t)["accuracy"] == before


def squares(y, out):
    """What "mse" is, as a function."""
    d = out - y
    return (d * d).mean(axis=1), 2 * d / d.shape[1]


class TestFunctions:
    LAYERS = (4, fastnn.Dropout(0.25), fastnn.Dense(6, "silu", l2=0.01), 3)

    def pair(self, backend, **options):
        return [
            fastnn.Network(self.LAYERS, loss=loss, backend=backend, seed=0, **options)
            for loss in (squares, "mse")
        ]

    @pytest.mark.parametrize("weighted", [False, True])
    def test_like_the_loss_of_the_table(self, weighted, backend, dtype):
        function, table = self.pair(backend, dtype=dtype, output_activation="tanh")
        X, y = sample()
        weight = np.arange(20.0) if weighted else None
        options = {"sample_weight": weight, "validation_split": 0.2}
        eps = float(np.finfo(dtype).eps)
        histories = [net.fit(X, y, 3, 6, **options) for net in (function, table)]
        for name, values in histories[1].history.items():
            np.testing.assert_allclose(histories[0][name], values, rtol=100 * eps)
        for (W, b), (V, c) in zip(function.weights, table.weights, strict=True):
            np.testing.assert_allclose(W, V, rtol=0, atol=300 * eps)
            np.testing.assert_allclose(b, c, rtol=0, atol=300 * eps)
        assert function.evaluate(X, y, weight) == pytest.approx(
            table.evaluate(X, y, weight), rel=100 * eps
        )
        loss, gradients = function.gradients(X, y, weight)
        expected, its = table.gradients(X, y, weight)
        assert loss == pytest.approx(expected, rel=100 * eps)
        for (dW, _), (dV, _) in zip(gradients, its, strict=True):
            np.testing.assert_allclose(dW, dV, rtol=0, atol=300 * eps)

    def test_rows_that_count_nothing(self, backend):
        function, table = self.pair(backend)
        X, y = sample()
        nothing = np.zeros(20)
        assert function.evaluate(X, y, nothing) == pytest.approx(table.evaluate(X, y, nothing))
        assert function.gradients(X, y, nothing)[0] == pytest.approx(
            table.gradients(X, y, nothing)[0]
        )

    def test_copies_have_it_and_files_cannot(self, backend, tmp_path):
        net = self.pair(backend)[0]
        twin = pickle.loads(pickle.dumps(copy.deepcopy(net)))
        assert twin.loss is net.loss is squares
        assert "squares" in net.summary()
        with pytest.raises(TypeError, match=r"loss must be a name.*function 'squares'"):
            net.save(tmp_path / "net")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("error", "match", "function"),
        [
            (TypeError, r"must return \(value, gradient\); got 0.5", lambda y, out: 0.5),
            (ValueError, r"a value of shape \(20,\); got shape \(\)", lambda y, out: (0.5, out)),
            (ValueError, r"a gradient of shape \(20, 3\)", lambda y, out: (out[:, 0], out[0])),
            (ZeroDivisionError, "division by zero", lambda y, out: 1 / 0),
        ],
    )
    def test_that_return_something_else(self, error, match, function, backend):
        net = fastnn.Network([4, 3], loss=function, backend=backend, seed=0)
        before = net.weights
        with pytest.raises(error, match=match):
            net.train_step(*sample())
        np.testing.assert_array_equal(net.weights[0][0], before[0][0])
        assert net.predict(sample()[0]).shape == (20, 3)


def test_average_of_a_network_with_a_function(backend):
    X, y = sample()
    nets = [
        fastnn.Network([4, 3], loss=loss, averaging=fastnn.EMA(0.5), backend=backend, seed=0)
        for loss in (squares, "mse")
    ]
    for net in nets:
        net.fit(X, y, epochs=2, batch_size=6)
    [(W, _)], [(V, _)] = (net.averaged().weights for net in nets)
    np.testing.assert_allclose(W, V, rtol=0, atol=1e-6)

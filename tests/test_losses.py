"""The table of losses: values, gradients, hits."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from fastnn.activations import ACTIVATIONS
from fastnn.losses import LOSSES

DTYPES = (np.float32, np.float64)
ROWS = pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES.keys())
FUSED = [row for row in LOSSES.values() if row.on_logits is not None]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


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
    names += "softmax_cross_entropy sigmoid_cross_entropy"
    assert list(LOSSES)[:8] == names.split()
    assert [row.code for row in LOSSES.values()] == list(range(len(LOSSES)))
    assert all(row.name == name for name, row in LOSSES.items())


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
    np.testing.assert_allclose(logits.value(z, t, 0.0), row.value(h, t, 0.0), rtol=1e-12)
    through = activation.backward(z, h, row.gradient(h, t, 0.0), activation.parameter)
    np.testing.assert_allclose(logits.gradient(z, t, 0.0), through, rtol=1e-9, atol=1e-13)


def test_which_pairs_fuse():
    pairs = {(r.name, a): r.fused(a) for r in LOSSES.values() for a in ACTIVATIONS}
    fused = {pair: loss.name for pair, loss in pairs.items() if loss is not None}
    assert fused == {
        ("cross_entropy", "softmax"): "softmax_cross_entropy",
        ("binary_cross_entropy", "sigmoid"): "sigmoid_cross_entropy",
    }


@ROWS
def test_default_activation(row):
    expected = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}
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


@pytest.mark.parametrize("name", TORCH)
def test_like_torch(name):
    torch = pytest.importorskip("torch", reason="the losses are compared with PyTorch's")
    cls, options = TORCH[name]
    o, t = outputs_and_targets(LOSSES[name])
    leaf = torch.tensor(o, requires_grad=True)
    loss = getattr(torch.nn, cls)(**options)(leaf, torch.tensor(t))
    loss.backward()
    row = LOSSES[name]
    assert row.value(o, t, row.parameter).mean() == pytest.approx(loss.item(), rel=1e-12)
    gradient = row.gradient(o, t, row.parameter) / len(o)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-11, atol=1e-16)

"""Initial weights: moments, bounds, orthogonality, dtypes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn.activations import ACTIVATIONS
from fastnn.initializers import INITIALIZERS, default_for, draw

N_IN, N_OUT = 300, 200
STD = {
    "zeros": 0.0,
    "normal": 0.01,
    "uniform": 0.05 / math.sqrt(3),
    "xavier_uniform": math.sqrt(2 / (N_IN + N_OUT)),
    "xavier_normal": math.sqrt(2 / (N_IN + N_OUT)),
    "he_uniform": math.sqrt(2 / N_IN),
    "he_normal": math.sqrt(2 / N_IN),
    "lecun_normal": math.sqrt(1 / N_IN),
    "orthogonal": math.sqrt(1 / N_IN),
}
BOUNDS = {
    "uniform": 0.05,
    "xavier_uniform": math.sqrt(6 / (N_IN + N_OUT)),
    "he_uniform": math.sqrt(6 / N_IN),
}
NAMES = pytest.mark.parametrize("name", INITIALIZERS)


def rng(seed=5):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", STD)
def test_mean_and_deviation(name):
    W = draw(name, rng(), N_IN, N_OUT, np.float64)
    std = STD[name]
    assert W.mean() == pytest.approx(0, abs=5 * std / math.sqrt(W.size))
    # The deviation of a sample of n normal values has a deviation of std / sqrt(2 n).
    assert W.std() == pytest.approx(std, rel=5 / math.sqrt(2 * W.size))


@pytest.mark.parametrize("name", BOUNDS)
def test_uniform_fills_its_bounds(name):
    W = draw(name, rng(), N_IN, N_OUT, np.float64)
    assert np.abs(W).max() <= BOUNDS[name]
    assert W.min() < -0.999 * BOUNDS[name]
    assert W.max() > 0.999 * BOUNDS[name]


@pytest.mark.parametrize("name", ["normal", "xavier_normal", "he_normal", "lecun_normal"])
def test_normal_has_tails(name):
    W = draw(name, rng(), N_IN, N_OUT, np.float64)
    assert (np.abs(W) < STD[name]).mean() == pytest.approx(0.6827, abs=0.01)
    assert np.abs(W).max() > 3.5 * STD[name]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (13, 13), (40, 13), (13, 40)])
def test_orthogonal(shape, dtype):
    W = draw("orthogonal", rng(), *shape, dtype)
    gram = W.T @ W if shape[0] >= shape[1] else W @ W.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=50 * np.finfo(dtype).eps)


def test_orthogonal_has_no_preferred_sign():
    signs = [np.sign(draw("orthogonal", rng(seed), 3, 3, np.float64)) for seed in range(400)]
    assert np.abs(np.mean(signs, axis=0)).max() < 5 / math.sqrt(400)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@NAMES
def test_shape_layout_dtype(name, dtype):
    for shape in ((1, 6), (6, 1), (3, 5), (5, 3)):
        W = draw(name, rng(), *shape, dtype)
        assert W.shape == shape
        assert W.dtype == dtype
        assert W.flags.c_contiguous
        assert np.isfinite(W).all()


@NAMES
def test_both_dtypes_start_from_the_same_values(name):
    wide, narrow = (draw(name, rng(), 20, 30, dtype) for dtype in (np.float64, np.float32))
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))


@NAMES
def test_the_generator_decides(name):
    first, again = (draw(name, rng(6), 8, 9, np.float64) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert name == "zeros" or (first != draw(name, rng(7), 8, 9, np.float64)).any()


@pytest.mark.parametrize("shape", [(1000, 100), (2, 70_000), (1, 1)])
def test_values_come_in_the_order_of_the_rows(shape):
    """However many are drawn at a time."""
    bound = 0.05
    expected = rng().uniform(-bound, bound, shape)
    np.testing.assert_array_equal(draw("uniform", rng(), *shape, np.float64), expected)
    expected = rng().normal(0, 0.01, shape)
    np.testing.assert_array_equal(draw("normal", rng(), *shape, np.float64), expected)


def test_default_for():
    he = {"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"}
    for activation in ACTIVATIONS:
        expected = "he_normal" if activation in he else "xavier_uniform"
        expected = "lecun_normal" if activation == "selu" else expected
        assert default_for(activation) == expected


def test_he_keeps_the_signal_of_relu_through_depth():
    generator = rng()
    x = generator.normal(size=(200, 256))
    for _ in range(20):
        x = np.maximum(x @ draw("he_normal", generator, 256, 256, np.float64), 0)
    # A product of 20 factors near 1; with Xavier it would be about 2**-20.
    assert 0.2 < (x**2).mean() < 3


def test_unknown_name():
    with pytest.raises(ValueError, match=r"initializer must be one of .*'he_norml'.*'he_normal'"):
        draw("he_norml", rng(), 2, 2, np.float64)

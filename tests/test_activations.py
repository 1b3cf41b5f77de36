"""The table of activations: values, derivatives, limits."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from conftest import import_torch

from fastnn import activations
from fastnn.activations import ACTIVATIONS
from fastnn.initializers import INITIALIZERS

DTYPES = (np.float32, np.float64)
ROWS = pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
PER_UNIT = [row for row in ACTIVATIONS.values() if row.derivative is not None]

CLOSED_FORMS = {
    "identity": lambda z: z,
    "step": lambda z: 1.0 if z > 0 else 0.0,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": lambda z: (math.exp(z) - math.exp(-z)) / (math.exp(z) + math.exp(-z)),
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else math.exp(z) - 1,
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * (math.exp(z) - 1)),
    "softplus": lambda z: math.log(1 + math.exp(z)),
    "gelu": lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z / (1 + math.exp(-z)),
}

# Limits at -inf and +inf: of the function, of its derivative.
SELU_SCALE, SELU_FLOOR = 1.0507009873554805, -1.7580993408473766
LIMITS = {
    "identity": ((-np.inf, np.inf), (1, 1)),
    "step": ((0, 1), (0, 0)),
    "sigmoid": ((0, 1), (0, 0)),
    "tanh": ((-1, 1), (0, 0)),
    "relu": ((0, np.inf), (0, 1)),
    "leaky_relu": ((-np.inf, np.inf), (0.01, 1)),
    "elu": ((-1, np.inf), (0, 1)),
    "selu": ((SELU_FLOOR, np.inf), (0, SELU_SCALE)),
    "softplus": ((0, np.inf), (0, 1)),
    "gelu": ((0, np.inf), (0, 1)),
    "silu": ((0, np.inf), (0, 1)),
}


@ROWS
def test_formula_in_the_documentation(row):
    table = activations.__doc__.split("===\n")[2]
    rows = {line.split()[0]: line for line in table.splitlines()}
    _, formula, *rest = re.split("  +", rows[row.name])
    default = [float(value) for value in rest if value.replace(".", "").isdigit()]
    assert default == ([row.parameter] if row.parameter else [])
    names = {name: getattr(np, name) for name in ["exp", "log", "sqrt", "sum", "tanh", "where"]}
    names["erf"] = np.vectorize(math.erf)
    z = np.linspace(-3, 3, 13)
    expected = eval(formula, names | {"z": z, "p": row.parameter})
    np.testing.assert_allclose(row.forward(z, row.parameter), expected, rtol=1e-4, atol=1e-12)


def extreme(dtype):
    info = np.finfo(dtype)
    sizes = [0, info.smallest_subnormal, info.tiny, 1e-3, 90, 750, 1e4, 1e19, 1e30, info.max]
    return np.array([sign * size for size in sizes for sign in (-1, 1)], dtype=dtype)


def test_order_is_the_native_core_s():
    names = "identity step sigmoid tanh relu leaky_relu elu selu softplus gelu silu softmax"
    assert list(ACTIVATIONS)[:12] == names.split()
    assert [row.code for row in ACTIVATIONS.values()] == list(range(len(ACTIVATIONS)))
    assert all(row.name == name for name, row in ACTIVATIONS.items())


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_values(name):
    z = np.linspace(-6, 6, 121)
    row = ACTIVATIONS[name]
    expected = [CLOSED_FORMS[name](x) for x in z.tolist()]
    np.testing.assert_allclose(row.forward(z, row.parameter), expected, rtol=1e-12, atol=1e-15)


@ROWS
def test_derivative_is_the_slope(row):
    rng = np.random.default_rng(1)
    z = rng.uniform(0.05, 4, (40, 5)) * rng.choice([-1, 1], (40, 5))
    grad = rng.normal(size=z.shape)
    h = row.forward(z, row.parameter)
    numeric = np.empty_like(z)
    step = 1e-5
    for j in range(z.shape[1]):
        d = np.zeros(z.shape[1])
        d[j] = step
        above, below = row.forward(z + d, row.parameter), row.forward(z - d, row.parameter)
        numeric[:, j] = (grad * (above - below)).sum(axis=1) / (2 * step)
    assert row.name == "step" or np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(
        row.backward(z, h, grad, row.parameter), numeric, rtol=1e-8, atol=2e-10
    )


@pytest.mark.parametrize(("name", "parameter"), [("leaky_relu", 0.3), ("elu", 1.7)])
def test_parameter_counts(name, parameter):
    row = ACTIVATIONS[name]
    z = np.array([[-1.0, 2.0]])
    h = row.forward(z, parameter)
    below = -parameter if name == "leaky_relu" else parameter * (math.exp(-1) - 1)
    slope = parameter if name == "leaky_relu" else parameter * math.exp(-1)
    np.testing.assert_allclose(h, [[below, 2]])
    np.testing.assert_allclose(row.backward(z, h, np.ones_like(z), parameter), [[slope, 1]])


@pytest.mark.parametrize("dtype", DTYPES)
@ROWS
def test_keeps_dtype_and_shape(row, dtype):
    whole = np.linspace(-3, 3, 60, dtype=dtype).reshape(6, 10)
    for z in (whole, whole[::2, 1::3], whole[:0], whole[:1, :1]):
        before = z.copy()
        h = row.forward(z, row.parameter)
        back = row.backward(z, h, np.ones_like(z), row.parameter)
        assert h.dtype == back.dtype == dtype
        assert h.shape == back.shape == z.shape
        np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIMITS)
def test_limits(name, dtype):
    row = ACTIVATIONS[name]
    z = np.array([-np.inf, np.inf], dtype=dtype)
    h = row.forward(z, row.parameter)
    slope = row.backward(z, h, np.ones_like(z), row.parameter)
    values, slopes = LIMITS[name]
    np.testing.assert_allclose(h, values, rtol=1e-6)
    np.testing.assert_allclose(slope, slopes, rtol=1e-6, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", PER_UNIT, ids=lambda row: row.name)
def test_extreme_input(row, dtype):
    z = extreme(dtype)
    h = row.forward(z, row.parameter)
    slope = row.backward(z, h, np.ones_like(z), row.parameter)
    assert np.isfinite(h[np.abs(z) <= 1e30]).all()
    assert not np.isnan(h).any()
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() < 1.8


@pytest.mark.parametrize("dtype", DTYPES)
@ROWS
def test_nan_stays_nan(row, dtype):
    h = row.forward(np.array([[np.nan, 1]], dtype=dtype), row.parameter)
    assert np.isnan(h[0, 0])
    assert np.isnan(h[0, 1]) == (row.name == "softmax")


def test_where_the_slope_jumps():
    z = np.array([0.0, -0.0])

    def slope(name):
        row = ACTIVATIONS[name]
        return row.backward(z, row.forward(z, row.parameter), np.ones(2), row.parameter).tolist()

    assert slope("relu") == [0, 0]
    assert slope("leaky_relu") == [0.01, 0.01]
    assert slope("elu") == [1, 1]
    assert slope("selu") == pytest.approx([1.7580993408473766] * 2)
    assert ACTIVATIONS["step"].forward(z, 0.0).tolist() == [0, 0]


def test_gelu_is_exact_in_the_tail():
    # Φ(-10), Φ(-2) and Φ(1) from tables, where 1 + erf has lost all, some and no digits
    z = np.array([-10.0, -2.0, 1.0])
    phi = np.array([7.619853024160526e-24, 0.02275013194817921, 0.8413447460685429])
    np.testing.assert_allclose(ACTIVATIONS["gelu"].forward(z, 0.0), z * phi, rtol=1e-14)


class TestSoftmax:
    softmax = staticmethod(lambda z: ACTIVATIONS["softmax"].forward(np.asarray(z), 0.0))

    def test_of_the_lesson(self):
        h = self.softmax([[0.3, 2.9, 1.0]])
        np.testing.assert_allclose(h, [[0.06, 0.82, 0.12]], atol=0.005)
        e = [math.exp(0.3), math.exp(2.9), math.exp(1.0)]
        np.testing.assert_allclose(h[0], np.array(e) / sum(e), rtol=1e-14)
        assert h.sum() == pytest.approx(1, abs=1e-15)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_large_differences(self, dtype):
        top = np.finfo(dtype).max
        z = np.array([[1000, 1000, 0], [top, -top, 0], [-np.inf, 0, 0]], dtype=dtype)
        expected = [[0.5, 0.5, 0], [1, 0, 0], [0, 0.5, 0.5]]
        np.testing.assert_array_equal(self.softmax(z), np.array(expected, dtype=dtype))

    def test_infinity_over_infinity(self):
        assert np.isnan(self.softmax([[np.inf, np.inf], [-np.inf, -np.inf]])).all()


def test_slope_of_sigmoid_is_at_most_a_quarter():
    z = np.linspace(-5, 5, 101)
    row = ACTIVATIONS["sigmoid"]
    slopes = row.backward(z, row.forward(z, 0.0), np.ones_like(z), 0.0)
    assert slopes.max() == slopes[50] == 0.25


def test_linear_layers_collapse():
    identity = ACTIVATIONS["identity"].forward
    x, c = np.array([1.0, -2.0]), 3.0
    np.testing.assert_array_equal(identity(c * identity(c * identity(c * x, 0), 0), 0), c**3 * x)


@ROWS
def test_weight_init_exists(row):
    assert row.weight_init in INITIALIZERS


@pytest.mark.parametrize("name", [*sorted(CLOSED_FORMS.keys() - {"step"}), "softmax"])
def test_like_torch(name):
    torch = import_torch()
    f = torch.nn.functional
    theirs = {"identity": lambda z: z, "softmax": lambda z: f.softmax(z, dim=-1)}
    rng = np.random.default_rng(2)
    z, grad = rng.normal(size=(2, 30, 7)) * 2
    leaf = torch.tensor(z, requires_grad=True)
    expected = theirs[name](leaf) if name in theirs else getattr(f, name)(leaf)
    expected.backward(torch.tensor(grad))
    row = ACTIVATIONS[name]
    h = row.forward(z, row.parameter)
    back = row.backward(z, h, grad, row.parameter)
    np.testing.assert_allclose(h, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(back, leaf.grad.numpy(), rtol=1e-11, atol=1e-15)

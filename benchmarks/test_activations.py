"""Each activation, in a layer, by both backends; each vector function beside NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from fastnn import Dense, Network, _native
from fastnn.activations import ACTIVATIONS

UNITS = ROWS = 256


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(benchmark, rng, dtype, backend, activation):
    net = Network([8, Dense(UNITS, activation)], dtype=dtype, backend=backend, seed=0)
    X = rng.standard_normal((ROWS, 8), dtype)
    benchmark.group = f"{activation}, {dtype}"
    benchmark(net.predict, X, out=np.empty((ROWS, UNITS), dtype))


@pytest.mark.parametrize("library", ["native", "numpy"])
@pytest.mark.parametrize("function", _native.VECTOR_FUNCTIONS)
def test_vector_function(benchmark, rng, dtype, function, library):
    x = rng.uniform(0.1, 5, UNITS * ROWS).astype(dtype)
    out = np.empty_like(x)
    benchmark.group = f"vector {function}, {dtype}"
    if library == "native":
        benchmark(_native.vector_math, function, x, out)
    else:
        benchmark(_ufunc(function), x, out)


def _ufunc(function):
    name = {"sigmoid": "expit"}.get(function, function)
    return getattr(np, name, None) or getattr(special, name)

"""The matrix product, as a layer that does nothing else, beside NumPy's and SciPy's BLAS."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import blas

from fastnn import Dense, Network

SHAPES = [  # m, n, k: rows, units, inputs
    (1, 100, 784),
    (32, 16, 8),
    (64, 64, 64),
    (100, 100, 784),
    (127, 129, 131),
    (256, 512, 512),
    (512, 10, 512),
    (1024, 1024, 1024),
]


def by_fastnn(X, W):
    net = Network([len(W), Dense(W.shape[1], use_bias=False)], dtype=X.dtype, seed=0)
    net.set_weights([(W, None)])
    out = np.empty((len(X), W.shape[1]), X.dtype)
    return lambda: net.predict(X, out=out)


def by_numpy(X, W):
    out = np.empty((len(X), W.shape[1]), X.dtype)
    return lambda: np.matmul(X, W, out=out)


def by_scipy(X, W):
    gemm = blas.sgemm if X.dtype == np.float32 else blas.dgemm
    # BLAS counts by columns, so that it is the transposed product that copies nothing.
    out = np.zeros((W.shape[1], len(X)), X.dtype, order="F")
    return lambda: gemm(1.0, W.T, X.T, c=out, overwrite_c=True).T


@pytest.mark.parametrize("library", [by_fastnn, by_numpy, by_scipy])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_gemm(benchmark, rng, dtype, shape, library):
    m, n, k = shape
    X = rng.standard_normal((m, k), dtype)
    W = rng.standard_normal((k, n), dtype)
    benchmark.group = f"gemm {m} x {n} x {k}, {dtype}"
    product = benchmark(library(X, W))
    np.testing.assert_allclose(product, X @ W, rtol=0, atol=10 * k * np.finfo(dtype).eps)

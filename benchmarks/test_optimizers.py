"""A step of each optimizer, by both backends, where a batch is little work."""

from __future__ import annotations

import pytest

from fastnn import Network
from fastnn.optimizers import OPTIMIZERS

ROWS, UNITS = 8, 512


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer(benchmark, rng, dtype, backend, optimizer):
    net = Network([UNITS, UNITS], optimizer=optimizer, dtype=dtype, backend=backend, seed=0)
    X = rng.standard_normal((ROWS, UNITS), dtype)
    benchmark.group = f"{optimizer}, {dtype}"
    benchmark(net.train_step, X, 0.1 * X)

"""Each loss with its gradient, by both backends, where the layer before is little work."""

from __future__ import annotations

import pytest

from fastnn import Network
from fastnn.losses import LOSSES

ROWS, OUTPUTS = 1024, 64


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_loss(benchmark, rng, dtype, backend, loss):
    net = Network([4, OUTPUTS], loss=loss.name, dtype=dtype, backend=backend, seed=0)
    X = rng.standard_normal((ROWS, 4), dtype)
    y = {
        "regression": lambda: rng.standard_normal((ROWS, OUTPUTS), dtype),
        "categorical": lambda: rng.integers(OUTPUTS, size=ROWS),
        "binary": lambda: rng.integers(2, size=(ROWS, OUTPUTS)),
    }[loss.kind]()
    benchmark.group = f"{loss.name}, {dtype}"
    benchmark(net.gradients, X, y)

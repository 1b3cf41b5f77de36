"""What the suites share."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pytest_benchmark", reason='pip install "fastnn[bench]"')


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    """Each dtype in turn."""
    return np.dtype(request.param)


@pytest.fixture(params=["native", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers for all that are compared."""
    return np.random.default_rng(0)

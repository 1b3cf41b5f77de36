"""The networks that are timed, and the rows that they are given."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import initializers
from fastnn._types import Array

__all__ = ["CASES", "Case", "Task"]


@dataclass(frozen=True)
class Case:
    """A network with ReLU between its layers, and how it is trained, by Adam.

    With one output it is a regression, by mean squared error; with more, a classification, by
    softmax and cross-entropy.

    Parameters
    ----------
    name : str
    sizes : tuple of int
        Number of features, then of each layer's units.
    batch : int
        Rows a step.
    batches : int
        Steps an epoch: batches in the array that they are drawn from.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    batches: int

    @property
    def shape(self) -> str:
        """The name and the sizes, as tables have them."""
        return f"{self.name} {'-'.join(map(str, self.sizes))}"

    @property
    def label(self) -> str:
        """The shape and the batch size."""
        return f"{self.shape}; {self.batch}"

    @property
    def rows(self) -> int:
        """Rows of the array that batches are drawn from."""
        return self.batch * self.batches

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers, not classes."""
        return self.sizes[-1] == 1

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(self.sizes))

    def predict_flop(self, rows: int) -> float:
        """Floating-point operations of the matrix products of a prediction."""
        return 2.0 * rows * sum(n_in * n_out for n_in, n_out in itertools.pairwise(self.sizes))

    @property
    def step_flop(self) -> float:
        """Likewise of a training step: outputs, dW, and dX of all layers but the first."""
        return 3 * self.predict_flop(self.batch) - 2.0 * self.batch * self.sizes[0] * self.sizes[1]

    def step_bytes(self, itemsize: int) -> float:
        """Least memory traffic of a step: its rows read, weights and Adam's two states updated."""
        return float(itemsize * (self.batch * self.sizes[0] + 6 * self.parameters))

    def task(self, dtype: np.dtype[Any], threads: int) -> Task:
        """Return the same made-up rows and weights for the same case and dtype."""
        rng = np.random.Generator(np.random.PCG64(0))
        X = rng.standard_normal((self.rows, self.sizes[0]), dtype)
        y: npt.NDArray[Any]
        if self.regression:
            y = rng.standard_normal((self.rows, 1), dtype)
        else:
            y = rng.integers(self.sizes[-1], size=self.rows)
        return Task(self, X, y, threads)


@dataclass(frozen=True)
class Task:
    """What a peer is to learn.

    Parameters
    ----------
    case : Case
    X : ndarray of shape (rows, features)
        float32 or float64, and so is all arithmetic.
    y : ndarray of shape (rows, 1) of X's dtype, or (rows,) of int64 classes
    threads : int
        How many threads may be used.
    """

    case: Case
    X: Array
    y: npt.NDArray[Any]
    threads: int

    def weights(self) -> list[tuple[Array, Array]]:
        """Return a new copy of what to start with: W ``(n_in, n_out)`` and b of each layer."""
        rng = np.random.Generator(np.random.PCG64(1))
        return [
            (
                initializers.draw("he_normal", rng, n_in, n_out, self.X.dtype),
                np.zeros(n_out, self.X.dtype),
            )
            for n_in, n_out in itertools.pairwise(self.case.sizes)
        ]


CASES = {
    case.name: case
    for case in (
        Case("tiny", (8, 16, 1), 32, 2000),
        Case("small", (20, 64, 64, 2), 64, 1000),
        Case("seed", (784, 100, 100, 10), 100, 100),
        Case("mid", (784, 512, 512, 10), 256, 16),
        Case("large", (1024, 2048, 2048, 1000), 1024, 2),
    )
}
"""Each has batches enough for an epoch to take well over a millisecond."""

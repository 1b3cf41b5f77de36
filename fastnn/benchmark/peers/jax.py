"""JAX: a compiled step, called for each batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn.benchmark.cases import Task
from fastnn.benchmark.peers import Peer

_RATE, _BETA_1, _BETA_2, _EPSILON = 1e-3, 0.9, 0.999, 1e-8


class Model:
    """See `fastnn.benchmark.peers.Model`."""

    def __init__(self, task: Task) -> None:
        os.environ["NPROC"] = str(task.threads)  # read when first something is computed
        jax.config.update("jax_enable_x64", task.X.dtype == np.float64)
        self.X, self.y = task.X, task.y if task.case.regression else task.y.astype(np.int32)
        self.batch = task.case.batch
        self.regression = task.case.regression
        params = jax.tree.map(jnp.asarray, task.weights())
        m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        self.state = params, m, v, jnp.zeros((), task.X.dtype)
        self.rng = np.random.default_rng(0)
        self.step = jax.jit(self.update, donate_argnums=0)

    def train(self) -> None:
        for rows in self.batches():
            # NumPy gathers faster than a compiled step does.
            self.state = self.step(self.state, self.X[rows], self.y[rows])
        jax.block_until_ready(self.state)

    def predictor(self, X: Array) -> Callable[[], object]:
        last = (lambda z: z) if self.regression else jax.nn.softmax
        outputs = jax.jit(lambda params, X: last(_forward(params, X)))
        rows = jnp.asarray(X)
        return lambda: outputs(self.state[0], rows).block_until_ready()

    def batches(self) -> npt.NDArray[np.int32]:
        """Return (batches, batch): the numbers of the rows, shuffled."""
        return self.rng.permutation(len(self.X)).astype(np.int32).reshape(-1, self.batch)

    def update(self, state: Any, X: Any, y: Any) -> Any:
        """A step of Adam."""
        params, m, v, t = state
        grads = jax.grad(partial(_loss, self.regression))(params, X, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: _BETA_1 * m + (1 - _BETA_1) * g, m, grads)
        v = jax.tree.map(lambda v, g: _BETA_2 * v + (1 - _BETA_2) * g * g, v, grads)
        rate, root = _RATE / (1 - _BETA_1**t), jnp.sqrt(1 - _BETA_2**t)
        params = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + _EPSILON), params, m, v
        )
        return params, m, v, t


def _forward(params: Any, X: Any) -> Any:
    *hidden, (W, b) = params
    for V, c in hidden:
        X = jax.nn.relu(X @ V + c)
    return X @ W + b


def _loss(regression: bool, params: Any, X: Any, y: Any) -> Any:
    z = _forward(params, X)
    if regression:
        return jnp.mean((z - y) ** 2)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1))


PEER = Peer("JAX", jax.__version__, Model)

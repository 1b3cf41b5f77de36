"""JAX: a whole epoch compiled into one call."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fastnn.benchmark.cases import Task
from fastnn.benchmark.peers import Peer
from fastnn.benchmark.peers import jax as by_step


class Model(by_step.Model):
    """See `fastnn.benchmark.peers.Model`."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.rows_on_device = jnp.asarray(self.X), jnp.asarray(self.y)
        self.epoch = jax.jit(self.scan, donate_argnums=0)

    def train(self) -> None:
        self.state = self.epoch(self.state, *self.rows_on_device, self.batches())
        jax.block_until_ready(self.state)

    def scan(self, state: Any, X: Any, y: Any, batches: Any) -> Any:
        """All steps of an epoch."""

        def step(state: Any, rows: Any) -> Any:
            X_, y_ = (a.at[rows].get(mode="promise_in_bounds") for a in (X, y))
            return self.update(state, X_, y_), None

        return jax.lax.scan(step, state, batches)[0]


PEER = Peer("JAX (scan)", jax.__version__, Model, predicts=False)

"""fastnn itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import fastnn
from fastnn._types import Array
from fastnn.benchmark.cases import Task
from fastnn.benchmark.peers import Peer


class Model:
    """See `fastnn.benchmark.peers.Model`."""

    def __init__(self, task: Task, backend: str = "native") -> None:
        self.task = task
        self.net = fastnn.Network(
            task.case.sizes,
            loss="mse" if task.case.regression else "cross_entropy",
            dtype=task.X.dtype,
            backend=backend,
            seed=0,
        )
        self.net.set_weights(task.weights())

    def train(self) -> None:
        self.net.fit(self.task.X, self.task.y, batch_size=self.task.case.batch)

    def predictor(self, X: Array) -> Callable[[], object]:
        return partial(self.net.predict, X)


PEER = Peer("fastnn", fastnn.__version__, Model)

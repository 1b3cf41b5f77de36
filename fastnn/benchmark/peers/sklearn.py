"""scikit-learn's multilayer perceptrons.

For two classes they have one unit with a sigmoid, which does the same as two with softmax, and
their squared error is half of the others'.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastnn._types import Array
from fastnn.benchmark.cases import Task
from fastnn.benchmark.peers import Peer


class Model:
    """See `fastnn.benchmark.peers.Model`."""

    def __init__(self, task: Task) -> None:
        self.task = task
        case = task.case
        kind = MLPRegressor if case.regression else MLPClassifier
        self.mlp = kind(
            hidden_layer_sizes=case.sizes[1:-1], alpha=0.0, batch_size=case.batch, random_state=0
        )
        self.y = task.y.ravel()
        first = {} if case.regression else {"classes": np.arange(case.sizes[-1])}
        self.mlp.partial_fit(task.X[: case.batch], self.y[: case.batch], **first)
        weights = task.weights()
        if case.sizes[-1] == 2:
            weights[-1] = (np.diff(weights[-1][0]), np.diff(weights[-1][1]))
        for i, (W, b) in enumerate(weights):
            self.mlp.coefs_[i][...] = W
            self.mlp.intercepts_[i][...] = b

    def train(self) -> None:
        self.mlp.partial_fit(self.task.X, self.y)

    def predictor(self, X: Array) -> Callable[[], object]:
        method = self.mlp.predict if self.task.case.regression else self.mlp.predict_proba
        return partial(method, X)


PEER = Peer("scikit-learn", sklearn.__version__, Model)

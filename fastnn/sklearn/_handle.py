"""What fastnn's callbacks get in the place of a network: an estimator amid its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastnn._types import Array
from fastnn.backends import Pair
from fastnn.history import History
from fastnn.optimizers import Optimizer
from fastnn.schedules import Schedule
from fastnn.sklearn._engine import Epochs
from fastnn.sklearn._optimizers import RuleOptimizer, rate_of, set_rate


class Handle:
    """An estimator with what callbacks need of a `fastnn.Network`.

    All other attributes are the estimator's.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    epochs : Epochs
    history : History
    """

    def __init__(self, estimator: Any, epochs: Epochs, history: History) -> None:
        self.estimator = estimator
        self.history = history
        self._epochs = epochs
        epochs.look_at_optimizer()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.estimator, name)

    @property
    def weights(self) -> list[Pair]:
        """``[(W, b), ...]``: copies of the weights that are trained."""
        return self._epochs.net.weights()

    def set_weights(self, weights: Sequence[tuple[Array, Array]]) -> None:
        """Go on from other weights.

        Raises
        ------
        ValueError
            If their shapes are not those of the network.
        """
        own = [[part.shape for part in pair if part is not None] for pair in self.weights]
        given = [[part.shape for part in pair] for pair in weights]
        if given != own:
            raise ValueError(f"weights must have the shapes {own}; got {given}")
        self._epochs.net.set_weights(weights)

    @property
    def learning_rate(self) -> float | Schedule | str:
        """The optimizer's learning rate; the next step goes by it.

        With ``learning_rate="invscaling"``, which finds a new one after each epoch, it is that
        word, and cannot be set.
        """
        if getattr(self._epochs.optimizer, "lr_schedule", None) == "invscaling":
            return "invscaling"
        rate: float | Schedule = rate_of(self._epochs.optimizer)
        return rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        if self.learning_rate == "invscaling":
            raise ValueError("learning_rate must not be 'invscaling' to be set by a callback")
        set_rate(self._epochs.optimizer, value)
        self._epochs.look_at_optimizer()

    @property
    def optimizer(self) -> Optimizer:
        """The rule by which the weights are updated."""
        optimizer = self._epochs.optimizer
        if isinstance(optimizer, RuleOptimizer):
            return optimizer.rule
        return replace(self._epochs.rule, learning_rate=rate_of(optimizer))

    @property
    def steps(self) -> int:
        """Steps that the optimizer has taken."""
        return self._epochs.net.steps()

    @property
    def epochs(self) -> int:
        """Epochs that the optimizer has gone through."""
        optimizer = self._epochs.optimizer
        done = optimizer.epochs if isinstance(optimizer, RuleOptimizer) else self.estimator.n_iter_
        return int(done)

"""scikit-learn's update rules where they differ from `fastnn.optimizers`, and their state.

The state between fits lives in scikit-learn's own optimizer objects (the estimators' private
attribute ``_optimizer``), so that pickles and conversions carry it as scikit-learn would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.neural_network._stochastic_optimizers import (
    AdamOptimizer,
    BaseOptimizer,
    SGDOptimizer,
)

from fastnn._types import Array
from fastnn._validation import positive
from fastnn.backends import Backend, Pair
from fastnn.optimizers import Optimizer


@dataclass(frozen=True, repr=False)
class VelocitySGD(Optimizer):
    """SGD whose momentum has the learning rate in it.

    ``v = momentum * v - rate * grad``; the parameters move by ``v`` or, with ``nesterov``, by
    ``momentum * v - rate * grad``. It differs from `fastnn.SGD` as soon as the rate changes.
    """

    name: ClassVar[str] = "velocity_sgd"
    code: ClassVar[int] = 100

    momentum: float = 0.9
    nesterov: bool = True

    @property
    def slots(self) -> int:
        return 1

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.momentum, 0.0, 0.0, self.weight_decay, float(self.nesterov)

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        (velocity,) = slots
        velocity[...] = self.momentum * velocity - rate * grad
        param += self.momentum * velocity - rate * grad if self.nesterov else velocity


@dataclass(frozen=True, repr=False)
class EpsilonHatAdam(Optimizer):
    """Adam in the order of computation that ends section 2 of Kingma and Ba (2015).

    Both bias corrections are in the rate, so that epsilon is added to a root that has none:
    ``param -= rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``.
    """

    name: ClassVar[str] = "epsilon_hat_adam"
    code: ClassVar[int] = 101

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    @property
    def slots(self) -> int:
        return 2

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.beta_1, self.beta_2, self.epsilon, self.weight_decay, 0.0

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        m, v = slots
        m[...] = self.beta_1 * m + (1 - self.beta_1) * grad
        v[...] = self.beta_2 * v + (1 - self.beta_2) * grad**2
        param -= corrected(rate, self.beta_1, self.beta_2, step) * m / (np.sqrt(v) + self.epsilon)


def corrected(rate: float, beta_1: float, beta_2: float, step: int) -> float:
    """Adam's rate of step number ``step``, the first being 1, with both bias corrections."""
    return float(rate * (1 - beta_2**step) ** 0.5 / (1 - beta_1**step))


class RuleOptimizer(BaseOptimizer):  # type: ignore[misc]
    """What the estimators keep as ``_optimizer`` when they are given fastnn's, or a schedule."""

    def __init__(self, rule: Optimizer) -> None:
        super().__init__(float(rule.rates(0, 0, 1)[0]))
        self.rule = rule
        self.epochs = 0
        self.steps = 0
        self.slots: list[list[Array]] = []

    def iteration_ends(self, time_step: int) -> None:
        """Count the epochs, by which schedules may go."""
        self.epochs += 1


def rule_of(optimizer: Any, clip_norm: float | None, clip_value: float | None) -> Optimizer:
    """The rule by which the core is to update, from what scikit-learn calls an optimizer."""
    if isinstance(optimizer, SGDOptimizer):
        return VelocitySGD(
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
    if isinstance(optimizer, AdamOptimizer):
        return EpsilonHatAdam(
            beta_1=optimizer.beta_1,
            beta_2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
    rule: Optimizer = optimizer.rule
    return rule


def rates_of(optimizer: Any, step: int, n: int) -> npt.NDArray[np.float64]:
    """The learning rates of the next epoch, `n` steps from number `step` on.

    Those of Adam are without its corrections.
    """
    if isinstance(optimizer, RuleOptimizer):
        return optimizer.rule.rates(optimizer.epochs, step, n)
    return np.full(n, rate_of(optimizer))


def rate_of(optimizer: Any) -> Any:
    """The learning rate, a number or a schedule, as it may be set by `set_rate`."""
    if isinstance(optimizer, RuleOptimizer):
        return optimizer.rule.learning_rate
    if isinstance(optimizer, SGDOptimizer):
        return float(optimizer.learning_rate)
    return float(optimizer.learning_rate_init)


def set_rate(optimizer: Any, rate: Any) -> None:
    """Go on by another learning rate."""
    if isinstance(optimizer, RuleOptimizer):
        optimizer.rule = replace(optimizer.rule, learning_rate=rate)
    elif isinstance(optimizer, SGDOptimizer):
        optimizer.learning_rate = positive("learning_rate", rate)
    else:
        optimizer.learning_rate_init = positive("learning_rate", rate)


def load_state(net: Backend, optimizer: Any) -> None:
    """Give the backend the state that the optimizer holds."""
    if isinstance(optimizer, SGDOptimizer):
        net.set_state(0, [_pairs(optimizer.velocities)])
    elif isinstance(optimizer, AdamOptimizer):
        net.set_state(optimizer.t, [_pairs(optimizer.ms), _pairs(optimizer.vs)])
    else:
        net.set_state(optimizer.steps, [_pairs(slot) for slot in optimizer.slots])


def save_state(net: Backend, optimizer: Any) -> None:
    """Give the optimizer the state that the backend holds."""
    steps, slots = net.state()
    arrays = [_arrays(slot) for slot in slots]
    if isinstance(optimizer, SGDOptimizer):
        (optimizer.velocities,) = arrays
    elif isinstance(optimizer, AdamOptimizer):
        optimizer.ms, optimizer.vs = arrays
        optimizer.t = steps
        if steps:
            optimizer.learning_rate = corrected(
                optimizer.learning_rate_init, optimizer.beta_1, optimizer.beta_2, steps
            )
    else:
        optimizer.steps, optimizer.slots = steps, arrays


def _pairs(arrays: Sequence[Array]) -> list[Pair]:
    """``[(W, b), ...]`` from scikit-learn's order: all coefficients, then all intercepts."""
    layers = len(arrays) // 2
    return list(zip(arrays[:layers], arrays[layers:], strict=True))


def _arrays(pairs: Sequence[Pair]) -> list[Any]:
    return [W for W, _ in pairs] + [b for _, b in pairs]

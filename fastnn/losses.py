"""Losses: one table, `LOSSES`, a row each.

A row gives, for outputs ``o`` and targets ``t`` of shape ``(batch, outputs)`` and the parameter
``p``, the loss of each row of the batch and its gradient with respect to ``o``, both in the dtype
of ``o``.  The loss of a batch is the mean over its rows, weighted where there are sample weights.
To add a loss, add a row here and its kernel to the compiled core, in the same order: the tests find
it by themselves.
"""

# NumPy's stubs make Any of arithmetic on arrays of some float type.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn.activations import ACTIVATIONS, sigmoid, softplus

__all__ = ["LOSSES", "Loss"]


@dataclass(frozen=True)
class Loss:
    """A row of `LOSSES`.

    Parameters
    ----------
    name : str
    value : callable
        ``value(o, t, p)``, ``(batch,)``: the loss of each row.
    gradient : callable
        ``gradient(o, t, p)``, ``(batch, outputs)``: its derivative with respect to ``o``.
    parameter : float
        Default of ``p``; 0.0 where there is none.
    kind : {"regression", "categorical", "binary"}
        What a target is: numbers; one class of several; for each output, yes or no.
    threshold : float
        For "binary", the output from which on the answer is yes.
    activation : str
        The last activation, unless another is given.
    on_logits : str or None
        The loss that, on the inputs of `activation`, equals this one on its outputs: that one is
        computed where the two meet, since it neither overflows nor cancels.
    """

    name: str
    value: Callable[[Array, Array, float], Array]
    gradient: Callable[[Array, Array, float], Array]
    parameter: float = 0.0
    kind: Literal["regression", "categorical", "binary"] = "regression"
    threshold: float = 0.0
    activation: str = "identity"
    on_logits: str | None = None

    @property
    def code(self) -> int:
        """Number of the row, by which the compiled core knows the loss."""
        return list(LOSSES).index(self.name)

    def fused(self, activation: str) -> Loss | None:
        """The loss that computes this one together with that last activation, if there is one."""
        if self.on_logits is None or activation != self.activation:
            return None
        return LOSSES[self.on_logits]

    def hits(self, o: Array, t: Array) -> npt.NDArray[np.bool_]:
        """``(batch,)``: which rows are predicted right; for regression, none."""
        if self.kind == "categorical":
            right: npt.NDArray[np.bool_] = o.argmax(axis=-1) == t.argmax(axis=-1)
        elif self.kind == "binary":
            right = ((o >= self.threshold) == (t >= 0.5)).all(axis=-1)
        else:
            right = np.zeros(len(o), dtype=np.bool_)
        return right


def _mse(o: Array, t: Array, p: float) -> Array:
    return np.mean((o - t) ** 2, axis=-1)


def _mse_gradient(o: Array, t: Array, p: float) -> Array:
    return 2 * (o - t) / o.shape[-1]


def _mae(o: Array, t: Array, p: float) -> Array:
    return np.mean(np.abs(o - t), axis=-1)


def _mae_gradient(o: Array, t: Array, p: float) -> Array:
    return np.sign(o - t) / o.shape[-1]


def _huber(o: Array, t: Array, p: float) -> Array:
    d = np.abs(o - t)
    square_part = np.minimum(d, p)
    return np.mean(square_part * (d - square_part / 2), axis=-1)


def _huber_gradient(o: Array, t: Array, p: float) -> Array:
    return np.clip(o - t, -p, p) / o.shape[-1]


# The likelihood of the Poisson distribution with mean exp(o), less what does not depend on o
def _poisson(o: Array, t: Array, p: float) -> Array:
    return np.mean(np.exp(o) - t * o, axis=-1)


def _poisson_gradient(o: Array, t: Array, p: float) -> Array:
    return (np.exp(o) - t) / o.shape[-1]


def _cross_entropy(o: Array, t: Array, p: float) -> Array:
    return -np.sum(t * np.log(_positive(o)), axis=-1)


def _cross_entropy_gradient(o: Array, t: Array, p: float) -> Array:
    return -t / _positive(o)


def _positive(o: Array) -> Array:
    return np.clip(o, np.finfo(o.dtype).tiny, 1)


def _binary_cross_entropy(o: Array, t: Array, p: float) -> Array:
    o = _inside(o)
    return -np.mean(t * np.log(o) + (1 - t) * np.log1p(-o), axis=-1)


def _binary_cross_entropy_gradient(o: Array, t: Array, p: float) -> Array:
    o = _inside(o)
    return (o - t) / (o * (1 - o)) / o.shape[-1]


def _inside(o: Array) -> Array:
    eps = np.finfo(o.dtype).eps
    return np.clip(o, eps, 1 - eps)


# As in softmax: a difference may overflow to -inf, and inf - inf is NaN.
@np.errstate(over="ignore", invalid="ignore")
def _softmax_cross_entropy(o: Array, t: Array, p: float) -> Array:
    d = o - o.max(axis=-1, keepdims=True)
    log_softmax = d - np.log(np.sum(np.exp(d), axis=-1, keepdims=True))
    # 0 log 0 = 0
    return -np.sum(np.where(t == 0, np.zeros_like(t), t * log_softmax), axis=-1)


def _softmax_cross_entropy_gradient(o: Array, t: Array, p: float) -> Array:
    return ACTIVATIONS["softmax"].forward(o, 0.0) * t.sum(axis=-1, keepdims=True) - t


# log sigmoid(o) = -softplus(-o) and log(1 - sigmoid(o)) = -softplus(o)
def _sigmoid_cross_entropy(o: Array, t: Array, p: float) -> Array:
    return np.mean(t * softplus(-o) + (1 - t) * softplus(o), axis=-1)


def _sigmoid_cross_entropy_gradient(o: Array, t: Array, p: float) -> Array:
    return (sigmoid(o) - t) / o.shape[-1]


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss("mse", _mse, _mse_gradient),
        Loss("mae", _mae, _mae_gradient),
        Loss("huber", _huber, _huber_gradient, parameter=1.0),
        Loss("poisson", _poisson, _poisson_gradient),
        Loss(
            "cross_entropy",
            _cross_entropy,
            _cross_entropy_gradient,
            kind="categorical",
            activation="softmax",
            on_logits="softmax_cross_entropy",
        ),
        Loss(
            "binary_cross_entropy",
            _binary_cross_entropy,
            _binary_cross_entropy_gradient,
            kind="binary",
            threshold=0.5,
            activation="sigmoid",
            on_logits="sigmoid_cross_entropy",
        ),
        Loss(
            "softmax_cross_entropy",
            _softmax_cross_entropy,
            _softmax_cross_entropy_gradient,
            kind="categorical",
        ),
        Loss(
            "sigmoid_cross_entropy",
            _sigmoid_cross_entropy,
            _sigmoid_cross_entropy_gradient,
            kind="binary",
        ),
    )
}

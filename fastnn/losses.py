"""Losses: one table, `LOSSES`, a row each; and the descriptions of those that have parameters.

A row gives, for outputs ``o`` and targets ``t`` of shape ``(batch, outputs)`` and the parameter
``p``, the loss of each row of the batch and its gradient with respect to ``o``, both in the dtype
of ``o``.  The loss of a batch is the mean over its rows, weighted where there are sample weights.
To add a loss, add a row here and its kernel to the compiled core, in the same order: the tests find
it by themselves.

=====================  =====================================================================  ===
name                   loss of a row                                                          p
=====================  =====================================================================  ===
mse                    mean((o - t)**2)
mae                    mean(abs(o - t))
huber                  mean(where(abs(o - t) < p, (o - t)**2 / 2, p * (abs(o - t) - p / 2)))  1.0
poisson                mean(exp(o) - t * o)
cross_entropy          -sum(t * log(o))
binary_cross_entropy   -mean(t * log(o) + (1 - t) * log(1 - o))
softmax_cross_entropy  cross_entropy(softmax(o))
sigmoid_cross_entropy  binary_cross_entropy(sigmoid(o))
quantile               mean(where(t > o, p * (t - o), (1 - p) * (o - t)))                     0.5
gamma                  mean(o + t * exp(-o))
focal                  -sum(t * (1 - o)**p * log(o))                                          2.0
binary_focal           -mean(t * (1 - o)**p * log(o) + (1 - t) * o**p * log(1 - o))           2.0
softmax_focal          focal(softmax(o))                                                      2.0
sigmoid_focal          binary_focal(sigmoid(o))                                               2.0
=====================  =====================================================================  ===

``mean`` and ``sum`` go over the outputs.  ``poisson`` and ``gamma`` are the negative logarithms of
likelihoods, ``o`` being that of the mean, less what does not depend on ``o``.  From papers are
``huber`` (Huber 1964), ``quantile`` (Koenker and Bassett 1978) and ``focal`` (Lin et al. 2017).

A network takes a loss by its name, which means the default parameters, as a description such as
``Quantile([0.1, 0.5, 0.9])``, or as a function (`Function`).
"""

# NumPy's stubs make Any of arithmetic on arrays of some float type.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnn import _described
from fastnn._described import Described
from fastnn._types import Array
from fastnn._validation import (
    Family,
    Sign,
    describe,
    fraction,
    known_name,
    non_negative,
    positive,
    read_only,
)
from fastnn.activations import ACTIVATIONS, sigmoid, softplus

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "CrossEntropy",
    "Focal",
    "Function",
    "Huber",
    "Loss",
    "Parametric",
    "Quantile",
    "SigmoidCrossEntropy",
    "SigmoidFocal",
    "SoftmaxCrossEntropy",
    "SoftmaxFocal",
    "from_config",
    "resolve",
]

Function: TypeAlias = Callable[[Array, Array], tuple[npt.ArrayLike, npt.ArrayLike]]
"""``loss(y, out)``, both ``(batch, outputs)``: the loss of each row, ``(batch,)``, and its
gradient with respect to ``out``, ``(batch, outputs)``.

Weights, the mean over the batch and penalties are fastnn's part.  It may be called several times
for one step, so its results must depend on its arguments alone.  The compiled core then returns to
Python twice a step, and runs the layers forward twice: expect half its usual speed, or less for
small networks.
"""


@dataclass(frozen=True)
class Loss:
    """A row of `LOSSES`.

    Parameters
    ----------
    name : str
    value : callable
        ``value(o, t, p)``, ``(batch,)``: the loss of each row; p is a number, or one a column.
    gradient : callable
        ``gradient(o, t, p)``, ``(batch, outputs)``: its derivative with respect to ``o``.
    parameter : float
        Default of ``p``; 0.0 where there is none.
    kind : {"regression", "categorical", "binary"}
        What a target is: numbers; one class of several; for each output, yes or no.
    sign : {"any", "non-negative", "positive"}
        What the numbers of a "regression" may be: those that its distribution can give.
    threshold : float
        For "binary", the output from which on the answer is yes.
    activation : str
        The last activation, unless another is given.
    on_logits : str or None
        The loss that, on the inputs of `activation`, equals this one on its outputs: that one is
        computed where the two meet, since it neither overflows nor cancels.
    """

    name: str
    value: Callable[[Array, Array, Any], Array]
    gradient: Callable[[Array, Array, Any], Array]
    parameter: float = 0.0
    kind: Family = "regression"
    sign: Sign = "any"
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


# -log of a probability as if that were held between p and 1 - p; without p, as it is
def _held(surprise: Array, p: float) -> Array:
    return np.clip(surprise, -math.log1p(-p), -math.log(p)) if p else surprise


def _cross_entropy(o: Array, t: Array, p: float) -> Array:
    return _held(-np.sum(t * np.log(_positive(o)), axis=-1), p)


def _cross_entropy_gradient(o: Array, t: Array, p: float) -> Array:
    return -t / _positive(o)


def _positive(o: Array) -> Array:
    return np.clip(o, np.finfo(o.dtype).tiny, 1)


def _binary_cross_entropy(o: Array, t: Array, p: float) -> Array:
    o = _inside(o)
    return np.mean(_held(-t * np.log(o) - (1 - t) * np.log1p(-o), p), axis=-1)


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
    return _held(-np.sum(np.where(t == 0, np.zeros_like(t), t * log_softmax), axis=-1), p)


def _softmax_cross_entropy_gradient(o: Array, t: Array, p: float) -> Array:
    return ACTIVATIONS["softmax"].forward(o, 0.0) * t.sum(axis=-1, keepdims=True) - t


# log sigmoid(o) = -softplus(-o) and log(1 - sigmoid(o)) = -softplus(o)
def _sigmoid_cross_entropy(o: Array, t: Array, p: float) -> Array:
    return np.mean(_held(t * softplus(-o) + (1 - t) * softplus(o), p), axis=-1)


def _sigmoid_cross_entropy_gradient(o: Array, t: Array, p: float) -> Array:
    return (sigmoid(o) - t) / o.shape[-1]


# The pinball loss (Koenker and Bassett 1978); p is one quantile, or one for each column
def _quantile(o: Array, t: Array, p: float | Array) -> Array:
    d = t - o
    return np.mean(np.where(d < 0, -d * (1 - p), d * p).astype(o.dtype), axis=-1)


def _quantile_gradient(o: Array, t: Array, p: float | Array) -> Array:
    slope = np.where(o > t, 1 - p, np.where(o < t, -p, o - t))
    return slope.astype(o.dtype) / o.shape[-1]


# The likelihood of the gamma distribution with mean exp(o), likewise
def _gamma(o: Array, t: Array, p: float) -> Array:
    return np.mean(o + t * np.exp(-o), axis=-1)


def _gamma_gradient(o: Array, t: Array, p: float) -> Array:
    return (1 - t * np.exp(-o)) / o.shape[-1]


# Lin, Goyal, Girshick, He and Dollár 2017, "Focal loss for dense object detection"
def _focal(o: Array, t: Array, p: float) -> Array:
    o = _inside(o)
    return -np.sum(t * (1 - o) ** p * np.log(o), axis=-1)


def _focal_gradient(o: Array, t: Array, p: float) -> Array:
    o = _inside(o)
    return t * (1 - o) ** p * (p * np.log(o) / (1 - o) - 1 / o)


def _binary_focal(o: Array, t: Array, p: float) -> Array:
    o = _inside(o)
    return np.mean(_focal_of_logs(t, np.log(o), np.log1p(-o), p), axis=-1)


def _binary_focal_gradient(o: Array, t: Array, p: float) -> Array:
    o = _inside(o)
    return _focal_slope(t, np.log(o), np.log1p(-o), p) / (o * (1 - o)) / o.shape[-1]


def _sigmoid_focal(o: Array, t: Array, p: float) -> Array:
    return np.mean(_focal_of_logs(t, -softplus(-o), -softplus(o), p), axis=-1)


def _sigmoid_focal_gradient(o: Array, t: Array, p: float) -> Array:
    return _focal_slope(t, -softplus(-o), -softplus(o), p) / o.shape[-1]


def _focal_of_logs(t: Array, log_yes: Array, log_no: Array, p: float) -> Array:
    return -(t * np.exp(p * log_no) * log_yes + (1 - t) * np.exp(p * log_yes) * log_no)


def _focal_slope(t: Array, log_yes: Array, log_no: Array, p: float) -> Array:
    """By the logit of yes."""
    yes, no = np.exp(log_yes), np.exp(log_no)
    of_yes = np.exp(p * log_no) * (p * yes * log_yes - no)
    of_no = np.exp(p * log_yes) * (yes - p * no * log_no)
    return t * of_yes + (1 - t) * of_no


def _softmax_focal(o: Array, t: Array, p: float) -> Array:
    log_softmax, rest = _log_softmax_and_rest(o)
    return -np.sum(np.where(t == 0, np.zeros_like(t), t * rest**p * log_softmax), axis=-1)


def _softmax_focal_gradient(o: Array, t: Array, p: float) -> Array:
    log_softmax, rest = _log_softmax_and_rest(o)
    softmax = np.exp(log_softmax)
    a = t * rest**p * (p * softmax * (log_softmax / rest) - 1)
    a = np.where(t == 0, np.zeros_like(t), a)
    return a - softmax * a.sum(axis=-1, keepdims=True)


@np.errstate(over="ignore", invalid="ignore")
def _log_softmax_and_rest(o: Array) -> tuple[Array, Array]:
    """The logarithms of the probabilities, and without cancellation what they lack to 1."""
    d = o - o.max(axis=-1, keepdims=True)
    log_softmax = d - np.log(np.sum(np.exp(d), axis=-1, keepdims=True))
    return log_softmax, np.maximum(-np.expm1(log_softmax), np.finfo(o.dtype).tiny)


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss("mse", _mse, _mse_gradient),
        Loss("mae", _mae, _mae_gradient),
        Loss("huber", _huber, _huber_gradient, parameter=1.0),
        Loss("poisson", _poisson, _poisson_gradient, sign="non-negative"),
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
        Loss("quantile", _quantile, _quantile_gradient, parameter=0.5),
        Loss("gamma", _gamma, _gamma_gradient, sign="positive"),
        Loss(
            "focal",
            _focal,
            _focal_gradient,
            parameter=2.0,
            kind="categorical",
            activation="softmax",
            on_logits="softmax_focal",
        ),
        Loss(
            "binary_focal",
            _binary_focal,
            _binary_focal_gradient,
            parameter=2.0,
            kind="binary",
            threshold=0.5,
            activation="sigmoid",
            on_logits="sigmoid_focal",
        ),
        Loss(
            "softmax_focal",
            _softmax_focal,
            _softmax_focal_gradient,
            parameter=2.0,
            kind="categorical",
        ),
        Loss(
            "sigmoid_focal", _sigmoid_focal, _sigmoid_focal_gradient, parameter=2.0, kind="binary"
        ),
    )
}


def called(function: Function, o: Array, t: Array) -> tuple[Array, Array]:
    """What a function returns, checked and in the dtype of ``o``."""
    result = function(read_only(t), read_only(o))
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(f"loss must return (value, gradient); got {describe(result)}")
    value, gradient = (np.asarray(part, o.dtype) for part in result)
    for name, array, shape in (("value", value, o.shape[:1]), ("gradient", gradient, o.shape)):
        if array.shape != shape:
            raise ValueError(
                f"loss must return (value, gradient) with a {name} of shape {shape};"
                f" got shape {array.shape}"
            )
    return value, gradient


def of_function(function: Function) -> Loss:
    """A row that calls a function."""
    return Loss(
        getattr(function, "__name__", type(function).__name__),
        lambda o, t, p: called(function, o, t)[0],
        lambda o, t, p: called(function, o, t)[1],
    )


@dataclass(frozen=True, repr=False)
class Parametric(Described):
    """Base of the descriptions: a loss of the table and its parameters."""

    @property
    def parameter(self) -> float:
        """What the row takes as ``p``."""
        return LOSSES[self.name].parameter

    def parameters(self, outputs: int) -> tuple[int, float | tuple[float, ...]]:
        """How many outputs a target has, and ``p``: one for all outputs or one for each."""
        return 1, self.parameter

    @property
    def smoothing(self) -> float:
        """The part of each label that goes to all classes alike."""
        return 0.0


@dataclass(frozen=True, repr=False)
class Huber(Parametric):
    """The square of small errors, the size of large ones (Huber 1964).

    ``d**2 / 2`` for errors ``d`` up to ``delta``, ``delta * (|d| - delta / 2)`` beyond.

    Parameters
    ----------
    delta : float, default 1.0
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "huber"

    delta: float = 1.0

    def __post_init__(self) -> None:
        self._set("delta", positive("delta", self.delta))

    @property
    def parameter(self) -> float:
        return self.delta


@dataclass(frozen=True, repr=False)
class Quantile(Parametric):
    """The pinball loss, whose best outputs are quantiles (Koenker and Bassett 1978).

    ``q * (y - out)`` where ``y`` is larger, ``(1 - q) * (out - y)`` where it is smaller; the mean
    over the outputs.

    Parameters
    ----------
    quantiles : float or sequence of float, default 0.5
        Each between 0 and 1.  Of several, a network puts out all for the first target, then all
        for the second, and so on: its outputs are a multiple of them, and ``y`` has one column for
        each target, or is ``(rows,)`` where there is one.

    Raises
    ------
    TypeError, ValueError
        If there is none, or one is no number between 0 and 1.

    Examples
    --------
    >>> import fastnn
    >>> loss = fastnn.losses.Quantile([0.1, 0.5, 0.9])
    >>> net = fastnn.Network([8, 32, 3], loss=loss)
    """

    name: ClassVar[str] = "quantile"

    quantiles: float | Sequence[float] = (0.5,)

    def __post_init__(self) -> None:
        given: object = self.quantiles
        if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            given = (given,)
        quantiles = tuple(positive(f"quantiles[{i}]", q) for i, q in enumerate(given))
        if not quantiles or max(quantiles) >= 1:
            raise ValueError(
                f"quantiles must be numbers between 0 and 1, one at least; got {describe(given)}"
            )
        self._set("quantiles", quantiles)

    def parameters(self, outputs: int) -> tuple[int, float | tuple[float, ...]]:
        assert isinstance(self.quantiles, tuple)
        number = len(self.quantiles)
        if number == 1:
            return 1, self.quantiles[0]
        if outputs % number:
            raise ValueError(
                f"layers must end with a multiple of {number} units, one for each quantile of a"
                f" target; got {outputs}"
            )
        return number, self.quantiles * (outputs // number)


@dataclass(frozen=True, repr=False)
class _Focal(Parametric):
    gamma: float = 2.0

    def __post_init__(self) -> None:
        self._set("gamma", non_negative("gamma", self.gamma))

    @property
    def parameter(self) -> float:
        return self.gamma


@dataclass(frozen=True, repr=False)
class Focal(_Focal):
    """The cross-entropy, less of it for rows that are right already (Lin et al. 2017).

    ``-sum_j y_j * (1 - out_j)**gamma * log(out_j)``.

    Parameters
    ----------
    gamma : float, default 2.0
        At least 0, which is the cross-entropy.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "focal"


@dataclass(frozen=True, repr=False)
class BinaryFocal(_Focal):
    """The same for outputs of which each is a yes or no of its own, the mean over them.

    ``-y * (1 - out)**gamma * log(out) - (1 - y) * out**gamma * log(1 - out)``.

    Parameters
    ----------
    gamma : float, default 2.0
        At least 0, which is the binary cross-entropy.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "binary_focal"


@dataclass(frozen=True, repr=False)
class SoftmaxFocal(_Focal):
    """`Focal` of the softmax of what a network puts out.

    Parameters
    ----------
    gamma : float, default 2.0

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "softmax_focal"


@dataclass(frozen=True, repr=False)
class SigmoidFocal(_Focal):
    """`BinaryFocal` of the sigmoid of what a network puts out.

    Parameters
    ----------
    gamma : float, default 2.0

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "sigmoid_focal"


@dataclass(frozen=True, repr=False)
class _Smoothed(Parametric):
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        self._set("label_smoothing", fraction("label_smoothing", self.label_smoothing))

    @property
    def smoothing(self) -> float:
        return self.label_smoothing


@dataclass(frozen=True, repr=False)
class CrossEntropy(_Smoothed):
    """``-sum_j y_j log(out_j)``, of probabilities.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        ``0 <= label_smoothing < 1``: the part of each label that goes to all classes alike,
        ``y = (1 - label_smoothing) * y + label_smoothing / outputs``, also in evaluation (Szegedy
        et al. 2016, "Rethinking the Inception architecture").

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "cross_entropy"


@dataclass(frozen=True, repr=False)
class BinaryCrossEntropy(_Smoothed):
    """``-y log(out) - (1 - y) log(1 - out)``, the mean over outputs, of probabilities.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        As of `CrossEntropy`, of the two classes yes and no:
        ``y = (1 - label_smoothing) * y + label_smoothing / 2``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "binary_cross_entropy"


@dataclass(frozen=True, repr=False)
class SoftmaxCrossEntropy(_Smoothed):
    """`CrossEntropy` of the softmax of what a network puts out.

    Parameters
    ----------
    label_smoothing : float, default 0.0

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "softmax_cross_entropy"


@dataclass(frozen=True, repr=False)
class SigmoidCrossEntropy(_Smoothed):
    """`BinaryCrossEntropy` of the sigmoid of what a network puts out.

    Parameters
    ----------
    label_smoothing : float, default 0.0

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "sigmoid_cross_entropy"


PARAMETRIC: dict[str, type[Parametric]] = {
    cls.name: cls
    for cls in (
        Huber,
        CrossEntropy,
        BinaryCrossEntropy,
        SoftmaxCrossEntropy,
        SigmoidCrossEntropy,
        Quantile,
        Focal,
        BinaryFocal,
        SoftmaxFocal,
        SigmoidFocal,
    )
}

Given: TypeAlias = str | Parametric | Function


def resolve(loss: Given) -> Loss:
    """The row of a loss however it is given.

    Raises
    ------
    ValueError
        If it is neither a known name nor a description nor a function.
    TypeError
        If it is a class.
    """
    if isinstance(loss, type):
        raise TypeError(f"loss must be a description, {loss.__name__}(...); got its class")
    if isinstance(loss, Parametric):
        return LOSSES[loss.name]
    return of_function(loss) if callable(loss) else LOSSES[known_name("loss", loss, LOSSES)]


def get_config(loss: Given) -> str | dict[str, Any] | Function:
    """What `from_config` makes the loss of: plain values, ready for JSON, unless a function."""
    return loss.get_config() if isinstance(loss, Parametric) else loss


def from_config(config: Any) -> Given:
    """Undo `get_config`.

    Raises
    ------
    ValueError
        If ``config`` describes no loss.
    """
    if isinstance(config, Mapping):
        return _described.from_config("loss", PARAMETRIC, config)
    return config if callable(config) else known_name("loss", config, LOSSES)

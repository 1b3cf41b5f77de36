"""Figures to judge a network by, besides its loss: scikit-learn's, or any callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnn._optional import needed
from fastnn._types import Array
from fastnn._validation import describe, read_only, unknown_name
from fastnn.activations import ACTIVATIONS
from fastnn.losses import LOSSES, Loss

if TYPE_CHECKING:
    from fastnn.network import Network
    from fastnn.training import Data

__all__ = ["Metric", "judges"]

_ENDINGS = ("_score", "_error", "_loss", "_deviance")

Metric: TypeAlias = str | Callable[[npt.NDArray[Any], Array], float]
"""The name of one of scikit-learn's, or a function of targets and outputs."""


def judges(
    net: Network, metrics: Iterable[Metric], data: Data | None, prefix: str
) -> Callable[[], dict[str, float]]:
    """Return what computes all metrics on some rows, under their names behind a prefix.

    Raises
    ------
    TypeError, ValueError
        If one is neither callable nor the name of a metric, two have one name, or there are no
        rows.
    ImportError
        If one is a name and scikit-learn is not there.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list of names and callables; got {describe(metrics)}")
    functions: dict[str, Callable[[npt.NDArray[Any], Array], float]] = {}
    for number, metric in enumerate(metrics):
        if callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), metric
        elif isinstance(metric, str):
            name, function = metric, _of_sklearn(f"metrics[{number}]", metric, net)
        else:
            raise TypeError(
                f"metrics[{number}] must be a name or a callable metric(y, outputs);"
                f" got {describe(metric)}"
            )
        if prefix + name in functions:
            raise ValueError(f"metrics must have different names; got {name!r} twice")
        functions[prefix + name] = function
    if not functions:
        return dict
    if data is None:
        raise ValueError("metrics of batches need validation_data to be computed on; got none")
    X, y = data.X, read_only(data.target)

    def judge() -> dict[str, float]:
        outputs = read_only(net.predict(X))
        return {name: float(function(y, outputs)) for name, function in functions.items()}

    return judge


def _of_sklearn(
    argument: str, name: str, net: Network
) -> Callable[[npt.NDArray[Any], Array], float]:
    with needed("a metric by name", "scikit-learn", "sklearn"):
        from sklearn import metrics
    loss = net._loss

    if name in metrics.get_scorer_names():
        scorer = metrics.get_scorer(name)
        # A scorer asks a model about rows, and the model here knows the answers.
        return lambda y, outputs: float(scorer(_model(loss, outputs), outputs, _truth(loss, y)))
    function = getattr(metrics, name, None)
    if not callable(function) or not name.endswith(_ENDINGS) or name == "hinge_loss":
        raise unknown_name(argument, name, metrics.get_scorer_names())
    second = list(inspect.signature(function).parameters)[1]
    of_scores = second in ("y_score", "y_proba", "y_prob") or "log_loss" in name
    answers = _scores if of_scores else _answers
    return lambda y, outputs: float(function(_truth(loss, y), answers(loss, outputs)))


def _truth(loss: Loss, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return targets as scikit-learn takes them: classes as numbers, one output as a row."""
    if y.ndim == 1:
        return y
    if loss.kind == "categorical":
        return np.asarray(y.argmax(axis=1))
    said = (y >= 0.5).astype(np.int32) if loss.kind == "binary" else y
    return said[:, 0] if y.shape[1] == 1 else said


def _answers(loss: Loss, outputs: Array) -> npt.NDArray[Any]:
    """Return what a network says by its outputs, likewise."""
    shift = outputs.dtype.type(loss.threshold - 0.5) if loss.kind == "binary" else 0
    # Where numbers of one sign are expected, the outputs are the logarithm of their mean.
    said = outputs - shift if loss.sign == "any" else np.exp(outputs)
    return _truth(loss, said)


def _scores(loss: Loss, outputs: Array) -> Array:
    """Return a probability for each class; of two classes only that of the second."""
    probabilities = _probabilities(loss, outputs)
    of_two = outputs.shape[1] == 1 or (loss.kind == "categorical" and outputs.shape[1] == 2)
    return probabilities[:, 1] if of_two else probabilities


def _probabilities(loss: Loss, outputs: Array) -> Array:
    on_logits = {other.on_logits: other.activation for other in LOSSES.values() if other.on_logits}
    if loss.name in on_logits:
        outputs = ACTIVATIONS[on_logits[loss.name]].forward(outputs, 0.0)
    if outputs.shape[1] == 1:
        return np.concatenate([1 - outputs, outputs], axis=1)
    return outputs


def _model(loss: Loss, outputs: Array) -> Any:
    """Return a model in scikit-learn's sense that has given these outputs."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    kind = RegressorMixin if loss.kind == "regression" else ClassifierMixin

    class Answers(kind, BaseEstimator):  # type: ignore[misc,valid-type]
        classes_ = np.arange(max(outputs.shape[1], 2))

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, X: object) -> npt.NDArray[Any]:
            return _answers(loss, outputs)

        def predict_proba(self, X: object) -> Array:
            return _probabilities(loss, outputs)

    return Answers()

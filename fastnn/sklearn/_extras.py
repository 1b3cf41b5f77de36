"""What our estimators can that scikit-learn's cannot: the parameters, and what goes with what."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, StrOptions

from fastnn._validation import describe, known_name
from fastnn.activations import ACTIVATIONS
from fastnn.averaging import EMA, Averaging
from fastnn.callbacks import Callback, Checkpoint
from fastnn.callbacks import checked as checked_callbacks
from fastnn.losses import Focal, Huber, Quantile, resolve
from fastnn.optimizers import Optimizer
from fastnn.schedules import Schedule

EXTRAS: dict[str, Any] = {
    "dropout": 0.0,
    "dtype": None,
    "optimizer": None,
    "clip_norm": None,
    "clip_value": None,
    "averaging": None,
    "scoring": None,
    "callbacks": None,
}
"""Of both estimators, with their defaults."""

HIDDEN = frozenset({"logistic", *ACTIVATIONS} - {"softmax"})
"""Names of activations for hidden layers."""

_positive = Interval(Real, 0, None, closed="neither")

CONSTRAINTS: dict[str, list[Any]] = {
    "activation": [StrOptions(set(HIDDEN)), list, tuple],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "dtype": [StrOptions({"float32", "float64"}), None],
    "optimizer": [Optimizer, None],
    "clip_norm": [_positive, None],
    "clip_value": [_positive, None],
    "averaging": [Interval(Real, 0, 1, closed="left"), Averaging, None],
    "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
    "callbacks": [list, tuple, None],
}

CLASSIFIER_CONSTRAINTS: dict[str, list[Any]] = {
    **CONSTRAINTS,
    "loss": [StrOptions({"log_loss", "mse", "focal"}), Focal, callable],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "class_weight": [dict, StrOptions({"balanced"}), None],
}

REGRESSOR_CONSTRAINTS: dict[str, list[Any]] = {
    **CONSTRAINTS,
    "loss": [
        StrOptions({"squared_error", "poisson", "mae", "huber", "quantile", "gamma"}),
        Huber,
        Quantile,
        callable,
    ],
}

PARAMETERS = """activation : str or sequence of str
        Also any other of `fastnn.activations.ACTIVATIONS` but softmax; of several, one for each
        hidden layer. The output layer starts as for the last of them.
    learning_rate : str or fastnn.schedules.Schedule
        With solver "sgd" or "adam" a schedule takes the place of ``learning_rate_init``. Its
        epochs or steps are counted as the optimizer's state is kept: from each ``fit`` on, and
        through all calls of ``partial_fit``.
    dropout : float, default=0.0
        Rate at which units of the hidden layers are dropped while training, 0 <= rate < 1.
    dtype : {"float32", "float64"}, optional
        What X is converted to; by default float32 stays float32, and all else is float64.
    optimizer : fastnn.optimizers.Optimizer, optional
        Takes the place of the solver's update, with the learning rate, a schedule perhaps, and the
        clipping that it has itself; the solver is then "adam" or "sgd" and says nothing more.
    clip_norm : float, optional
        If given, gradients are scaled down so that their norm is at most about this.
    clip_value : float, optional
        If given, each gradient is cut to at most this size, before ``clip_norm``.
    averaging : float, fastnn.EMA or fastnn.SWA, optional
        An average of the weights over training steps to keep beside them, and to predict by; a
        number is the decay of an `fastnn.EMA`. It is in ``averaged_coefs_`` and
        ``averaged_intercepts_``; the training goes on from ``coefs_`` and ``intercepts_``.
    scoring : str or callable, optional
        What ``early_stopping`` goes by instead of the accuracy or R²: a scorer as in
        `sklearn.model_selection.cross_val_score`, or "loss", the loss of the validation rows
        without penalties. Of that ``validation_scores_`` has the negative.
    callbacks : list of fastnn.Callback, optional
        Called as by `fastnn.Network.fit`, with something in the place of the network that has the
        attributes of the estimator and what callbacks need of a network: ``weights``,
        ``set_weights``, ``learning_rate``, ``optimizer``, ``steps``, ``epochs``, ``history``.
        scikit-learn's callbacks are given to ``set_callbacks`` instead."""

METHODS = """

    ``fit`` takes ``X_val``, ``y_val`` and ``sample_weight_val``, with ``early_stopping``, to
    validate by instead of a part of X. With scikit-learn 1.9 or newer ``set_callbacks`` takes
    scikit-learn's callbacks; each epoch of ``fit`` is a task of theirs."""


def check(estimator: Any) -> None:
    """Refuse what does not go together.

    Raises
    ------
    TypeError, ValueError
    """
    own = vars(estimator)
    schedule = isinstance(own["learning_rate"], Schedule)
    if own["solver"] == "lbfgs":
        unfit = ("dropout", "optimizer", "clip_norm", "clip_value", "averaging", "scoring")
        for name in (*unfit, "callbacks", *(["learning_rate"] if schedule else [])):
            if own[name]:
                raise ValueError(
                    f"{name} needs solver='sgd' or 'adam' to be {own[name]!r}; got solver='lbfgs'"
                )
    if own["optimizer"] is not None:
        for name in ("clip_norm", "clip_value", *(["learning_rate"] if schedule else [])):
            if own[name] is not None:
                raise ValueError(f"{name} must be given to the optimizer itself, not beside it")
    if own["scoring"] is not None and not own["early_stopping"]:
        raise ValueError("scoring needs early_stopping=True; got early_stopping=False")
    if own.get("label_smoothing") and own["loss"] != "log_loss":
        raise ValueError(f"label_smoothing needs loss='log_loss'; got loss={own['loss']!r}")
    if not isinstance(own["loss"], str):
        resolve(own["loss"])
    if isinstance(own["loss"], Quantile):
        own["loss"].parameters(1)  # one for each output, so no more than one
    _check_activations(own["activation"], int(np.size(own["hidden_layer_sizes"])))
    _callbacks(own["callbacks"])


def _check_activations(activation: str | Sequence[object], hidden: int) -> None:
    if isinstance(activation, str):
        return
    if len(activation) != hidden:
        raise ValueError(
            f"activation must be one name, or one for each of the {hidden} hidden layers;"
            f" got {len(activation)}"
        )
    for i, name in enumerate(activation):
        known_name(f"activation[{i}]", name, HIDDEN)


def _callbacks(given: Sequence[object] | None) -> list[Callback]:
    for number, callback in enumerate(given or ()):
        if hasattr(callback, "on_fit_task_end"):
            raise TypeError(
                f"callbacks[{number}] must be a fastnn.callbacks.Callback; got"
                f" {describe(callback)}: give scikit-learn's to set_callbacks"
            )
        if isinstance(callback, Checkpoint):
            raise TypeError(
                f"callbacks[{number}] must not be a Checkpoint, which saves a fastnn.Network;"
                " pickle the estimator instead"
            )
    return checked_callbacks(given or ())  # type: ignore[arg-type]


def callbacks_of(estimator: Any) -> list[Callback]:
    """The callbacks of the estimator, checked."""
    return _callbacks(estimator.callbacks)


def averaging_of(estimator: Any) -> Averaging | None:
    """The average that the estimator is to keep."""
    given = estimator.averaging
    return given if given is None or isinstance(given, Averaging) else EMA(float(given))


def constructor(original: Any, extras: dict[str, Any]) -> Callable[..., None]:
    """``original.__init__``, whatever this version's, with keyword-only extras at its end."""
    signature = inspect.signature(original.__init__)
    extras = {name: value for name, value in extras.items() if name not in signature.parameters}

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name, default) for name, default in extras.items()}
        original.__init__(self, *args, **kwargs)
        for name, value in own.items():
            setattr(self, name, value)

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in extras.items()
    ]
    signature = signature.replace(parameters=[*signature.parameters.values(), *added])
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def extras_of(cls: Any) -> dict[str, Any]:
    """The parameters, with their defaults, that scikit-learn's class does not have."""
    theirs = inspect.signature(cls.__bases__[-1].__init__).parameters
    return {
        name: parameter.default
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name not in theirs
    }

"""Our estimators in the place of scikit-learn's, and the way from one to the other."""

from __future__ import annotations

import copy
import copyreg
import sys
from types import TracebackType
from typing import Any

from fastnn._validation import describe
from fastnn.schedules import Schedule
from fastnn.sklearn._estimators import MLPClassifier, MLPRegressor
from fastnn.sklearn._extras import extras_of
from fastnn.sklearn._optimizers import RuleOptimizer

_OURS: dict[Any, Any] = {cls.__bases__[-1]: cls for cls in (MLPClassifier, MLPRegressor)}
"""By scikit-learn's class."""

_replaced: list[tuple[dict[str, Any], str, Any]] = []
"""Where there is ours now, and what was there before."""


class Patch:
    """What `patch_sklearn` returns: leaving its ``with`` block undoes that call."""

    def __init__(self, replaced: list[tuple[dict[str, Any], str, Any]]) -> None:
        self._mine = replaced

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _restore(self._mine)


def patch_sklearn() -> Patch:
    """Put fastnn's MLPClassifier and MLPRegressor in the place of scikit-learn's.

    The names are replaced in ``sklearn.neural_network`` and in every module that has imported them
    from there, and whoever imports them from now on gets fastnn's. Estimators that were made before
    stay what they are. Calling it again does no harm; it reaches modules imported meanwhile.

    Returns
    -------
    Patch
        A context manager that undoes this call when its block is left.

    See Also
    --------
    unpatch_sklearn : Undo all calls.
    from_sklearn : Convert an estimator that is already there.

    Examples
    --------
    >>> import fastnn
    >>> with fastnn.patch_sklearn():
    ...     from sklearn.neural_network import MLPClassifier
    >>> MLPClassifier.__module__
    'fastnn.sklearn'
    """
    replaced = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fastnn":
            continue
        names = getattr(module, "__dict__", {})
        for attribute, value in list(names.items()):
            for original, cls in _OURS.items():
                if value is original:  # and not ==, which a stranger's object may do anything at
                    replaced.append((names, attribute, original))
                    names[attribute] = cls
    _replaced.extend(replaced)
    for original in _OURS:
        copyreg.pickle(original, _reduced)
    return Patch(replaced)


def unpatch_sklearn() -> None:
    """Undo `patch_sklearn`: every name that it replaced is scikit-learn's again.

    Modules that imported the names while the patch was on keep what they got.
    """
    _restore(list(_replaced))


def _restore(replaced: list[tuple[dict[str, Any], str, Any]]) -> None:
    for place in replaced:
        names, attribute, original = place
        if names.get(attribute) is _OURS[original]:
            names[attribute] = original
        if place in _replaced:
            _replaced.remove(place)
    if not _replaced:
        for original in _OURS:
            copyreg.dispatch_table.pop(original, None)


def _reduced(estimator: Any) -> tuple[Any, ...]:
    """How scikit-learn's own are pickled while their names stand for ours."""
    return _made, (type(estimator).__name__,), estimator.__getstate__()


def _made(name: str) -> Any:
    original = next(original for original in _OURS if original.__name__ == name)
    return original.__new__(original)


def from_sklearn(estimator: Any) -> MLPClassifier | MLPRegressor:
    """Make fastnn's estimator from scikit-learn's, fitted or not.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Left as it is; nothing is shared.

    Returns
    -------
    MLPClassifier or MLPRegressor
        With the same parameters and fitted attributes, the state of the optimizer and of the
        random generator included.

    Raises
    ------
    TypeError
        If it is neither.
    """
    cls = _OURS.get(type(estimator))
    if cls is None:
        raise TypeError(
            "estimator must be an MLPClassifier or MLPRegressor of scikit-learn;"
            f" got {describe(estimator)}"
        )
    state = copy.deepcopy(estimator.__getstate__())
    made: MLPClassifier | MLPRegressor = cls.__new__(cls)
    made.__setstate__({**extras_of(cls), **state})
    return made


def to_sklearn(estimator: MLPClassifier | MLPRegressor, *, drop_extras: bool = False) -> Any:
    """Make scikit-learn's estimator from fastnn's, fitted or not.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Left as it is; nothing is shared.
    drop_extras : bool, default False
        Whether to leave out what scikit-learn does not have but does not need to predict the same:
        the estimator then predicts the same, from its average of the weights if there is one, but
        would train on differently. Without it, such an estimator is refused.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor
        With the same parameters and fitted attributes, the state of the optimizer and of the
        random generator included. It does not need fastnn.

    Raises
    ------
    TypeError
        If it is neither of fastnn's.
    ValueError
        If it has parameters that scikit-learn does not know, other than at their defaults, or
        values that it does not; with `drop_extras` only if it could not predict the same.
    """
    if type(estimator) not in _OURS.values():
        raise TypeError(
            "estimator must be an MLPClassifier or MLPRegressor of fastnn.sklearn;"
            f" got {describe(estimator)}"
        )
    original: Any = type(estimator).__bases__[-1]
    extras = extras_of(type(estimator))
    state = dict(estimator.__getstate__())
    state.pop("_skl_callbacks", None)
    there = vars(original())  # among them the classifier's loss, which is no parameter of it
    if drop_extras:
        _drop(state, extras)
    for name, default in extras.items():
        value = state[name]
        if value is not default and value != default:
            raise ValueError(
                f"{name} must be {default!r}, since scikit-learn has no such parameter;"
                f" got {value!r}"
            )
    made = original.__new__(original)
    made.__dict__.update(
        copy.deepcopy(
            {name: value for name, value in state.items() if name not in extras or name in there}
        )
    )
    made._validate_params()
    return made


def _drop(state: dict[str, Any], extras: dict[str, Any]) -> None:
    """Put in a state what scikit-learn has in the place of what it does not have."""
    loss = state["loss"]
    state |= extras
    if "loss" not in extras:
        state["loss"] = "poisson" if loss in ("poisson", "gamma") else "squared_error"
    elif loss in ("poisson", "gamma"):
        raise ValueError(f"loss must be 'squared_error' for scikit-learn before 1.7; got {loss!r}")
    if isinstance(state["learning_rate"], Schedule):
        state["learning_rate"] = "constant"
    if isinstance(state.get("_optimizer"), RuleOptimizer):
        del state["_optimizer"]
    names = state["activation"]
    if not isinstance(names, str):
        if len(set(names)) > 1:
            raise ValueError(
                "activation must be the same for all hidden layers, since scikit-learn has but"
                f" one; got {names!r}"
            )
        state["activation"] = names[0] if names else "relu"
    if state["activation"] == "sigmoid":
        state["activation"] = "logistic"
    for name in ("coefs_", "intercepts_"):
        if f"averaged_{name}" in state:
            state[name] = state.pop(f"averaged_{name}")

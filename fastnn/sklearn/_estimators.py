"""MLPClassifier and MLPRegressor: scikit-learn's own, computed by the compiled core.

The classes inherit from scikit-learn's, so that parameters, checks, labels, splits, messages, tags
and metadata routing are scikit-learn's, whatever its version. What they override is the arithmetic:
the epochs, the gradient that L-BFGS asks for, and the way forward.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
import sklearn.neural_network
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from fastnn._types import Array
from fastnn.activations import ACTIVATIONS
from fastnn.backends import Pair, Spec
from fastnn.backends.native import NativeBackend
from fastnn.callbacks import Callback, StopTraining
from fastnn.callbacks import checked as checked_callbacks
from fastnn.history import History
from fastnn.optimizers import Optimizer
from fastnn.schedules import Schedule
from fastnn.sklearn._engine import Epochs, Rows, dense_chunks, loss_and_gradient, spec_of
from fastnn.sklearn._optimizers import (
    RuleOptimizer,
    load_state,
    rate_of,
    rule_of,
    save_state,
)

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class _Engine:
    """What an estimator has in the compiled core; never pickled, made anew when it is needed."""

    def __init__(self) -> None:
        self.nets: dict[np.dtype[Any], NativeBackend] = {}  # of the weights as they are
        self.activations: tuple[str, str] | None = None
        self.trained: NativeBackend | None = None  # whose optimizer state is the newest
        self.exposed = True  # the arrays of weights are in others' hands, who may write to them
        self.leads = False  # amid training: `trained` is ahead of the arrays
        self.rows: tuple[tuple[Any, ...], Rows] | None = None  # of L-BFGS


class _Watched:
    """An attribute that the core may be ahead of, and that its readers may change in place."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, estimator: Any, owner: type | None = None) -> Any:
        if estimator is None:
            return self
        self.look(estimator)
        try:
            return estimator.__dict__[self.name]
        except KeyError:
            raise AttributeError(
                f"{type(estimator).__name__!r} object has no attribute {self.name!r}"
            ) from None

    def __set__(self, estimator: Any, value: Any) -> None:
        self.look(estimator)
        estimator.__dict__[self.name] = value

    def __delete__(self, estimator: Any) -> None:
        self.look(estimator)
        del estimator.__dict__[self.name]

    def look(self, estimator: Any) -> None:
        raise NotImplementedError


class _Weights(_Watched):
    def look(self, estimator: Any) -> None:
        engine = estimator._core
        if engine.leads:
            estimator._write_back()
        engine.exposed = True


class _State(_Watched):
    def look(self, estimator: Any) -> None:
        engine = estimator._core
        if engine.trained is not None and self.name in estimator.__dict__:
            save_state(engine.trained, estimator.__dict__[self.name])
            if not engine.leads:
                engine.trained = None


class _Compiled(BaseMultilayerPerceptron):  # type: ignore[misc]
    """What both estimators override; comes before scikit-learn's class."""

    _no_improvement_count: int

    coefs_ = _Weights()
    intercepts_ = _Weights()
    _optimizer = _State()

    @property
    def _core(self) -> _Engine:
        engine: _Engine | None = self.__dict__.get("_engine")
        if engine is None:
            engine = self.__dict__["_engine"] = _Engine()
        return engine

    def __getstate__(self) -> dict[str, Any]:
        if "_optimizer" in self.__dict__:
            self._optimizer  # noqa: B018  brings it up to date
        state = dict(super().__getstate__())
        state.pop("_engine", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # what scikit-learn's own pickles bring along, which may be loaded as ours under the patch
        state = {name: value for name, value in state.items() if name != "_sklearn_version"}
        super().__setstate__(extras_of(type(self)) | state)
        self.__dict__["_engine"] = _Engine()

    # -- between the estimator's arrays and the core

    def _arrays(self) -> list[Pair]:
        own = self.__dict__
        return list(zip(own["coefs_"], own["intercepts_"], strict=True))

    def _write_back(self) -> None:
        """The core's weights into the estimator's arrays, the same ones where that is possible."""
        net = self._core.trained
        assert net is not None
        own = self.__dict__
        for i, (W, b) in enumerate(net.weights()):
            for array, name in ((W, "coefs_"), (b, "intercepts_")):
                there = own[name][i]
                if isinstance(there, np.ndarray) and there.dtype in _FLOATS:
                    there[...] = array
                else:
                    own[name][i] = array

    def _net(self, dtype: np.dtype[Any]) -> NativeBackend:
        """A network for the way forward, with the weights as they are now."""
        engine = self._core
        own = self.__dict__
        if engine.leads and engine.trained is not None:
            if engine.trained.spec.dtype == dtype:
                return engine.trained
            self._write_back()
        if not self._is_current(engine):
            engine.nets = {}
        net = engine.nets.get(dtype)
        if net is None:
            activations = (own["activation"], own["out_activation_"])
            pairs = self._arrays()
            net = NativeBackend(spec_of([W for W, _ in pairs], dtype, *activations))
            net.set_weights(pairs)
            engine.activations = activations  # of all in nets
            engine.nets[dtype] = net
        return net

    def _is_current(self, engine: _Engine) -> bool:
        own = self.__dict__
        if engine.leads or engine.activations != (own["activation"], own["out_activation_"]):
            return False
        if engine.exposed:
            pairs = self._arrays()
            return all(net.has_weights(pairs) for net in engine.nets.values())
        return True

    # -- the way forward

    def _outputs_at_once(self, X: object) -> Array | None:
        """The outputs for an X of which the core finds that it needs no conversion, else None."""
        own = self.__dict__
        engine: _Engine | None = own.get("_engine")
        if engine is None or "feature_names_in_" in own or not isinstance(X, np.ndarray):
            return None
        net = engine.nets.get(X.dtype)
        if net is None or not self._is_current(engine):
            return None
        out = net.predict_directly(X, None)
        if out is None or not len(out):
            return None
        return self._linked(out)

    def _linked(self, out: Array) -> Array:
        if self.__dict__["out_activation_"] == "exp":
            np.exp(out, out=out)
        return out

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Any:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        wanted = getattr(self, "dtype", None)
        dtype = np.dtype(wanted or np.result_type(X.dtype, self.__dict__["coefs_"][0].dtype))
        if dtype not in _FLOATS:
            return super()._forward_pass_fast(X, check_input=False)
        net = self._net(dtype)
        if scipy.sparse.issparse(X):
            out = np.empty((X.shape[0], net.spec.layers[-1].n_out), dtype)
            for rows, part in dense_chunks(X, dtype):
                net.predict(part, out[rows])
            return self._linked(out)
        direct = net.predict_directly(np.ascontiguousarray(X, dtype), None)
        if direct is None:  # NaN or infinity, which scikit-learn lets by where it is told to
            return super()._forward_pass_fast(X, check_input=False)
        return self._linked(direct)

    def _predict(self, X: Any, check_input: bool = True) -> Any:
        return self._answer(self._forward_pass_fast(X, check_input=check_input))

    def predict(self, X: Any) -> Any:
        """Predict as scikit-learn's `predict` does.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Without conversion, and much faster for few rows, if it is a C-contiguous array of the
            dtype of the weights.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or numbers.
        """
        out = self._outputs_at_once(X)
        return super().predict(X) if out is None else self._answer(out)

    def _answer(self, out: Array) -> Any:
        raise NotImplementedError

    # -- training

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the model, as scikit-learn's `fit` does.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Sparse rows are made dense some at a time.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or numbers.
        sample_weight : array-like of shape (n_samples,), optional
            What each row counts.
        X_val, y_val : array-like, optional
            With ``early_stopping``, what to validate by instead of a part of X and y.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Where scikit-learn raises it, and if only one of X_val and y_val is given, or both
            without ``early_stopping``.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together; got only one of them")
        if X_val is not None and not self.early_stopping:
            raise ValueError("X_val and y_val need early_stopping=True; got early_stopping=False")
        self.__dict__["_validation"] = None if X_val is None else (X_val, y_val)
        try:
            super().fit(X, y, sample_weight)
        finally:
            del self.__dict__["_validation"]
        return self

    def _fit(self, X: Any, y: Any, *args: Any, **kwargs: Any) -> Self:
        engine = self._core
        exposed = engine.exposed
        before = self._identities()
        self._check_extras()
        kwargs = self._with_class_weight(y, kwargs)
        super()._fit(X, y, *args, **kwargs)
        # scikit-learn itself has only looked at them
        engine.exposed = bool(exposed and before & self._identities()) or bool(self.callbacks)
        return self

    def _identities(self) -> set[int]:
        if "coefs_" not in self.__dict__:
            return set()
        return {id(array) for pair in self._arrays() for array in pair}

    def _check_extras(self) -> None:
        if self.solver == "lbfgs":
            for name in ("dropout", "optimizer", "clip_norm", "callbacks"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs solver='sgd' or 'adam'; got solver='lbfgs'")
        if self.optimizer is not None and self.clip_norm is not None:
            raise ValueError("clip_norm must be given to the optimizer itself, not beside it")
        if self.optimizer is not None and isinstance(self.optimizer.learning_rate, Schedule):
            raise ValueError(
                "optimizer must have a number for its learning_rate;"
                f" got {self.optimizer.learning_rate!r}"
            )

    def _with_class_weight(self, y: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments

    def _validate_input(self, X: Any, y: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        X, y = super()._validate_input(X, y, *args, **kwargs)
        if self.dtype is not None and X.dtype != self.dtype:
            with np.errstate(over="ignore"):
                X = X.astype(self.dtype)
            if not np.isfinite(X.data if scipy.sparse.issparse(X) else X).all():
                raise ValueError(
                    f"X must be finite in {self.dtype}; got a number that is too large"
                )
        return X, y

    def _initialize(self, y: Any, layer_units: Any, dtype: Any) -> None:
        super()._initialize(y, layer_units, dtype)
        if self.dropout:
            self._dropout_seed = int(self._random_state.randint(2**31))

    def _spec(self, dtype: np.dtype[Any]) -> Spec:
        own = self.__dict__
        return spec_of(
            own["coefs_"],
            dtype,
            self.activation,
            self.out_activation_,
            self.loss,
            self.alpha,
            float(self.dropout),
            own.get("_dropout_seed", 0),
        )

    def _dtype_of(self, X: Any) -> np.dtype[Any]:
        return np.result_type(X.dtype, self.__dict__["coefs_"][0].dtype)

    def _fit_lbfgs(self, *args: Any) -> None:
        engine = self._core
        if "_optimizer" in self.__dict__:
            self._optimizer  # noqa: B018  brings it up to date: its network is about to be left
        try:
            super()._fit_lbfgs(*args)
        finally:
            engine.rows = None
            engine.nets = {}  # the last point that was tried need not be the one that was chosen

    def _loss_grad_lbfgs(
        self, packed_coef_inter: Any, X: Any, y: Any, sample_weight: Any, *workspace: Any
    ) -> tuple[float, Any]:
        engine = self._core
        self._unpack(packed_coef_inter)
        spec = self._spec(self._dtype_of(X))
        given = (X, y, sample_weight)
        if engine.rows is None or not all(map(operator.is_, engine.rows[0], given)):
            engine.rows = (given, Rows.of(X, y, sample_weight, spec))
        net = engine.nets.get(spec.dtype)
        if net is None or net.spec != spec:
            net = NativeBackend(spec)
        net.set_weights(self._arrays())
        self._use(net)
        return loss_and_gradient(net, engine.rows[1])

    def _use(self, net: NativeBackend) -> None:
        """The way forward is from now on through this network, which has the weights."""
        self._core.nets = {net.spec.dtype: net}
        self._core.activations = (self.activation, self.out_activation_)

    def _fit_stochastic(self, X: Any, y: Any, sample_weight: Any, *workspace: Any) -> None:
        incremental = workspace[-1]
        own = self.__dict__
        fresh = not incremental or "_optimizer" not in own
        if fresh:
            self._core.trained = None
            own["_optimizer"] = self._new_optimizer()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        validation = [None, None, None]
        if self.early_stopping:
            X, y, sample_weight, *validation = self._split(X, y, sample_weight)
        net = self._net_to_train(self._dtype_of(X), fresh)
        rows = Rows.of(X, y, sample_weight, net.spec)
        epochs = Epochs(
            net, rows, self._batch_rows(len(rows)), rule_of(own["_optimizer"], self.clip_norm)
        )
        engine = self._core
        exposed = engine.exposed
        engine.leads = True
        try:
            self._run(epochs, validation, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        finally:
            self._write_back()
            engine.leads = False
            engine.exposed = exposed
            self._use(net)
        if self.early_stopping:
            own["coefs_"] = own["_best_coefs"]
            own["intercepts_"] = own["_best_intercepts"]
            net.set_weights(self._arrays())

    def _new_optimizer(self) -> Any:
        params = self.__dict__["coefs_"] + self.__dict__["intercepts_"]
        if self.optimizer is not None:
            return RuleOptimizer(self.optimizer)
        if self.solver == "sgd":
            return SGDOptimizer(
                params,
                self.learning_rate_init,
                self.learning_rate,
                self.momentum,
                self.nesterovs_momentum,
                self.power_t,
            )
        return AdamOptimizer(
            params, self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon
        )

    def _net_to_train(self, dtype: np.dtype[Any], fresh: bool) -> NativeBackend:
        engine = self._core
        spec = self._spec(dtype)
        net = engine.trained
        if (
            net is None
            or net.spec != spec
            or (engine.exposed and not net.has_weights(self._arrays()))
        ):
            if not fresh:
                self._optimizer  # noqa: B018  brings it up to date
            net = NativeBackend(spec)
            net.set_weights(self._arrays())
            if not fresh:
                load_state(net, self.__dict__["_optimizer"])
            engine.trained = net
        return net

    def _split(self, X: Any, y: Any, sample_weight: Any) -> list[Any]:
        """X, y and weights to train on, then those to validate by."""
        given = self.__dict__.get("_validation")
        if given is not None:
            X_val, y_val = given
            X_val = validate_data(
                self, X_val, accept_sparse=["csr", "csc"], dtype=X.dtype, reset=False
            )
            return [X, y, sample_weight, X_val, np.asarray(y_val), None]
        arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
        parts = train_test_split(
            *arrays,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )
        train, validation = parts[::2], parts[1::2]
        if validation[0].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        if is_classifier(self):
            validation[1] = self._label_binarizer.inverse_transform(validation[1])
        none = [None] * (3 - len(arrays))
        return [*train, *none, *validation, *none]

    def _batch_rows(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than "
                "sample size. It is going to be clipped",
                stacklevel=3,  # in scikit-learn's own module, for filters that go by it
            )
        return int(min(self.batch_size, n))

    def _run(self, epochs: Epochs, validation: Iterable[Any], incremental: bool) -> None:
        """The loop over epochs: the steps of scikit-learn's, in its order."""
        own = self.__dict__
        optimizer = own["_optimizer"]
        n = len(epochs.rows)
        order = np.arange(n, dtype=np.int32) if self.shuffle else None
        callbacks, history = checked_callbacks(self.callbacks or ()), History()
        for callback in callbacks:
            callback.on_train_begin(self)
        self.n_iter_ = 0
        for epoch in range(self.max_iter):
            if order is not None:  # as sklearn.utils.shuffle draws
                index = np.arange(n)
                self._random_state.shuffle(index)
                order = order[index]
            for callback in callbacks:
                callback.on_epoch_begin(self, epoch)
            self.loss_ = epochs.run(order, rate_of(optimizer))
            self.n_iter_ += 1
            self.t_ += n
            self.loss_curve_.append(self.loss_)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            self._update_no_improvement_count(self.early_stopping, *validation)
            optimizer.iteration_ends(self.t_)
            if callbacks and self._stopped_by(callbacks, epoch, history):
                break
            if self._no_improvement_count > self.n_iter_no_change:
                if optimizer.trigger_stopping(self._stopping_message(), self.verbose):
                    break
                self._no_improvement_count = 0
            if incremental:
                break
            if self.n_iter_ == self.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=3,
                )
        for callback in callbacks:
            callback.on_train_end(self, history)

    def _stopping_message(self) -> str:
        figure = "Validation score" if self.early_stopping else "Training loss"
        return (
            f"{figure} did not improve more than tol={self.tol:f} "
            f"for {self.n_iter_no_change:.0f} consecutive epochs."
        )

    def _stopped_by(self, callbacks: list[Callback], epoch: int, history: History) -> bool:
        figures = {"loss": self.loss_}
        if self.early_stopping:
            figures["val_score"] = self.validation_scores_[-1]
        history.append(epoch, figures)
        stop = False
        for callback in callbacks:
            try:
                callback.on_epoch_end(self, epoch, dict(figures))
            except StopTraining:
                stop = True
        return stop


_EXTRAS: dict[str, Any] = {
    "dropout": 0.0,
    "dtype": None,
    "optimizer": None,
    "clip_norm": None,
    "callbacks": None,
}

_EXTRA_CONSTRAINTS: dict[str, Any] = {
    "activation": [StrOptions({"logistic", *ACTIVATIONS} - {"softmax"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "dtype": [StrOptions({"float32", "float64"}), None],
    "optimizer": [Optimizer, None],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "callbacks": [list, tuple, None],
}

_EXTRA_PARAMETERS = """activation : str
        Also any other of `fastnn.activations.ACTIVATIONS` but softmax.
    dropout : float, default=0.0
        Rate at which units of the hidden layers are dropped while training, 0 <= rate < 1.
    dtype : {"float32", "float64"}, optional
        What X is converted to; by default float32 stays float32, and all else is float64.
    optimizer : fastnn.optimizers.Optimizer, optional
        Takes the place of the solver's update, with the learning rate and the clipping that it
        has itself; the solver is then "adam" or "sgd" and says nothing more.
    clip_norm : float, optional
        If given, gradients are scaled down so that their norm is at most about this.
    callbacks : list of fastnn.Callback, optional
        Called between epochs, with the estimator in the place of the network."""

_METHODS = """

    ``fit`` takes ``X_val`` and ``y_val``, with ``early_stopping``, to validate by instead of a part
    of X."""


def extras_of(cls: Any) -> dict[str, Any]:
    """The parameters, with their defaults, that scikit-learn's class does not have."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name not in inspect.signature(cls.__bases__[-1].__init__).parameters
    }


def _constructor(original: Any, extras: dict[str, Any]) -> Callable[..., None]:
    """``original.__init__``, whatever this version's, with keyword-only extras at its end."""
    signature = inspect.signature(original.__init__)

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


class MLPClassifier(_Compiled, sklearn.neural_network.MLPClassifier):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's MLPClassifier, computed by fastnn's compiled core.

    Parameters, attributes, methods, errors and warnings are those of
    `sklearn.neural_network.MLPClassifier`. With the same ``random_state``, so are the results.

    Parameters
    ----------
    *, **
        As scikit-learn's, in its order. By keyword only, and changing nothing by default:
    loss : {{"log_loss", "mse"}}, default="log_loss"
        "mse" is the mean squared difference of the probabilities from 0 or 1, Brier's score.
    class_weight : dict or "balanced", optional
        What the rows of each class count, as in `sklearn.linear_model.SGDClassifier`.
    {_EXTRA_PARAMETERS}{_METHODS}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **sklearn.neural_network.MLPClassifier._parameter_constraints,
        **_EXTRA_CONSTRAINTS,
        "loss": [StrOptions({"log_loss", "mse"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    __init__ = _constructor(
        sklearn.neural_network.MLPClassifier,
        _EXTRAS | {"loss": "log_loss", "class_weight": None},
    )

    def _with_class_weight(self, y: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.class_weight is None:
            return arguments
        if arguments.get("incremental") and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' cannot be known from a part of the data; compute it by"
                " sklearn.utils.class_weight.compute_class_weight, and give it as a dict"
            )
        weight = compute_sample_weight(self.class_weight, y)
        given = arguments.get("sample_weight")
        return {**arguments, "sample_weight": weight if given is None else weight * given}

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, as scikit-learn's `predict_proba` does.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The classes in the order of ``classes_``.
        """
        out = self._outputs_at_once(X)
        if out is None:
            return super().predict_proba(X)
        if self.n_outputs_ > 1:
            return out
        out = out.ravel()
        return np.vstack([1 - out, out]).T

    def _answer(self, out: Array) -> Any:
        binarizer = self._label_binarizer
        classes = binarizer.classes_
        if binarizer.y_type_ == "multiclass":
            return classes.take(out.argmax(axis=1), mode="clip")
        if binarizer.y_type_ == "binary" and len(classes) == 2:
            return classes[(out.ravel() > 0.5).astype(np.intp)]
        return binarizer.inverse_transform(out.ravel() if self.n_outputs_ == 1 else out)

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy, without the checks of `sklearn.metrics.accuracy_score`."""
        if scipy.sparse.issparse(y):
            return float(super()._score(X, y, sample_weight=sample_weight))
        right = y == self._predict(X, check_input=False)
        return float(
            np.average(right.all(axis=1) if right.ndim > 1 else right, weights=sample_weight)
        )


class MLPRegressor(_Compiled, sklearn.neural_network.MLPRegressor):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's MLPRegressor, computed by fastnn's compiled core.

    Parameters, attributes, methods, errors and warnings are those of
    `sklearn.neural_network.MLPRegressor`. With the same ``random_state``, so are the results.

    Parameters
    ----------
    *, **
        As scikit-learn's, in its order.
    loss : str
        Also "mae" and "huber" of `fastnn.losses.LOSSES`.

    By keyword only, and changing nothing by default:
    {_EXTRA_PARAMETERS}{_METHODS}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **sklearn.neural_network.MLPRegressor._parameter_constraints,
        **_EXTRA_CONSTRAINTS,
        "loss": [StrOptions({"squared_error", "poisson", "mae", "huber"})],
    }

    __init__ = _constructor(sklearn.neural_network.MLPRegressor, _EXTRAS)

    def _answer(self, out: Array) -> Any:
        return out.ravel() if out.shape[1] == 1 else out

"""MLPClassifier and MLPRegressor: scikit-learn's own, computed by the compiled core.

The classes inherit from scikit-learn's, so that parameters, checks, labels, splits, messages, tags
and metadata routing are scikit-learn's, whatever its version. What they override is the arithmetic:
the epochs, the gradient that L-BFGS asks for, and the way forward.
"""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import operator
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
import sklearn.neural_network
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, check_scoring, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network._base import ACTIVATIONS as THEIR_ACTIVATIONS
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils import check_array, check_consistent_length, column_or_1d, compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastnn._config import set_num_threads, threads_were_set
from fastnn._types import Array
from fastnn._weights import flat
from fastnn.backends import Pair, Spec, create
from fastnn.backends.native import NativeBackend
from fastnn.callbacks import Callback, StopTraining
from fastnn.history import History
from fastnn.schedules import Schedule
from fastnn.sklearn._engine import (
    Epochs,
    Rows,
    dense_chunks,
    loss_and_gradient,
    mean_loss,
    network,
    spec_of,
)
from fastnn.sklearn._extras import (
    CLASSIFIER_CONSTRAINTS,
    EXTRAS,
    METHODS,
    PARAMETERS,
    REGRESSOR_CONSTRAINTS,
    averaging_of,
    callbacks_of,
    check,
    constructor,
    extras_of,
)
from fastnn.sklearn._handle import Handle
from fastnn.sklearn._optimizers import (
    EpsilonHatAdam,
    RuleOptimizer,
    VelocitySGD,
    load_state,
    save_state,
)
from fastnn.training import Clock

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """There are no callbacks of scikit-learn's."""


_WEIGHTED = "sample_weight" in inspect.signature(BaseMultilayerPerceptron._fit).parameters
"""Whether this scikit-learn's estimators take sample weights, as they do from 1.7 on."""

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


_NO_VALIDATION = (None,) * (3 if _WEIGHTED else 2)
"""What scikit-learn's method is told of the validation rows, which `_Engine.judge` knows."""


class _Engine:
    """What an estimator has in the compiled core; never pickled, made anew when it is needed."""

    def __init__(self) -> None:
        self.nets: dict[np.dtype[Any], NativeBackend] = {}  # of the weights as they are
        self.activations: tuple[Any, str] | None = None
        self.trained: NativeBackend | None = None  # whose optimizer state is the newest
        self.exposed = True  # the arrays of weights are in others' hands, who may write to them
        self.leads = False  # amid training: `trained` is ahead of the arrays
        self.rows: tuple[tuple[Any, ...], Rows] | None = None  # of L-BFGS
        # of the fit under way:
        self.sample_weight: Any = None  # where scikit-learn does not hand it on
        self.validation: tuple[Any, Any, Any] | None = None
        self.judge: Callable[[], float] | None = None  # scores the validation rows
        self.tasks: _Tasks | None = None


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


class _Tasks:
    """The epochs of a fit as tasks of scikit-learn's callbacks."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self._given = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        stochastic = estimator.solver != "lbfgs"
        self._fit = estimator._init_callback_context(
            max_subtasks=estimator.max_iter if stochastic else 0
        )
        self._fit.call_on_fit_task_begin(**self._given)

    def begin(self) -> None:
        """Before an epoch."""
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._given)

    def end(self, weights: Callable[[], dict[str, Any]]) -> bool:
        """After it; whether it is to be the last."""
        return bool(
            self._epoch.call_on_fit_task_end(**self._given, reconstruction_attributes=weights)
        )

    def close(self, weights: Callable[[], dict[str, Any]]) -> None:
        """After the fit."""
        self._fit.call_on_fit_task_end(**self._given, reconstruction_attributes=weights)


class _Compiled(BaseMultilayerPerceptron, CallbackSupportMixin):  # type: ignore[misc]
    """What both estimators override; comes before scikit-learn's class."""

    _no_improvement_count: int

    coefs_ = _Weights()
    intercepts_ = _Weights()
    averaged_coefs_ = _Weights()
    averaged_intercepts_ = _Weights()
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
        self._core.exposed = True  # copy.copy shares the arrays
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # what scikit-learn's own pickles bring along, which may be loaded as ours under the patch
        state = {name: value for name, value in state.items() if name != "_sklearn_version"}
        super().__setstate__(extras_of(type(self)) | state)
        self.__dict__["_engine"] = _Engine()

    # -- between the estimator's arrays and the core

    def _arrays(self) -> list[Pair]:
        """The weights that are trained."""
        own = self.__dict__
        return list(zip(own["coefs_"], own["intercepts_"], strict=True))

    def _averaged(self) -> list[Pair] | None:
        own = self.__dict__
        if "averaged_coefs_" not in own:
            return None
        return list(zip(own["averaged_coefs_"], own["averaged_intercepts_"], strict=True))

    def _drop_average(self) -> None:
        for name in ("averaged_coefs_", "averaged_intercepts_", "_best_average"):
            self.__dict__.pop(name, None)

    def _set_average(self, average: list[Pair] | None) -> None:
        if average is not None:
            own = self.__dict__
            own["averaged_coefs_"] = [W for W, _ in average]
            own["averaged_intercepts_"] = [b for _, b in average]

    def _write_back(self) -> None:
        """The core's weights into the estimator's arrays, the same ones where that is possible."""
        net = self._core.trained
        assert net is not None
        own = self.__dict__
        for i, (W, b) in enumerate(net.weights()):
            for array, name in ((W, "coefs_"), (b, "intercepts_")):
                there = own[name][i]
                if _can_hold(there):
                    there[...] = array
                else:
                    own[name][i] = array
        if self.averaging is not None:
            self._set_average(net.average())

    def _net(self, dtype: np.dtype[Any]) -> NativeBackend:
        """A network for the way forward, with the weights as they are now."""
        engine = self._core
        own = self.__dict__
        if engine.leads and engine.trained is not None:
            if engine.trained.spec.dtype == dtype and self.averaging is None:
                return engine.trained
            self._write_back()
        if not self._is_current(engine):
            engine.nets = {}
        net = engine.nets.get(dtype)
        if net is None:
            activations = (own["activation"], own["out_activation_"])
            pairs = self._averaged() or self._arrays()
            net = NativeBackend(spec_of([W for W, _ in pairs], dtype, *activations))
            net.set_weights(pairs)
            engine.activations = copy.deepcopy(activations)  # of all in nets
            engine.nets[dtype] = net
        return net

    def _is_current(self, engine: _Engine) -> bool:
        own = self.__dict__
        if engine.leads or engine.activations != (own["activation"], own["out_activation_"]):
            return False
        if engine.exposed:
            pairs = self._averaged() or self._arrays()
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
        if "coefs_" not in self.__dict__:  # it was never fitted to its end
            return super()._forward_pass_fast(X, check_input)
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        wanted = getattr(self, "dtype", None)
        dtype = np.dtype(wanted or np.result_type(X.dtype, self.__dict__["coefs_"][0].dtype))
        if dtype not in _FLOATS:
            return self._by_numpy(X, np.dtype(np.float64))
        net = self._net(dtype)
        if scipy.sparse.issparse(X):
            out = np.empty((X.shape[0], net.spec.layers[-1].n_out), dtype)
            for rows, part in dense_chunks(X, dtype):
                net.predict(part, out[rows])
            return self._linked(out)
        direct = net.predict_directly(np.ascontiguousarray(X, dtype), None)
        if direct is None:  # NaN or infinity, which scikit-learn lets by where it is told to
            return self._by_numpy(X, dtype)
        return self._linked(direct)

    def _by_numpy(self, X: Any, dtype: np.dtype[Any]) -> Any:
        """The way forward that does not ask what numbers there are; scikit-learn's if it can."""
        activation = self.__dict__["activation"]
        plain = isinstance(activation, str) and activation in THEIR_ACTIVATIONS
        if plain and self._averaged() is None:
            return super()._forward_pass_fast(X, check_input=False)
        net = create("numpy", self._net(dtype).spec)
        net.set_weights(self._averaged() or self._arrays())
        out = np.empty((X.shape[0], net.spec.layers[-1].n_out), dtype)
        with np.errstate(all="ignore"):
            net.predict(np.ascontiguousarray(X, dtype), out)
        return self._linked(out)

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
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Fit the model, as scikit-learn's `fit` does.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Sparse rows are made dense some at a time.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or numbers.
        sample_weight : array-like of shape (n_samples,), optional
            What each row counts. With scikit-learn 1.6, as there, there is no such parameter.
        X_val, y_val : array-like, optional
            With ``early_stopping``, what to validate by instead of a part of X and y.
        sample_weight_val : array-like, optional
            What each row of X_val counts.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Where scikit-learn raises it; if only one of X_val and y_val is given, or both without
            ``early_stopping``; if parameters do not go together.
        """
        weights = [] if sample_weight is None else [sample_weight]
        return self._fit_and_validate(X, y, weights, X_val, y_val, sample_weight_val)

    def _fit_and_validate(
        self, X: Any, y: Any, weights: list[Any], X_val: Any, y_val: Any, sample_weight_val: Any
    ) -> Self:
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together; got only one of them")
        if X_val is not None and not self.early_stopping:
            raise ValueError("X_val and y_val need early_stopping=True; got early_stopping=False")
        if X_val is None and sample_weight_val is not None:
            raise ValueError("sample_weight_val needs X_val and y_val; got neither")
        self._core.validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        try:
            super().fit(X, y, *weights)
        finally:
            self._core.validation = None
        return self

    def _fit(self, X: Any, y: Any, *args: Any, **kwargs: Any) -> Self:
        engine = self._core
        exposed = engine.exposed
        before = self._identities()
        check(self)
        if "coefs_" in self.__dict__ and (self.warm_start or kwargs.get("incremental")):
            self._check_that_it_fits_what_is_there()
        _keep_to_one_thread_in_pools()
        if getattr(self, "_skl_callbacks", None) and not kwargs.get("incremental"):
            engine.tasks = _Tasks(self, X, y, kwargs.get("sample_weight"))
        kwargs = self._with_class_weight(y, kwargs)
        if not _WEIGHTED:
            engine.sample_weight = kwargs.pop("sample_weight", None)
        try:
            super()._fit(X, y, *args, **kwargs)
            if engine.tasks is not None:
                engine.tasks.close(self._reconstruction)
        finally:
            engine.tasks = engine.sample_weight = None
        # scikit-learn itself has only looked at them
        watched = self.callbacks or getattr(self, "_skl_callbacks", None)
        engine.exposed = bool(exposed and before & self._identities()) or bool(watched)
        return self

    def _check_that_it_fits_what_is_there(self) -> None:
        """Refuse parameters that are not those of the weights that a fit is to go on from."""
        sizes, layers = self.hidden_layer_sizes, len(self.__dict__["coefs_"]) - 1
        if np.size(sizes) != layers:
            raise ValueError(
                f"hidden_layer_sizes must be of the {layers} layers of the fit that is to go on;"
                f" got {sizes}"
            )
        if not is_classifier(self) and _by_logarithm(self.loss) != (self.out_activation_ == "exp"):
            raise ValueError(
                "loss must be of the kind of the fit that is to go on, whose network puts out"
                f" {'the logarithm of ' * (self.out_activation_ == 'exp')}what is predicted;"
                f" got {self.loss!r}"
            )

    def _reconstruction(self) -> dict[str, Any]:
        """For a copy of the estimator that predicts as this one would now."""
        self.coefs_  # noqa: B018  brings them up to date
        names = ("coefs_", "intercepts_", "averaged_coefs_", "averaged_intercepts_")
        return {
            name: [array.copy() for array in self.__dict__[name]]
            for name in names
            if name in self.__dict__
        }

    def _identities(self) -> set[int]:
        if "coefs_" not in self.__dict__:
            return set()
        return {id(array) for pair in self._arrays() for array in pair}

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
        if not is_classifier(self) and _by_logarithm(self.loss):
            self.out_activation_ = "exp"
        if self.dropout:
            self._dropout_seed = int(self._random_state.randint(2**31))

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> Any:
        if isinstance(self.activation, str):
            return super()._init_coef(fan_in, fan_out, dtype)
        names = self.activation or ["relu"]
        layer = min(len(self.__dict__["coefs_"]), len(names) - 1)
        one = SimpleNamespace(activation=names[layer], _random_state=self._random_state)
        return BaseMultilayerPerceptron._init_coef(one, fan_in, fan_out, dtype)

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
            float(getattr(self, "label_smoothing", 0.0)),
        )

    def _dtype_of(self, X: Any) -> np.dtype[Any]:
        return np.result_type(X.dtype, self.__dict__["coefs_"][0].dtype)

    def _check_outputs(self, y: Any) -> None:
        outputs = self.__dict__["coefs_"][-1].shape[1]
        if y.shape[1] != outputs:
            raise ValueError(f"y must have as many outputs as before, {outputs}; got {y.shape[1]}")

    def _fit_lbfgs(self, *args: Any) -> None:
        engine = self._core
        self._check_outputs(args[1])
        if "_optimizer" in self.__dict__:
            self._optimizer  # noqa: B018  brings it up to date: its network is about to be left
        self._drop_average()
        try:
            super()._fit_lbfgs(*args)
        finally:
            engine.rows = None
            engine.nets = {}  # the last point that was tried need not be the one that was chosen

    def _loss_grad_lbfgs(
        self, packed_coef_inter: Any, X: Any, y: Any, *rest: Any
    ) -> tuple[float, Any]:
        engine = self._core
        sample_weight = rest[0] if _WEIGHTED else engine.sample_weight
        self._unpack(packed_coef_inter)
        spec = self._spec(self._dtype_of(X))
        given = (X, y, sample_weight)
        if engine.rows is None or not all(map(operator.is_, engine.rows[0], given)):
            engine.rows = (given, Rows.of(X, y, sample_weight, spec))
        net = engine.nets.get(spec.dtype)
        if net is None or net.spec != spec:
            net = network(spec)
        net.set_weights(self._arrays())
        self._use(net)
        return loss_and_gradient(net, engine.rows[1])

    def _use(self, net: NativeBackend) -> None:
        """The way forward is from now on through this network, which has the weights."""
        self._core.nets = {net.spec.dtype: net}
        self._core.activations = (copy.deepcopy(self.activation), self.out_activation_)

    def _fit_stochastic(self, X: Any, y: Any, *rest: Any) -> None:
        engine = self._core
        self._check_outputs(y)
        sample_weight = engine.sample_weight
        if _WEIGHTED:
            sample_weight = rest[0]
        elif sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        incremental = rest[-1]
        own = self.__dict__
        fresh = not incremental or "_optimizer" not in own
        if fresh:
            engine.trained = None
            own["_optimizer"] = self._new_optimizer()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        averaging = averaging_of(self)
        if fresh or averaging is None:
            self._drop_average()
            own.pop("_averaged_so_far", None)
        validation: list[Any] = [None, None, None]
        if self.early_stopping:
            X, y, sample_weight, *validation = self._split(X, y, sample_weight)
        net = self._net_to_train(self._dtype_of(X), fresh)
        rows = Rows.of(X, y, sample_weight, net.spec)
        epochs = Epochs(
            net,
            rows,
            self._batch_rows(len(rows)),
            own["_optimizer"],
            {"clip_norm": self.clip_norm, "clip_value": self.clip_value},
            averaging,
            own.get("_averaged_so_far", (0, 0)),
        )
        if self.early_stopping:
            engine.judge = self._judge(net, *validation)
        exposed = engine.exposed
        engine.leads = True
        try:
            self._run(epochs, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        finally:
            engine.judge = None
            self._write_back()
            if net.spec.dtype != own["coefs_"][0].dtype:
                net.set_weights(self._arrays())  # as they were rounded
            if averaging is not None:
                own["_averaged_so_far"] = epochs.averaged
            engine.leads = False
            engine.exposed = exposed
            if "averaged_coefs_" in own:
                engine.nets = {}
            else:
                self._use(net)
        if self.early_stopping:
            own["coefs_"] = own["_best_coefs"]
            own["intercepts_"] = own["_best_intercepts"]
            net.set_weights(self._arrays())
            if "_best_average" in own:
                self._set_average(own.pop("_best_average"))
                net.set_average(self._averaged())

    def _new_optimizer(self) -> Any:
        params = self.__dict__["coefs_"] + self.__dict__["intercepts_"]
        if self.optimizer is not None:
            return RuleOptimizer(self.optimizer)
        if isinstance(self.learning_rate, Schedule):
            settings = {
                "learning_rate": self.learning_rate,
                "clip_norm": self.clip_norm,
                "clip_value": self.clip_value,
            }
            if self.solver == "sgd":
                return RuleOptimizer(
                    VelocitySGD(
                        momentum=self.momentum, nesterov=self.nesterovs_momentum, **settings
                    )
                )
            return RuleOptimizer(
                EpsilonHatAdam(
                    beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon, **settings
                )
            )
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
            or (engine.exposed and not self._has_weights_and_average(net))
        ):
            if not fresh:
                self._optimizer  # noqa: B018  brings it up to date
            net = network(spec)
            net.set_weights(self._arrays())
            if not fresh:
                load_state(net, self.__dict__["_optimizer"])
                net.set_average(self._averaged())
            engine.trained = net
        return net

    def _has_weights_and_average(self, net: NativeBackend) -> bool:
        ours = self._averaged()
        if ours is not None:
            theirs = net.average()
            if theirs is None or not np.array_equal(flat(ours), flat(theirs)):
                return False
        return net.has_weights(self._arrays())

    def _split(self, X: Any, y: Any, sample_weight: Any) -> list[Any]:
        """X, y and weights to train on, then those to validate by; there y is encoded, too."""
        given = self._core.validation
        if given is not None:
            return [X, y, sample_weight, *self._checked_validation(*given, X.dtype)]
        arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
        parts = train_test_split(
            *arrays,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )
        train, validation = parts[::2], parts[1::2]
        if validation[0].shape[0] < 2 and _WEIGHTED:  # since scikit-learn 1.7, too
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        none = [None] * (3 - len(arrays))
        return [*train, *none, *validation, *none]

    def _checked_validation(self, X: Any, y: Any, sample_weight: Any, dtype: Any) -> list[Any]:
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=dtype, reset=False)
        y = self._encoded(y)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        if y.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val must have {self.n_outputs_} outputs; got {y.shape[1]}")
        check_consistent_length(X, y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        return [X, y, sample_weight]

    def _encoded(self, y: Any) -> Any:
        """y as the network is to put it out."""
        raise NotImplementedError

    def _judge(self, net: NativeBackend, X: Any, y: Any, weight: Any) -> Callable[[], float]:
        """What scores the validation rows by the weights as they are."""
        if self.scoring == "loss":
            return _loss_judge(net, X, y, weight)
        if is_classifier(self):
            y = self._label_binarizer.inverse_transform(y)
        elif self.n_outputs_ == 1:
            y = y.ravel()
        if self.scoring is None:
            return lambda: self._default_score(X, y, weight)
        scorer = check_scoring(self, self.scoring)
        weights = {} if weight is None else {"sample_weight": weight}

        def score() -> float:
            with self._nameless():
                return float(scorer(self, X, y, **weights))

        return score

    @contextmanager
    def _nameless(self) -> Iterator[None]:
        """Without the features' names, which X does not have any more."""
        names = self.__dict__.pop("feature_names_in_", None)
        try:
            yield
        finally:
            if names is not None:
                self.__dict__["feature_names_in_"] = names

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        judge = self._core.judge
        return self._default_score(X, y, sample_weight) if judge is None else judge()

    def _default_score(self, X: Any, y: Any, sample_weight: Any) -> float:
        raise NotImplementedError

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

    def _run(self, epochs: Epochs, incremental: bool) -> None:
        """The loop over epochs: the steps of scikit-learn's, in its order."""
        own = self.__dict__
        optimizer, tasks = own["_optimizer"], self._core.tasks
        n = len(epochs.rows)
        order = np.arange(n, dtype=np.int32) if self.shuffle else None
        self.n_iter_ = 0
        callbacks, history = callbacks_of(self), History()
        handle: Any = Handle(self, epochs, history) if callbacks else None
        for callback in callbacks:
            callback.on_train_begin(handle)
        clock = Clock(callbacks, None) if callbacks else None
        for epoch in range(self.max_iter):
            if order is not None:  # as sklearn.utils.shuffle draws
                index = np.arange(n)
                self._random_state.shuffle(index)
                order = order[index]
            for callback in callbacks:
                callback.on_epoch_begin(handle, epoch)
            if tasks is not None:
                tasks.begin()
            try:
                self.loss_ = epochs.run(order, clock, handle)
            except StopTraining:  # at once: an epoch that was not ended does not count
                self.t_ += epochs.rows_done
                if not self.loss_curve_:
                    self.loss_ = epochs.mean_loss()
                break
            self.n_iter_ += 1
            self.t_ += n
            self.loss_curve_.append(self.loss_)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            self._update_no_improvement_count(self.early_stopping, *_NO_VALIDATION)
            optimizer.iteration_ends(self.t_)
            stop = tasks is not None and tasks.end(self._reconstruction)
            if callbacks and self._stopped_by(callbacks, handle, epoch, history):
                stop = True
            if stop:
                break
            if self._no_improvement_count > self.n_iter_no_change:
                if optimizer.trigger_stopping(self._stopping_message(), self.verbose):
                    break
                self._no_improvement_count = 0
            if incremental:
                break
            if self.n_iter_ == self.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({int(self.max_iter)}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=3,
                )
        for callback in callbacks:
            callback.on_train_end(handle, history)

    def _update_no_improvement_count(self, early_stopping: bool, *validation: Any) -> None:
        best = self.__dict__.get("_best_coefs")
        super()._update_no_improvement_count(early_stopping, *validation)
        if self.averaging is not None and self.__dict__.get("_best_coefs") is not best:
            trained = self._core.trained
            assert trained is not None
            self.__dict__["_best_average"] = trained.average()

    def _stopping_message(self) -> str:
        figure = "Validation score" if self.early_stopping else "Training loss"
        return (
            f"{figure} did not improve more than tol={self.tol:f} "
            f"for {self.n_iter_no_change:.0f} consecutive epochs."
        )

    def _stopped_by(
        self, callbacks: list[Callback], handle: Any, epoch: int, history: History
    ) -> bool:
        figures = {"loss": float(self.loss_)}
        if self.early_stopping:
            score = self.validation_scores_[-1]
            figures |= {"val_loss": -score} if self.scoring == "loss" else {"val_score": score}
        history.append(epoch, figures)
        stop = False
        for callback in callbacks:
            try:
                callback.on_epoch_end(handle, epoch, dict(figures))
            except StopTraining:
                stop = True
        return stop


def _by_logarithm(loss: Any) -> bool:
    return loss in ("poisson", "gamma")


def _can_hold(array: object) -> bool:
    """Whether weights can be written to it, which from a memory-mapped file need not be."""
    return isinstance(array, np.ndarray) and array.dtype in _FLOATS and array.flags.writeable


def _keep_to_one_thread_in_pools() -> None:
    """One of several processes must not take all processors, unless it was told how many."""
    if (
        multiprocessing.current_process().daemon
        and "OMP_NUM_THREADS" not in os.environ
        and not threads_were_set()
    ):
        set_num_threads(1)


def _loss_judge(net: NativeBackend, X: Any, y: Any, weight: Any) -> Callable[[], float]:
    """What gives the negative loss of the rows, without penalties."""
    layers = tuple(replace(layer, l2=0.0) for layer in net.spec.layers)
    spec = replace(net.spec, layers=layers)
    rows, judged = Rows.of(X, y, weight, spec), network(spec)

    def score() -> float:
        judged.set_weights(net.average() or net.weights())
        return -mean_loss(judged, rows)

    return score


def _fit_unweighted(
    self: Any,
    X: Any,
    y: Any,
    *,
    X_val: Any = None,
    y_val: Any = None,
    sample_weight_val: Any = None,
) -> Any:
    return self._fit_and_validate(X, y, [], X_val, y_val, sample_weight_val)


if not _WEIGHTED:  # others go by the signature
    _fit_unweighted.__doc__ = _Compiled.fit.__doc__
    _fit_unweighted.__name__ = "fit"
    _Compiled.fit = _fit_unweighted  # type: ignore[method-assign, assignment]


class MLPClassifier(_Compiled, sklearn.neural_network.MLPClassifier):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's MLPClassifier, computed by fastnn's compiled core.

    Parameters, attributes, methods, errors and warnings are those of
    `sklearn.neural_network.MLPClassifier`. With the same ``random_state``, so are the results.

    Parameters
    ----------
    *, **
        As scikit-learn's, in its order. By keyword only, and changing nothing by default:
    loss : {{"log_loss", "mse", "focal"}}, fastnn.losses.Focal or callable, default="log_loss"
        "mse" is the mean squared difference of the probabilities from 0 or 1, Brier's score; a
        function is a `fastnn.losses.Function` of 0 and 1 for each output and of probabilities.
    label_smoothing : float, default=0.0
        Of "log_loss", the part of each label that goes to all classes alike, as of
        `fastnn.losses.CrossEntropy`.
    class_weight : dict or "balanced", optional
        What the rows of each class count, as in `sklearn.linear_model.SGDClassifier`.
    {PARAMETERS}{METHODS}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **sklearn.neural_network.MLPClassifier._parameter_constraints,
        **CLASSIFIER_CONSTRAINTS,
    }

    __init__ = constructor(
        sklearn.neural_network.MLPClassifier,
        EXTRAS | {"loss": "log_loss", "label_smoothing": 0.0, "class_weight": None},
    )

    def _encoded(self, y: Any) -> Any:
        if self._label_binarizer.y_type_ != "multilabel-indicator":
            y = column_or_1d(y)
            unknown = np.setdiff1d(y, self.classes_)
            if unknown.size:
                raise ValueError(f"y_val must have no classes that y has not; got {unknown}")
        return self._label_binarizer.transform(y).astype(bool)

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

    def _default_score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """The accuracy, mostly without the checks of `sklearn.metrics.accuracy_score`."""
        if scipy.sparse.issparse(y) or (sample_weight is not None and not sample_weight.any()):
            predicted = self._predict(X, check_input=False)
            return float(accuracy_score(y, predicted, sample_weight=sample_weight))
        right = y == self._predict(X, check_input=False)
        return float(
            np.average(right.all(axis=1) if right.ndim > 1 else right, weights=sample_weight)
        )


def _check_numbers(argument: str, y: Any) -> None:
    """Refuse text and times, which NumPy would take for numbers; objects scikit-learn converts."""
    if y.dtype.kind not in "biufO":
        raise TypeError(f"{argument} must be numbers; got an array of dtype {y.dtype}")


class MLPRegressor(_Compiled, sklearn.neural_network.MLPRegressor):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's MLPRegressor, computed by fastnn's compiled core.

    Parameters, attributes, methods, errors and warnings are those of
    `sklearn.neural_network.MLPRegressor`. With the same ``random_state``, so are the results.

    Parameters
    ----------
    *, **
        As scikit-learn's, in its order.
    loss : str, fastnn.losses.Huber, fastnn.losses.Quantile or callable
        Also "mae", "huber", "quantile" and "gamma" of `fastnn.losses.LOSSES`; as of "poisson", the
        network of "gamma" puts out the logarithm of what is predicted.

    By keyword only, and changing nothing by default:
    {PARAMETERS}{METHODS}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **sklearn.neural_network.MLPRegressor._parameter_constraints,
        **REGRESSOR_CONSTRAINTS,
    }

    __init__ = constructor(sklearn.neural_network.MLPRegressor, EXTRAS | {"loss": "squared_error"})

    def _validate_input(self, X: Any, y: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        X, y = super()._validate_input(X, y, *args, **kwargs)
        _check_numbers("y", y)
        if self.loss == "gamma" and not (y > 0).all():
            raise ValueError(f"y must be greater than 0 for loss='gamma'; got {y.min()}")
        return X, y

    def _encoded(self, y: Any) -> Any:
        _check_numbers("y_val", np.asarray(y))
        return check_array(y, ensure_2d=False, dtype=np.float64, input_name="y_val")

    def _default_score(self, X: Any, y: Any, sample_weight: Any) -> float:
        predicted = self._predict(X, check_input=False)
        if not np.isfinite(predicted).all():
            return np.nan
        return float(r2_score(y, predicted, sample_weight=sample_weight))

    def _answer(self, out: Array) -> Any:
        return out.ravel() if out.shape[1] == 1 else out

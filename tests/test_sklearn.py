"""fastnn.sklearn beside scikit-learn: the same seed, the same model."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
import time
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import require_native

pytest.importorskip("sklearn", reason='needs scikit-learn: pip install "fastnn[sklearn]"')
require_native()

import joblib  # noqa: E402
import scipy.sparse  # noqa: E402
import sklearn  # noqa: E402
import sklearn.neural_network as theirs  # noqa: E402
from sklearn.datasets import (  # noqa: E402
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    make_multilabel_classification,
)
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.neural_network._stochastic_optimizers import (  # noqa: E402
    AdamOptimizer,
    SGDOptimizer,
)
from sklearn.preprocessing import scale  # noqa: E402

import fastnn  # noqa: E402
import fastnn.sklearn as ours  # noqa: E402
from fastnn.backends import DenseSpec, Spec, create  # noqa: E402
from fastnn.sklearn._optimizers import EpsilonHatAdam, VelocitySGD  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))

WEIGHTED = VERSION >= (1, 7)  # since when scikit-learn's have sample weights

LOSSES = 1e-6  # relative, over the whole loss curve
PREDICTIONS = 1e-5

# Of each solver the differences of all fits that were compared; the summary of a run prints them
COMPARED: dict[str, list[tuple[float, float]]] = {}


def multilabel():
    return make_multilabel_classification(120, 12, n_classes=4, random_state=3)


def scaled(load):
    X, y = load(return_X_y=True)
    return scale(X), y


CLASSES = {
    "iris": lambda: scaled(load_iris),
    "digits": lambda: [part[:400] for part in scaled(load_digits)],
    "breast_cancer": lambda: scaled(load_breast_cancer),
    "multilabel": multilabel,
    "words": lambda: (scaled(load_iris)[0], np.array(["a", "b", "c"])[load_iris().target]),
}
NUMBERS = {
    "diabetes": lambda: tuple(map(scale, load_diabetes(return_X_y=True))),
    "linnerud": lambda: tuple(map(scale, load_linnerud(return_X_y=True))),
}


def weights_for(X):
    if not WEIGHTED:
        pytest.skip("scikit-learn has sample weights since 1.7: upgrade it")
    return np.random.default_rng(5).uniform(0, 2, X.shape[0])


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


def relative(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.max(np.abs(a - b) / np.maximum(np.abs(a), np.finfo(np.float64).tiny))


def pair(name, *args, **options):
    return getattr(theirs, name)(*args, **options), getattr(ours, name)(*args, **options)


def assert_alike(expected, got, X, losses=LOSSES, predictions=PREDICTIONS):
    assert got.n_iter_ == expected.n_iter_
    assert got.loss_ == pytest.approx(expected.loss_, rel=losses)
    if expected.solver != "lbfgs":
        assert len(got.loss_curve_) == len(expected.loss_curve_)
        assert relative(expected.loss_curve_, got.loss_curve_) < losses
        assert got.t_ == expected.t_
        assert got.best_loss_ == (
            None if expected.best_loss_ is None else pytest.approx(expected.best_loss_, rel=losses)
        )
        if expected.validation_scores_ is None:
            assert got.validation_scores_ is None
        else:
            np.testing.assert_allclose(
                got.validation_scores_, expected.validation_scores_, rtol=losses
            )
    np.testing.assert_allclose(outputs(got, X), outputs(expected, X), rtol=0, atol=predictions)
    np.testing.assert_array_equal(got.predict(X), got._predict(X))
    assert set(vars(got)) - set(vars(expected)) <= {"_engine", *EXTRAS}
    assert not set(vars(expected)) - set(vars(got))


EXTRAS = {
    name
    for kind in (ours.MLPClassifier, ours.MLPRegressor)
    for name in inspect.signature(kind).parameters.keys()
    - inspect.signature(kind.__bases__[-1]).parameters.keys()
}


class TestSameSeedSameModel:
    def compare(self, name, data, sample_weight=None, **options):
        X, y = data
        if VERSION < (1, 9) and y.dtype.kind == "U" and options.get("early_stopping"):
            pytest.skip("scikit-learn stops early with words for classes since 1.9: upgrade it")
        expected, got = pair(name, random_state=7, **options)
        for model in (expected, got):
            model.fit(X, y, *([weights_for(X)] if sample_weight else []))
        assert_alike(expected, got, X)
        curves = [getattr(model, "loss_curve_", [model.loss_]) for model in (expected, got)]
        COMPARED.setdefault(options.get("solver", "adam"), []).append(
            (relative(*curves), np.abs(outputs(got, X) - outputs(expected, X)).max())
        )

    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize("data", CLASSES)
    def test_classifier(self, data, solver, activation, early_stopping):
        self.compare(
            "MLPClassifier",
            CLASSES[data](),
            solver=solver,
            activation=activation,
            early_stopping=early_stopping,
            max_iter=40,
            hidden_layer_sizes=(20, 9),
            learning_rate_init=0.01,
        )

    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize("data", NUMBERS)
    def test_regressor(self, data, solver, activation, early_stopping):
        self.compare(
            "MLPRegressor",
            NUMBERS[data](),
            solver=solver,
            activation=activation,
            early_stopping=early_stopping,
            max_iter=40,
            hidden_layer_sizes=(20,),
        )

    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    @pytest.mark.parametrize("weighted", [None, "weighted"])
    def test_poisson(self, solver, weighted):
        if not WEIGHTED:
            pytest.skip("scikit-learn has the loss since 1.7: upgrade it")
        X, _ = NUMBERS["diabetes"]()
        y = np.random.default_rng(0).poisson(np.exp(X[:, 2] / 2)).astype(float)
        self.compare("MLPRegressor", (X, y), weighted, loss="poisson", solver=solver, max_iter=12)

    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    @pytest.mark.parametrize("data", [*CLASSES, *NUMBERS])
    def test_sample_weight(self, data, solver):
        name = "MLPClassifier" if data in CLASSES else "MLPRegressor"
        load = (CLASSES | NUMBERS)[data]
        for early_stopping in (False, True):
            self.compare(
                name,
                load(),
                "weighted",
                solver=solver,
                max_iter=15,
                early_stopping=early_stopping,
                alpha=0.5,
            )

    @pytest.mark.parametrize("data", [*CLASSES, *NUMBERS])
    def test_lbfgs(self, data):
        """L-BFGS multiplies what the gradients' last bits differ by, so not for many iterations."""
        name = "MLPClassifier" if data in CLASSES else "MLPRegressor"
        self.compare(name, (CLASSES | NUMBERS)[data](), solver="lbfgs", max_iter=12)

    @pytest.mark.parametrize("batch_size", [1, 7, 50, 150])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_batches(self, batch_size, shuffle):
        self.compare(
            "MLPClassifier",
            CLASSES["iris"](),
            batch_size=batch_size,
            shuffle=shuffle,
            max_iter=12,
        )

    @pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
    @pytest.mark.parametrize(
        ("momentum", "nesterov"), [(0, True), (0.9, True), (0.9, False), (1, False)]
    )
    def test_schedules(self, schedule, momentum, nesterov):
        self.compare(
            "MLPClassifier",
            CLASSES["iris"](),
            solver="sgd",
            learning_rate=schedule,
            learning_rate_init=0.1,
            momentum=momentum,
            nesterovs_momentum=nesterov,
            max_iter=60,
            tol=1e-2,
            n_iter_no_change=2,
        )

    @pytest.mark.parametrize("layers", [(), 5, (3,), (7, 6, 5, 4)])
    def test_layers(self, layers):
        self.compare("MLPClassifier", CLASSES["iris"](), hidden_layer_sizes=layers, max_iter=15)
        self.compare("MLPRegressor", NUMBERS["linnerud"](), hidden_layer_sizes=layers, max_iter=15)

    @pytest.mark.parametrize("format", ["csr_array", "csc_array", "csr_matrix"])
    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    def test_sparse(self, format, solver, monkeypatch):
        from fastnn.sklearn import _engine

        monkeypatch.setattr(_engine, "_DENSE_BYTES", 40_000)  # so that there are many chunks
        X, y = CLASSES["digits"]()
        self.compare(
            "MLPClassifier", (getattr(scipy.sparse, format)(X), y), solver=solver, max_iter=10
        )

    def test_saturated(self):
        """Where probabilities are 0 or 1, the loss is what scikit-learn's clipping leaves."""
        for data in ("iris", "breast_cancer", "multilabel"):
            X, y = CLASSES[data]()
            expected, got = pair("MLPClassifier", (30,), random_state=0, max_iter=4)
            for model in (expected, got):
                model.fit(X * 1e4, y)
            assert expected.loss_ > 1
            assert_alike(expected, got, X * 1e4)

    def test_float32(self):
        """Stays float32, and differs from scikit-learn's float32 by rounding alone."""
        X, y = CLASSES["digits"]()
        expected, got = pair("MLPClassifier", random_state=0, max_iter=10)
        for model in (expected, got):
            model.fit(X.astype(np.float32), y)
        assert {W.dtype for W in got.coefs_ + got.intercepts_} == {np.dtype(np.float32)}
        assert got.predict_proba(X.astype(np.float32)).dtype == np.float32
        assert got.predict_proba(X).dtype == expected.predict_proba(X).dtype == np.float64
        assert relative(expected.loss_curve_, got.loss_curve_) < 1e-4

    def test_warm_start(self):
        X, y = CLASSES["iris"]()
        for options in ({}, {"early_stopping": True}, {"solver": "sgd"}):
            expected, got = pair(
                "MLPClassifier", random_state=0, warm_start=True, max_iter=7, **options
            )
            for _ in range(3):
                for model in (expected, got):
                    model.fit(X, y)
                assert_alike(expected, got, X)

    def test_partial_fit(self):
        X, y = CLASSES["iris"]()
        for solver in ("sgd", "adam"):
            expected, got = pair("MLPClassifier", random_state=0, solver=solver, batch_size=20)
            for model in (expected, got):
                model.partial_fit(X[:60], y[:60], classes=[0, 1, 2])
                for _ in range(5):
                    model.partial_fit(X, y, *([weights_for(X)] if WEIGHTED else []))
            assert_alike(expected, got, X)
            assert_same_state(expected._optimizer, got._optimizer)

    def test_a_state_that_was_looked_at_goes_on(self):
        X, y = CLASSES["iris"]()
        for solver in ("sgd", "adam"):
            expected, got = pair("MLPClassifier", random_state=0, solver=solver)
            for model in (expected, got):
                model.partial_fit(X, y, classes=[0, 1, 2])
                for change in (
                    lambda m: None,
                    lambda m: m.coefs_[0].__imul__(0.5),
                    lambda m: setattr(m, "intercepts_", [b + 0.1 for b in m.intercepts_]),
                    lambda m: setattr(m._optimizer, "learning_rate", 0.01),
                    lambda m: m.set_params(alpha=0.5, activation="tanh"),
                ):
                    change(model)
                    model.predict(X)
                    model.partial_fit(X, y)
            assert_alike(expected, got, X)
            assert_same_state(expected._optimizer, got._optimizer)


def assert_same_state(expected, got):
    assert type(got) is type(expected)
    assert vars(got).keys() == vars(expected).keys()
    for name, value in vars(expected).items():
        if isinstance(value, list):
            for a, b in zip(value, getattr(got, name), strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-15)
        elif isinstance(value, float):
            assert getattr(got, name) == pytest.approx(value, rel=1e-12)
        else:
            assert getattr(got, name) == value


class TestGradient:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("data", [*CLASSES, *NUMBERS])
    def test_of_lbfgs(self, data, sparse, weighted, monkeypatch):
        from fastnn.sklearn import _engine

        monkeypatch.setattr(_engine, "_DENSE_BYTES", 1000)
        name = "MLPClassifier" if data in CLASSES else "MLPRegressor"
        X, y = (CLASSES | NUMBERS)[data]()
        X = scipy.sparse.csr_array(X) if sparse else X
        weight = [weights_for(X)] if weighted else []
        calls = []

        def watch(model):
            found = model._loss_grad_lbfgs

            def loss_and_gradient(theta, *rest):
                result = found(theta, *rest)
                calls.append((theta.copy(), rest, result))
                return result

            model._loss_grad_lbfgs = loss_and_gradient

        expected, got = pair(name, solver="lbfgs", random_state=0, alpha=0.1, max_iter=1)
        watch(got)
        expected.fit(X, y, *weight)
        got.fit(X, y, *weight)
        for theta, rest, (loss, gradient) in calls[:2]:
            their_loss, their_gradient = expected._loss_grad_lbfgs(theta, *rest)
            assert loss == pytest.approx(their_loss, rel=1e-12)
            np.testing.assert_allclose(gradient, their_gradient, rtol=1e-9, atol=1e-13)


class TestPredict:
    @pytest.fixture
    def model(self):
        X, y = CLASSES["iris"]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return ours.MLPClassifier(random_state=0, max_iter=5).fit(X, y)

    @pytest.mark.parametrize("data", [*CLASSES, *NUMBERS])
    @pytest.mark.parametrize("rows", [1, 2, None])
    def test_at_once_and_checked_agree(self, data, rows):
        name = "MLPClassifier" if data in CLASSES else "MLPRegressor"
        X, y = (CLASSES | NUMBERS)[data]()
        model = getattr(ours, name)(random_state=0, max_iter=3).fit(X, y)
        X = X[:rows]
        assert model._outputs_at_once(X) is not None
        np.testing.assert_array_equal(model.predict(X), model.predict(X.tolist()))
        np.testing.assert_array_equal(outputs(model, X), outputs(model, np.asfortranarray(X)))

    def test_notices_weights_that_were_changed(self, model):
        X, _ = CLASSES["iris"]()
        before = model.predict_proba(X)
        model.coefs_[0][...] *= 2
        doubled = model.predict_proba(X)
        assert np.abs(doubled - before).max() > 1e-3
        held = model.intercepts_[1]
        model.predict(X)
        held += np.array([5, 0, 0])
        assert np.abs(model.predict_proba(X) - doubled).max() > 1e-3
        model.coefs_ = [W / 2 for W in model.coefs_]
        model.coefs_[1] *= 2
        model.intercepts_[1] = model.intercepts_[1] - np.array([5, 0, 0])
        np.testing.assert_allclose(model.predict_proba(X), before, rtol=0, atol=1e-12)

    def test_activation_changed_after_the_fit(self, model):
        X, _ = CLASSES["iris"]()
        before = model.predict_proba(X)
        changed = model.set_params(activation="tanh").predict_proba(X)
        assert np.abs(changed - before).max() > 1e-3

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (np.zeros((2, 3)), "X has 3 features, but MLPClassifier is expecting 4"),
            (np.full((2, 4), np.nan), "Input X contains NaN"),
            (np.full((2, 4), np.inf), "Input X contains infinity"),
            (np.zeros((0, 4)), "Found array with 0 sample"),
            (np.zeros(4), "Expected 2D array, got 1D array instead"),
        ],
    )
    def test_errors_are_scikit_learns(self, model, X, message):
        for method in (model.predict, model.predict_proba, model.predict_log_proba):
            with pytest.raises(ValueError, match=message):
                method(X)

    def test_before_fit(self):
        with pytest.raises(sklearn.exceptions.NotFittedError):
            ours.MLPClassifier().predict(np.zeros((1, 2)))

    def test_feature_names(self):
        pandas = pytest.importorskip("pandas", reason="pip install pandas")
        X, y = CLASSES["iris"]()
        model = ours.MLPClassifier(max_iter=2).fit(pandas.DataFrame(X, columns=list("abcd")), y)
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            model.predict(X)

    def test_not_a_number_where_scikit_learn_lets_it_by(self, model):
        with sklearn.config_context(assume_finite=True):
            assert np.isnan(model.predict_proba(np.full((2, 4), np.nan))).all()


class TestSaysTheSame:
    """What is printed, warned of and refused."""

    def both(self, name, data, **options):
        X, y = data
        seen = []
        for model in pair(name, random_state=0, **options):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    model.fit(X, y)
                    refused = None
                except Exception as error:
                    refused = type(error), str(error)
            said = [
                (w.category, str(w.message), Path(w.filename).name)
                for w in caught
                if w.category is not RuntimeWarning  # NumPy's, of overflows
            ]
            seen.append((refused, said))
        expected, got = seen
        assert got == expected
        return seen[0]

    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
    def test_verbose(self, schedule, early_stopping, capsys):
        for solver in ("sgd", "adam"):
            options = {"tol": 1e-1, "n_iter_no_change": 2, "max_iter": 40, "verbose": True}
            lines = []
            for model in pair(
                "MLPClassifier",
                random_state=0,
                solver=solver,
                learning_rate=schedule,
                early_stopping=early_stopping,
                **options,
            ):
                model.fit(*CLASSES["iris"]())
                lines.append(capsys.readouterr().out)
            assert "Iteration 2, loss = " in lines[0]
            assert lines[1] == lines[0]

    def test_warnings(self):
        refused, said = self.both("MLPClassifier", CLASSES["iris"](), max_iter=2, batch_size=1000)
        assert refused is None
        assert len(said) == 2

    @pytest.mark.parametrize(
        "options",
        [
            {"hidden_layer_sizes": (3, 0)},
            {"alpha": -1},
            {"solver": "none"},
            {"early_stopping": True, "validation_fraction": 0.001},
            {"batch_size": 0},
            {"n_iter_no_change": 0},
        ],
    )
    def test_bad_parameters(self, options):
        refused, _ = self.both("MLPRegressor", NUMBERS["diabetes"](), **options)
        # scikit-learn 1.6 validates by one row, and so do we
        assert refused is not None or ("early_stopping" in options and not WEIGHTED)

    def test_diverging(self):
        X, y = NUMBERS["diabetes"]()
        refused, _ = self.both(
            "MLPRegressor", (X * 1e100, y), solver="sgd", learning_rate_init=1e9, max_iter=3
        )
        assert "Solver produced non-finite parameter weights" in refused[1]

    def test_weights_that_sum_to_nothing_in_a_batch(self):
        X, y = CLASSES["iris"]()
        weight = 0 * weights_for(X)
        weight[50:] = 1
        for model in pair("MLPClassifier", batch_size=25, shuffle=False, max_iter=2):
            with pytest.raises(ZeroDivisionError, match="Weights sum to zero"):
                model.fit(X, y, weight)

    def test_interrupt(self, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        model = ours.MLPClassifier(random_state=0)
        monkeypatch.setattr(model, "_update_no_improvement_count", interrupted)
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            model.fit(*CLASSES["iris"]())
        assert model.n_iter_ == 1
        assert model.predict(CLASSES["iris"]()[0]).shape == (150,)

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_sparse_labels(self, early_stopping):
        if VERSION < (1, 9) and early_stopping:
            pytest.skip("scikit-learn stops early with sparse labels since 1.9: upgrade it")
        X, y = multilabel()
        y = scipy.sparse.csr_array(y)
        models = pair("MLPClassifier", random_state=0, max_iter=5, early_stopping=early_stopping)
        for model in models:
            model.fit(X, y)
        expected, got = (model.predict(X) for model in models)
        assert type(got) is type(expected)
        assert (got != expected).nnz == 0

    def test_one_class_alone(self):
        X, _ = CLASSES["iris"]()
        for model in pair("MLPClassifier", max_iter=3):
            assert (model.fit(X, np.full(150, "a")).predict(X[:3]) == "a").all()


class TestSolverChanges:
    """A fit by one solver, then by another: weights, optimizer and predictions stay together."""

    @pytest.mark.parametrize("solvers", [("sgd", "lbfgs", "sgd"), ("adam", "lbfgs", "sgd")])
    def test_warm_start(self, solvers):
        X, y = NUMBERS["diabetes"]()
        models = pair("MLPRegressor", random_state=0, warm_start=True, max_iter=4)
        for solver in solvers:
            for model in models:
                model.set_params(solver=solver).fit(X, y)
            expected, got = models
            assert_alike(expected, got, X, losses=1e-6)
            got = pickle.loads(pickle.dumps(got))
            np.testing.assert_array_equal(got.predict(X), models[1].predict(X))
            if solver != "lbfgs":
                assert_same_state(expected._optimizer, got._optimizer)
        for model in models:  # scikit-learn's regressor has it with any solver
            model.set_params(solver="sgd").partial_fit(X, y)
        assert_alike(*models, X)

    def test_predicts_by_the_point_that_was_chosen(self, monkeypatch):
        """Which need not be the last whose gradient was asked for."""
        import scipy.optimize

        minimize = scipy.optimize.minimize

        def with_a_last_try(function, x, args, **options):
            result = minimize(function, x, args=args, **options)
            function(result.x + 1, *args)
            return result

        monkeypatch.setattr(scipy.optimize, "minimize", with_a_last_try)
        X, y = CLASSES["iris"]()
        expected, got = pair("MLPClassifier", random_state=0, solver="lbfgs", max_iter=5)
        for model in (expected, got):
            model.fit(X, y)
        assert_alike(expected, got, X)


def squared_error(y, out):
    return ((out - y) ** 2).mean(axis=1), 2 * (out - y) / y.shape[1]


class TestMishaps:
    """What goes wrong leaves an estimator that can be used, and says what it was."""

    @pytest.fixture
    def data(self):
        X, y = NUMBERS["diabetes"]()
        return X[:80], y[:80]

    @staticmethod
    def model(**options):
        return ours.MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0, **options)

    def test_weights_that_cannot_be_written_to(self, data, tmp_path):
        X, y = data
        joblib.dump(self.model().fit(X, y), tmp_path / "model")
        mapped, model = joblib.load(tmp_path / "model", mmap_mode="r"), self.model().fit(X, y)
        assert not mapped.coefs_[0].flags.writeable
        for one in (mapped, model):
            one.partial_fit(X, y)
        np.testing.assert_equal(mapped.coefs_, model.coefs_)

    @pytest.mark.parametrize("name", ["MLPRegressor", "MLPClassifier"])
    def test_prediction_after_a_first_fit_that_failed(self, name, data):
        X, _ = data
        for model in pair(name):
            with pytest.raises(ValueError, match="inconsistent numbers of samples"):
                model.fit(X, np.arange(3))
            with pytest.raises(AttributeError):
                model.predict(X)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize("dtype", [str, "datetime64[D]", "timedelta64[s]"])
    def test_targets_that_are_no_numbers(self, solver, dtype, data):
        X, y = data
        with pytest.raises(TypeError, match="y must be numbers; got an array of dtype"):
            self.model(solver=solver).fit(X, (y * 10).astype(int).astype(dtype))
        with pytest.raises(TypeError, match="y_val must be numbers; got an array of dtype"):
            self.model(early_stopping=True).fit(X, y, X_val=X, y_val=y.astype(int).astype(dtype))

    def test_weights_narrower_than_the_data(self, data):
        X, y = data
        model = self.model().fit(X.astype(np.float32), y.astype(np.float32))
        for _ in range(3):
            model.partial_fit(X, y)
        before = model.predict(X)
        model.coefs_  # noqa: B018  exposed: predictions are by what these are
        np.testing.assert_array_equal(model.predict(X), before)

    def test_a_copy_that_shares_the_weights(self, data):
        X, y = data
        model = self.model().fit(X, y)
        model.predict(X)
        copy.copy(model).partial_fit(X, y)
        np.testing.assert_array_equal(model.predict(X), copy.deepcopy(model).predict(X))

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_another_shape_or_loss_in_the_middle(self, solver, data):
        X, y = data
        model = self.model(solver=solver, warm_start=True).fit(X, np.c_[y, y])
        with pytest.raises(ValueError, match="y must have as many outputs as before, 2; got 1"):
            model.fit(X, y)
        model.set_params(hidden_layer_sizes=(7, 3))
        with pytest.raises(ValueError, match="hidden_layer_sizes must be of the 1 layers"):
            model.fit(X, np.c_[y, y])
        model.set_params(hidden_layer_sizes=[4], loss="gamma")
        with pytest.raises(ValueError, match=r"loss must be of the kind .*got 'gamma'"):
            model.fit(X, np.exp(np.c_[y, y]))

    def test_validation_rows_that_count_nothing(self, data):
        X, y = data
        weights = 0 * weights_for(X)
        said = []
        for model in pair("MLPClassifier", early_stopping=True, random_state=0):
            with pytest.raises((ValueError, ZeroDivisionError)) as caught:
                model.fit(X, y > 0, weights)
            said.append((caught.type, str(caught.value)))
        assert said[0] == said[1]

    def test_weights_of_either_sign(self, data):
        X, y = data
        weights = 1 + 0 * weights_for(X)
        weights[:20] = -1
        models = pair("MLPRegressor", shuffle=False, batch_size=10, max_iter=3, random_state=0)
        for model in models:
            model.fit(X, y, weights)
        assert_alike(*models, X)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_the_loss_is_a_number_of_numpy(self, solver, data):
        model = self.model(solver=solver).fit(*data)
        losses = [model.loss_, *getattr(model, "loss_curve_", [])]
        assert {type(loss) for loss in losses} == {np.float64}


class TestBackendsAgree:
    """What only these estimators use of the backends, native against reference."""

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(
        ("loss", "last"),
        [
            ("mse", "identity"),
            (squared_error, "identity"),
            ("cross_entropy", "softmax"),
            ("cross_entropy", "sigmoid"),
            ("binary_cross_entropy", "sigmoid"),
            ("binary_cross_entropy", "softmax"),
        ],
    )
    @pytest.mark.parametrize(
        "rule",
        [
            VelocitySGD(momentum=0.8),
            VelocitySGD(momentum=0.8, nesterov=False),
            VelocitySGD(momentum=0.8, clip_norm=0.5, clip_value=0.05),
            EpsilonHatAdam(),
        ],
        ids=repr,
    )
    def test_scales_clip_and_rules(self, rule, loss, last, weighted, dtype):
        rng = np.random.default_rng(1)
        spec = Spec(
            layers=(
                DenseSpec(5, 40, "tanh", 0.0, True, 0.0, 0.01, 0.1),
                DenseSpec(40, 3, last, 0.0, True, 0.0, 0.0, 0.2),
            ),
            loss=loss,
            loss_parameter=0.1,
            dtype=np.dtype(dtype),
            seed=0,
            loss_scale=0.5,
            gradient_scale=1.5,
            mean_penalty=True,
        )
        X = rng.normal(size=(50, 5)).astype(dtype)
        target = np.eye(3, dtype=dtype)[rng.integers(0, 3, 50)]
        weight = rng.uniform(0, 2, 50).astype(dtype) if weighted else None
        weights = [
            (rng.normal(size=(5, 40)).astype(dtype), np.zeros(40, dtype)),
            (0.3 * rng.normal(size=(40, 3)).astype(dtype), np.zeros(3, dtype)),
        ]
        results = []
        for name in ("native", "numpy"):
            net = create(name, spec)
            net.set_weights(weights)
            losses, hits = np.empty(20), np.empty(20, np.int64)
            for _ in range(2):
                net.train(
                    X, target, weight, None, 5, rule, np.full(10, 0.01), losses[:10], hits, None
                )
                losses = losses[::-1].copy()
            value, _ = net.loss(X, target, weight)
            loss_there, grads = net.gradients(X, target, weight, 0)
            assert loss_there == pytest.approx(value, rel=1e-5)
            results.append((losses, value, grads, net.weights(), net.state()))
        # sums of at most 50 products, 20 steps that each may double what is lost
        tolerance = 2000 * float(np.finfo(dtype).eps)
        native, numpy = results
        np.testing.assert_allclose(native[0], numpy[0], rtol=tolerance)
        assert native[1] == pytest.approx(numpy[1], rel=tolerance)
        for i in (2, 3):
            for (W, b), (W_, b_) in zip(native[i], numpy[i], strict=True):
                np.testing.assert_allclose(W, W_, rtol=tolerance, atol=tolerance)
                np.testing.assert_allclose(b, b_, rtol=tolerance, atol=tolerance)
        assert native[4][0] == numpy[4][0]

    @pytest.mark.parametrize("name", ["VelocitySGD", "EpsilonHatAdam"])
    def test_rules_are_scikit_learns(self, name):
        rng = np.random.default_rng(0)
        param = rng.normal(size=6)
        grads = rng.normal(size=(9, 6))
        mine, slots = param.copy(), [np.zeros(6), np.zeros(6)]
        if name == "VelocitySGD":
            reference = SGDOptimizer([param], 0.1, momentum=0.7)
            rule, slots = VelocitySGD(momentum=0.7), slots[:1]
        else:
            reference = AdamOptimizer([param], 0.1, 0.8, 0.9, 1e-2)
            rule = EpsilonHatAdam(beta_1=0.8, beta_2=0.9, epsilon=1e-2)
        for step, grad in enumerate(grads, 1):
            rate = 0.1 / step if name == "VelocitySGD" else 0.1
            if name == "VelocitySGD":
                reference.learning_rate = rate
            reference.update_params([param], [grad])
            rule.apply(mine, grad, slots, step, rate)
            np.testing.assert_allclose(mine, param, rtol=1e-13)


SCRIPT = """
import sys
from sklearn.neural_network import MLPClassifier
import sklearn.neural_network._multilayer_perceptron as module

if __name__ == "__main__":
    print(MLPClassifier.__module__, module.MLPRegressor.__module__, __file__, *sys.argv[1:])
"""


class TestPatch:
    @pytest.fixture(autouse=True)
    def unpatched(self):
        yield
        ours.unpatch_sklearn()

    def names(self):
        from sklearn.neural_network import MLPClassifier, MLPRegressor, _multilayer_perceptron

        return [
            MLPClassifier,
            MLPRegressor,
            _multilayer_perceptron.MLPClassifier,
            _multilayer_perceptron.MLPRegressor,
        ]

    def test_there_and_back(self):
        before = self.names()
        fastnn.patch_sklearn()
        assert self.names() == [ours.MLPClassifier, ours.MLPRegressor] * 2
        fastnn.patch_sklearn()
        fastnn.unpatch_sklearn()
        assert self.names() == before
        fastnn.unpatch_sklearn()
        assert self.names() == before
        assert all(cls.__module__.startswith("sklearn.") for cls in before)

    def test_modules_that_have_imported_the_names(self, monkeypatch):
        module = types.ModuleType("someones_module")
        exec("from sklearn.neural_network import MLPClassifier as Net", module.__dict__)
        monkeypatch.setitem(sys.modules, "someones_module", module)
        with fastnn.patch_sklearn():
            assert module.Net is ours.MLPClassifier
        assert module.Net is theirs.MLPClassifier

    def test_blocks_within_each_other(self):
        before = self.names()
        with fastnn.patch_sklearn():
            with fastnn.patch_sklearn():
                pass
            assert self.names()[0] is ours.MLPClassifier
        assert self.names() == before

    def test_pickles_made_under_the_patch_load_without(self):
        X, y = CLASSES["iris"]()
        original = theirs.MLPClassifier(max_iter=3, random_state=0).fit(X, y)
        old = pickle.dumps(original)
        with fastnn.patch_sklearn():
            made = theirs.MLPClassifier(max_iter=3, random_state=0).fit(X, y)
            assert type(made) is ours.MLPClassifier
            dumped = pickle.dumps(made)
            dumped_original = pickle.dumps(original)
            assert type(copy.deepcopy(original)) is type(original)
            loaded_old = pickle.loads(old)
            assert type(loaded_old) is ours.MLPClassifier
        np.testing.assert_array_equal(pickle.loads(dumped).predict_proba(X), made.predict_proba(X))
        loaded = pickle.loads(dumped_original)
        assert type(loaded) is theirs.MLPClassifier
        np.testing.assert_array_equal(loaded.predict_proba(X), original.predict_proba(X))
        assert_alike(original, loaded_old, X)

    def test_script(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, "-m", "fastnn.sklearn", script.name, "--", "--an", "argument"],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        )
        said = f"fastnn.sklearn fastnn.sklearn {script} -- --an argument\n"
        assert done.stdout == said, done.stderr


class TestConversion:
    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    @pytest.mark.parametrize("data", ["iris", "multilabel", "diabetes"])
    def test_both_ways_and_on(self, data, solver):
        """Converted at any time, training goes on as if it had not been."""
        name = "MLPClassifier" if data in CLASSES else "MLPRegressor"
        X, y = (CLASSES | NUMBERS)[data]()
        expected, got = pair(
            name, random_state=np.random.RandomState(3), solver=solver, warm_start=True, max_iter=5
        )
        got.set_params(random_state=np.random.RandomState(3))
        for model in (expected, got):
            model.fit(X, y)
        swapped = [ours.from_sklearn(expected), ours.to_sklearn(got)]
        assert [type(model) for model in swapped] == [type(got), type(expected)]
        assert swapped[0].get_params().keys() == got.get_params().keys()
        for model in swapped:
            np.testing.assert_allclose(outputs(model, X), outputs(expected, X), rtol=0, atol=1e-9)
            np.testing.assert_array_equal(
                model.coefs_[0], (expected if model is swapped[0] else got).coefs_[0]
            )
        for model in (expected, *swapped):
            model.partial_fit(X, y) if solver != "lbfgs" else model.fit(X, y)
        for model in swapped:
            np.testing.assert_allclose(outputs(model, X), outputs(expected, X), rtol=0, atol=1e-6)
        if solver != "lbfgs":
            for model in swapped:
                assert_same_state(expected._optimizer, model._optimizer)

    def test_unfitted(self):
        converted = ours.from_sklearn(theirs.MLPRegressor(alpha=3))
        assert type(converted) is ours.MLPRegressor
        assert converted.alpha == 3
        back = ours.to_sklearn(converted)
        assert type(back) is theirs.MLPRegressor
        assert vars(back) == vars(theirs.MLPRegressor(alpha=3))

    @pytest.mark.parametrize("convert", [ours.from_sklearn, ours.to_sklearn])
    def test_of_something_else(self, convert):
        with pytest.raises(TypeError, match="estimator must be an MLPClassifier or MLPRegressor"):
            convert(theirs.BernoulliRBM())

    def test_refuses_what_scikit_learn_does_not_have(self):
        with pytest.raises(ValueError, match=r"dropout must be 0\.0, since scikit-learn has no"):
            ours.to_sklearn(ours.MLPClassifier(dropout=0.5))

    def test_pickle_and_copy_go_on(self):
        X, y = CLASSES["iris"]()
        model = ours.MLPClassifier(random_state=0).partial_fit(X, y, classes=[0, 1, 2])
        others = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
        for other in (model, *others):
            other.partial_fit(X, y)
        for other in others:
            np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
            assert_same_state(model._optimizer, other._optimizer)


def _search(backend, n_jobs):
    X, y = CLASSES["iris"]()
    grid = {"hidden_layer_sizes": [(10,), (20, 20)], "alpha": [1e-4, 1.0]}
    model = ours.MLPClassifier(max_iter=5, random_state=0)
    with warnings.catch_warnings(), joblib.parallel_backend(backend):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GridSearchCV(model, grid, cv=2, n_jobs=n_jobs).fit(X, y)


def _threads_after_a_fit(wait=None):
    """How many this process takes; with a barrier, while another one works, too."""
    if wait is not None:
        wait.wait(60)
    X, y = CLASSES["iris"]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.MLPClassifier(max_iter=2).fit(X, y)
    return fastnn.get_num_threads()


@pytest.mark.timeout(120)  # that it ends at all is the point
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
class TestParallel:
    @pytest.mark.parametrize("n_jobs", [1, 2, -1])
    @pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
    def test_grid_search(self, backend, n_jobs):
        expected = _search("threading", 1)  # by several threads of fastnn's, where there are some
        for _ in range(2):
            got = _search(backend, n_jobs)
            for name in ("mean_test_score", "std_test_score", "rank_test_score"):
                np.testing.assert_array_equal(got.cv_results_[name], expected.cv_results_[name])
            X, _ = CLASSES["iris"]()
            np.testing.assert_array_equal(got.predict_proba(X), expected.predict_proba(X))

    @pytest.mark.parametrize("n_jobs", [2, -1])
    def test_loky_gives_each_worker_its_share(self, n_jobs):
        jobs = joblib.cpu_count() if n_jobs == -1 else n_jobs
        with joblib.parallel_backend("loky"):
            counts = joblib.Parallel(n_jobs=n_jobs)(
                joblib.delayed(_threads_after_a_fit)() for _ in range(2)
            )
        assert set(counts) == {max(1, joblib.cpu_count() // jobs)}

    def test_inner_threads_follow_the_outer_ones(self):
        with joblib.parallel_backend("loky", inner_max_num_threads=1):
            counts = joblib.Parallel(n_jobs=2)(
                joblib.delayed(_threads_after_a_fit)() for _ in range(2)
            )
        assert counts == [1, 1]

    @pytest.mark.parametrize("computed_before", [False, True])
    def test_forked_workers_take_one_each(self, computed_before):
        """In a process of its own, since a test before may have computed."""
        code = f"""
import joblib, test_sklearn, fastnn
if __name__ == "__main__":
    if {computed_before}:
        test_sklearn._threads_after_a_fit()
    with joblib.parallel_backend("multiprocessing"):
        print(joblib.Parallel(n_jobs=2)(
            joblib.delayed(test_sklearn._threads_after_a_fit)() for _ in range(2)))
    assert fastnn.get_num_threads() == {fastnn.get_num_threads()}
"""
        here = str(Path(__file__).parent)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            timeout=100,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])},
        )
        assert done.stdout == "[1, 1]\n", done.stderr

    def test_threads_of_python_share(self, threads):
        """While one trains, another is given what is left; alone it has all."""
        if not fastnn._config.openmp_enabled():
            pytest.skip("built without OpenMP: install a compiler that has it")
        fastnn.set_num_threads(4)
        X, y = np.random.default_rng(0).normal(size=(4000, 200)), np.zeros(4000)
        y[::2] = 1
        model = ours.MLPClassifier((200, 200), max_iter=10, random_state=0)
        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(model.fit, X, y)
            seen = set()
            while not training.done():
                seen.add(fastnn.get_num_threads())
                time.sleep(1e-4)
            training.result()
        assert seen <= {2, 4}
        assert 2 in seen
        assert fastnn.get_num_threads() == 4

    @pytest.mark.parametrize("limit", [1, 2])
    def test_threadpoolctl_sees_and_rules(self, limit):
        threadpoolctl = pytest.importorskip("threadpoolctl")
        if fastnn.show_config(as_dict=True)["openmp"] is None:
            pytest.skip("built without OpenMP: install a compiler that has it")
        if joblib.cpu_count() < limit:
            pytest.skip("needs two processors: run it on another machine")
        fastnn.set_num_threads(None)  # what is set so, threadpoolctl does not change
        with threadpoolctl.threadpool_limits(limit, user_api="openmp"):
            assert fastnn.get_num_threads() == limit
            assert _threads_after_a_fit() == limit
            seen = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "openmp"]
            assert {pool["num_threads"] for pool in seen} == {limit}

    def test_several_threads_predict_by_one_model(self):
        X, y = CLASSES["digits"]()
        model = ours.MLPClassifier(max_iter=2, random_state=0).fit(X, y)
        expected = model.predict_proba(X)
        model.coefs_  # noqa: B018  exposed: each call looks whether they are as they were
        with ThreadPoolExecutor(4) as pool:
            for got in pool.map(lambda _: model.predict_proba(X), range(40)):
                np.testing.assert_array_equal(got, expected)

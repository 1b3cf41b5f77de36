"""What fastnn.sklearn's estimators can that scikit-learn's cannot."""

from __future__ import annotations

import copy
import csv
import inspect
import pickle
import time
import warnings

import numpy as np
import pytest
from conftest import require_native

pytest.importorskip("sklearn", reason='needs scikit-learn: pip install "fastnn[sklearn]"')
require_native()

import joblib  # noqa: E402
import scipy.sparse  # noqa: E402
import sklearn  # noqa: E402
import sklearn.neural_network as theirs  # noqa: E402
from sklearn.metrics import f1_score, log_loss, make_scorer  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from test_sklearn import CLASSES, NUMBERS, WEIGHTED, relative, weights_for  # noqa: E402

import fastnn  # noqa: E402
import fastnn.sklearn as ours  # noqa: E402
from fastnn import callbacks, losses  # noqa: E402
from fastnn.activations import ACTIVATIONS  # noqa: E402
from fastnn.schedules import Constant, Cosine, ExponentialDecay, StepDecay, WarmUp  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Recorder:
    """A callback of scikit-learn's protocol."""

    def __init__(self, stop_after=None):
        self.calls = []
        self.stop_after = stop_after

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name, context.max_subtasks))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        score = fitted_estimator.score(X, y)
        self.calls.append(("end", context.task_name, context.task_id, score, metadata))
        return context.task_name == "epoch" and context.task_id == self.stop_after


class TestExtras:
    """What scikit-learn does not have."""

    X, y = CLASSES["iris"]()

    def fit(self, cls=ours.MLPClassifier, X=None, y=None, weight=None, **options):
        options = {"random_state": 0, "max_iter": 10} | options
        weights = [] if weight is None else [weight]
        return cls(**options).fit(self.X if X is None else X, self.y if y is None else y, *weights)

    def test_signature(self):
        for name in ("MLPClassifier", "MLPRegressor"):
            expected, got = (
                list(inspect.signature(getattr(module, name)).parameters.values())
                for module in (theirs, ours)
            )
            assert got[: len(expected)] == expected
            assert {p.kind for p in got[len(expected) :]} == {inspect.Parameter.KEYWORD_ONLY}

    def test_are_parameters(self):
        options = {
            "class_weight": "balanced",
            "dropout": 0.25,
            "dtype": "float32",
            "optimizer": fastnn.AdamW(0.01),
            "loss": "mse",
            "activation": ["gelu"],
            "clip_value": 0.5,
            "averaging": fastnn.EMA(0.9),
            "scoring": "f1_macro",
            "learning_rate": Cosine(0.01, 10),
            "callbacks": [callbacks.EarlyStopping("loss")],
        }
        model = ours.MLPClassifier(**options)
        assert model.get_params().items() >= options.items()
        cloned = sklearn.base.clone(model).get_params()
        assert type(cloned.pop("callbacks")[0]) is callbacks.EarlyStopping  # copied
        assert cloned.items() <= model.get_params().items()
        assert "dropout=0.25" in repr(model)
        search = GridSearchCV(
            ours.MLPClassifier(max_iter=3, random_state=0),
            {"dropout": [0.0, 0.5], "dtype": [None, "float32"], "clip_norm": [None, 0.1]},
            cv=2,
        ).fit(self.X, self.y)
        assert len(search.cv_results_["params"]) == 8

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be"),
            ({"dtype": "float16"}, "The 'dtype' parameter of MLPClassifier must be"),
            ({"optimizer": "adamw"}, "The 'optimizer' parameter of MLPClassifier must be"),
            ({"clip_norm": 0}, "The 'clip_norm' parameter of MLPClassifier must be"),
            ({"loss": "huber"}, "The 'loss' parameter of MLPClassifier must be"),
            ({"activation": "softmax"}, "The 'activation' parameter of MLPClassifier must be"),
            ({"class_weight": "even"}, "The 'class_weight' parameter of MLPClassifier must be"),
            ({"dropout": 0.5, "solver": "lbfgs"}, "dropout needs solver='sgd' or 'adam'"),
            ({"clip_norm": 1, "optimizer": fastnn.SGD()}, "clip_norm must be given to the optim"),
            ({"callbacks": [1]}, r"callbacks\[0\] must be a fastnn.callbacks.Callback"),
            (
                {"callbacks": [callbacks.Checkpoint("x")]},
                r"callbacks\[0\] must not be a Checkpoint",
            ),
            ({"callbacks": [Recorder()]}, "give scikit-learn's to set_callbacks"),
            ({"clip_value": -1.0}, "The 'clip_value' parameter of MLPClassifier must be"),
            ({"clip_value": 1, "optimizer": fastnn.SGD()}, "clip_value must be given to the optim"),
            (
                {"learning_rate": Cosine(0.1, 5), "optimizer": fastnn.SGD()},
                "learning_rate must be given to the optimizer itself",
            ),
            ({"learning_rate": "cosine"}, "The 'learning_rate' parameter of MLPClassifier must be"),
            (
                {"learning_rate": Cosine(0.1, 5), "solver": "lbfgs"},
                "learning_rate needs solver='sgd' or 'adam'",
            ),
            ({"averaging": 1.0}, "The 'averaging' parameter of MLPClassifier must be"),
            ({"averaging": fastnn.EMA(0.9), "solver": "lbfgs"}, "averaging needs solver='sgd' or"),
            ({"scoring": "loss"}, "scoring needs early_stopping=True"),
            ({"scoring": "best"}, "The 'scoring' parameter of MLPClassifier must be"),
            (
                {"scoring": "loss", "early_stopping": True, "solver": "lbfgs"},
                "scoring needs solver='sgd' or 'adam'",
            ),
            ({"label_smoothing": 1.0}, "The 'label_smoothing' parameter of MLPClassifier must be"),
            ({"label_smoothing": 0.1, "loss": "mse"}, "label_smoothing needs loss='log_loss'"),
            ({"loss": losses.Focal}, "loss must be a description, Focal"),
            ({"activation": ["relu", "tanh"]}, "one for each of the 1 hidden layers; got 2"),
            ({"activation": ["softmax"]}, r"activation\[0\] must be one of"),
            ({"activation": [3]}, r"activation\[0\] must be one of"),
        ],
    )
    def test_bad(self, options, message):
        with pytest.raises((ValueError, TypeError), match=message):
            self.fit(**options)

    @pytest.mark.parametrize(
        ("name", "values", "others"),
        [
            ("dropout", [0.0, 0.5], {}),
            ("dtype", [None, "float32", "float64"], {}),
            ("optimizer", [None, fastnn.SGD(0.1), fastnn.AdamW(Cosine(0.1, 3))], {}),
            ("learning_rate", ["constant", StepDecay(0.1, 2), Constant(0.1, per="step")], {}),
            ("clip_norm", [None, 0.01], {}),
            ("clip_value", [None, 0.01], {}),
            ("averaging", [None, 0.5, fastnn.EMA(0.9), fastnn.SWA(1)], {}),
            ("scoring", [None, "loss", "f1_macro"], {"early_stopping": True}),
            ("label_smoothing", [0.0, 0.2], {}),
            ("class_weight", [None, "balanced", {0: 1, 1: 5, 2: 1}], {}),
            ("loss", ["log_loss", "mse", "focal", losses.Focal(3.0)], {}),
            ("activation", ["relu", "gelu", ["tanh"], ("selu",)], {}),
            ("callbacks", [None, [callbacks.EarlyStopping("loss")]], {}),
        ],
    )
    def test_search(self, name, values, others):
        model = ours.MLPClassifier(max_iter=3, random_state=0, **others)
        search = GridSearchCV(model, {name: values}, cv=2).fit(self.X, self.y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert [params[name] for params in search.cv_results_["params"]] == values
        cloned = sklearn.base.clone(search.best_estimator_)
        again = pickle.loads(pickle.dumps(cloned.fit(self.X, self.y)))
        np.testing.assert_array_equal(
            again.predict_proba(self.X), search.best_estimator_.predict_proba(self.X)
        )
        assert pickle.loads(pickle.dumps(search)).predict(self.X).shape == (150,)

    def test_class_weight_is_sample_weight(self):
        given = weights_for(self.X)
        weights = {0: 1.0, 1: 5.0, 2: 0.5}
        expected = self.fit(weight=np.array([weights[label] for label in self.y]))
        got = self.fit(class_weight=weights)
        np.testing.assert_array_equal(got.predict_proba(self.X), expected.predict_proba(self.X))
        both = self.fit(class_weight=weights, weight=given)
        assert both.loss_ != got.loss_

    def test_class_weight(self):
        rare = np.r_[0:50, 50:55]
        even = self.fit(X=self.X[rare], y=self.y[rare], class_weight="balanced", max_iter=100)
        plain = self.fit(X=self.X[rare], y=self.y[rare], max_iter=100)
        probability = [m.predict_proba(self.X[50:55])[:, 1].mean() for m in (even, plain)]
        assert probability[0] > probability[1]
        with pytest.raises(ValueError, match="class_weight='balanced' cannot be known"):
            ours.MLPClassifier(class_weight="balanced").partial_fit(
                self.X, self.y, classes=[0, 1, 2]
            )

    def test_dropout(self):
        assert self.fit(dropout=0.0).loss_curve_ == self.fit().loss_curve_
        dropped = self.fit(dropout=0.5)
        assert dropped.loss_curve_ == self.fit(dropout=0.5).loss_curve_
        assert dropped.loss_curve_ != self.fit(dropout=0.5, random_state=1).loss_curve_
        assert dropped.loss_curve_ != self.fit().loss_curve_
        np.testing.assert_array_equal(
            dropped.predict_proba(self.X), dropped.predict_proba(self.X.tolist())
        )

    def test_dtype(self):
        single = self.fit(dtype="float32")
        assert single.coefs_[0].dtype == np.float32
        assert single.predict_proba(self.X).dtype == np.float32
        assert relative(self.fit().loss_curve_, single.loss_curve_) < 1e-4
        assert self.fit(X=self.X.astype(np.float32), dtype="float64").coefs_[0].dtype == np.float64
        with pytest.raises(ValueError, match="X must be finite in float32"):
            self.fit(X=self.X * 1e200, dtype="float32")

    def test_loss(self):
        brier = self.fit(loss="mse", max_iter=300, learning_rate_init=0.01)
        assert brier.score(self.X, self.y) > 0.95
        p = brier.predict_proba(self.X)
        brier.set_params(warm_start=True, max_iter=1, alpha=0.0, batch_size=150).fit(self.X, self.y)
        assert brier.loss_ == pytest.approx(np.mean((p - np.eye(3)[self.y]) ** 2), rel=1e-9)
        X, y = NUMBERS["diabetes"]()
        for loss in ("mae", "huber"):
            robust = self.fit(ours.MLPRegressor, X, y, loss=loss, max_iter=100)
            assert robust.loss_curve_[-1] < 0.8 * robust.loss_curve_[0]

    @pytest.mark.parametrize("activation", ["gelu", "leaky_relu", "elu", "softplus"])
    def test_activation(self, activation):
        model = self.fit(activation=activation, max_iter=200)
        assert model.score(self.X, self.y) > 0.9
        with pytest.raises(ValueError, match="The 'activation' parameter of MLPClassifier must be"):
            ours.to_sklearn(model)

    def test_sigmoid_is_logistic(self):
        """Apart from where scikit-learn starts it from."""
        logistic = self.fit(activation="logistic", max_iter=1)
        sigmoid = copy.deepcopy(logistic).set_params(activation="sigmoid")
        np.testing.assert_array_equal(sigmoid.predict_proba(self.X), logistic.predict_proba(self.X))

    def test_optimizer(self):
        """Adam's epsilon is all that is different, and where it is nothing so are the results."""
        own = self.fit(optimizer=fastnn.Adam(1e-3, epsilon=1e-14))
        solver = self.fit(solver="adam", epsilon=1e-14)
        np.testing.assert_allclose(own.loss_curve_, solver.loss_curve_, rtol=1e-9)
        for rule in (fastnn.AdamW(0.01), fastnn.SGD(0.1, 0.9), fastnn.RMSProp(), fastnn.AdaGrad()):
            assert self.fit(optimizer=rule, max_iter=50).score(self.X, self.y) > 0.8

    def test_optimizer_goes_on(self):
        model = ours.MLPClassifier(random_state=0, optimizer=fastnn.SGD(0.1, 0.9))
        model.partial_fit(self.X, self.y, classes=[0, 1, 2])
        other = pickle.loads(pickle.dumps(model))
        for each in (model, other):
            each.partial_fit(self.X, self.y)
        np.testing.assert_array_equal(other.predict_proba(self.X), model.predict_proba(self.X))

    def test_clip_norm(self):
        free = self.fit(solver="sgd", learning_rate_init=0.1, momentum=0.0)
        loose = self.fit(solver="sgd", learning_rate_init=0.1, momentum=0.0, clip_norm=1e9)
        np.testing.assert_allclose(loose.loss_curve_, free.loss_curve_, rtol=1e-9)
        start = self.fit(solver="sgd", learning_rate_init=1e-300, max_iter=1)
        tight = self.fit(
            solver="sgd", learning_rate_init=0.1, momentum=0.0, clip_norm=1e-3, max_iter=1
        )
        moved = [a - b for a, b in zip(tight.coefs_, start.coefs_, strict=True)]
        moved += [a - b for a, b in zip(tight.intercepts_, start.intercepts_, strict=True)]
        norm = np.sqrt(sum((part**2).sum() for part in moved))
        assert norm == pytest.approx(0.1 * 1e-3, rel=1e-2)

    def test_validation_data(self):
        rng = np.random.default_rng(0)
        order = rng.permutation(150)
        train, held = order[:100], order[100:]
        model = ours.MLPClassifier(early_stopping=True, random_state=0, max_iter=20)
        model.fit(self.X[train], self.y[train], X_val=self.X[held], y_val=self.y[held])
        assert model.t_ == 100 * model.n_iter_
        assert model.best_validation_score_ == model.score(self.X[held], self.y[held])
        with pytest.raises(ValueError, match="X_val and y_val need early_stopping=True"):
            ours.MLPClassifier().fit(self.X, self.y, X_val=self.X, y_val=self.y)
        with pytest.raises(ValueError, match="X_val and y_val must be given together"):
            model.fit(self.X, self.y, X_val=self.X)
        with pytest.raises(ValueError, match="X has 3 features"):
            model.fit(self.X, self.y, X_val=self.X[:, :3], y_val=self.y)

    def test_callbacks(self):
        class Watch(fastnn.Callback):
            def __init__(self):
                self.seen = []

            def on_epoch_end(self, net, epoch, logs):
                self.seen.append((epoch, dict(logs), net.coefs_[0].copy()))
                if epoch == 3:
                    raise fastnn.StopTraining

            def on_train_end(self, net, history):
                self.history = history

        watch = Watch()
        model = self.fit(callbacks=[watch])
        assert [epoch for epoch, _, _ in watch.seen] == [0, 1, 2, 3]
        assert [logs["loss"] for _, logs, _ in watch.seen] == model.loss_curve_
        assert model.n_iter_ == 4
        np.testing.assert_array_equal(watch.seen[-1][2], model.coefs_[0])
        assert not np.array_equal(watch.seen[0][2], model.coefs_[0])
        assert watch.history["loss"] == model.loss_curve_


def brier(y, out):
    return ((out - y) ** 2).mean(axis=1), 2 * (out - y) / y.shape[1]


class TestAsNetworkFits:
    """Where there is no scikit-learn to compare with, `fastnn.Network` says what is meant."""

    EPOCHS = 4

    def start(self, model, X, y):
        """The weights that the model begins with: a step that is too small to be one."""
        still = sklearn.base.clone(model).set_params(
            optimizer=fastnn.SGD(1e-300), learning_rate="constant", averaging=None, max_iter=1
        )
        still.set_params(clip_norm=None, clip_value=None).fit(X, y)
        return list(zip(still.coefs_, still.intercepts_, strict=True))

    def compare(self, cls, X, y, its_loss, last, averaging=None, optimizer=None, **options):
        options = {"hidden_layer_sizes": (20, 10), "alpha": 0.0, "activation": "tanh"} | options
        if optimizer is not None:
            options["optimizer"] = optimizer
        batch = min(40, len(X) // 3)
        model = cls(
            random_state=0,
            shuffle=False,
            batch_size=batch,
            max_iter=self.EPOCHS,
            averaging=averaging,
            **options,
        )
        start = self.start(model, X, y)
        names = options["activation"]
        names = [names] * 2 if isinstance(names, str) else names
        net = fastnn.Network(
            [
                X.shape[1],
                *(fastnn.Dense(n, name) for n, name in zip((20, 10), names, strict=True)),
                fastnn.Dense(start[-1][0].shape[1], last),
            ],
            loss=its_loss,
            optimizer=optimizer or fastnn.Adam(1e-3),
            averaging=averaging,
            dtype="float64",
        )
        net.set_weights(start)
        target = y if y.ndim > 1 or last == "softmax" else y.reshape(-1, 1)
        history = net.fit(X, target, epochs=self.EPOCHS, batch_size=batch, shuffle=False)
        model.fit(X, y)
        return model, net, history

    def assert_same(self, model, net, history, X):
        # the same sums by the same core; a mean over batches may be taken in another order
        for W, b, (W_, b_) in zip(model.coefs_, model.intercepts_, net.weights, strict=True):
            np.testing.assert_array_equal(W, W_)
            np.testing.assert_array_equal(b, b_)
        np.testing.assert_allclose(model.loss_curve_, history["loss"], rtol=1e-12)
        predicting = net if net.averaging is None else net.averaged()
        out = predicting.predict(X)
        got = model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)
        if getattr(model, "out_activation_", "") == "exp":
            out = np.exp(out)
        np.testing.assert_array_equal(got, out if got.ndim == out.ndim else out.ravel())

    @pytest.mark.parametrize(
        "schedule",
        [
            StepDecay(0.01, every=2),
            Cosine(0.01, duration=4),
            ExponentialDecay(0.01, 0.9, per="step"),
            WarmUp(Cosine(0.01, duration=9, per="step"), duration=5),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("rule", [fastnn.Adam, fastnn.SGD, fastnn.AdamW])
    def test_schedules(self, rule, schedule):
        X, y = CLASSES["iris"]()
        self.assert_same(
            *self.compare(
                ours.MLPClassifier, X, y, "cross_entropy", "softmax", optimizer=rule(schedule)
            ),
            X,
        )

    @pytest.mark.parametrize(
        "rule",
        [fastnn.SGD(0.1, clip_norm=0.05), fastnn.SGD(0.1, clip_value=0.01), fastnn.RMSProp()],
        ids=repr,
    )
    @pytest.mark.parametrize(
        "averaging", [None, fastnn.EMA(0.9), fastnn.SWA(5, every=2, per="step")], ids=repr
    )
    def test_averaging_and_rules(self, averaging, rule):
        X, y = CLASSES["iris"]()
        self.assert_same(
            *self.compare(
                ours.MLPClassifier,
                X,
                y,
                "cross_entropy",
                "softmax",
                averaging=averaging,
                optimizer=rule,
            ),
            X,
        )

    @pytest.mark.parametrize("activation", [("relu", "gelu"), ["logistic", "elu"]])
    def test_activations(self, activation):
        X, y = CLASSES["iris"]()
        theirs = tuple("sigmoid" if name == "logistic" else name for name in activation)
        model, net, history = self.compare(
            ours.MLPClassifier,
            X,
            y,
            "cross_entropy",
            "softmax",
            optimizer=fastnn.AdamW(0.01),
            activation=theirs,
        )
        self.assert_same(model, net, history, X)
        same = copy.deepcopy(model).set_params(activation=activation)
        np.testing.assert_array_equal(same.predict_proba(X), model.predict_proba(X))

    @pytest.mark.parametrize(
        ("loss", "theirs"),
        [
            ("focal", losses.Focal()),
            (losses.Focal(1.5), losses.Focal(1.5)),
            (brier, brier),
            ("mse", "mse"),
        ],
    )
    def test_losses_of_classes(self, loss, theirs):
        X, y = CLASSES["iris"]()
        if callable(theirs) or theirs == "mse":  # numbers, to Network
            model, net, history = self.compare(
                ours.MLPClassifier,
                X,
                np.eye(3)[y].astype(int),
                theirs,
                "sigmoid",
                optimizer=fastnn.AdamW(0.01),
                loss=loss,
            )
        else:
            model, net, history = self.compare(
                ours.MLPClassifier,
                X,
                y,
                theirs,
                "softmax",
                optimizer=fastnn.AdamW(0.01),
                loss=loss,
            )
        self.assert_same(model, net, history, X)

    def test_focal_of_several_labels(self):
        X, y = CLASSES["multilabel"]()
        self.assert_same(
            *self.compare(
                ours.MLPClassifier,
                X,
                y,
                "binary_focal",
                "sigmoid",
                optimizer=fastnn.AdamW(0.01),
                loss="focal",
            ),
            X,
        )

    @pytest.mark.parametrize(
        ("loss", "theirs"),
        [
            ("mae", "mae"),
            ("huber", "huber"),
            (losses.Huber(0.3), losses.Huber(0.3)),
            ("quantile", "quantile"),
            (losses.Quantile(0.9), losses.Quantile(0.9)),
            (brier, brier),
            ("gamma", "gamma"),
        ],
    )
    @pytest.mark.parametrize("data", NUMBERS)
    def test_losses_of_numbers(self, data, loss, theirs):
        X, y = NUMBERS[data]()
        self.assert_same(
            *self.compare(
                ours.MLPRegressor,
                X,
                np.exp(y / 4) if loss == "gamma" else y,
                theirs,
                "identity",
                optimizer=fastnn.AdamW(0.01),
                loss=loss,
            ),
            X,
        )

    def test_label_smoothing(self):
        X, y = CLASSES["iris"]()
        model, net, history = self.compare(
            ours.MLPClassifier,
            X,
            y,
            losses.CrossEntropy(0.2),
            "softmax",
            optimizer=fastnn.AdamW(0.01),
            label_smoothing=0.2,
        )
        self.assert_same(model, net, history, X)

    def test_label_smoothing_of_several_labels(self):
        """Their losses are a sum, Network's the mean: SGD by a rate as many times as large."""
        X, y = CLASSES["multilabel"]()
        options = {"max_iter": 1, "alpha": 0.0, "shuffle": False, "random_state": 0}
        start = ours.MLPClassifier(optimizer=fastnn.SGD(1e-300), **options).fit(X, y)
        net = fastnn.Network(
            [X.shape[1], fastnn.Dense(100, "relu"), fastnn.Dense(4, "sigmoid")],
            loss=losses.BinaryCrossEntropy(0.2),
            optimizer=fastnn.SGD(0.4),
            dtype="float64",
        )
        net.set_weights(list(zip(start.coefs_, start.intercepts_, strict=True)))
        history = net.fit(X, y, batch_size=200, shuffle=False)
        model = ours.MLPClassifier(optimizer=fastnn.SGD(0.1), label_smoothing=0.2, **options)
        model.fit(X, y)
        assert model.loss_ == pytest.approx(4 * history["loss"][0], rel=1e-12)
        np.testing.assert_allclose(model.predict_proba(X), net.predict(X), rtol=1e-9)


class TestSchedules:
    """A schedule as ``learning_rate`` of the solvers."""

    X, y = CLASSES["iris"]()

    def model(self, **options):
        return ours.MLPClassifier(**{"random_state": 0, "max_iter": 6, "batch_size": 40} | options)

    @pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"clip_norm": 0.1}])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_constant_is_the_rate(self, solver, options):
        expected = self.model(solver=solver, learning_rate_init=0.01, **options)
        got = self.model(solver=solver, learning_rate=Constant(0.01), **options)
        for model in (expected, got):
            model.fit(self.X, self.y)
        assert got.loss_curve_ == expected.loss_curve_

    @pytest.mark.parametrize("per", ["epoch", "step"])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_is_the_rate_set_by_hand(self, solver, per):
        schedule = ExponentialDecay(0.01, 0.7, per=per)
        got = self.model(solver=solver, learning_rate=schedule, batch_size=150, shuffle=False)
        expected = self.model(solver=solver, batch_size=150, shuffle=False, learning_rate_init=0.01)
        for rate in schedule(range(6)):
            expected.partial_fit(self.X, self.y, classes=[0, 1, 2])
            got.partial_fit(self.X, self.y, classes=[0, 1, 2])
            next_rate = rate * 0.7
            if solver == "sgd":
                expected._optimizer.learning_rate = next_rate
            else:
                expected._optimizer.learning_rate_init = next_rate
        np.testing.assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=1e-9)

    @pytest.mark.parametrize("per", ["epoch", "step"])
    @pytest.mark.parametrize("optimizer", [False, True])
    def test_goes_on_through_partial_fit_and_pickles(self, optimizer, per):
        schedule = Cosine(0.05, 30 if per == "step" else 8, per=per)
        given = {"optimizer": fastnn.AdamW(schedule)} if optimizer else {"learning_rate": schedule}
        whole = self.model(shuffle=False, **given).fit(self.X, self.y)
        parts = self.model(shuffle=False, **given)
        for _ in range(6):
            parts.partial_fit(self.X, self.y, classes=[0, 1, 2])
            parts = pickle.loads(pickle.dumps(parts))
        assert parts.loss_curve_ == whole.loss_curve_
        np.testing.assert_array_equal(parts.predict_proba(self.X), whole.predict_proba(self.X))

    def test_warm_start_begins_it_anew(self):
        model = self.model(learning_rate=StepDecay(0.1, 2), warm_start=True, max_iter=4)
        model.fit(self.X, self.y)
        assert model._optimizer.epochs == 4
        model.fit(self.X, self.y)
        assert model._optimizer.epochs == 4
        assert len(model.loss_curve_) == 8

    def test_search(self):
        grid = {
            "learning_rate": ["constant", Cosine(0.01, 5), StepDecay(0.1, 2, per="step")],
            "solver": ["sgd", "adam"],
        }
        search = GridSearchCV(self.model(), grid, cv=2).fit(self.X, self.y)
        assert len(set(search.cv_results_["mean_test_score"])) > 1
        assert "Cosine(initial=0.01, duration=5)" in repr(search)


class TestAveraging:
    X, y = CLASSES["iris"]()

    def model(self, **options):
        return ours.MLPClassifier(
            **{"random_state": 0, "max_iter": 6, "batch_size": 40, "averaging": 0.9} | options
        )

    def test_a_number_is_the_decay_of_an_ema(self):
        models = [self.model(averaging=given) for given in (0.9, fastnn.EMA(0.9), None)]
        number, ema, plain = (model.fit(self.X, self.y) for model in models)
        np.testing.assert_array_equal(number.predict_proba(self.X), ema.predict_proba(self.X))
        assert np.abs(number.predict_proba(self.X) - plain.predict_proba(self.X)).max() > 1e-3
        np.testing.assert_array_equal(number.coefs_[0], plain.coefs_[0])
        assert not hasattr(plain, "averaged_coefs_")

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize("averaging", [0.9, fastnn.SWA(7, every=3, per="step")])
    def test_goes_on_through_partial_fit_and_pickles(self, averaging, solver):
        options = {"averaging": averaging, "solver": solver, "shuffle": False}
        whole = self.model(**options).fit(self.X, self.y)
        parts = self.model(**options)
        for i in range(6):
            parts.partial_fit(self.X, self.y, classes=[0, 1, 2])
            parts.predict(self.X)
            if i % 2:
                parts = pickle.loads(pickle.dumps(parts))
        np.testing.assert_array_equal(parts.coefs_[0], whole.coefs_[0])
        np.testing.assert_array_equal(parts.predict_proba(self.X), whole.predict_proba(self.X))

    def test_before_there_is_one(self):
        model, plain = self.model(averaging=fastnn.SWA(1000)), self.model(averaging=None)
        for each in (model, plain):
            each.fit(self.X, self.y)
        np.testing.assert_array_equal(model.predict_proba(self.X), plain.predict_proba(self.X))

    def test_changed_by_hand(self):
        model = self.model().fit(self.X, self.y)
        before = model.predict_proba(self.X)
        model.averaged_coefs_[0][...] *= 2
        changed = model.predict_proba(self.X)
        assert np.abs(changed - before).max() > 1e-3
        model.coefs_[0][...] = 0  # which it does not predict by
        np.testing.assert_array_equal(model.predict_proba(self.X), changed)
        by_steps = copy.deepcopy(model).set_params(averaging=fastnn.EMA(0.5))
        by_steps.partial_fit(self.X[:40], self.y[:40], classes=[0, 1, 2])
        np.testing.assert_allclose(
            by_steps.averaged_coefs_[0], (model.averaged_coefs_[0] + by_steps.coefs_[0]) / 2
        )

    def test_given_up(self):
        model = self.model(warm_start=True).fit(self.X, self.y)
        model.set_params(averaging=None).fit(self.X, self.y)
        assert not hasattr(model, "averaged_coefs_")
        model.set_params(averaging=0.9).fit(self.X, self.y)
        model.set_params(averaging=None, solver="lbfgs").fit(self.X, self.y)
        assert not hasattr(model, "averaged_coefs_")
        assert model.score(self.X, self.y) > 0.95

    def test_warm_start_begins_it_anew(self):
        model = self.model(warm_start=True, max_iter=2).fit(self.X, self.y)
        model.set_params(averaging=fastnn.EMA(0.0), max_iter=1).fit(self.X, self.y)
        np.testing.assert_array_equal(model.averaged_coefs_[0], model.coefs_[0])

    @pytest.mark.parametrize("scoring", [None, "loss", "accuracy"])
    def test_early_stopping_goes_by_it(self, scoring):
        train, held = slice(0, None, 2), slice(1, None, 2)
        model = self.model(
            early_stopping=True, scoring=scoring, max_iter=60, learning_rate_init=0.05, tol=0.0
        )
        model.fit(self.X[train], self.y[train], X_val=self.X[held], y_val=self.y[held])
        probabilities = model.predict_proba(self.X[held])
        score = {
            None: model.score(self.X[held], self.y[held]),
            "accuracy": model.score(self.X[held], self.y[held]),
            "loss": -log_loss(self.y[held], probabilities),
        }[scoring]
        assert model.best_validation_score_ == pytest.approx(score, rel=1e-9)
        assert max(model.validation_scores_) == model.best_validation_score_
        np.testing.assert_array_equal(probabilities, model.predict_proba(self.X[held].tolist()))

    def test_of_data_in_float32_sparse_and_for_numbers(self):
        X, y = NUMBERS["linnerud"]()
        sparse = scipy.sparse.csr_array(X)
        dense = ours.MLPRegressor(averaging=0.5, max_iter=5, random_state=0).fit(X, y)
        other = ours.MLPRegressor(averaging=0.5, max_iter=5, random_state=0).fit(sparse, y)
        np.testing.assert_array_equal(other.predict(sparse), dense.predict(X))
        single = self.model(dtype="float32").fit(self.X, self.y)
        assert single.averaged_coefs_[0].dtype == np.float32
        with sklearn.config_context(assume_finite=True):
            assert np.isnan(single.predict_proba(np.full((2, 4), np.nan))).all()


class TestScoring:
    X, y = CLASSES["iris"]()
    train, held = slice(0, None, 2), slice(1, None, 2)

    def fit(self, model, weight=None):
        options = {} if weight is None else {"sample_weight_val": weight[self.held]}
        return model.fit(
            self.X[self.train],
            self.y[self.train],
            X_val=self.X[self.held],
            y_val=self.y[self.held],
            **options,
        )

    def model(self, scoring, **options):
        return ours.MLPClassifier(
            early_stopping=True, scoring=scoring, random_state=0, max_iter=30, **options
        )

    @pytest.mark.parametrize("weighted", [False, True])
    def test_loss(self, weighted):
        weight = np.linspace(0, 2, len(self.X)) if weighted else None
        model = self.fit(self.model("loss", alpha=10.0), weight)
        expected = -log_loss(
            self.y[self.held],
            model.predict_proba(self.X[self.held]),
            sample_weight=None if weight is None else weight[self.held],
        )
        assert model.best_validation_score_ == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("loss", ["squared_error", "poisson", "mae"])
    def test_loss_of_numbers(self, loss, sparse):
        X, y = NUMBERS["diabetes"]()
        y = np.exp(y / 4) if loss == "poisson" else y
        X = scipy.sparse.csr_array(X) if sparse else X
        model = ours.MLPRegressor(
            loss=loss, early_stopping=True, scoring="loss", random_state=0, max_iter=5
        )
        model.fit(X, y, X_val=X[:100], y_val=y[:100])
        out = model.predict(X[:100])
        t = y[:100]
        expected = {
            "squared_error": lambda: np.mean((out - t) ** 2) / 2,
            "mae": lambda: np.mean(np.abs(out - t)),
            "poisson": lambda: np.mean(t * np.log(t / out) - t + out),
        }[loss]()
        assert model.best_validation_score_ == pytest.approx(-expected, rel=1e-9)

    def test_scorers(self):
        def own(estimator, X, y, sample_weight=None):
            return f1_score(y, estimator.predict(X), average="macro")

        named = self.fit(self.model("f1_macro"))
        made = self.fit(self.model(make_scorer(f1_score, average="macro")))
        called = self.fit(self.model(own))
        assert named.validation_scores_ == made.validation_scores_ == called.validation_scores_
        best = f1_score(self.y[self.held], named.predict(self.X[self.held]), average="macro")
        assert named.best_validation_score_ == best
        proba = self.fit(self.model("neg_log_loss"))
        by_loss = self.fit(self.model("loss"))
        np.testing.assert_allclose(proba.validation_scores_, by_loss.validation_scores_)
        accuracy = self.fit(self.model("accuracy"))
        assert accuracy.validation_scores_ == self.fit(self.model(None)).validation_scores_

    def test_of_a_part_of_X(self):
        names = np.array(["a", "b", "c"])[self.y]
        model = self.model("roc_auc_ovr", hidden_layer_sizes=(5,)).fit(self.X, names)
        assert len(model.validation_scores_) == model.n_iter_
        several = self.model("f1_micro").fit(*CLASSES["multilabel"]())
        assert np.isfinite(several.best_validation_score_)
        X, y = NUMBERS["linnerud"]()
        numbers = ours.MLPRegressor(
            early_stopping=True, scoring="neg_mean_absolute_error", random_state=0, max_iter=5
        ).fit(X, y)
        assert numbers.best_validation_score_ < 0

    def test_of_rows_with_weights(self):
        weight = weights_for(self.X)
        plain, weighted = (self.model("accuracy", tol=0.0) for _ in range(2))
        plain.fit(self.X, self.y)
        weighted.fit(self.X, self.y, weight)
        default = self.model(None, tol=0.0).fit(self.X, self.y, weight)
        assert weighted.validation_scores_ == default.validation_scores_
        assert weighted.validation_scores_ != plain.validation_scores_

    def test_names_of_features_are_no_matter(self):
        pandas = pytest.importorskip("pandas", reason="pip install pandas")
        X = pandas.DataFrame(self.X, columns=list("abcd"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
            model = self.model("f1_macro").fit(X, self.y)
        assert list(model.feature_names_in_) == list("abcd")

    def test_validation_data_that_do_not_fit(self):
        model = self.model("loss")
        with pytest.raises(
            ValueError, match=r"y_val must have no classes that y has not; got \[5 6 7"
        ):
            model.fit(self.X, self.y, X_val=self.X, y_val=self.y + 5)
        with pytest.raises(ValueError, match=r"inconsistent numbers? of samples"):
            model.fit(self.X, self.y, X_val=self.X, y_val=self.y[:100])
        with pytest.raises(ValueError, match="sample_weight_val needs X_val and y_val"):
            model.fit(self.X, self.y, sample_weight_val=self.y)
        X, y = NUMBERS["linnerud"]()
        with pytest.raises(ValueError, match="y_val must have 3 outputs; got 1"):
            ours.MLPRegressor(early_stopping=True).fit(X, y, X_val=X, y_val=y[:, 0])

    def test_callbacks_are_told(self):
        seen = []

        class Watch(fastnn.Callback):
            def on_epoch_end(self, net, epoch, logs):
                seen.append(dict(logs))

        model = self.fit(self.model("loss", callbacks=[Watch()]))
        assert [-logs["val_loss"] for logs in seen] == model.validation_scores_

    def test_search(self):
        grid = {"scoring": [None, "loss", "f1_macro"], "averaging": [None, 0.9]}
        search = GridSearchCV(self.model(None), grid, cv=2).fit(self.X, self.y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()


class TestOurCallbacks:
    """All of fastnn's own callbacks work with the estimators, but for `Checkpoint`."""

    X, y = CLASSES["iris"]()

    def fit(self, *given, **options):
        options = {"random_state": 0, "max_iter": 20, "batch_size": 40} | options
        return ours.MLPClassifier(callbacks=list(given), **options).fit(self.X, self.y)

    def test_early_stopping(self):
        stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
        model = self.fit(stop, solver="sgd", learning_rate_init=3.0, max_iter=60, momentum=0)
        assert model.n_iter_ == stop.best_epoch + 3 < 60
        again = self.fit(
            solver="sgd", learning_rate_init=3.0, max_iter=stop.best_epoch + 1, momentum=0
        )
        np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])
        np.testing.assert_array_equal(model.predict_proba(self.X), again.predict_proba(self.X))

    @pytest.mark.parametrize(
        "options", [{"solver": "sgd"}, {"solver": "adam"}, {"optimizer": fastnn.AdamW(0.5)}]
    )
    def test_reduce_on_plateau(self, options):
        rates = []

        class Watch(fastnn.Callback):
            def on_epoch_end(self, net, epoch, logs):
                rates.append(net.learning_rate)

        plateau = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=0.05)
        model = self.fit(plateau, Watch(), learning_rate_init=0.5, **options)
        assert rates[0] == 0.5
        assert rates[-1] < 0.1
        assert model.loss_ != self.fit(learning_rate_init=0.5, **options).loss_

    def test_reduce_on_plateau_needs_a_number(self):
        plateau = callbacks.ReduceLROnPlateau("loss")
        for options in ({"learning_rate": Cosine(0.1, 5)}, {"learning_rate": "invscaling"}):
            with pytest.raises(TypeError, match="needs a number as the optimizer's learning_rate"):
                self.fit(plateau, solver="sgd", **options)

    def test_csv(self, tmp_path):
        model = self.fit(callbacks.CSVLogger(tmp_path / "log.csv"), max_iter=3)
        rows = list(csv.reader((tmp_path / "log.csv").read_text().splitlines()))
        assert rows[0] == ["epoch", "loss"]
        assert [float(row[1]) for row in rows[1:]] == model.loss_curve_

    def test_terminate_on_nan(self):
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="after step"):
            self.fit(
                callbacks.TerminateOnNaN(),
                solver="sgd",
                learning_rate_init=1e200,
                activation="relu",
            )

    def test_tensorboard(self, tmp_path):
        pytest.importorskip("tensorboardX", reason="pip install tensorboardX")
        for options in ({"solver": "sgd"}, {"learning_rate": Cosine(0.1, 5)}):
            self.fit(callbacks.TensorBoardLogger(tmp_path), max_iter=2, **options)
        assert list(tmp_path.iterdir())

    @pytest.mark.parametrize("every", [1, 3, 5])
    @pytest.mark.parametrize("sparse", [False, True])
    def test_on_step(self, every, sparse, monkeypatch):
        from fastnn.sklearn import _engine

        monkeypatch.setattr(_engine, "_DENSE_BYTES", 3000)

        class Steps(fastnn.Callback):
            every_steps = every
            seen = ()

            def on_step(self, net, step):
                self.seen += ((step, net.steps, net.coefs_[0][0, 0], net.weights[0][0][0, 0]),)

        steps = Steps()
        X = scipy.sparse.csr_array(self.X) if sparse else self.X
        options = {"random_state": 0, "max_iter": 3, "batch_size": 20}
        model = ours.MLPClassifier(callbacks=[steps], **options).fit(X, self.y)
        plain = ours.MLPClassifier(**options).fit(self.X, self.y)
        assert model.loss_curve_ == plain.loss_curve_
        np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
        numbers = [step for step, *_ in steps.seen]
        assert numbers == list(range(every, 25, every))
        assert all(step == counted and a == b for step, counted, a, b in steps.seen)
        assert len({a for _, _, a, _ in steps.seen}) == len(steps.seen)

    def test_on_step_by_time_and_a_rate_that_is_changed(self):
        class Slow(fastnn.Callback):
            every_seconds = 1e-3
            calls = 0

            def on_step(self, net, step):
                self.calls += 1
                net.learning_rate = 1e-300

        class Brake(Slow):
            every_seconds = None
            every_steps = 2

        slow = Slow()
        X = np.tile(self.X, (400, 1))
        ours.MLPClassifier(callbacks=[slow], batch_size=1, max_iter=1).fit(X, np.tile(self.y, 400))
        assert slow.calls > 1
        braked = self.fit(Brake(), solver="sgd", momentum=0, max_iter=3, shuffle=False)
        two = ours.MLPClassifier(
            random_state=0, solver="sgd", momentum=0, batch_size=40, shuffle=False
        )
        two.partial_fit(self.X[:80], self.y[:80], classes=[0, 1, 2])
        np.testing.assert_array_equal(braked.coefs_[0], two.coefs_[0])

    def test_seconds_go_on_from_epoch_to_epoch(self, training_clock):
        class Slow(fastnn.Callback):
            every_seconds = 25
            steps = ()

            def on_epoch_end(self, net, epoch, logs):
                training_clock.now += 10

            def on_step(self, net, step):
                self.steps += (step,)

        slow = Slow()
        self.fit(slow, max_iter=8, batch_size=75)
        assert slow.steps == (8, 14)

    def test_stops_at_once(self):
        class Stop(fastnn.Callback):
            every_steps = 6

            def on_step(self, net, step):
                raise fastnn.StopTraining

        model = self.fit(Stop(), shuffle=False)
        assert (model.n_iter_, model.t_, len(model.loss_curve_)) == (1, 150 + 80, 1)
        early = self.fit(Stop(), batch_size=10, shuffle=False)
        assert (early.n_iter_, early.t_, early.loss_curve_) == (0, 60, [])
        assert np.isfinite(early.loss_)
        assert early.predict(self.X).shape == (150,)

    def test_set_weights_and_errors(self):
        class Zero(fastnn.Callback):
            def on_epoch_end(self, net, epoch, logs):
                with pytest.raises(ValueError, match="weights must have the shapes"):
                    net.set_weights(net.weights[:1])
                net.set_weights([(0 * W, 0 * b) for W, b in net.weights])

            def on_train_end(self, net, history):
                assert net.history is history
                assert net.epochs == net.n_iter_ == 2

        model = self.fit(Zero(), max_iter=2)
        assert not model.coefs_[0].any()
        np.testing.assert_allclose(model.predict_proba(self.X), 1 / 3)

    def test_goes_through_partial_fit(self):
        seen = []

        class Watch(fastnn.Callback):
            def on_epoch_end(self, net, epoch, logs):
                seen.append(logs["loss"])

        model = ours.MLPClassifier(callbacks=[Watch()], random_state=0)
        for _ in range(3):
            model.partial_fit(self.X, self.y, classes=[0, 1, 2])
        assert seen == model.loss_curve_


class Labelled(Recorder):
    """The same, given on by meta-estimators."""

    max_propagation_depth = None

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.calls.append(("end", context.estimator_name, context.task_name))


@pytest.mark.skipif(
    not hasattr(ours.MLPClassifier, "set_callbacks"),
    reason="scikit-learn has callbacks since 1.9: upgrade it",
)
class TestTheirCallbacks:
    X, y = CLASSES["iris"]()

    def test_protocol(self):
        recorder = Recorder()
        model = ours.MLPClassifier(random_state=0, max_iter=3).set_callbacks(recorder)
        plain = ours.MLPClassifier(random_state=0, max_iter=3).fit(self.X, self.y)
        model.fit(self.X, self.y)
        assert model.loss_curve_ == plain.loss_curve_
        names = [call[:3] for call in recorder.calls]
        epochs = [(what, "epoch", i) for i in range(3) for what in ("begin", "end")]
        assert names == [
            ("setup", "fit", 3),
            ("begin", "fit", 0),
            *epochs,
            ("end", "fit", 0),
            ("teardown", "fit"),
        ]
        scores = [call[3] for call in recorder.calls if call[:2] == ("end", "epoch")]
        by_hand = []
        for n in range(1, 4):
            one = ours.MLPClassifier(random_state=0, max_iter=n).fit(self.X, self.y)
            by_hand.append(one.score(self.X, self.y))
        assert scores == by_hand

    @pytest.mark.parametrize("options", [{}, {"averaging": 0.9}, {"early_stopping": True}])
    def test_the_fitted_estimator_predicts_as_it_would(self, options):
        kept = []

        class Keep(Recorder):
            def on_fit_task_end(self, estimator, context, *, fitted_estimator):
                kept.append(
                    (fitted_estimator, fitted_estimator.predict_proba(TestTheirCallbacks.X))
                )

        model = ours.MLPClassifier(random_state=0, max_iter=4, **options).set_callbacks(Keep())
        model.fit(self.X, self.y)
        np.testing.assert_array_equal(kept[-1][1], model.predict_proba(self.X))
        for other, then in kept:  # they are copies, which later epochs do not change
            np.testing.assert_array_equal(other.predict_proba(self.X), then)

    def test_stops(self):
        recorder = Recorder(stop_after=1)
        model = ours.MLPClassifier(random_state=0, max_iter=9).set_callbacks(recorder)
        assert model.fit(self.X, self.y).n_iter_ == 2
        assert recorder.calls[-1] == ("teardown", "fit")

    @pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
    def test_weights_and_solvers(self, solver):
        recorder = Recorder()
        weight = weights_for(self.X)
        ours.MLPClassifier(solver=solver, max_iter=2, class_weight="balanced").set_callbacks(
            recorder
        ).fit(self.X, self.y, weight)
        end = recorder.calls[-2]
        assert end[:3] == ("end", "fit", 0)
        assert end[4]["sample_weight"] is weight
        assert ("setup", "fit", 0 if solver == "lbfgs" else 2) in recorder.calls

    def test_none_with_partial_fit(self):
        recorder = Recorder()
        model = ours.MLPClassifier().set_callbacks(recorder)
        model.partial_fit(self.X, self.y, classes=[0, 1, 2])
        assert recorder.calls == []

    def test_teardown_after_an_error(self):
        recorder = Recorder()
        model = ours.MLPClassifier(max_iter=2).set_callbacks(recorder)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            model.fit(self.X, self.y[:100])
        assert recorder.calls[-1] == ("teardown", "fit")
        assert not hasattr(model, "_callback_fit_ctx")
        assert model._core.tasks is None

    def test_scoring_monitor(self):
        from sklearn.callback import ScoringMonitor

        monitor = ScoringMonitor(scoring="accuracy")
        model = ours.MLPClassifier(random_state=0, max_iter=5).set_callbacks(monitor)
        model.fit(self.X, self.y)
        deadline = time.monotonic() + 20  # a thread of scikit-learn's listens
        while len(monitor._log) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        log = monitor.get_logs().data
        accuracies = [row["accuracy"] for row in log if row["task_name"] == "epoch"]
        assert len(accuracies) == 5
        assert accuracies[-1] == model.score(self.X, self.y)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_search_gives_them_on(self, n_jobs):
        recorder = Labelled()
        search = GridSearchCV(
            ours.MLPClassifier(max_iter=2), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=n_jobs
        ).set_callbacks(recorder)
        with joblib.parallel_backend("threading"):
            search.fit(self.X, self.y)
        epochs = [call for call in recorder.calls if call == ("end", "MLPClassifier", "epoch")]
        assert len(epochs) == 2 * (2 * 2 + 1)

    def test_clone_pickle_and_conversion(self):
        recorder = Recorder()
        model = ours.MLPClassifier(max_iter=2).set_callbacks(recorder).fit(self.X, self.y)
        assert sklearn.base.clone(model)._skl_callbacks == [recorder]
        assert len(pickle.loads(pickle.dumps(model))._skl_callbacks) == 1
        assert "_skl_callbacks" not in vars(ours.to_sklearn(model))


class TestToScikitLearn:
    X, y = CLASSES["iris"]()

    @pytest.mark.parametrize(
        "options",
        [
            {"dropout": 0.5, "class_weight": "balanced", "dtype": "float32", "clip_norm": 1.0},
            {"averaging": 0.9, "learning_rate": Cosine(0.1, 5)},
            {"optimizer": fastnn.AdamW(0.01), "label_smoothing": 0.1, "loss": "log_loss"},
            {"activation": ("sigmoid", "sigmoid"), "loss": "focal"},
            {"early_stopping": True, "scoring": "loss", "callbacks": [fastnn.Callback()]},
        ],
    )
    def test_predicts_the_same_without_what_is_not_needed(self, options):
        options = {"hidden_layer_sizes": (10, 10), "random_state": 0, "max_iter": 5} | options
        model = ours.MLPClassifier(**options).fit(self.X, self.y)
        with pytest.raises(ValueError, match=r"must be .*(since scikit-learn has no|a str among)"):
            ours.to_sklearn(model)
        plain = ours.to_sklearn(model, drop_extras=True)
        assert type(plain) is theirs.MLPClassifier
        X = self.X.astype(model.coefs_[0].dtype)
        np.testing.assert_allclose(plain.predict_proba(X), model.predict_proba(X), rtol=1e-4)
        plain.partial_fit(self.X, self.y) if not plain.early_stopping else plain.fit(self.X, self.y)
        back = ours.from_sklearn(ours.to_sklearn(ours.MLPClassifier().fit(self.X, self.y)))
        assert back.dropout == 0.0

    @pytest.mark.parametrize("loss", ["mae", "gamma"])
    def test_numbers(self, loss):
        X, y = NUMBERS["diabetes"]()
        y = np.exp(y / 4)
        model = ours.MLPRegressor(loss=loss, max_iter=5, random_state=0).fit(X, y)
        if loss == "gamma" and not WEIGHTED:
            with pytest.raises(ValueError, match="loss must be 'squared_error' for scikit-learn"):
                ours.to_sklearn(model, drop_extras=True)
            return
        plain = ours.to_sklearn(model, drop_extras=True)
        np.testing.assert_allclose(plain.predict(X), model.predict(X), rtol=1e-9)

    @pytest.mark.parametrize("activation", ["gelu", ["relu", "tanh"]])
    def test_refuses_what_cannot_be_the_same(self, activation):
        model = ours.MLPClassifier((5, 5), activation, max_iter=2).fit(self.X, self.y)
        with pytest.raises(ValueError, match="activation"):
            ours.to_sklearn(model, drop_extras=True)


class TestActivations:
    X, y = CLASSES["iris"]()

    @pytest.mark.parametrize("name", ["identity", "logistic", "tanh", "relu", "gelu"])
    def test_the_same_for_all_layers_is_that_one(self, name):
        options = {"hidden_layer_sizes": (7, 6), "random_state": 0, "max_iter": 5}
        one = ours.MLPClassifier(activation=name, **options).fit(self.X, self.y)
        several = ours.MLPClassifier(activation=[name, name], **options).fit(self.X, self.y)
        assert several.loss_curve_ == one.loss_curve_
        np.testing.assert_array_equal(several.predict(self.X), one.predict(self.X))

    def test_forward(self):
        names = ("elu", "sigmoid")
        model = ours.MLPRegressor(
            hidden_layer_sizes=(7, 6), activation=names, random_state=0, max_iter=5
        ).fit(self.X, self.y)
        h = self.X
        for W, b, name in zip(model.coefs_, model.intercepts_, (*names, "identity"), strict=True):
            row = ACTIVATIONS[name]
            h = row.forward(h @ W + b, row.parameter)
        np.testing.assert_allclose(model.predict(self.X), h.ravel(), rtol=1e-9)
        with sklearn.config_context(assume_finite=True):
            assert np.isnan(model.predict(np.full((2, 4), np.nan))).all()

    def test_changed_in_place_after_the_fit(self):
        model = ours.MLPClassifier((7, 6), ["relu", "tanh"], max_iter=5).fit(self.X, self.y)
        before = model.predict_proba(self.X)
        model.activation[0] = "identity"
        assert np.abs(model.predict_proba(self.X) - before).max() > 1e-6

    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    def test_solvers_partial_fit_and_search(self, solver):
        model = ours.MLPClassifier((7, 6), ["relu", "tanh"], solver=solver, max_iter=5)
        model.set_params(warm_start=True).fit(self.X, self.y).fit(self.X, self.y)
        if solver != "lbfgs":
            model.partial_fit(self.X, self.y)
        none = ours.MLPClassifier((), [], solver=solver, max_iter=3).fit(self.X, self.y)
        assert len(none.coefs_) == 1
        search = GridSearchCV(model, {"activation": ["gelu", ["relu", "elu"]]}, cv=2)
        assert np.isfinite(search.fit(self.X, self.y).best_score_)


class TestLosses:
    def test_gamma_needs_positive_targets(self):
        X, y = NUMBERS["diabetes"]()
        with pytest.raises(ValueError, match="y must be greater than 0 for loss='gamma'"):
            ours.MLPRegressor(loss="gamma").fit(X, y)

    def test_several_quantiles_are_refused(self):
        X, y = NUMBERS["diabetes"]()
        with pytest.raises(ValueError, match="one for each quantile"):
            ours.MLPRegressor(loss=losses.Quantile([0.1, 0.9])).fit(X, y)

    def test_quantile(self):
        X, y = NUMBERS["diabetes"]()
        options = {"random_state": 0, "max_iter": 150, "learning_rate_init": 0.005}
        for q in (0.2, 0.8):
            model = ours.MLPRegressor(loss=losses.Quantile(q), **options).fit(X, y)
            assert np.mean(y < model.predict(X)) == pytest.approx(q, abs=0.1)

    @pytest.mark.parametrize("loss", ["mae", losses.Huber(0.5), brier, "quantile"])
    def test_lbfgs(self, loss):
        X, y = NUMBERS["diabetes"]()
        model = ours.MLPRegressor(loss=loss, solver="lbfgs", random_state=0, max_iter=40).fit(X, y)
        start = ours.MLPRegressor(loss=loss, random_state=0, max_iter=1).fit(X, y)
        assert model.loss_ < start.loss_
        assert model.score(X, y) > 0.4

    def test_a_function_that_is_pickled_by_name(self):
        X, y = NUMBERS["diabetes"]()
        model = ours.MLPRegressor(loss=brier, random_state=0).partial_fit(X, y)
        other = pickle.loads(pickle.dumps(model))
        for each in (model, other):
            each.partial_fit(X, y)
        np.testing.assert_array_equal(other.predict(X), model.predict(X))

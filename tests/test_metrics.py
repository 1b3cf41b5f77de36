"""Metrics: scikit-learn's by name, and callables, in a training."""

from __future__ import annotations

import contextlib
import sys
import warnings

import numpy as np
import pytest

from fastnn import Network
from fastnn.callbacks import EarlyStopping


def rows(outputs, n=60):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    if outputs == 1:
        return X, (X[:, 0] > 0).astype(int)
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def last_figures(loss, outputs, y, metrics, X, **options):
    net = Network([4, 6, outputs], loss=loss, backend="numpy", seed=0)
    history = net.fit(X, y, epochs=3, metrics=metrics, **options)
    return {name: values[-1] for name, values in history.history.items()}, net.predict(X)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_cross_entropy"])
def test_of_classes(loss, one_hot):
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = rows(3)
    names = ["f1_macro", "balanced_accuracy_score", "roc_auc_ovr", "neg_log_loss"]
    figures, outputs = last_figures(loss, 3, np.eye(3)[y] if one_hot else y, names, X)
    probabilities = outputs
    if loss == "softmax_cross_entropy":
        probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    said = outputs.argmax(axis=1)
    expected = {
        "f1_macro": metrics.f1_score(y, said, average="macro"),
        "balanced_accuracy_score": metrics.balanced_accuracy_score(y, said),
        "roc_auc_ovr": metrics.roc_auc_score(y, probabilities, multi_class="ovr"),
        "neg_log_loss": -metrics.log_loss(y, probabilities),
    }
    assert {name: figures[name] for name in names} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "sigmoid_cross_entropy"])
def test_of_yes_and_no(loss):
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = rows(1)
    names = ["f1", "roc_auc", "neg_brier_score", "matthews_corrcoef"]
    figures, outputs = last_figures(loss, 1, y, names, X)
    o = outputs[:, 0].astype(np.float64)
    probabilities = o if loss == "binary_cross_entropy" else 1 / (1 + np.exp(-o))
    said = probabilities >= 0.5
    expected = {
        "f1": metrics.f1_score(y, said),
        "roc_auc": metrics.roc_auc_score(y, o),
        "neg_brier_score": -metrics.brier_score_loss(y, probabilities),
        "matthews_corrcoef": metrics.matthews_corrcoef(y, said),
    }
    assert {name: figures[name] for name in names} == pytest.approx(expected, rel=1e-5)


def test_functions_of_probabilities():
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = rows(3)
    names = ["log_loss", "top_k_accuracy_score", "d2_log_loss_score"]
    figures, p = last_figures("cross_entropy", 3, y, names, X)
    assert {name: figures[name] for name in names} == pytest.approx(
        {name: getattr(metrics, name)(y, p) for name in names}, rel=1e-5
    )
    X, y = rows(1)
    names = ["log_loss", "roc_auc_score", "average_precision_score", "brier_score_loss"]
    figures, outputs = last_figures("sigmoid_cross_entropy", 1, y, names, X)
    p = 1 / (1 + np.exp(-outputs[:, 0].astype(np.float64)))
    assert {name: figures[name] for name in names} == pytest.approx(
        {name: getattr(metrics, name)(y, p) for name in names}, rel=1e-5
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_cross_entropy"])
def test_functions_of_probabilities_of_two_classes(loss):
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = rows(1)
    names = ["roc_auc_score", "average_precision_score", "log_loss", "brier_score_loss"]
    figures, outputs = last_figures(loss, 2, y, names, X)
    outputs = outputs.astype(np.float64)
    softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    p = outputs[:, 1] if loss == "cross_entropy" else softmax[:, 1]
    assert {name: figures[name] for name in names} == pytest.approx(
        {name: getattr(metrics, name)(y, p) for name in names}, rel=1e-5
    )
    answers = np.stack([y, X[:, 1] > 0], axis=1)  # two questions are no two classes
    figures, p = last_figures("binary_cross_entropy", 2, answers, names[:1], X)
    assert figures["roc_auc_score"] == pytest.approx(metrics.roc_auc_score(answers, p), rel=1e-5)


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_of_numbers_whose_mean_is_the_exponential(loss):
    metrics = pytest.importorskip("sklearn.metrics")
    X, _ = rows(1)
    y = np.exp(X[:, 0])
    names = [f"mean_{loss}_deviance", f"neg_mean_{loss}_deviance", "r2"]
    figures, outputs = last_figures(loss, 1, y, names, X)
    deviance = getattr(metrics, names[0])(y, np.exp(outputs[:, 0]))
    r2 = metrics.r2_score(y, np.exp(outputs[:, 0]))
    expected = dict(zip(names, (deviance, -deviance, r2), strict=True))
    assert {name: figures[name] for name in names} == pytest.approx(expected, rel=1e-5)


def test_every_scorer_there_is():
    """Each is of some of these networks; those that are not say so."""
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = rows(3)
    nets = [
        (Network([4, 3], loss="cross_entropy", backend="numpy", seed=0), y),
        (Network([4, 1], loss="binary_cross_entropy", backend="numpy", seed=0), y > 0),
        (Network([4, 4], loss="binary_cross_entropy", backend="numpy", seed=0), X > 0),
        (Network([4, 1], loss="gamma", backend="numpy", seed=0), y + 1),
    ]
    for name in metrics.get_scorer_names():
        judged = 0
        for net, target in nets:
            with warnings.catch_warnings(), contextlib.suppress(ValueError):
                warnings.simplefilter("ignore")
                assert len(net.fit(X, target, metrics=[name])[name]) == 1
                judged += 1
        assert judged, name


def test_of_numbers_on_validation_rows():
    metrics = pytest.importorskip("sklearn.metrics")
    X, _ = rows(1)
    y = X @ [1, 2, 3, 4]
    names = ["r2", "mean_absolute_error"]
    net = Network([4, 1], backend="numpy", seed=0)
    history = net.fit(X, y, metrics=names, validation_split=0.5)
    said = net.predict(X[30:])[:, 0]
    assert list(history.history) == ["loss", "val_loss", "val_r2", "val_mean_absolute_error"]
    assert history["val_r2"][0] == pytest.approx(metrics.r2_score(y[30:], said), rel=1e-5)
    assert history["val_mean_absolute_error"][0] == pytest.approx(
        metrics.mean_absolute_error(y[30:], said), rel=1e-5
    )


def test_a_callable_gets_targets_and_outputs(backend):
    def largest_error(y, outputs):
        assert y.shape == outputs.shape == (60, 1)
        return np.abs(y - outputs).max()

    X, y = rows(1)
    net = Network([4, 1], backend=backend, seed=0)
    history = net.fit(X, y, metrics=[largest_error])
    assert history["largest_error"] == [pytest.approx(np.abs(y - net.predict(X)[:, 0]).max())]


def test_can_be_monitored():
    X, y = rows(3)
    net = Network([4, 3], loss="cross_entropy", backend="numpy", seed=0)
    stopping = EarlyStopping("f1_macro", patience=2)
    pytest.importorskip("sklearn")
    history = net.fit(X, y, epochs=500, metrics=["f1_macro"], callbacks=[stopping])
    assert len(history) < 500
    assert stopping.best == max(history["f1_macro"])


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["f1_makro"], ValueError, r"metrics\[0\] must be one of .*Did you mean 'f1_macro'"),
        (["hinge_loss"], ValueError, r"metrics\[0\] must be one of"),
        (["confusion_matrix"], ValueError, r"metrics\[0\] must be one of"),
        ([3], TypeError, r"metrics\[0\] must be a name or a callable"),
        (["f1_macro", "f1_macro"], ValueError, "must have different names; got 'f1_macro' twice"),
        ([lambda y, o: 1, lambda y, o: 2], ValueError, "different names; got '<lambda>' twice"),
        ("f1", TypeError, "metrics must be a list of names"),
        (3, TypeError, "metrics must be a list of names"),
    ],
)
def test_bad_metrics(metrics, error, message):
    pytest.importorskip("sklearn")
    X, y = rows(3)
    net = Network([4, 3], loss="cross_entropy", backend="numpy")
    with pytest.raises(error, match=message):
        net.fit(X, y, metrics=metrics)
    assert net.steps == 0


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    X, y = rows(1)
    with pytest.raises(ImportError, match=r"fastnn\[sklearn\]"):
        Network([4, 1], backend="numpy").fit(X, y, metrics=["r2"])

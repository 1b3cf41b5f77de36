"""The search for hyperparameters: what it tries, keeps, prunes and goes on with."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Adam, Dropout, Network

optuna = pytest.importorskip("optuna", reason='needs pip install "fastnn[search]"')

from fastnn.search import hyperparameters  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)


def build(seed, learning_rate=0.01, hidden=(4,), momentum=0.0, dropout=0.0, backend="numpy"):
    layers = [3, *hidden, *([Dropout(dropout)] if dropout else []), 2]
    return Network(layers, loss="cross_entropy", optimizer=SGD(learning_rate, momentum),
                   backend=backend, seed=seed)  # fmt: skip


SPACE = {"learning_rate": (1e-6, 1.0, "log"), "hidden": [(2,), (4,), (4, 3)], "epochs": (1, 6)}


def search(space=SPACE, trials=12, **options):
    options = {"population": 4, "folds": 3, "metric": "accuracy", **options}
    return hyperparameters(build, space, X, Y, trials, **options)


def test_each_trial_is_a_cross_validation():
    space = {**SPACE, "batch_size": [8, 16], "momentum": (0.0, 0.9), "dropout": (0.0, 0.5)}
    found = search(space, trials=6)
    assert len(found.rows) == 6
    for row in found.rows:
        values = {name: row[name] for name in space}
        epochs, batch_size = values.pop("epochs"), values.pop("batch_size")
        expected = fastnn.cross_validate(
            lambda fold, values=values: build(fold, **values), X, Y, epochs, batch_size, folds=3
        )
        assert row["score"] == expected["accuracy"].mean()
        assert row["state"] == "complete"
        assert row["hidden"] in SPACE["hidden"]
        assert 1 <= epochs <= 6
    best = max(found.rows, key=lambda row: row["score"])
    assert found.best_score == best["score"]
    assert found.best == {name: best[name] for name in space}
    assert repr(found) == f"<Search of 6 trials, best accuracy={found.best_score:.4g}>"


def test_folds_of_any_integer_type():
    assert search(trials=2, folds=np.int64(3)).rows == search(trials=2, folds=3).rows


def test_it_gets_better_by_generations(native):
    def build_natively(**values):
        return build(backend=native, **values)

    space = {**SPACE, "momentum": (0.0, 0.99)}
    options = {"population": 10, "folds": 2, "trials": 80}
    found = hyperparameters(build_natively, space, X, Y, **options)
    scores = np.array([row["score"] for row in found.rows]).reshape(8, 10)
    assert found.metric == "loss"
    assert np.median(scores[-3:]) < np.median(scores[0])
    assert found.best_score == scores.min()
    again = hyperparameters(build_natively, space, X, Y, **options)
    assert again.rows == found.rows


@pytest.mark.parametrize("metric", ["roc_auc", lambda y, outputs: float(outputs.mean())])
def test_metrics(metric):
    pytest.importorskip("sklearn", reason='needs pip install "fastnn[sklearn]"')
    found = search(trials=2, metric=metric, mode="max")
    assert found.metric == ("roc_auc" if metric == "roc_auc" else "<lambda>")
    assert found.best_score == max(row["score"] for row in found.rows)


def test_any_sampler_and_distribution():
    grid = {"learning_rate": [0.001, 0.1], "momentum": [0.0, 0.5]}
    sampler = optuna.samplers.GridSampler(grid, seed=0)
    ranges = {name: optuna.distributions.FloatDistribution(0, 1) for name in grid}
    found = search(ranges, 20, sampler=sampler)
    tried = {(row["learning_rate"], row["momentum"]) for row in found.rows}
    assert len(tried) == len(found.rows) == 4  # there are no more


def test_pruning():
    class Worst(optuna.pruners.BasePruner):
        """Prunes whatever has too small a learning rate, at its second report."""

        def prune(self, study, trial):
            assert list(trial.intermediate_values) == [2, 4][: len(trial.intermediate_values)]
            return len(trial.intermediate_values) == 2 and trial.params["learning_rate"] < 0.01

    space = {"learning_rate": (1e-4, 1.0, "log")}
    options = {"epochs": 6, "population": 8, "trials": 8}
    found = search(space, pruner=Worst(), epochs_between_reports=2, **options)
    unpruned = search(space, **options)
    states = {row["state"] for row in found.rows}
    assert states == {"complete", "pruned"}
    for row, other in zip(found.rows, unpruned.rows, strict=True):
        assert row["learning_rate"] == other["learning_rate"]
        assert (row["state"] == "pruned") == (row["learning_rate"] < 0.01)
        trial = found.study.trials[row["trial"]]
        if row["state"] == "pruned":
            assert row["score"] == trial.intermediate_values[4]
        else:  # training in parts changes nothing
            assert row["score"] == other["score"] == trial.intermediate_values[6]


def test_what_diverges_is_no_candidate():
    found = search({"learning_rate": [0.1, 1e30]}, trials=8, population=8)
    states = {row["learning_rate"]: row["state"] for row in found.rows}
    assert states == {0.1: "complete", 1e30: "diverged"}
    assert all(np.isnan(row["score"]) == (row["learning_rate"] == 1e30) for row in found.rows)
    assert found.best == {"learning_rate": 0.1}
    nothing = search({"learning_rate": [1e30]}, trials=2, population=2)
    assert repr(nothing) == "<Search of 2 trials>"
    with pytest.raises(ValueError, match="no trial is complete"):
        nothing.best  # noqa: B018


@pytest.mark.parametrize("pruner", [None, optuna.pruners.NopPruner()])
@pytest.mark.parametrize("figure", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_undefined(figure, pruner):
    def score(y, outputs):
        return figure if outputs.std() < 0.1 else 1.0

    space = {"hidden": [(4,), (4, 3)], "learning_rate": [1e-6, 0.1]}
    found = search(space, 8, metric=score, mode="max", epochs=20, pruner=pruner)
    states = [row["state"] for row in found.rows]
    assert len(states) == 8
    assert set(states) == {"complete", "undefined"}
    scores = {"complete": 1.0, "undefined": np.nan}
    np.testing.assert_array_equal([row["score"] for row in found.rows], [scores[s] for s in states])
    assert found.best_score == 1.0


def test_a_metric_that_one_row_does_not_define():
    pytest.importorskip("sklearn", reason='needs pip install "fastnn[sklearn]"')

    def regression(seed, rate):
        return Network([3, 1], optimizer=Adam(rate), backend="numpy", seed=seed)

    with pytest.warns(UserWarning, match="R.2 score is not well-defined"):
        found = hyperparameters(
            regression, {"rate": (0.1, 0.2)}, X[:12], Y[:12], 2, population=2, folds=12, epochs=1,
            metric="r2",
        )  # fmt: skip
    assert [row["state"] for row in found.rows] == ["undefined"] * 2
    assert repr(found) == "<Search of 2 trials>"


def weights(net):
    return sum(W.size for W, _ in net.weights)


def test_cost():
    found = search(cost=weights, trials=12)
    for row in found.rows:
        assert row["cost"] == weights(build(0, hidden=row["hidden"]))
    for row in found.front:
        assert not any(
            other["score"] > row["score"] and other["cost"] <= row["cost"] for other in found.rows
        )
    assert found.best_score == max(row["score"] for row in found.rows)


def test_a_cost_that_is_not_finite_is_undefined():
    found = search(cost=lambda net: np.inf if len(net.weights) > 2 else 1.0, trials=8)
    for row in found.rows:
        deep = row["hidden"] == (4, 3)
        assert row["state"] == ("undefined" if deep else "complete")
        assert np.isnan(row["score"]) == np.isnan(row["cost"]) == deep
    assert 0 < sum(row["state"] == "undefined" for row in found.rows) < 8


def test_table_and_pictures(monkeypatch):
    pd = pytest.importorskip("pandas", reason='needs pip install "fastnn[pandas]"')
    pyplot = pytest.importorskip("matplotlib.pyplot", reason='needs pip install "fastnn[plot]"')
    pyplot.switch_backend("agg")
    found = search(cost=weights, trials=8)
    frame = found.to_dataframe()
    assert list(frame) == ["trial", "state", "score", "cost", *SPACE]
    pd.testing.assert_series_equal(
        frame["score"], pd.Series([row["score"] for row in found.rows], name="score")
    )
    best = np.maximum.accumulate(frame["score"])
    ax = fastnn.plotting.search(found)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), frame["score"])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), best)
    assert fastnn.plotting.search(found, "learning_rate").get_xscale() == "log"
    assert fastnn.plotting.search(found, "hidden").get_xlabel() == "hidden"
    front = fastnn.plotting.search(found, "cost").lines[1]
    assert len(front.get_xdata()) == len(found.front)
    pyplot.close("all")
    with pytest.raises(ValueError, match="by must be one of trial, cost, learning_rate"):
        fastnn.plotting.search(found, "score")
    with pytest.raises(ValueError, match="found must have one complete trial"):
        fastnn.plotting.search(search(trials=0))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_dataframe needs pandas"):
        found.to_dataframe()


def test_verbose(capsys):
    search(trials=4, verbose=1)
    assert capsys.readouterr().out.startswith("4/4 trials  ")


# -- in a database


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path / 'search.db'}"


@pytest.fixture(autouse=True)
def close_databases():
    yield
    import gc

    gc.collect()


def test_goes_on_in_a_database(storage):
    pytest.importorskip("sqlalchemy", reason="needs pip install optuna, with its dependencies")
    first = search(trials=6, storage=storage)
    kept = first.rows
    second = search(trials=12, storage=storage)
    assert second.rows[:6] == kept
    assert len(second.rows) == 12
    params = [tuple(str(row[name]) for name in SPACE) for row in second.rows]
    assert len(set(params)) > 6  # not the same draws again
    assert search(trials=12, storage=storage).rows == second.rows
    assert len(search(trials=1, storage=storage, name="another").rows) == 1


def test_killed_and_gone_on_with(storage, tmp_path):
    pytest.importorskip("sqlalchemy", reason="needs pip install optuna, with its dependencies")
    code = textwrap.dedent(f"""
        import time
        from tests.test_search import build, hyperparameters, SPACE, X, Y

        def slowly(**given):
            time.sleep(0.02)
            return build(**given)

        hyperparameters(slowly, SPACE, X, Y, 1000, population=4, folds=3, metric="accuracy",
                        storage={storage!r})
    """)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join([root, *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path
    )
    try:
        name = "fastnn"
        end = time.monotonic() + 120
        while time.monotonic() < end:
            time.sleep(0.2)
            assert process.poll() is None
            try:
                study = optuna.load_study(study_name=name, storage=storage)
                trials = study.get_trials(deepcopy=False)
            except Exception:
                continue  # there is no database yet
            states = [trial.state.name for trial in trials]
            if states.count("COMPLETE") >= 8 and "RUNNING" in states:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    trials = study.get_trials()
    done = [trial.number for trial in trials if trial.state.name == "COMPLETE"]
    running = [trial.params for trial in trials if trial.state.name == "RUNNING"]
    interrupted = [params for params in running if params]  # all of them, or those drawn so far
    assert len(done) >= 8
    found = search(trials=len(done) + 8, storage=storage)
    assert [row["trial"] for row in found.rows[: len(done)]] == done
    assert len(found.rows) == len(done) + 8
    rerun = [trial.params for trial in found.study.trials[len(trials) :]]
    for params, again in zip(interrupted, rerun, strict=False):
        assert params.items() <= again.items()
    states = {trial.state.name for trial in found.study.trials}
    assert states <= {"COMPLETE", "FAIL"}


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c(storage):
    pytest.importorskip("sqlalchemy", reason="needs pip install optuna, with its dependencies")
    calls = []

    def impatient(**given):
        calls.append(given)
        if len(calls) > 15:
            raise KeyboardInterrupt
        return build(**given)

    with pytest.raises(KeyboardInterrupt):
        hyperparameters(impatient, SPACE, X, Y, 12, population=4, folds=3, storage=storage)
    found = hyperparameters(build, SPACE, X, Y, 12, population=4, folds=3, storage=storage)
    assert len(found.rows) == 12
    assert [row["trial"] for row in found.rows[:4]] == [0, 1, 2, 3]


# -- bad input


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"build": 3}, TypeError, "build must be a callable that makes a network; got 3"),
        ({"build": lambda **o: 3}, TypeError, "build must return a fastnn.Network; got 3"),
        ({"space": {}}, TypeError, "space must be a mapping of names to ranges; got {}"),
        ({"space": {"score": (1, 2)}}, ValueError, "space must have names other than trial, state"),
        ({"space": {"a": (1,)}}, ValueError, r"space\['a'\] must be \(low, high\), .*; got \(1,\)"),
        ({"space": {"a": ("x", "y")}}, ValueError, r"space\['a'\] must be \(low, high\)"),
        ({"space": {"a": (0.0, 1.0, "log")}}, ValueError, r"space\['a'\]: "),
        ({"space": {"a": (0.0, math.inf)}}, ValueError, r"space\['a'\] must be \(low, high\)"),
        ({"space": {"a": [1, "1"]}}, ValueError, r"space\['a'\] must have choices that differ"),
        ({"sampler": "tpe"}, TypeError, "sampler must be an Optuna sampler or None; got 'tpe'"),
        ({"space": {"a": []}}, ValueError, r"space\['a'\] must be .* a list of choices"),
        ({"trials": -1}, ValueError, "trials must be an integer >= 0; got -1"),
        ({"population": 1}, ValueError, "population must be an integer >= 2; got 1"),
        ({"epochs_between_reports": 0}, ValueError, "epochs_between_reports must be an integer"),
        ({"metric": "accurate"}, ValueError, "mode must be 'min' or 'max' for the figure"),
        ({"metric": "val_accuracy"}, ValueError, r"metrics\[0\] must be one of"),
        ({"mode": "up"}, ValueError, "mode must be one of auto, min, max; got 'up'"),
        ({"epochs": -1}, ValueError, r"epochs\[0\] must be an integer in .* got -1"),
        ({"folds": 2.5}, TypeError, "folds must be an integer in"),
        ({"cost": weights, "pruner": optuna.pruners.MedianPruner()}, ValueError,
         "pruner and cost must not both be given"),
    ],
)  # fmt: skip
def test_bad_input(given, error, message):
    if given.get("metric") == "val_accuracy":
        pytest.importorskip("sklearn", reason='needs pip install "fastnn[sklearn]"')
    arguments = {"build": build, "space": {"learning_rate": (0.1, 0.2)}, "trials": 1, **given}
    with pytest.raises(error, match=message):
        hyperparameters(X=X, y=Y, **arguments)


def test_accuracy_of_a_regression():
    def regression(seed, rate):
        return Network([3, 1], optimizer=Adam(rate), backend="numpy", seed=seed)

    with pytest.raises(ValueError, match="metric must be one of loss; got 'accuracy'"):
        hyperparameters(regression, {"rate": (0.1, 0.2)}, X, Y, 1, metric="accuracy")


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[search\]"'):
        search()

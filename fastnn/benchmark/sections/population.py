"""A grid search with cross-validation over small networks, all at once, beside GridSearchCV."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import fastnn
from fastnn._types import Array
from fastnn.benchmark.cases import Case
from fastnn.benchmark.report import Report, Result, side_by_side
from fastnn.benchmark.run import Run

__all__ = ["Search", "measure", "table"]


@dataclass(frozen=True)
class Search:
    """Networks to be trained on all folds but one, for each fold, rate and penalty.

    Parameters
    ----------
    sizes : tuple of int
        Features, hidden units, classes: two, for which scikit-learn has one unit in the end.
    rows, batch, epochs, folds : int
    rates, alphas : tuple of float
        The grid: learning rates of Adam, and scikit-learn's L2 penalty.
    dtype : str
    threads : int
    """

    sizes: tuple[int, int, int] = (20, 32, 2)
    rows: int = 1200
    batch: int = 32
    epochs: int = 10
    folds: int = 5
    rates: tuple[float, ...] = (0.001, 0.01)
    alphas: tuple[float, ...] = (0.0, 1e-4, 1e-2)
    dtype: str = "float32"
    threads: int = 1

    @property
    def grid(self) -> list[tuple[float, float]]:
        """All pairs of a rate and a penalty."""
        return list(itertools.product(self.rates, self.alphas))

    @property
    def label(self) -> str:
        """What is trained how often, as tables have it."""
        shape = "-".join(map(str, self.sizes))
        return (
            f"{shape}; {self.batch}; {len(self.grid)} candidates, {self.folds} folds,"
            f" {self.epochs} epochs of {self.rows:,} rows"
        )

    @property
    def flop(self) -> float:
        """Floating-point operations of the training steps."""
        rows = self.rows * (self.folds - 1) // self.folds
        step = Case("", self.sizes, self.batch, 1).step_flop
        return step * rows / self.batch * self.epochs * self.folds * len(self.grid)

    def data(self) -> tuple[Array, npt.NDArray[np.intp]]:
        """Return rows of noise, and classes that no straight line parts."""
        X = np.random.default_rng(0).standard_normal((self.rows, self.sizes[0]), self.dtype)  # type: ignore[call-overload]
        return X, (X[:, 0] * X[:, 1] > 0).astype(np.intp)

    def together(self) -> list[float]:
        """Return each candidate's mean accuracy, of fastnn."""
        X, y = self.data()
        found = fastnn.cross_validate(
            [self._build(*point) for point in self.grid],
            X,
            y,
            self.epochs,
            self.batch,
            folds=self.folds,
        )
        return [float(candidate["accuracy"].mean()) for candidate in found]

    def one_by_one(self) -> None:
        """Train the same networks by a call of ``fit`` each."""
        X, y = self.data()
        fold = np.arange(self.rows) % self.folds
        for point, i in itertools.product(self.grid, range(self.folds)):
            train, judge = fold != i, fold == i
            net = self._build(*point)(i)
            net.fit(
                X[train], y[train], self.epochs, self.batch, validation_data=(X[judge], y[judge])
            )

    def _build(self, rate: float, alpha: float) -> Callable[[int], fastnn.Network]:
        features, hidden, classes = self.sizes
        l2 = alpha / 2 / self.batch
        return lambda fold: fastnn.Network(
            [features, fastnn.Dense(hidden, "relu", l2=l2), fastnn.Dense(classes, l2=l2)],
            loss="cross_entropy",
            optimizer=fastnn.Adam(rate),
            dtype=self.dtype,
            seed=fold,
        )

    def by_sklearn(self) -> list[float]:
        """Return each candidate's mean accuracy, of scikit-learn with as many processes."""
        from sklearn.model_selection import GridSearchCV
        from sklearn.neural_network import MLPClassifier

        X, y = self.data()
        mlp = MLPClassifier(
            self.sizes[1:-1],
            batch_size=self.batch,
            max_iter=self.epochs,
            tol=0.0,
            n_iter_no_change=self.epochs + 1,
            random_state=0,
        )
        grid = {"learning_rate_init": self.rates, "alpha": self.alphas}
        jobs = -1 if self.threads == os.cpu_count() else self.threads
        search = GridSearchCV(mlp, grid, cv=self.folds, n_jobs=jobs, refit=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that so few epochs are too few
            search.fit(X, y)
        points = search.cv_results_["params"]
        scores = dict(
            zip(
                ((point["learning_rate_init"], point["alpha"]) for point in points),
                search.cv_results_["mean_test_score"],
                strict=True,
            )
        )
        return [float(scores[point]) for point in self.grid]


def measure(run: Run) -> Iterator[Result]:
    search = Search(dtype=run.dtype, threads=run.threads)
    if run.quick:
        search = Search(rows=300, epochs=2, dtype=run.dtype, threads=run.threads)
    calls: Mapping[str, Callable[[], object]] = {
        "fastnn": search.together,
        "fastnn, one by one": search.one_by_one,
    }
    if any(peer.label == "scikit-learn" for peer in run.peers):
        calls = {**calls, "scikit-learn": search.by_sklearn}
    yield from run.in_turn("population", search.label, calls, search.flop)


def table(report: Report) -> str:
    return "\n\n".join(
        [
            "## Populations",
            "Milliseconds a grid search with cross-validation: `fastnn.cross_validate`, a call of"
            " `Network.fit` after the other, and GridSearchCV over scikit-learn's own"
            " MLPClassifier with a process for each thread, whose CPU seconds are not counted; how"
            " many times as long, and fastnn's part of the FMA peak.",
            side_by_side(report, "population", "network; batch; search", 1e3),
        ]
    )

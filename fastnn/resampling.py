"""Cross-validation and bagging: populations of networks that differ in their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn._validation import as_rows, describe, integer
from fastnn.callbacks import EarlyStopping
from fastnn.history import History
from fastnn.metrics import Metric, judges
from fastnn.network import Network
from fastnn.population import (
    Course,
    Rows,
    courses_of,
    each,
    history_of,
    row_numbers,
    train,
    train_many,
)
from fastnn.training import evaluate

__all__ = ["CrossValidation", "Ensemble", "bag", "cross_validate"]

Build = Callable[[int], Network]
"""Makes the network for the fold, or member, of that number: a new one in each call."""

Folds = int | Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]
"""How many, or for each the numbers of the rows to train on and of those to judge by."""


@dataclass(frozen=True)
class CrossValidation:
    """What `cross_validate` has found.

    Attributes
    ----------
    networks : tuple of Network
        That of each fold.
    histories : tuple of History
        Likewise, with "val_loss" and so on of the rows to judge by.
    rows : tuple of (ndarray, ndarray)
        Of each fold the numbers of the rows to train on and of those to judge by.
    figures : dict of str to ndarray of shape (folds,)
        "loss", "accuracy" where it means something, and the metrics, of the rows to judge by;
        nan where the network diverged.
    """

    networks: tuple[Network, ...]
    histories: tuple[History, ...]
    rows: tuple[tuple[Rows, Rows], ...]
    figures: dict[str, npt.NDArray[np.float64]]

    def __getitem__(self, name: str) -> npt.NDArray[np.float64]:
        return self.figures[name]

    def __repr__(self) -> str:
        means = "".join(
            f", {name}={values.mean():.4g}±{values.std():.2g}"
            for name, values in self.figures.items()
        )
        return f"<CrossValidation of {len(self.networks)} folds{means}>"


@overload
def cross_validate(
    build: Build,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    epochs: int = 1,
    batch_size: int = 32,
    *,
    folds: Folds = 5,
    metrics: Iterable[Metric] = (),
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[int, float] | None = None,
    shuffle: bool = True,
    early_stopping: EarlyStopping | None = None,
    seed: int = 0,
    verbose: int = 0,
) -> CrossValidation: ...


@overload
def cross_validate(
    build: Sequence[Build],
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    epochs: int | Sequence[int] = 1,
    batch_size: int | Sequence[int] = 32,
    *,
    folds: Folds = 5,
    metrics: Iterable[Metric] = (),
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[int, float] | None = None,
    shuffle: bool = True,
    early_stopping: EarlyStopping | None = None,
    seed: int = 0,
    verbose: int = 0,
) -> list[CrossValidation]: ...


def cross_validate(
    build: Build | Sequence[Build],
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    epochs: int | Sequence[int] = 1,
    batch_size: int | Sequence[int] = 32,
    *,
    folds: Folds = 5,
    metrics: Iterable[Metric] = (),
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[int, float] | None = None,
    shuffle: bool = True,
    early_stopping: EarlyStopping | None = None,
    seed: int = 0,
    verbose: int = 0,
) -> CrossValidation | list[CrossValidation]:
    """Train a network for each fold, all at once, and judge it by the rows left out.

    Parameters
    ----------
    build : callable or sequence of callable
        ``build(fold)`` makes the network of a fold. A sequence of them is of candidates, such as
        the points of a grid, which are all trained at once.
    X, y, sample_weight, class_weight, shuffle, early_stopping, verbose
        As of `train_many`.
    epochs, batch_size
        As of `train_many`; one for all, or a sequence with one for each candidate.
    folds : int or iterable of (array_like, array_like), default 5
        How many parts to cut the rows into, at random, and stratified for losses that compare
        classes; each part is left out once. Or the numbers of the rows to train on and of those to
        judge by, as the ``split`` of scikit-learn's splitters gives them.
    metrics : iterable of str or callable
        Further figures, as of `Network.fit`.
    seed : int, default 0
        Decides which rows are in which fold.

    Returns
    -------
    CrossValidation or list of CrossValidation
        A list for a sequence of candidates.

    Raises
    ------
    TypeError, ValueError, RuntimeError, KeyboardInterrupt
        As `train_many`; a network that diverges raises nothing.
    ImportError
        If `metrics` names one and scikit-learn is not there.

    Examples
    --------
    >>> import fastnn
    >>> X, y = [[i / 20] for i in range(40)], [int(i > 20) for i in range(40)]
    >>> found = fastnn.cross_validate(
    ...     lambda fold: fastnn.Network([1, 8, 1], loss="binary_cross_entropy", seed=fold),
    ...     X, y, epochs=50, folds=4,
    ... )
    >>> found["accuracy"].shape
    (4,)
    """
    if not callable(build) and not isinstance(build, (list, tuple)):
        raise TypeError(f"build must be a callable build(fold), or some; got {describe(build)}")
    builds = [build] if callable(build) else list(build)
    rows_of = as_rows("y", y)
    pairs: list[tuple[Rows, Rows]] | None = None
    groups: list[list[Network]] = []
    for candidate in builds:
        if not callable(candidate):
            raise TypeError(f"build must be a callable build(fold); got {describe(candidate)}")
        first = _built(candidate, 0)
        if pairs is None:
            pairs = fold_rows(folds, rows_of, first, integer("seed", seed, 0))
        groups.append([first, *(_built(candidate, fold) for fold in range(1, len(pairs)))])
    if pairs is None:
        return []
    n = len(pairs)

    def for_each_fold(name: str, given: Any, least: int) -> list[int]:
        values = each(name, given, len(builds), lambda name, value: integer(name, value, least))
        return [value for value in values for _ in range(n)]

    courses = courses_of(
        [net for group in groups for net in group],
        X,
        y,
        for_each_fold("epochs", epochs, 0),
        for_each_fold("batch_size", batch_size, 1),
        [train for train, _ in pairs] * len(builds),
        [judge for _, judge in pairs] * len(builds),
        sample_weight,
        class_weight,
        shuffle,
        early_stopping,
    )
    metrics = list(metrics) if isinstance(metrics, Iterable) else metrics
    judged = [judges(course.net, metrics, course.validation, "") for course in courses]
    errors = train(courses, integer("verbose", verbose, 0, 1))
    found = [
        figures_of(course, judge, error)
        for course, judge, error in zip(courses, judged, errors, strict=True)
    ]
    validations = [
        CrossValidation(
            tuple(group),
            tuple(map(history_of, group)),
            tuple(pairs),
            _columns(found[number * n : (number + 1) * n]),
        )
        for number, group in enumerate(groups)
    ]
    return validations[0] if callable(build) else validations


def _built(build: Build, number: int) -> Network:
    net = build(number)
    if not isinstance(net, Network):
        raise TypeError(f"build({number}) must return a fastnn.Network; got {describe(net)}")
    return net


def fold_rows(
    folds: Folds, y: npt.NDArray[Any], net: Network, seed: int
) -> list[tuple[Rows, Rows]]:
    n = len(y)
    if not isinstance(folds, Iterable):
        k = integer("folds", folds, 2, n)
        order = np.random.default_rng(seed).permutation(n)
        kind = net._loss.kind
        if kind == "categorical" or (kind == "binary" and y.size == n):
            classes = y.ravel() if y.size == n else y.argmax(axis=1)
            order = order[np.argsort(classes[order], kind="stable")]
        fold = np.empty(n, np.intp)
        fold[order] = np.arange(n) % k  # dealt out, class by class
        folds = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]
    pairs = []
    for number, pair in enumerate(folds):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(
                f"folds[{number}] must be the numbers of the rows to train on and of those to"
                f" judge by; got {describe(pair)}"
            )
        train, judge = (
            row_numbers(f"folds[{number}][{part}]", rows, n) for part, rows in enumerate(pair)
        )
        pairs.append((train, judge))
    if not pairs:
        raise ValueError("folds must have at least one fold; got none")
    return pairs


def figures_of(
    course: Course, judge: Callable[[], dict[str, float]], error: FloatingPointError | None
) -> dict[str, float]:
    assert course.validation is not None
    if error is not None:
        return {}
    return evaluate(course.net._backend, course.validation, course.net._has_accuracy) | judge()


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, npt.NDArray[np.float64]]:
    names = dict.fromkeys(name for row in rows for name in row) or {"loss": None}
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


@dataclass(frozen=True)
class Ensemble:
    """Networks whose outputs are averaged, as `bag` trains them.

    Attributes
    ----------
    networks : tuple of Network
    histories : tuple of History
    out_of_bag : ndarray of shape (rows, outputs)
        Of each row that was trained on, the mean output of the networks that did not see it: an
        honest estimate without further rows. nan where all saw it.
    """

    networks: tuple[Network, ...]
    histories: tuple[History, ...]
    out_of_bag: Array

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self.networks)} networks>"

    def predict(self, X: npt.ArrayLike) -> Array:
        """Return the mean of the networks' outputs for some rows.

        Parameters
        ----------
        X : array_like of shape (rows, n_features)
            As of `Network.predict`.

        Returns
        -------
        ndarray of shape (rows, n_outputs)

        Raises
        ------
        TypeError, ValueError
            If X is not as described.
        """
        mean: Array = np.mean([net.predict(X) for net in self.networks], axis=0)
        return mean


def bag(
    build: Build,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    epochs: int = 1,
    batch_size: int = 32,
    *,
    networks: int = 10,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[int, float] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    verbose: int = 0,
) -> Ensemble:
    """Train networks at once on samples of the rows (Breiman 1996, "Bagging predictors").

    Each is given as many rows as there are, drawn with replacement: about 63 % of them, some
    several times.

    Parameters
    ----------
    build : callable
        ``build(number)`` makes a network of the ensemble, best with another seed for each number.
    X, y, epochs, batch_size, sample_weight, class_weight, shuffle, verbose
        As of `train_many`.
    networks : int, default 10
        How many.
    seed : int, default 0
        Decides which rows each is given.

    Returns
    -------
    Ensemble

    Raises
    ------
    TypeError, ValueError, ExceptionGroup, RuntimeError, KeyboardInterrupt
        As `train_many`.

    Examples
    --------
    >>> import fastnn
    >>> X, y = [[i / 20] for i in range(40)], [i / 40 for i in range(40)]
    >>> ensemble = fastnn.bag(
    ...     lambda number: fastnn.Network([1, 8, 1], seed=number), X, y, epochs=20, networks=5
    ... )
    >>> ensemble.predict([[0.5], [1.5]]).shape
    (2, 1)
    """
    if not callable(build):
        raise TypeError(f"build must be a callable build(number); got {describe(build)}")
    nets = [_built(build, number) for number in range(integer("networks", networks, 1))]
    X = as_rows("X", X)
    rng = np.random.default_rng(integer("seed", seed, 0))
    rows = [rng.integers(len(X), size=len(X)) for _ in nets] if len(X) else None
    histories = train_many(
        nets,
        X,
        y,
        epochs,
        batch_size,
        rows=rows,
        sample_weight=sample_weight,
        class_weight=class_weight,
        shuffle=shuffle,
        verbose=verbose,
    )
    assert rows is not None
    total, count = np.zeros((len(X), nets[0].n_outputs)), np.zeros((len(X), 1))
    for net, seen in zip(nets, rows, strict=True):
        unseen = np.ones(len(X), bool)
        unseen[seen] = False
        total[unseen] += net.predict(X[unseen])
        count[unseen] += 1
    with np.errstate(invalid="ignore"):
        out_of_bag = (total / count).astype(nets[0].dtype)
    return Ensemble(tuple(nets), tuple(histories), out_of_bag)

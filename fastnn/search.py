"""Search for hyperparameters, by default genetic, with Optuna: ``pip install "fastnn[search]"``.

Trials come in populations, whose networks, one a trial and fold, are trained at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnn._optional import needed
from fastnn._validation import as_rows, describe, integer
from fastnn.callbacks import mode_of
from fastnn.metrics import Metric, judges
from fastnn.network import Network
from fastnn.population import Count, Course, courses_of, train
from fastnn.resampling import Folds, figures_of, fold_rows

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

__all__ = ["Search", "hyperparameters"]

Range: TypeAlias = "Sequence[Any] | BaseDistribution"
"""``(low, high)`` of ints or floats, ``(low, high, "log")``, a list of choices, or Optuna's own."""

_COLUMNS = ("trial", "state", "score", "cost")  # of the table, before the hyperparameters
_WITHOUT_SCORE = ("diverged", "undefined")  # states that Optuna knows as pruned


def hyperparameters(
    build: Callable[..., Network],
    space: Mapping[str, Range],
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    trials: int = 100,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    folds: Folds = 5,
    metric: Metric = "loss",
    mode: str = "auto",
    cost: Callable[[Network], float] | None = None,
    population: int = 20,
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
    epochs_between_reports: int = 5,
    storage: str | None = None,
    name: str = "fastnn",
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[int, float] | None = None,
    seed: int = 0,
    verbose: int = 0,
) -> Search:
    """Search for the hyperparameters that do best in cross-validation.

    By default by a genetic algorithm, Optuna's `NSGAIISampler` (Deb et al. 2002, "A fast and
    elitist multiobjective genetic algorithm: NSGA-II"): the best of each population are crossed
    and mutated to make the next. All networks of a population are trained at once, as by
    `fastnn.train_many`.

    Parameters
    ----------
    build : callable
        ``build(seed=..., **parameters)`` makes a network from a value for each name in `space` but
        ``"epochs"`` and ``"batch_size"``, and a seed, the number of the fold.
    space : mapping of str to range
        For each name what its values are:

        - ``(low, high)``: integers, if both are, or numbers, ends included;
          ``(low, high, "log")`` alike in their logarithms;
        - a list: any of its items, such as layer sizes ``[(16,), (32,), (32, 16)]``;
        - one of ``optuna.distributions``.

        Under ``"epochs"`` and ``"batch_size"``, if they are there, how to train.
    X, y, sample_weight, class_weight
        As of `fastnn.train_many`.
    trials : int, default 100
        How many to have in the end, those of `storage` included.
    epochs, batch_size : int, default 10 and 32
        Unless they are in `space`.
    folds : int or iterable of (array_like, array_like), default 5
        As of `fastnn.cross_validate`.
    metric : str or callable, default "loss"
        What to judge by, on the rows left out of each fold, in the mean over the folds: "loss",
        penalties included, "accuracy", or one of the `metrics` of `Network.fit`.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; by default known from the name.
    cost : callable, optional
        A second figure to make small, ``cost(network)`` of the network of the first fold: such as
        its number of parameters. The search is then for the best of each cost.
    population : int, default 20
        How many trials to train at once, and of the default sampler how many a generation has.
    sampler : optuna.samplers.BaseSampler, optional
        Another way to search.
    pruner : optuna.pruners.BasePruner, optional
        Ends trials that look bad after some of their epochs. By default none are. Not with `cost`.
    epochs_between_reports : int, default 5
        After so many epochs each the pruner is asked.
    storage : str, optional
        Where to keep what is found, such as ``"sqlite:///search.db"``: the same call then goes on
        with a search that was interrupted, however it was; trials that had begun are run again.
        Not by two processes at once.
    name : str, default "fastnn"
        Of the search in the storage.
    seed : int, default 0
        Decides which rows are in which fold, and what the default sampler draws.
    verbose : {0, 1}
        1 shows how many trials are done, on a bar if tqdm is there and a terminal or notebook to
        show it.

    Returns
    -------
    Search

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    ImportError
        If Optuna is not there.
    KeyboardInterrupt
        On Ctrl-C.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.search import hyperparameters
    >>> X = [[i / 20, i % 2] for i in range(40)]
    >>> y = [int(i > 20) for i in range(40)]
    >>> def build(hidden, learning_rate, seed):
    ...     return fastnn.Network([2, *hidden, 1], loss="binary_cross_entropy",
    ...                           optimizer=fastnn.Adam(learning_rate), seed=seed)
    >>> space = {
    ...     "hidden": [(4,), (8,), (8, 8)], "learning_rate": (1e-4, 1e-1, "log"), "epochs": (5, 20)
    ... }
    >>> found = hyperparameters(build, space, X, y, trials=12, population=6, folds=2)
    >>> sorted(found.best)
    ['epochs', 'hidden', 'learning_rate']
    """
    optuna = _optuna()
    if not callable(build):
        raise TypeError(f"build must be a callable that makes a network; got {describe(build)}")
    if not isinstance(sampler, (optuna.samplers.BaseSampler, type(None))):
        raise TypeError(f"sampler must be an Optuna sampler or None; got {describe(sampler)}")
    if pruner is not None and cost is not None:
        raise ValueError("pruner and cost must not both be given: Optuna prunes by one figure")
    trials, population = integer("trials", trials, 0), integer("population", population, 2)
    between = integer("epochs_between_reports", epochs_between_reports, 1)
    seed, verbose = integer("seed", seed, 0), integer("verbose", verbose, 0, 1)
    by_name = isinstance(metric, str)
    metric_name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
    trainer = _Trainer(
        build,
        _Space(optuna, space),
        X,
        as_rows("y", y),
        {"epochs": epochs, "batch_size": batch_size},
        list(folds) if isinstance(folds, Iterable) else folds,
        [] if by_name and metric in ("loss", "accuracy") else [metric],
        metric_name,
        cost,
        between if pruner is not None else None,
        sample_weight,
        class_weight,
        seed,
    )
    direction = "minimize" if mode_of(metric_name, mode) == "min" else "maximize"
    with _quietly(optuna):
        study = optuna.create_study(
            storage=storage,
            pruner=pruner or optuna.pruners.NopPruner(),
            study_name=name,
            directions=[direction, "minimize"] if cost is not None else [direction],
            load_if_exists=True,
        )
        _run_again(optuna, study)
        search = Search(study, metric_name, trainer.space)
        with Count(verbose, trials, "trials") as count:
            more = True
            while (done := len(search.trials)) < trials and more:
                count(done, **search._so_far())
                own = np.random.SeedSequence([seed, done]).generate_state(1)
                study.sampler = sampler or optuna.samplers.NSGAIISampler(
                    population_size=population, seed=int(own[0])
                )
                asked = [
                    study.ask(trainer.space.distributions)
                    for _ in range(min(population, trials - done))
                ]
                more = trainer.run(optuna, study, asked)
            count(done)
    return search


def _run_again(optuna: Any, study: Study) -> None:
    """Put trials in the queue anew whose process ended while they ran."""
    running = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(running,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if trial.params:  # else it ended before it had any
            study.enqueue_trial(trial.params)


@dataclass(frozen=True)
class Search:
    """What `hyperparameters` has found.

    Attributes
    ----------
    study : optuna.Study
        For all that Optuna can do with it.
    metric : str
        The name of the score.
    """

    study: Study
    metric: str
    _space: _Space

    @property
    def trials(self) -> list[FrozenTrial]:
        """Optuna's trials that were finished or pruned."""
        states = _optuna().trial.TrialState
        return self.study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each trial: "trial", its number; "state"; "score"; "cost", if there is one.

        And the hyperparameters by their names. The state is "complete", "pruned", with the last
        score before, or with nan "diverged" or "undefined": the score or the cost was infinite or
        nan, such as "r2" of a single row.
        """
        return [self._row(trial) for trial in self.trials]

    @property
    def best(self) -> dict[str, Any]:
        """The hyperparameters of the best trial; with costs, of that with the best score.

        Raises
        ------
        ValueError
            If no trial is complete.
        """
        return self._space.values(self._best.params)

    @property
    def best_score(self) -> float:
        """The best score."""
        return float(self._best.values[0])

    @property
    def rising_is_worse(self) -> bool:
        """Whether smaller scores are better."""
        return self.study.directions[0].name == "MINIMIZE"

    @property
    def logarithmic(self) -> set[str]:
        """The hyperparameters that were searched for in their logarithms."""
        distributions = self._space.distributions.items()
        return {name for name, found in distributions if getattr(found, "log", False)}

    @property
    def front(self) -> list[dict[str, Any]]:
        """Of `rows`, those than which none is better in score and cost alike."""
        return [self._row(trial) for trial in self.study.best_trials]

    def to_dataframe(self) -> pd.DataFrame:
        """Return `rows` as a pandas DataFrame.

        Raises
        ------
        ImportError
            If pandas is not there.
        """
        with needed("to_dataframe", "pandas", "pandas"):
            import pandas as pd
        return pd.DataFrame(self.rows)

    def __repr__(self) -> str:
        best = "".join(f", {name}={value:.4g}" for name, value in self._so_far().items())
        return f"<Search of {len(self.trials)} trials{best}>"

    def _so_far(self) -> dict[str, float]:
        complete = any(trial.state.name == "COMPLETE" for trial in self.trials)
        return {f"best {self.metric}": self.best_score} if complete else {}

    @property
    def _best(self) -> FrozenTrial:
        best = self.study.best_trials
        if not best:
            raise ValueError("no trial is complete")
        sign = 1 if self.rising_is_worse else -1
        return min(best, key=lambda trial: sign * trial.values[0])

    def _row(self, trial: FrozenTrial) -> dict[str, Any]:
        without = [state for state in _WITHOUT_SCORE if state in trial.user_attrs]
        (state,) = without or [trial.state.name.lower()]
        # Of a pruned trial, Optuna takes the last intermediate value.
        figures = [np.nan] * 2 if without else trial.values
        row: dict[str, Any] = {"trial": trial.number, "state": state, "score": float(figures[0])}
        if len(self.study.directions) > 1:
            row["cost"] = float(figures[1])
        return row | self._space.values(trial.params)


class _Space:
    """What each hyperparameter may be, as Optuna has it and as `build` gets it."""

    def __init__(self, optuna: Any, space: Mapping[str, Range]) -> None:
        if not isinstance(space, Mapping) or not space:
            raise TypeError(f"space must be a mapping of names to ranges; got {describe(space)}")
        self.distributions: dict[str, BaseDistribution] = {}
        self._choices: dict[str, dict[str, Any]] = {}
        for name, given in space.items():
            if not isinstance(name, str) or name in _COLUMNS:
                raise ValueError(
                    f"space must have names other than {', '.join(_COLUMNS)}; got {name!r}"
                )
            self.distributions[name] = self._distribution(optuna.distributions, name, given)

    def _distribution(self, known: Any, name: str, given: Any) -> BaseDistribution:
        if isinstance(given, known.BaseDistribution):
            return given  # type: ignore[no-any-return]
        if isinstance(given, list) and given:
            # Databases hold plain values only
            self._choices[name] = {str(choice): choice for choice in given}
            if len(self._choices[name]) < len(given):
                raise ValueError(
                    f"space[{name!r}] must have choices that differ as text; got {given}"
                )
            return known.CategoricalDistribution(list(self._choices[name]))  # type: ignore[no-any-return]
        if isinstance(given, tuple) and (
            len(given) == 2 or (len(given) == 3 and given[2] == "log")
        ):
            low, high, log = given[0], given[1], len(given) == 3
            whole = isinstance(low, int) and isinstance(high, int)
            if whole or all(
                isinstance(bound, (int, float)) and math.isfinite(bound) for bound in (low, high)
            ):
                kind = known.IntDistribution if whole else known.FloatDistribution
                try:
                    return kind(low, high, log=log)  # type: ignore[no-any-return]
                except ValueError as error:
                    raise ValueError(f"space[{name!r}]: {error}") from error
        raise ValueError(
            f'space[{name!r}] must be (low, high), (low, high, "log"), a list of choices or one of'
            f" optuna.distributions; got {describe(given)}"
        )

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What `build` gets for Optuna's values."""
        return {
            name: self._choices[name][value] if name in self._choices else value
            for name, value in parameters.items()
        }


@dataclass(frozen=True)
class _Trainer:
    """All that does not change from trial to trial; `between` None: the pruner is not asked."""

    build: Callable[..., Network]
    space: _Space
    X: npt.ArrayLike
    y: npt.NDArray[Any]
    training: Mapping[str, int]
    folds: Folds
    metrics: Sequence[Metric]
    metric: str
    cost: Callable[[Network], float] | None
    between: int | None
    sample_weight: npt.ArrayLike | None
    class_weight: str | Mapping[int, float] | None
    seed: int

    def run(self, optuna: Any, study: Study, trials: Sequence[Trial]) -> bool:
        """Train the networks of some trials, and tell the study how good they are.

        Return whether its sampler has more to try.
        """
        pruned, more = optuna.trial.TrialState.PRUNED, True
        live = [
            (trial, courses) for trial, courses in zip(trials, self._courses(trials), strict=True)
        ]
        done = 0
        while live:
            most = max(course.epochs for _, courses in live for course in courses)
            epochs = min(most - done, self.between or most)
            part = [
                replace(course, epochs=min(course.epochs - done, epochs))
                for _, courses in live
                for course in courses
            ]
            errors = train(part)
            done += epochs
            k = len(part) // len(live)
            still = []
            for number, (trial, courses) in enumerate(live):
                error = next(filter(None, errors[number * k : (number + 1) * k]), None)
                if error is not None:
                    trial.set_user_attr("diverged", str(error))
                    more &= _tell(study, trial, state=pruned)
                    continue
                score = float(np.mean([self._score(course) for course in courses]))
                figures, ended = [score], done >= courses[0].epochs
                if ended and self.cost is not None:
                    figures.append(float(self.cost(courses[0].net)))
                if not np.isfinite(figures).all():
                    trial.set_user_attr("undefined", str(figures))
                    more &= _tell(study, trial, state=pruned)
                    continue
                if self.between is not None:
                    trial.report(score, min(done, courses[0].epochs))
                if ended:
                    more &= _tell(study, trial, values=figures)
                elif trial.should_prune():
                    more &= _tell(study, trial, state=pruned)
                else:
                    still.append((trial, courses))
            live = still
        return more

    def _courses(self, trials: Sequence[Trial]) -> list[list[Course]]:
        """Of each trial, the networks of all folds."""
        pairs, nets = None, []
        epochs, batch_sizes = [], []
        for trial in trials:
            values = {**self.training, **self.space.values(trial.params)}
            first = self._built(trial, values, 0)
            pairs = pairs or fold_rows(self.folds, self.y, first, self.seed)
            nets += [first, *(self._built(trial, values, fold) for fold in range(1, len(pairs)))]
            epochs += [values["epochs"]] * len(pairs)
            batch_sizes += [values["batch_size"]] * len(pairs)
        assert pairs is not None
        n = len(pairs)
        courses = courses_of(
            nets,
            self.X,
            self.y,
            epochs,
            batch_sizes,
            [train for train, _ in pairs] * len(trials),
            [judge for _, judge in pairs] * len(trials),
            self.sample_weight,
            self.class_weight,
            True,
            None,
        )
        return [courses[i : i + n] for i in range(0, len(courses), n)]

    def _built(self, trial: Trial, values: Mapping[str, Any], fold: int) -> Network:
        parameters = {name: value for name, value in values.items() if name not in self.training}
        net = self.build(seed=fold, **parameters)
        if not isinstance(net, Network):
            raise TypeError(f"build must return a fastnn.Network; got {describe(net)}")
        return net

    def _score(self, course: Course) -> float:
        judge = judges(course.net, self.metrics, course.validation, "")
        figures = figures_of(course, judge, None)
        if self.metric not in figures:
            raise ValueError(f"metric must be one of {', '.join(figures)}; got {self.metric!r}")
        return figures[self.metric]


def _tell(study: Study, trial: Trial, **result: Any) -> bool:
    """Tell the study of a trial; return whether its sampler, such as a grid, has more to try."""
    try:
        study.tell(trial, **result)
    except RuntimeError as error:
        if "Study.stop" not in str(error):  # which Optuna allows in its own loop only
            raise
        return False
    return True


@contextmanager
def _quietly(optuna: Any) -> Iterator[None]:
    """Let Optuna say nothing of each study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _optuna() -> Any:
    with needed("fastnn.search", "Optuna", "search"):
        import optuna
    return optuna

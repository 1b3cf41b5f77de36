"""Grid searches over the estimators, by joblib's ways to do things at once."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.benchmark.report import Report, Result, columns
from fastnn.benchmark.report import table as markdown
from fastnn.benchmark.run import Run
from fastnn.benchmark.sections.estimators import KINDS, NOT_MEASURED, beside

__all__ = ["measure", "table"]

_NAME = "search"
_BACKENDS = ("loky", "multiprocessing", "threading")
_JOBS = (1, 2, -1)
_ROWS, _SIZES = 2000, (64, 100, 100, 10)


def measure(run: Run) -> Iterator[Result]:
    try:
        kinds = {label: importlib.import_module(name) for label, name in KINDS.items()}
        import joblib
    except ImportError:
        return
    rng = np.random.default_rng(0)
    X = rng.standard_normal((_rows(run.quick), _SIZES[0]), np.float32)
    y = rng.integers(_SIZES[-1], size=len(X))
    # Workers have warnings of their own.
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for backend in _BACKENDS:
                for jobs in _JOBS:
                    with joblib.parallel_backend(backend, n_jobs=jobs):
                        calls = {label: _search(kind, X, y) for label, kind in kinds.items()}
                        yield from run.in_turn(_NAME, f"{backend}, {jobs}", calls)
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _rows(quick: bool) -> int:
    return _ROWS // 8 if quick else _ROWS


def _search(module: Any, X: Any, y: Any) -> Callable[[], object]:
    from sklearn.model_selection import GridSearchCV

    grid = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-3, 1e-2]}
    model = module.MLPClassifier(_SIZES[1:-1], max_iter=5, random_state=0)
    search = GridSearchCV(model, grid, cv=2, refit=False)
    return lambda: search.fit(X, y)


def table(report: Report) -> str:
    _, cases = columns(report.find(_NAME))
    if not cases:
        return f"## Searches\n\n{NOT_MEASURED}"
    return "\n\n".join(
        [
            "## Searches",
            "Milliseconds of a `GridSearchCV` of four settings and two folds,"
            f" {_rows(report.quick):,} rows of {'-'.join(map(str, _SIZES))} in float32, five"
            " epochs.",
            markdown(
                ["backend, n_jobs", *KINDS, "faster"],
                ([case, *beside(found, 1e3)] for case, found in cases.items()),
            ),
        ]
    )

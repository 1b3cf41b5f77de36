"""fastnn's estimators beside scikit-learn's: fits and predictions, as users call them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn._types import Array
from fastnn.benchmark.report import Report, Result, columns, number
from fastnn.benchmark.report import table as markdown
from fastnn.benchmark.run import Run
from fastnn.benchmark.sections.mnist import first_images

__all__ = ["KINDS", "NOT_MEASURED", "beside", "measure", "table"]

KINDS = {"fastnn.sklearn": "fastnn.sklearn", "scikit-learn": "sklearn.neural_network"}
"""The modules that have the estimators, by what tables call them."""

NOT_MEASURED = 'Not measured: it needs pip install "fastnn[sklearn]".'

_NAME = "estimators"
_EPOCHS = 8


@dataclass(frozen=True)
class _Fit:
    """A classification, or a regression if there is one output, and the batch size."""

    name: str
    sizes: tuple[int, ...]
    rows: int
    batch: int
    epochs: int = _EPOCHS
    early_stopping: bool = False

    @property
    def network(self) -> str:
        return f"{self.name} {'-'.join(map(str, self.sizes))}"

    @property
    def label(self) -> str:
        stopping = ", early stopping" if self.early_stopping else ""
        return f"{self.network}; {self.batch}{stopping}"

    def steps(self, rows: int) -> int:
        """How many `rows` are trained on by."""
        if self.early_stopping:
            rows -= -(-rows // 10)  # a tenth is to validate by
        return self.epochs * -(-rows // self.batch)


_SEED = _Fit("seed", (784, 100, 100, 10), 5_000, 100, epochs=4)
# The same network over images, of which the most part is blank; all others are over noise.
_MNIST = replace(_SEED, name="MNIST")

_FITS = (
    _Fit("iris", (4, 10, 3), 150, 150, epochs=50),
    _Fit("tiny", (8, 16, 1), 16_000, 32),
    _Fit("small", (20, 64, 64, 2), 16_000, 64),
    _SEED,
    replace(_SEED, early_stopping=True),
)
_ROWS = 10_000  # that there are to predict, and of images at all
_PREDICTIONS = (("predict", 1), ("predict", _ROWS), ("predict_proba", _ROWS))


def measure(run: Run) -> Iterator[Result]:
    try:
        kinds = {label: importlib.import_module(name) for label, name in KINDS.items()}
    except ImportError:
        return
    images = first_images(_ROWS)
    over_images = [(_MNIST, images)] if images else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few epochs are not enough
        for dtype in ("float32", "float64"):
            for fit, given in [*((fit, None) for fit in _FITS), *over_images]:
                rows = fit.rows // 8 if run.quick else fit.rows
                X, y = _data(fit, given, dtype, rows)
                calls = {label: _fit(module, fit, X, y) for label, module in kinds.items()}
                label = f"fit {fit.label}; {dtype}"
                yield from run.in_turn(_NAME, label, calls, parts=fit.steps(len(X)))
            for fit, given in [(_SEED, None), *over_images]:
                yield from _predictions(run, kinds, fit, dtype, *_data(fit, given, dtype, _ROWS))


def _predictions(
    run: Run, kinds: dict[str, Any], fit: _Fit, dtype: str, X: Array, y: Any
) -> Iterator[Result]:
    fit = replace(fit, rows=1000, epochs=1)
    models = {
        label: _model(module, fit).fit(X[: fit.rows], y[: fit.rows])
        for label, module in kinds.items()
    }
    for method, rows in _PREDICTIONS:
        calls = {label: _call(getattr(model, method), X[:rows]) for label, model in models.items()}
        yield from run.in_turn(_NAME, f"{method} {fit.network}; {rows:,}; {dtype}", calls)


def _data(fit: _Fit, given: tuple[Array, Any] | None, dtype: str, rows: int) -> tuple[Array, Any]:
    """Rows of what is given, or else of noise."""
    rows = max(rows, fit.batch)
    if given:
        X, y = given
        return X[:rows].astype(dtype), y[:rows]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, fit.sizes[0])).astype(dtype)
    last = fit.sizes[-1]
    return X, rng.standard_normal(rows) if last == 1 else rng.integers(last, size=rows)


def _model(module: Any, fit: _Fit) -> Any:
    kind = module.MLPRegressor if fit.sizes[-1] == 1 else module.MLPClassifier
    return kind(
        hidden_layer_sizes=fit.sizes[1:-1],
        batch_size=fit.batch,
        max_iter=fit.epochs,
        early_stopping=fit.early_stopping,
        random_state=0,
    )


def _fit(module: Any, fit: _Fit, X: Array, y: Any) -> Callable[[], object]:
    model = _model(module, fit)
    return lambda: model.fit(X, y)


def _call(method: Callable[[Array], object], X: Array) -> Callable[[], object]:
    return lambda: method(X)


def beside(found: dict[str, Result], scale: float) -> list[str]:
    """Return both times, and how many times as fast fastnn's is, for a row of a table."""
    ours, theirs = (found[name].value for name in KINDS)
    return [number(ours * scale), number(theirs * scale), f"{theirs / ours:.1f}×"]


def table(report: Report) -> str:
    _, cases = columns(report.find(_NAME))
    if not cases:
        return f"## Estimators\n\n{NOT_MEASURED}"
    ours, theirs = KINDS
    rows = [
        [case, *beside(found, 1e6), *(f"{found[name].spread:.0%}" for name in KINDS)]
        for case, found in cases.items()
    ]
    return "\n\n".join(
        [
            "## Estimators",
            "Microseconds a step of `fit`, all that it does over its steps, or a call of `predict`,"
            " and how many times as fast fastnn's are. After the sizes is the batch size, or how"
            " many rows are predicted.",
            markdown(["", ours, theirs, "faster", f"spread: {ours}", theirs], rows),
        ]
    )

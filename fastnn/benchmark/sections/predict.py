"""Predictions, of one row and of a batch."""

from __future__ import annotations

from collections.abc import Iterator

from fastnn.benchmark.report import Report, Result, side_by_side
from fastnn.benchmark.run import Run

__all__ = ["measure", "table"]


def measure(run: Run) -> Iterator[Result]:
    for case in run.cases:
        task = run.task(case)
        models = {peer.label: peer.model(task) for peer in run.peers if peer.predicts}
        for rows in (1, case.batch):
            X = task.X[:rows].copy()
            calls = {label: model.predictor(X) for label, model in models.items()}
            label = f"{case.shape}; {rows}"
            yield from run.in_turn("predict", label, calls, case.predict_flop(rows))


def table(report: Report) -> str:
    return "\n\n".join(
        [
            "## Prediction",
            "Microseconds a call, how many times as long as fastnn's, and fastnn's part of the"
            " FMA peak.",
            side_by_side(report, "predict", "shape; rows", 1e6),
        ]
    )

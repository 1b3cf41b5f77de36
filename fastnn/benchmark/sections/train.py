"""A training step: forward, loss, backward and Adam, on a batch of shuffled rows."""

from __future__ import annotations

from collections.abc import Iterator

from fastnn.benchmark.report import Report, Result, side_by_side
from fastnn.benchmark.run import Run

__all__ = ["measure", "table"]


def measure(run: Run) -> Iterator[Result]:
    for case in run.cases:
        task = run.task(case)
        epochs = {peer.label: peer.model(task).train for peer in run.peers if peer.trains}
        yield from run.in_turn("train", case.label, epochs, case.step_flop, parts=task.case.batches)


def table(report: Report) -> str:
    return "\n\n".join(
        [
            "## Training",
            "Microseconds a step of an epoch of shuffled batches, how many times as long as"
            " fastnn's, and fastnn's part of the FMA peak.",
            side_by_side(report, "train", "shape; batch", 1e6),
        ]
    )

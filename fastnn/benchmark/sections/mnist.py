"""An epoch of MNIST, shuffling included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastnn._types import Array
from fastnn.benchmark.cases import CASES, Task
from fastnn.benchmark.report import Report, Result, side_by_side
from fastnn.benchmark.run import Run
from fastnn.datasets import load_mnist

__all__ = ["first_images", "measure", "table"]

_CASE = replace(CASES["seed"], name="MNIST", batches=600)


def measure(run: Run) -> Iterator[Result]:
    task, data = _task(run)
    epochs = {peer.label: peer.model(task).train for peer in run.peers if peer.trains}
    flop = task.case.step_flop * task.case.batches
    yield from run.in_turn("mnist", f"{data}; {_CASE.batch}", epochs, flop)


def first_images(rows: int) -> tuple[Array, Any] | None:
    """Return the first rows of MNIST and their labels, or None where it is not at hand."""
    if not os.environ.get("FASTNN_DATA"):
        return None
    images = load_mnist(flatten=True, normalize=True)
    return images.x_train[:rows], images.y_train[:rows]


def _task(run: Run) -> tuple[Task, str]:
    """Return MNIST where it is at hand, else noise, and which of them it is."""
    task = run.task(_CASE)
    images = first_images(len(task.X))
    if images is None:
        return task, f"{len(task.X):,} rows of noise like MNIST"
    X, y = images
    found = replace(task, X=X.astype(task.X.dtype), y=y.astype(task.y.dtype))
    return found, f"{len(X):,} rows of MNIST"


def table(report: Report) -> str:
    return "\n\n".join(
        [
            "## An epoch of MNIST",
            f"Milliseconds an epoch of {'-'.join(map(str, _CASE.sizes))}, shuffling included, how"
            " many times as long as fastnn's, and fastnn's part of the FMA peak, as if it took the"
            " pixels, too, that are blank in a whole batch.",
            side_by_side(report, "mnist", "data; batch", 1e3),
        ]
    )

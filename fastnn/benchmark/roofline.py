"""A picture of how near to the machine's limits training steps come; it needs matplotlib."""

from __future__ import annotations

import os

import numpy as np
from matplotlib import pyplot

from fastnn.benchmark.cases import CASES
from fastnn.benchmark.report import Report, columns

__all__ = ["draw"]


def draw(report: Report, path: str | os.PathLike[str]) -> None:
    """Draw the training steps of all subjects under the limits of arithmetic and of memory."""
    machine = report.machine
    itemsize = np.dtype(machine.dtype).itemsize
    intensities = {
        case.label: case.step_flop / case.step_bytes(itemsize) for case in CASES.values()
    }
    subjects, _ = columns(report.find("train"))
    figure, ax = pyplot.subplots(layout="constrained")
    span = np.geomspace(1, 1000, 200)
    limit = np.minimum(machine.peak, machine.bandwidth * span)
    ax.loglog(span, limit / 1e9, color="black", label="memory; FMA peak")
    for subject in subjects:
        results = report.find("train", subject)
        ax.plot(
            [intensities[result.case] for result in results],
            [result.rate / 1e9 for result in results],
            "o" if subject == subjects[0] else "x",
            label=subject,
        )
    for result in report.find("train", subjects[0]):
        ax.annotate(
            result.case.partition(" ")[0],
            (intensities[result.case], result.rate / 1e9),
            textcoords="offset points",
            xytext=(0, 7),
            ha="center",
        )
    ax.set_xlabel("arithmetic intensity if nothing stayed in caches, FLOP/byte")
    ax.set_ylabel("GFLOP/s")
    ax.set_title(f"Training steps, {machine.dtype}, {machine.threads} threads")
    ax.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

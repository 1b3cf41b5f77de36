"""Memory that a training takes beyond its data, in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import fastnn
from fastnn.benchmark.cases import CASES, Case
from fastnn.benchmark.report import Report, Result, number
from fastnn.benchmark.report import table as markdown
from fastnn.benchmark.run import Run

__all__ = ["grow", "measure", "needed", "packed", "table"]

_STATUS = Path("/proc/self/status")
_CODE = "import sys; from fastnn.benchmark.sections.memory import grow; grow(*sys.argv[1:])"


def measure(run: Run) -> Iterator[Result]:
    if not _STATUS.exists():
        return
    for case in run.cases:
        command = [sys.executable, "-c", _CODE, case.name, run.dtype, str(run.threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        yield Result("memory", case.label, "fastnn", float(done.stdout))


def grow(name: str, dtype: str, threads: str) -> None:
    """Train a case, and print how far the resident memory rose in bytes."""
    case = replace(CASES[name], batches=2)
    task = case.task(np.dtype(dtype), int(threads))
    fastnn.set_num_threads(int(threads))
    loss = "mse" if case.regression else "cross_entropy"
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # so that the peak is from now on
    before = _kilobytes("VmRSS")
    fastnn.Network(case.sizes, loss=loss, dtype=dtype, seed=0).fit(
        task.X, task.y, epochs=2, batch_size=case.batch
    )
    print(1024 * (_kilobytes("VmHWM") - before))


def _kilobytes(field: str) -> int:
    # Not getrusage: its peak is also that of the process that started this one.
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{field}:")


def needed(case: Case, itemsize: int) -> int:
    """Bytes of weights, gradients, Adam's two states, and all units' outputs for a batch."""
    return itemsize * (4 * case.parameters + case.batch * sum(case.sizes[1:]))


def packed(case: Case, itemsize: int, threads: int) -> int:
    """Bytes of copies as the core lays them out: the weights that a gradient goes back through,
    transposed, and a batch's rows, for each thread."""
    transposed = sum(n_in * n_out for n_in, n_out in itertools.pairwise(case.sizes[1:]))
    return itemsize * (transposed + threads * case.batch * case.sizes[0])


def table(report: Report) -> str:
    cases = {case.label: case for case in CASES.values()}
    itemsize = np.dtype(report.machine.dtype).itemsize
    rows = []
    for result in report.find("memory"):
        case = cases[result.case]
        parts = [needed(case, itemsize), packed(case, itemsize, report.machine.threads)]
        bytes_ = [*parts, result.value, result.value - sum(parts)]
        rows.append([result.case, *(number(each / 1e6) for each in bytes_)])
    if not rows:
        return "## Memory\n\nNot measured: there is no /proc/self/status here."
    return "\n\n".join(
        [
            "## Memory",
            "MB that the resident memory of a process rises by in a training, beside weights,"
            " gradients, Adam's states and the activations of a batch, and beside packed copies of"
            " weights and rows. Of the gradients only a block is ever kept, so it may be less.",
            markdown(["shape; batch", "these", "copies", "peak", "more"], rows),
        ]
    )

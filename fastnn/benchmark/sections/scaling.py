"""A training step of fastnn by one thread and by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fastnn
from fastnn.benchmark.peers import native
from fastnn.benchmark.report import Report, Result, columns, number
from fastnn.benchmark.report import table as markdown
from fastnn.benchmark.run import Run

__all__ = ["measure", "table"]


def measure(run: Run) -> Iterator[Result]:
    for case in run.cases:
        task = run.task(case)
        calls = {
            f"fastnn, {threads} thread{'s' * (threads > 1)}": _by(threads, native.Model(task).train)
            for threads in sorted({1, run.threads})
        }
        yield from run.in_turn(
            "scaling", case.label, calls, case.step_flop, parts=task.case.batches
        )
    fastnn.set_num_threads(run.threads)


def _by(threads: int, call: Callable[[], None]) -> Callable[[], None]:
    def with_threads() -> None:
        fastnn.set_num_threads(threads)
        call()

    return with_threads


def table(report: Report) -> str:
    subjects, cases = columns(report.find("scaling"))
    rows = [
        [case]
        + [number(found[name].value * 1e6) for name in subjects]
        + [f"{found[subjects[0]].value / found[subjects[-1]].value:.2f}×"]
        for case, found in cases.items()
    ]
    return "\n\n".join(
        [
            "## Threads",
            "Microseconds a training step, and how many times as fast all threads are as one.",
            markdown(["shape; batch", *subjects, "faster"], rows),
        ]
    )

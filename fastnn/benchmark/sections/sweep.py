"""A training step of one layer of every width: does any fall off a cliff?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fastnn import Network
from fastnn._types import Array
from fastnn.benchmark.report import Report, Result, number
from fastnn.benchmark.report import table as markdown
from fastnn.benchmark.run import Run
from fastnn.benchmark.timing import Plan, interleaved

__all__ = ["cliffs", "measure", "table"]

_WIDEST = 520
_BATCH, _BATCHES = 128, 32
_AT_ONCE = 26  # networks kept at a time
_NARROW, _CLIFF = 32, 1.5
_LOOKS = 8
_SHOWN = (8, 16, 32, 64, 100, 128, 200, 256, 384, 512)


def measure(run: Run) -> Iterator[Result]:
    widths = [
        n for n in range(1, _WIDEST + 1) if not run.quick or any(abs(n - m) < 2 for m in _SHOWN)
    ]
    data = np.random.default_rng(0).standard_normal(
        _BATCH * _BATCHES * _WIDEST, np.dtype(run.dtype)
    )
    brief = replace(run.plan, fewest=3, most=3, shortest=0.004, pause=0.001)
    fastest: dict[int, float] = {}
    for first in range(0, len(widths), _AT_ONCE):
        fastest |= _time(widths[first : first + _AT_ONCE], data, brief)
    # Whatever disturbs a timing makes it longer: a cliff is one however often one looks.
    longer = replace(brief, seconds=0.5, most=9, shortest=0.02)
    for _ in range(_LOOKS):
        for n, m, _ in cliffs({n: seconds / _flop(n) for n, seconds in fastest.items()}):
            for width, seconds in _time((n, m), data, longer).items():
                fastest[width] = min(fastest[width], seconds)
    for n, seconds in fastest.items():
        yield Result("sweep", str(n), "fastnn", seconds / _BATCHES, flop=_flop(n))


def _time(widths: Sequence[int], data: Array, plan: Plan) -> dict[int, float]:
    """Return the shortest time of an epoch of each."""
    timings = interleaved({str(n): _epoch(n, data) for n in widths}, plan)
    return {int(n): min(timing.wall) for n, timing in timings.items()}


def _epoch(n: int, data: Array) -> Callable[[], object]:
    X = data[: _BATCH * _BATCHES * n].reshape(-1, n)
    net = Network([n, n], dtype=X.dtype, seed=0)
    return lambda: net.fit(X, X, batch_size=_BATCH)


def _flop(n: int) -> float:
    return 4.0 * _BATCH * n * n  # outputs and dW


def cliffs(costs: Mapping[int, float]) -> list[tuple[int, int, float]]:
    """Return neighbours of which one takes 1.5 times as long for an operation, and that ratio.

    Parameters
    ----------
    costs : mapping of int to float
        Time per operation of each width, in ascending order.
    """
    pairs = [(n, m, max(costs[n], costs[m]) / min(costs[n], costs[m])) for n, m in _pairs(costs)]
    return [pair for pair in pairs if pair[2] > _CLIFF]


def _pairs(costs: Mapping[int, float]) -> list[tuple[int, int]]:
    return [(n, m) for n, m in itertools.pairwise(costs) if m == n + 1 and n > _NARROW]


def table(report: Report) -> str:
    results = {int(result.case): result for result in report.find("sweep")}
    found = cliffs({n: 1 / result.rate for n, result in results.items()})
    shown = [n for n in _SHOWN if n in results]
    return "\n\n".join(
        [
            "## Widths",
            "GFLOP/s of training steps of one layer of n inputs and n units,"
            f" batch {_BATCH}; the fastest of some.",
            markdown(
                ["n", *map(str, shown)],
                [["GFLOP/s", *(number(results[n].rate / 1e9) for n in shown)]],
            ),
            f"Neighbours above {_NARROW} that differ by more than {_CLIFF}×: "
            + (", ".join(f"{n} and {m} by {ratio:.2f}×" for n, m, ratio in found) or "none")
            + ".",
        ]
    )

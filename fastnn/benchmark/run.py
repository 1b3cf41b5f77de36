"""What is asked of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastnn.benchmark.cases import Case, Task
from fastnn.benchmark.peers import Peer
from fastnn.benchmark.report import Result
from fastnn.benchmark.timing import Plan, interleaved

__all__ = ["Run"]

_QUICK = 8  # times fewer rows


@dataclass(frozen=True)
class Run:
    """What is asked of a run.

    Parameters
    ----------
    cases : sequence of Case
    peers : sequence of Peer
        fastnn first.
    dtype : str
    threads : int
        How many every peer may use.
    plan : Plan
    quick : bool
        Whether to do with less of everything, as a trial.
    """

    cases: Sequence[Case]
    peers: Sequence[Peer]
    dtype: str
    threads: int
    plan: Plan
    quick: bool = False

    def task(self, case: Case) -> Task:
        """Return what is to be done in a case."""
        if self.quick:
            case = replace(case, batches=max(2, case.batches // _QUICK))
        return case.task(np.dtype(self.dtype), self.threads)

    def in_turn(
        self,
        section: str,
        case: str,
        calls: Mapping[str, Callable[[], object]],
        flop: float = 0.0,
        parts: int = 1,
    ) -> Iterator[Result]:
        """Time each subject's call, of `parts` equal parts of `flop` operations, in turn."""
        for subject, timing in interleaved(calls, self.plan).items():
            yield Result.of(section, case, subject, timing, flop, parts)

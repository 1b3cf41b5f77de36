"""What is asked of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastnn.benchmark.cases import Case, Task
from fastnn.benchmark.peers import Peer
from fastnn.benchmark.timing import Plan

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

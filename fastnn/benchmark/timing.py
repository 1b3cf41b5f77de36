"""Timing things that take turns, so that whatever disturbs the machine disturbs them alike."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Plan", "Timing", "interleaved"]

_LONGEST_PAUSE = 1.0


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure.

    Parameters
    ----------
    seconds : float
        After so long no further round begins, unless there have been too few.
    fewest, most : int
        Bounds of the number of rounds.
    shortest : float
        Seconds that one timing takes at least: it is of as many calls as that needs.
    pause : float
        Seconds before each timing in which no thread of the one before must still be busy.
    """

    seconds: float = 5.0
    fewest: int = 5
    most: int = 25
    shortest: float = 0.02
    pause: float = 0.02


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one figure a round: by the clock, and of all cores together."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the seconds by the clock."""
        return statistics.median(self.wall)

    @property
    def median_cpu(self) -> float:
        """Median of the seconds of all cores."""
        return statistics.median(self.cpu)

    @property
    def spread(self) -> float:
        """Their interquartile range as a part of the median."""
        low, _, high = statistics.quantiles(self.wall, n=4, method="inclusive")
        return (high - low) / self.median


def interleaved(calls: Mapping[str, Callable[[], object]], plan: Plan) -> dict[str, Timing]:
    """Time each call once a round, in changing order, and return the timings of all rounds."""
    numbers = {name: _warm_up(call, plan.shortest) for name, call in calls.items()}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    order = random.Random(3)  # by which two take turns in going first
    end = time.perf_counter() + plan.seconds
    for done in range(plan.most):
        if done >= plan.fewest and time.perf_counter() > end:
            break
        for name in order.sample(list(calls), len(calls)):
            _settle(plan.pause)
            rounds[name].append(_seconds(calls[name], numbers[name]))
    return {name: Timing(*zip(*samples, strict=True)) for name, samples in rounds.items()}


def _settle(pause: float) -> None:
    """Wait for threads to fall asleep: idle ones of OpenBLAS go on spinning for 0.1 seconds."""
    end = time.perf_counter() + _LONGEST_PAUSE
    while pause and time.perf_counter() < end:
        cpu = time.process_time()
        time.sleep(pause)
        if time.process_time() - cpu <= pause / 10:
            break


def _warm_up(call: Callable[[], object], shortest: float) -> int:
    """Return how many calls take `shortest` seconds."""
    call()  # what is done once, such as compiling, does not count
    number = 1
    while (seconds := _seconds(call, number)[0] * number) < shortest:
        number *= max(2, min(1000, round(1.2 * shortest / max(seconds, 1e-9))))
    return number


def _seconds(call: Callable[[], object], number: int) -> tuple[float, float]:
    """Return seconds a call, by the clock and of all cores."""
    calls = itertools.repeat(None, number)  # the loop that costs least, as in timeit
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in calls:
        call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / number, cpu / number

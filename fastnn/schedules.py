"""Learning-rate schedules, in order of increasing complexity; each is its formula.

A schedule takes the place of an optimizer's learning rate, as in ``Adam(Cosine(0.001, 20))``. It
is a function of the number t of what was done before, epochs or steps, and keeps no state: the
network counts. So a training that goes on from a file goes on along the schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn import _described
from fastnn._described import Described
from fastnn._validation import (
    UNITS,
    describe,
    fraction,
    integer,
    known_name,
    non_negative,
    positive,
)

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "ExponentialDecay",
    "InverseScaling",
    "OneCycle",
    "Schedule",
    "StepDecay",
    "WarmUp",
    "from_config",
    "learning_rate",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Schedule(Described):
    """Base of the schedules: how the learning rate goes; call it to see.

    Parameters
    ----------
    per : {"epoch", "step"}
        What t and all durations count, hence when the rate changes: at each epoch of
        `fastnn.Network.fit`, or at each step of the optimizer.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of a wrong type or out of range.

    Examples
    --------
    >>> from fastnn.schedules import StepDecay
    >>> StepDecay(0.1, every=2)([0, 1, 2, 3, 4]).round(4).tolist()
    [0.1, 0.1, 0.01, 0.01, 0.001]
    """

    per: str = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        known_name("per", self.per, UNITS)

    def __call__(self, t: npt.ArrayLike) -> Floats:
        """Return the learning rates after `t` epochs or steps.

        Parameters
        ----------
        t : array_like of int
            At least 0.

        Returns
        -------
        ndarray of float64
            Of the shape of `t`.
        """
        times = np.asarray(t, np.float64)
        # One number as an array, too: NumPy's powers of arrays and of scalars differ in last bits.
        return self._rate(times.reshape(-1)).reshape(times.shape)

    def _rate(self, t: Floats) -> Floats:
        """The formula."""
        raise NotImplementedError

    def rates(self, epoch: int, step: int, n: int) -> Floats:
        """Return the learning rates of `n` steps, the first of them number `step`, in an epoch."""
        return np.full(n, self(epoch)) if self.per == "epoch" else self(step + np.arange(n))


@dataclass(frozen=True, repr=False)
class Constant(Schedule):
    """``initial``, always: something to put a `WarmUp` in front of.

    Parameters
    ----------
    initial : float
        Greater than 0.
    per : {"epoch", "step"}
        See `Schedule`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "constant"

    initial: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("initial", positive("initial", self.initial))

    def _rate(self, t: Floats) -> Floats:
        return np.full_like(t, self.initial)


@dataclass(frozen=True, repr=False)
class StepDecay(Constant):
    """``initial * factor**(t // every)``: a fall now and then; PyTorch's StepLR.

    Parameters
    ----------
    initial : float
        Greater than 0.
    every : int
        Epochs or steps between two falls.
    factor : float, default 0.1
        Greater than 0.
    per : {"epoch", "step"}
        See `Schedule`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "step_decay"

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("every", integer("every", self.every, 1))
        self._set("factor", positive("factor", self.factor))

    def _rate(self, t: Floats) -> Floats:
        return self.initial * self.factor ** (t // self.every)


@dataclass(frozen=True, repr=False)
class ExponentialDecay(Constant):
    """``initial * factor**t``; PyTorch's ExponentialLR.

    Parameters
    ----------
    initial : float
        Greater than 0.
    factor : float
        Greater than 0.
    per : {"epoch", "step"}
        See `Schedule`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "exponential_decay"

    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("factor", positive("factor", self.factor))

    def _rate(self, t: Floats) -> Floats:
        return self.initial * self.factor**t


@dataclass(frozen=True, repr=False)
class InverseScaling(Constant):
    """``initial / (t + 1)**power``, as scikit-learn's ``"invscaling"`` scales, but not by samples.

    Parameters
    ----------
    initial : float
        Greater than 0.
    power : float, default 0.5
        Greater than 0.
    per : {"epoch", "step"}
        See `Schedule`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "inverse_scaling"

    power: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("power", positive("power", self.power))

    def _rate(self, t: Floats) -> Floats:
        return self.initial / (t + 1) ** self.power


def _half_cosine(start: float, end: float, part: Floats) -> Floats:
    """From `start` at part 0 to `end` at part 1."""
    return end + (start - end) * (1 + np.cos(np.pi * part)) / 2


@dataclass(frozen=True, repr=False)
class Cosine(Constant):
    """Half a wave of the cosine from ``initial`` to ``final`` (Loshchilov and Hutter 2017).

    ``final + (initial - final) * (1 + cos(pi * t / duration)) / 2``, and ``final`` from then on;
    PyTorch's CosineAnnealingLR.

    Parameters
    ----------
    initial : float
        Greater than 0.
    duration : int
        Epochs or steps to reach ``final`` in.
    final : float, default 0.0
        At least 0.
    per : {"epoch", "step"}
        See `Schedule`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "cosine"

    duration: int
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("duration", integer("duration", self.duration, 1))
        self._set("final", non_negative("final", self.final))

    def _rate(self, t: Floats) -> Floats:
        return _half_cosine(self.initial, self.final, np.minimum(t / self.duration, 1))


@dataclass(frozen=True, repr=False)
class CosineRestarts(Cosine):
    """`Cosine` again and again, each round longer than the one before it by a factor.

    The SGDR of Loshchilov and Hutter (2017); PyTorch's CosineAnnealingWarmRestarts.

    Parameters
    ----------
    initial : float
        Greater than 0.
    duration : int
        Epochs or steps of the first round.
    final : float, default 0.0
        At least 0; what each round goes down to, but does not reach.
    growth : int, default 1
        At least 1: a round lasts that many times as long as the one before.
    per : {"epoch", "step"}
        See `Schedule`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "cosine_restarts"

    growth: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("growth", integer("growth", self.growth, 1))

    def _rate(self, t: Floats) -> Floats:
        # The rounds before number r last duration * (growth**r - 1) / (growth - 1) together. They
        # are counted in integers: a logarithm may be off by one at the end of a round.
        duration, rest = np.full_like(t, self.duration), t.copy()
        if self.growth == 1:
            rest %= duration
        while (over := rest >= duration).any():
            rest[over] -= duration[over]
            duration[over] *= self.growth
        return _half_cosine(self.initial, self.final, rest / duration)


@dataclass(frozen=True, repr=False)
class OneCycle(Schedule):
    """Up to ``highest`` and down to almost nothing (Smith and Topin 2019).

    Half a wave of the cosine from ``highest / 25`` to ``highest``, another down to
    ``highest / 250000``, and that from then on: PyTorch's OneCycleLR with its defaults.

    Parameters
    ----------
    highest : float
        Greater than 0.
    duration : int
        Epochs or steps of both ways together; at least 2.
    rise : float, default 0.3
        The part of them in which it rises, ``0 < rise < 1``.
    start_divisor, final_divisor : float, default 25 and 1e4
        Greater than 0: ``highest / start_divisor`` is the first rate, and that divided by
        ``final_divisor`` the last.
    per : {"epoch", "step"}
        See `Schedule`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "one_cycle"

    highest: float
    duration: int
    rise: float = 0.3
    start_divisor: float = 25.0
    final_divisor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("highest", positive("highest", self.highest))
        self._set("duration", integer("duration", self.duration, 2))
        self._set("rise", fraction("rise", positive("rise", self.rise)))
        self._set("start_divisor", positive("start_divisor", self.start_divisor))
        self._set("final_divisor", positive("final_divisor", self.final_divisor))

    def _rate(self, t: Floats) -> Floats:
        # The last of the `duration` is to have the last rate, so there are one fewer changes.
        end = self.duration - 1
        top = min(max(self.rise * self.duration - 1, 1e-9), end * (1 - 1e-9))
        first = self.highest / self.start_divisor
        up = _half_cosine(first, self.highest, t / top)
        part = (np.minimum(t, end) - top) / (end - top)
        down = _half_cosine(self.highest, first / self.final_divisor, part)
        return np.where(t <= top, up, down)


@dataclass(frozen=True, repr=False)
class WarmUp(Schedule):
    """A straight rise in front of another schedule (Goyal et al. 2017).

    ``after(0) * (start + (1 - start) * t / duration)`` and then ``after(t - duration)``; PyTorch's
    SequentialLR of a LinearLR and another. A rise by steps in front of a schedule by epochs, or the
    other way round, does not put that off, but is multiplied by it.

    Parameters
    ----------
    after : Schedule or float
        What comes then, or the learning rate that is kept from then on.
    duration : int
        Epochs or steps of the rise.
    start : float, default 0.1
        The part of the rate to begin with, ``0 <= start < 1``.
    per : {"epoch", "step"}, optional
        What `duration` counts; by default what `after` does, epochs if that is a number.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.

    Examples
    --------
    >>> from fastnn.schedules import Cosine, WarmUp
    >>> WarmUp(0.1, 4, start=0)([0, 1, 2, 3, 4, 5]).round(4).tolist()
    [0.0, 0.025, 0.05, 0.075, 0.1, 0.1]
    >>> by_steps = WarmUp(Cosine(0.1, 20), 500, per="step")  # in the first of 20 epochs
    """

    name: ClassVar[str] = "warm_up"

    after: Schedule | float
    duration: int
    start: float = 0.1
    per: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        after = self.after
        if isinstance(after, Mapping):
            after = from_config(after)
        self._set("after", after if isinstance(after, Schedule) else positive("after", after))
        self._set("per", self.per or (after.per if isinstance(after, Schedule) else "epoch"))
        super().__post_init__()
        self._set("duration", integer("duration", self.duration, 1))
        self._set("start", fraction("start", self.start))

    def rates(self, epoch: int, step: int, n: int) -> Floats:
        after = self._after()
        if after.per == self.per:
            return super().rates(epoch, step, n)
        t = np.full(n, epoch) if self.per == "epoch" else step + np.arange(n)
        return self._part(t) * after.rates(epoch, step, n)

    def _rate(self, t: Floats) -> Floats:
        after = self._after()
        if after.per != self.per:
            raise ValueError(
                f"t must be the number of epochs and of steps for {self}: use its rates(epoch,"
                " step, n)"
            )
        later = after(np.maximum(t - self.duration, 0))
        return np.where(t < self.duration, after(0) * self._part(t), later)

    def _part(self, t: npt.NDArray[Any]) -> Floats:
        part: Floats = np.minimum(self.start + (1 - self.start) * t / self.duration, 1)
        return part

    def _after(self) -> Schedule:
        if isinstance(self.after, Schedule):
            return self.after
        return Constant(self.after, per=self.per)


SCHEDULES: dict[str, type[Schedule]] = {
    cls.name: cls
    for cls in (
        Constant,
        StepDecay,
        ExponentialDecay,
        InverseScaling,
        Cosine,
        CosineRestarts,
        OneCycle,
        WarmUp,
    )
}


def learning_rate(argument: str, value: object) -> float | Schedule:
    """Return a number greater than 0 as a float, and a schedule, also a described one, as such."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, Mapping):
        return from_config(value)
    if isinstance(value, str) or callable(value):
        raise TypeError(
            f"{argument} must be a number or one of fastnn.schedules; got {describe(value)}"
        )
    return positive(argument, value)


def from_config(config: object) -> Schedule:
    """Make the schedule that `get_config` described.

    Raises
    ------
    ValueError
        If ``config`` describes none.
    """
    return _described.from_config("schedule", SCHEDULES, config)

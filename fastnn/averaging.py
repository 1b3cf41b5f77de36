"""Averages of the weights over training steps, which often generalize better than the last ones.

A network given one keeps the average beside its weights, at the cost of one more array; see
`fastnn.Network.averaged`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastnn import _described
from fastnn._described import Described
from fastnn._validation import UNITS, describe, fraction, integer, known_name

__all__ = ["EMA", "SWA", "Averaging", "checked", "from_config"]


@dataclass(frozen=True, repr=False)
class Averaging(Described):
    """Base of the averages: after a step, ``average += share * (weights - average)``."""

    @property
    def by_epochs(self) -> bool:
        """Whether it matters which step ends an epoch."""
        return False

    def shares(
        self, steps: int, number: int, epochs: int, ends_epoch: bool
    ) -> npt.NDArray[np.float64]:
        """Return the shares of the next steps, ``(number,)``, after so many steps and epochs.

        `ends_epoch` tells whether the last of them is the last of its epoch. The first share that
        is not 0 is 1, so that it does not matter what was there before.
        """
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class EMA(Averaging):
    """An exponential moving average, which forgets old weights.

    From the first step on, ``average = decay * average + (1 - decay) * weights``, as
    `torch.optim.swa_utils.get_ema_multi_avg_fn` has it (Polyak and Juditsky 1992).

    Parameters
    ----------
    decay : float, default 0.999
        ``0 <= decay < 1``; about ``1 / (1 - decay)`` steps count.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "ema"

    decay: float = 0.999

    def __post_init__(self) -> None:
        self._set("decay", fraction("decay", self.decay))

    def shares(
        self, steps: int, number: int, epochs: int, ends_epoch: bool
    ) -> npt.NDArray[np.float64]:
        shares = np.full(number, 1 - self.decay)
        if steps == 0:
            shares[:1] = 1
        return shares


@dataclass(frozen=True, repr=False)
class SWA(Averaging):
    """The mean of the weights at the ends of epochs, or after some of the steps.

    Best with a learning rate that stays high, and from about three quarters of the training on
    (Izmailov et al. 2018, "Averaging weights leads to wider optima").

    Parameters
    ----------
    start : int
        At least 0; how many epochs, or steps, count nothing.
    every : int, default 1
        After the epochs, or steps, number ``start + every``, ``start + 2 * every`` and so on the
        weights are added to the mean.
    per : {"epoch", "step"}
        What `start` and `every` count, as in `fastnn.schedules`: epochs of `fastnn.Network.fit`,
        or steps of the optimizer. `fastnn.Network.train_step` ends no epoch.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "swa"

    start: int
    every: int = 1
    per: str = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        self._set("start", integer("start", self.start, 0))
        self._set("every", integer("every", self.every, 1))
        known_name("per", self.per, UNITS)

    @property
    def by_epochs(self) -> bool:
        return self.per == "epoch"

    def shares(
        self, steps: int, number: int, epochs: int, ends_epoch: bool
    ) -> npt.NDArray[np.float64]:
        shares = np.zeros(number)
        if self.by_epochs:
            if ends_epoch:
                shares[-1:] = self._share(np.array([epochs + 1]))
            return shares
        return self._share(steps + 1 + np.arange(number))

    def _share(self, done: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        after = done - self.start
        counts = (after > 0) & (after % self.every == 0)
        # Of k that count, the last has the k-th part.
        return np.where(counts, self.every / np.maximum(after, 1), 0.0)


AVERAGES: Mapping[str, type[Averaging]] = {cls.name: cls for cls in (EMA, SWA)}


def from_config(config: object) -> Averaging | None:
    """Make the average that `get_config` described; None stays None.

    Raises
    ------
    ValueError
        If ``config`` describes none.
    """
    return None if config is None else _described.from_config("averaging", AVERAGES, config)


def checked(averaging: object) -> Averaging | None:
    """Return an average or None.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if averaging is None or isinstance(averaging, Averaging):
        return averaging
    raise TypeError(
        f"averaging must be fastnn.EMA(...) or fastnn.SWA(...), or None; got {describe(averaging)}"
    )

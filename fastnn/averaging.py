"""Averages of the weights over training steps, which often generalize better than the last ones.

A network given one keeps the average beside its weights, at the cost of one more array; see
`fastnn.Network.averaged`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastnn import _described
from fastnn._described import Described
from fastnn._validation import describe, fraction, integer

__all__ = ["EMA", "SWA", "Averaging", "checked", "from_config"]


@dataclass(frozen=True, repr=False)
class Averaging(Described):
    """Base of the averages: after a step, ``average += share * (weights - average)``."""

    def shares(self, steps: int, number: int) -> npt.NDArray[np.float64]:
        """Return the shares of the next steps, ``(number,)``, after so many steps in all.

        The first one that is not 0 is 1, so that it does not matter what was there before.
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
    """

    name: ClassVar[str] = "ema"

    decay: float = 0.999

    def __post_init__(self) -> None:
        self._set("decay", fraction("decay", self.decay))

    def shares(self, steps: int, number: int) -> npt.NDArray[np.float64]:
        shares = np.full(number, 1 - self.decay)
        if steps == 0:
            shares[:1] = 1
        return shares


@dataclass(frozen=True, repr=False)
class SWA(Averaging):
    """The mean of the weights after some of the steps (Izmailov et al. 2018, "Averaging weights").

    Parameters
    ----------
    start : int
        At least 0; the steps before which count nothing. An epoch has as many steps as batches.
    every : int, default 1
        After the steps number ``start + every``, ``start + 2 * every`` and so on the weights are
        added to the mean: with the steps of an epoch, those at the end of each epoch.
    """

    name: ClassVar[str] = "swa"

    start: int
    every: int = 1

    def __post_init__(self) -> None:
        self._set("start", integer("start", self.start, 0))
        self._set("every", integer("every", self.every, 1))

    def shares(self, steps: int, number: int) -> npt.NDArray[np.float64]:
        after = steps + 1 + np.arange(number) - self.start
        shares = np.zeros(number)
        counts = (after > 0) & (after % self.every == 0)
        shares[counts] = 1 / (after[counts] // self.every)
        return shares


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

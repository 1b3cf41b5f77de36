"""The learning-rate range test: train with ever larger rates, and see where the loss falls."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastnn._validation import describe, integer, positive

if TYPE_CHECKING:
    from fastnn.network import Network

__all__ = ["LearningRates", "find_learning_rate"]

_MEMORY = 0.95  # of the mean that smooths the losses: a neighbour's weight
_REACH = 200  # and how far it looks: 0.95**200 is nothing
_DIVERGED = 3.0  # times what the lowest smoothed loss so far is, or what it has fallen by
_FIRST = 10  # rates, so low that their losses differ by nothing but their rows
_MOST = 1_000_000  # rates: their losses are kept

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LearningRates:
    """What a range test found; `fastnn.plotting.learning_rates` draws it.

    Attributes
    ----------
    rates : ndarray of shape (n,)
        The learning rates that were tried, rising, up to where the loss ran away.
    losses : ndarray of shape (n,)
        The loss of the batch that each was tried on, before the step.
    smoothed : ndarray of shape (n,)
        Means over the losses around each.
    suggestion : float
        The rate at which the smoothed loss falls fastest.
    """

    rates: Floats
    losses: Floats
    smoothed: Floats
    suggestion: float


def find_learning_rate(
    net: Network,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    batch_size: int = 32,
    sample_weight: npt.ArrayLike | None = None,
    seed: int = 0,
) -> LearningRates:
    """Try learning rates from low to high, each for one step (Smith 2017).

    It trains a copy; `net` stays as it is.

    Parameters
    ----------
    net : Network
        With the optimizer that the rate is for.
    X, y, sample_weight : array_like
        As in `fastnn.Network.fit`.
    lowest, highest : float, default 1e-6 and 10
        The bounds, ``0 < lowest < highest``; the rates in between grow by a constant factor.
    steps : int, default 200
        How many rates, from 10 to 1,000,000.
    batch_size : int, default 32
        Rows a step.
    seed : int, default 0
        Decides which rows are in which batch.

    Returns
    -------
    LearningRates
        Its ``suggestion`` is where the loss falls fastest, a good rate for the top of a schedule;
        about a third of it is a cautious constant one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the loss is infinite or nan from the start, or only
        rises.

    Notes
    -----
    It stops where a loss lies above the lowest smoothed one by more than three times what that is,
    whatever its sign, and by more than three times what the loss had fallen by.

    References
    ----------
    L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3;
    where to stop is like S. Gugger, "How do you find a good learning rate", 2018.
    """
    if not hasattr(net, "_try"):
        raise TypeError(f"net must be a fastnn.Network; got {describe(net)}")
    lowest, highest = positive("lowest", lowest), positive("highest", highest)
    if lowest >= highest:
        raise ValueError(f"highest must be greater than lowest, {lowest!r}; got {highest!r}")
    steps = integer("steps", steps, _FIRST, _MOST)
    batch_size = integer("batch_size", batch_size, 1)
    rng = np.random.default_rng(integer("seed", seed, 0))
    rates = np.geomspace(lowest, highest, steps)
    losses = copy.deepcopy(net)._try(X, y, sample_weight, rates, batch_size, rng)

    n = _before(~np.isfinite(losses))
    if n < 2:
        raise ValueError(
            "the loss must be finite before and after the step with the lowest learning rate,"
            f" {lowest!r}; got {losses[n]} {('before', 'after')[n]} it"
        )
    n = _before(_has_run_away(losses[:n]))
    smoothed = _smooth(losses[:n], ahead=_REACH)
    slopes = np.gradient(smoothed)
    if slopes.min() > 0:
        raise ValueError(
            f"lowest must be a learning rate at which the loss does not run away; got {lowest!r},"
            f" from which on it rose from {losses[0]:.4g} to {losses[n - 1]:.4g}"
        )
    return LearningRates(rates[:n], losses[:n], smoothed, float(rates[slopes.argmin()]))


def _has_run_away(losses: Floats) -> npt.NDArray[np.bool_]:
    """Tell which have risen too far above the lowest before; never the first ones."""
    lowest = np.minimum.accumulate(_smooth(losses, ahead=0))
    fallen = losses[:_FIRST].max() - lowest
    scale: Floats = np.maximum(np.abs(lowest), fallen)
    return losses - lowest > _DIVERGED * scale


def _before(bad: npt.NDArray[np.bool_]) -> int:
    """Return how many come before the first bad one."""
    return int(bad.argmax()) if bad.any() else len(bad)


def _smooth(losses: Floats, ahead: int) -> Floats:
    """Return means over the losses around each, with weights that fall with the distance."""
    weights = _MEMORY ** np.abs(np.arange(-ahead, _REACH + 1))
    here = slice(ahead, ahead + len(losses))
    sums = np.convolve(losses, weights)[here]
    return sums / np.convolve(np.ones(len(losses)), weights)[here]

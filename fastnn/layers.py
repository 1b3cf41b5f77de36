"""Layers: descriptions, no arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from fastnn import _described
from fastnn._described import Described
from fastnn._validation import LARGEST, flag, fraction, integer, known_name, non_negative, positive
from fastnn.activations import ACTIVATIONS
from fastnn.initializers import INITIALIZERS

__all__ = ["Dense", "Dropout", "GaussianNoise", "Layer", "from_config"]


@dataclass(frozen=True, repr=False)
class Dense(Described):
    """A fully connected layer, ``y = activation(x @ W + b)``.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str, optional
        A name of `fastnn.activations.ACTIVATIONS`; softmax on the last layer only.  Unless given,
        it is identity, on a network's last layer the one that follows from the loss.
    use_bias : bool, default True
        Whether there is b.
    weight_init : str, optional
        A name of `fastnn.initializers.INITIALIZERS`; unless given, the one that suits the
        activation: He for the ReLU family, LeCun for SELU, Xavier otherwise.
    bias_init : str, default "zeros"
        Likewise, b being drawn as a matrix of shape ``(1, units)``.
    l1, l2 : float, default 0.0
        Penalties ``l1 * sum|W| + l2 * sum W**2``, added to the loss; the bias has none.
    max_norm : float, optional
        After each step, the weights of a unit, a column of W, are scaled down to this norm where
        theirs is larger (Srivastava et al. 2014, section 5.1); the bias is not.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of a wrong type, unknown or out of range.
    """

    name: ClassVar[str] = "dense"

    units: int
    activation: str | None = None
    use_bias: bool = True
    weight_init: str | None = None
    bias_init: str = "zeros"
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        self._set("units", integer("units", self.units, 1, LARGEST))
        if self.activation is not None:
            known_name("activation", self.activation, ACTIVATIONS)
        self._set("use_bias", flag("use_bias", self.use_bias))
        if self.weight_init is not None:
            known_name("weight_init", self.weight_init, INITIALIZERS)
        known_name("bias_init", self.bias_init, INITIALIZERS)
        self._set("l1", non_negative("l1", self.l1))
        self._set("l2", non_negative("l2", self.l2))
        if self.max_norm is not None:
            self._set("max_norm", positive("max_norm", self.max_norm))


@dataclass(frozen=True, repr=False)
class Dropout(Described):
    """In training, set each value to 0 with probability ``rate``, and scale up the others.

    Applies to what the layer before it puts out, or to a network's inputs.  What is kept is divided
    by ``1 - rate``, so that the mean stays and prediction has nothing to do (inverted dropout;
    Srivastava et al. 2014).

    Parameters
    ----------
    rate : float
        ``0 <= rate < 1``.

    Raises
    ------
    TypeError, ValueError
        If ``rate`` is not a number or out of range.
    """

    name: ClassVar[str] = "dropout"

    rate: float

    def __post_init__(self) -> None:
        self._set("rate", fraction("rate", self.rate))


@dataclass(frozen=True, repr=False)
class GaussianNoise(Described):
    """In training, add to each value a random number of mean 0.

    Applies to what the layer before it puts out, or to a network's inputs, where it makes small
    changes of the inputs matter less (Bishop 1995, "Training with noise is equivalent to Tikhonov
    regularization").  Where a `Dropout` is in the same place, the noise comes first.

    Parameters
    ----------
    stddev : float
        Standard deviation, greater than 0.

    Raises
    ------
    TypeError, ValueError
        If ``stddev`` is not a number or out of range.
    """

    name: ClassVar[str] = "gaussian_noise"

    stddev: float

    def __post_init__(self) -> None:
        self._set("stddev", positive("stddev", self.stddev))


Layer: TypeAlias = Dense | Dropout | GaussianNoise

LAYERS: dict[str, type[Dense] | type[Dropout] | type[GaussianNoise]] = {
    cls.name: cls for cls in (Dense, Dropout, GaussianNoise)
}


def from_config(config: object) -> Layer:
    """Make the layer that `get_config` described.

    Raises
    ------
    ValueError
        If ``config`` describes none.
    """
    return _described.from_config("layer", LAYERS, config)

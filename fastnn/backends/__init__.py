"""What a backend is: a flat description of a network goes in, batches follow.

A backend knows nothing of layers as Python objects.  It gets a `Spec` (sizes, names, rates), keeps
the weights and the optimizer's state in whatever layout suits it, and is given arrays that the
caller has already checked and converted.  The two that there are do the same thing:

- ``"native"``: the compiled core, `fastnn.backends.native.NativeBackend`;
- ``"numpy"``: the formulas, which say what is correct,
  `fastnn.backends.reference.ReferenceBackend`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn._validation import all_finite, unknown_name

if TYPE_CHECKING:
    from fastnn.losses import Function
    from fastnn.optimizers import Optimizer

Pair: TypeAlias = tuple[Array, Array | None]
"""Of one layer: what belongs to W ``(n_in, n_out)`` and to b ``(n_out,)``, None without a bias."""

BACKENDS = ("native", "numpy")
SECONDS_BETWEEN_TICKS = 0.05


@dataclass(frozen=True)
class DenseSpec:
    """One dense layer, ``h = activation(x @ W + b)``, and noise and dropout in front of it.

    Parameters
    ----------
    n_in, n_out : int
        Number of inputs and of units.
    activation : str
        A name of `fastnn.activations.ACTIVATIONS`.
    parameter : float
        The activation's parameter (slope, alpha); 0.0 where it has none.
    use_bias : bool
        Whether b is there.
    dropout : float
        Rate of the dropout applied to this layer's input; 0.0 for none.
    l1, l2 : float
        Penalties ``l1 * sum|W| + l2 * sum W**2``, added to the loss.
    noise : float
        Standard deviation of the noise added to this layer's input, before the dropout; 0.0 for
        none.
    max_norm : float
        Bound of the norm of each unit's weights, a column of W, after each step; inf for none.
    """

    n_in: int
    n_out: int
    activation: str
    parameter: float
    use_bias: bool
    dropout: float
    l1: float
    l2: float
    noise: float = 0.0
    max_norm: float = math.inf


@dataclass(frozen=True)
class Spec:
    """A whole network as a backend sees it.

    Parameters
    ----------
    layers : tuple of DenseSpec
        At least one; ``layers[i].n_out == layers[i + 1].n_in``.
    loss : str or callable
        A name of `fastnn.losses.LOSSES`, or a `fastnn.losses.Function`.
    loss_parameter : float or tuple of float
        The loss's parameter (huber's delta, the cross-entropies' clip), for all outputs or one for
        each; 0.0 where it has none.
    dtype : numpy.dtype
        float32 or float64: of the weights, the inputs and every result in between.
    seed : int
        64-bit key of the dropout masks.
    label_smoothing : float
        The part of each label that goes to all classes alike.
    loss_scale, gradient_scale : float, default 1.0
        What the mean loss of the rows, without penalties, and its gradient are multiplied by;
        they differ where a gradient is not that of its loss, as in scikit-learn.
    mean_penalty : bool, default False
        Whether penalties are divided by the sum of the batch's weights, its number of rows.
    """

    layers: tuple[DenseSpec, ...]
    loss: str | Function
    loss_parameter: float | tuple[float, ...]
    dtype: np.dtype[Any]
    seed: int
    label_smoothing: float = 0.0
    loss_scale: float = 1.0
    gradient_scale: float = 1.0
    mean_penalty: bool = False


class Backend(Protocol):
    """What both backends do.

    Shapes: ``X`` is ``(n, n_in)`` of ``spec.dtype``, its last axis contiguous.  ``target`` is
    either ``(n, n_out)`` of ``spec.dtype`` or, for losses over classes, int32 labels ``(n,)``.
    ``sample_weight`` is None or ``(n,)`` of ``spec.dtype``, none negative.
    """

    spec: Spec

    def weights(self) -> list[Pair]:
        """Copies of ``(W, b)``, one pair a layer."""

    def first_broken(self) -> int | None:
        """Number of the first layer with a weight that is infinite or nan."""

    def set_weights(self, weights: Sequence[Pair]) -> None:
        """Take over a copy of ``(W, b)``, one pair a layer."""

    def state(self) -> tuple[int, list[list[Pair]]]:
        """Of the optimizer: steps taken so far, and copies of its slots, each like `weights`."""

    def set_state(self, steps: int, slots: Sequence[Sequence[Pair]]) -> None:
        """Take over what `state` gave; no slots at all mean that all of them are zero."""

    def steps(self) -> int:
        """Steps taken so far."""

    def average(self) -> list[Pair] | None:
        """Copy of the average of the weights, one pair a layer; None before there is one."""

    def set_average(self, average: Sequence[Pair] | None) -> None:
        """Take over a copy of what `average` gave."""

    def predict_directly(self, X: object, out: object) -> Array | None:
        """Return what `predict` would write, in ``out`` unless None, if unchecked X and out fit.

        That is the way round all checks in Python; None may always be returned instead.
        """

    def predict(self, X: Array, out: Array) -> None:
        """Write the network's outputs for ``X`` into ``out``, ``(n, n_out)``; n may be 0."""

    def loss(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None
    ) -> tuple[float, int]:
        """Mean loss, penalties included, and the number of rows predicted right; no dropout."""

    def gradients(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None, step: int
    ) -> tuple[float, list[Pair]]:
        """Mean loss and its gradients, with the dropout masks of step number ``step``."""

    def train(
        self,
        X: Array,
        target: npt.NDArray[Any],
        sample_weight: Array | None,
        order: npt.NDArray[np.int32] | None,
        batch_size: int,
        optimizer: Optimizer,
        rates: npt.NDArray[np.float64],
        losses: npt.NDArray[np.float64],
        hits: npt.NDArray[np.int64],
        tick: Callable[[int], object] | None,
        shares: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Take ``len(rates)`` optimizer steps, one a batch.

        Batch i holds the rows ``order[i * batch_size:(i + 1) * batch_size]`` (``order`` None: rows
        in place); the last may be short.  Its learning rate is ``rates[i]``; ``losses[i]`` gets its
        loss before its update, ``hits[i]`` its number of rows predicted right.  ``tick(done)`` is
        called now and then, at most about 20 times a second, with the number of batches done.
        ``shares``, if given: after batch i, ``average += shares[i] * (weights - average)``.
        Whatever ends the run early, be it an exception from ``tick`` or Ctrl-C, leaves weights,
        state and step counter as they were after the last finished step.
        """


def broken(pairs: Sequence[Pair]) -> Iterator[int]:
    """Find the layers that have a number that is infinite or nan."""
    for layer, pair in enumerate(pairs):
        if not all(array is None or all_finite(array) for array in pair):
            yield layer


def create(name: str, spec: Spec) -> Backend:
    """Make the backend of that name, its weights still to be set.

    Raises
    ------
    ValueError
        If ``name`` is neither "native" nor "numpy".
    ImportError
        If the compiled core that "native" needs is missing.
    """
    if name == "native":
        from fastnn.backends.native import NativeBackend, NativeBackendOfFunction

        return NativeBackendOfFunction(spec) if callable(spec.loss) else NativeBackend(spec)
    if name == "numpy":
        from fastnn.backends.reference import ReferenceBackend

        return ReferenceBackend(spec)
    raise unknown_name("backend", name, BACKENDS)

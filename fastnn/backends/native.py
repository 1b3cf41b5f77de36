"""The native backend: hands the arrays of `fastnn.backends.Backend` to the compiled core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn.activations import ACTIVATIONS
from fastnn.backends import Pair, Spec
from fastnn.losses import LOSSES
from fastnn.optimizers import Optimizer

try:
    from fastnn import _native
except ImportError as error:
    raise ImportError(
        f"the compiled core fastnn._native could not be loaded ({error}); build it with "
        '"pip install ." in the source tree, which needs a C compiler, or use backend="numpy"'
    ) from error


class NativeBackend:
    """See `fastnn.backends.Backend`.

    Parameters
    ----------
    spec : Spec
    isa : str, optional
        An instruction set of `_native.available_isas`; by default the one in use.
    """

    def __init__(self, spec: Spec, isa: str | None = None) -> None:
        self.spec = spec
        self.core = _native.Core(
            [
                (
                    layer.n_in,
                    layer.n_out,
                    ACTIVATIONS[layer.activation].code,
                    layer.parameter,
                    layer.use_bias,
                    layer.dropout,
                    layer.l1,
                    layer.l2,
                )
                for layer in spec.layers
            ],
            LOSSES[spec.loss].code,
            spec.loss_parameter,
            spec.dtype.itemsize,
            spec.seed,
            isa,
        )
        self.predict_directly = self.core.predict

    def weights(self) -> list[Pair]:
        return self.core.weights()

    def set_weights(self, weights: Sequence[Pair]) -> None:
        self.core.set_weights(_contiguous(weights, self.spec.dtype))

    def state(self) -> tuple[int, list[list[Pair]]]:
        return self.core.step, self.core.state()

    def set_state(self, steps: int, slots: Sequence[Sequence[Pair]]) -> None:
        self.core.set_state(steps, [_contiguous(slot, self.spec.dtype) for slot in slots])

    def predict(self, X: Array, out: Array) -> None:
        self.core.predict(X, out)

    def loss(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None
    ) -> tuple[float, int]:
        return self.core.loss(X, target, sample_weight)

    def gradients(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None, step: int
    ) -> tuple[float, list[Pair]]:
        return self.core.gradients(X, target, sample_weight, step)

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
    ) -> None:
        self.core.train(
            X,
            target,
            sample_weight,
            order,
            batch_size,
            (
                optimizer.code,
                optimizer.slots,
                optimizer.coefficients(),
                optimizer.clip_norm,
                optimizer.clip_value,
            ),
            rates,
            losses,
            hits,
            tick,
        )


def _contiguous(pairs: Sequence[Pair], dtype: np.dtype[Any]) -> list[Pair]:
    return [
        (
            np.ascontiguousarray(W, dtype),
            None if b is None else np.ascontiguousarray(b, dtype),
        )
        for W, b in pairs
    ]

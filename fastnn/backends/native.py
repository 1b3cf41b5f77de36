"""The native backend: hands the arrays of `fastnn.backends.Backend` to the compiled core."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._core import cure, why_missing
from fastnn._types import Array
from fastnn.activations import ACTIVATIONS
from fastnn.backends import SECONDS_BETWEEN_TICKS, Pair, Spec
from fastnn.losses import LOSSES, called, resolve
from fastnn.optimizers import Optimizer

if why_missing is not None:
    raise ImportError(
        f'fastnn is without its compiled core ({why_missing}). {cure}; or use backend="numpy"'
    )
from fastnn import _native

# In the core this follows the losses of the table: the target is the gradient, the value is 0.
GIVEN_GRADIENT = len(LOSSES)


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
        loss, parameter = resolve(spec.loss), spec.loss_parameter
        fused = loss.fused(spec.layers[-1].activation)
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
                    layer.noise,
                    layer.max_norm,
                )
                for layer in spec.layers
            ],
            GIVEN_GRADIENT if callable(spec.loss) else (fused or loss).code,
            fused is not None,
            np.array(parameter, spec.dtype) if isinstance(parameter, tuple) else parameter,
            (spec.label_smoothing, spec.layers[-1].n_out if loss.kind == "categorical" else 2),
            spec.dtype.itemsize,
            spec.seed,
            isa,
            spec.loss_scale,
            spec.gradient_scale,
            spec.mean_penalty,
        )
        self.predict_directly = self.core.predict

    def weights(self) -> list[Pair]:
        return self.core.weights()

    def first_broken(self) -> int | None:
        return self.core.first_broken()

    def set_weights(self, weights: Sequence[Pair]) -> None:
        self.core.set_weights(_contiguous(weights, self.spec.dtype))

    def has_weights(self, weights: Sequence[Pair]) -> bool:
        """Whether these, every layer's with a bias, are the weights, bit by bit."""
        return self.core.has_weights(_contiguous(weights, self.spec.dtype))

    def state(self) -> tuple[int, list[list[Pair]]]:
        return self.core.step, self.core.state()

    def set_state(self, steps: int, slots: Sequence[Sequence[Pair]]) -> None:
        self.core.set_state(steps, [_contiguous(slot, self.spec.dtype) for slot in slots])

    def steps(self) -> int:
        return self.core.step

    def average(self) -> list[Pair] | None:
        return self.core.average()

    def set_average(self, average: Sequence[Pair] | None) -> None:
        self.core.set_average(average and _contiguous(average, self.spec.dtype))

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
        shares: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.core.train(
            X,
            target,
            sample_weight,
            order,
            batch_size,
            described(optimizer),
            rates,
            losses,
            hits,
            tick,
            shares,
        )


@functools.cache
def _check_formula(cls: type[Optimizer]) -> None:
    """Refuse an optimizer with a formula of its own: the core has those of fastnn's."""
    known = next(base for base in cls.__mro__ if base.__module__.partition(".")[0] == "fastnn")
    if any(
        getattr(cls, name, None) is not getattr(known, name, None)
        for name in ("code", "slots", "coefficients", "apply")
    ):
        raise TypeError(
            f"optimizer must be one of fastnn's, whose formulas are compiled; got {cls.__name__},"
            ' for whose own there is backend="numpy"'
        )


def described(optimizer: Optimizer) -> tuple[int, int, tuple[float, ...], Any, Any]:
    """An optimizer as the core takes it."""
    _check_formula(type(optimizer))  # type: ignore[arg-type]  # mypy sees no metaclass
    return (
        optimizer.code,
        optimizer.slots,
        optimizer.coefficients(),
        optimizer.clip_norm,
        optimizer.clip_value,
    )


def member(
    backend: NativeBackend,
    X: Array,
    target: npt.NDArray[Any],
    sample_weight: Array | None,
    rows: npt.NDArray[np.int32] | None,
    batch_size: int,
    epochs: int,
    optimizer: Optimizer,
    rates: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64] | None,
    generator: np.random.BitGenerator | None,
    validation: tuple[Array, npt.NDArray[Any], Array | None] | None,
    stopping: tuple[int, bool, bool, float, bool] | None,
) -> _native.Member:
    """A network of a population that the core is to train; see `_native.Member`."""
    return _native.Member(
        backend.core,
        X,
        target,
        sample_weight,
        rows,
        batch_size,
        epochs,
        described(optimizer),
        rates,
        shares,
        generator,
        validation,
        stopping,
    )


train_many = _native.train_many


class NativeBackendOfFunction(NativeBackend):
    """The same for a loss that is a function: between the ways there and back through the layers.

    The core runs the layers forward as in training, Python finds values and gradient, and the core
    takes its step as for any other loss, from that gradient.
    """

    def _called(
        self, out: Array, target: npt.NDArray[Any], sample_weight: Array | None
    ) -> tuple[float, Array]:
        """The mean value, as the backend counts it, and the gradient of each row's."""
        assert callable(self.spec.loss)
        values, gradient = called(self.spec.loss, out, target)
        w = np.ones(len(out)) if sample_weight is None else sample_weight.astype(np.float64)
        total = w.sum()
        mean = float(w @ values.astype(np.float64) / total) if total else 0.0
        return self.spec.loss_scale * mean, np.ascontiguousarray(gradient)

    def loss(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None
    ) -> tuple[float, int]:
        out = np.empty((len(X), self.spec.layers[-1].n_out), self.spec.dtype)
        self.core.predict(X, out)
        penalty, hits = self.core.loss(X, target, sample_weight)
        return self._called(out, target, sample_weight)[0] + penalty, hits

    def gradients(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None, step: int
    ) -> tuple[float, list[Pair]]:
        mean, gradient = self._called(self.core.outputs(X, step), target, sample_weight)
        penalty, gradients = self.core.gradients(X, gradient, sample_weight, step)
        return mean + penalty, gradients

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
        last_tick = time.monotonic()
        for i in range(len(rates)):
            batch = slice(i * batch_size, (i + 1) * batch_size)
            rows = batch if order is None else order[batch]
            x, t = X[rows], target[rows]
            w = None if sample_weight is None else sample_weight[rows]
            mean, gradient = self._called(self.core.outputs(x, self.core.step), t, w)
            this = slice(i, i + 1)
            super().train(
                x,
                gradient,
                w,
                None,
                len(x),
                optimizer,
                rates[this],
                losses[this],
                hits[this],
                None,
                None if shares is None else shares[this],
            )
            losses[i] += mean
            if tick is not None and time.monotonic() - last_tick >= SECONDS_BETWEEN_TICKS:
                tick(i + 1)
                last_tick = time.monotonic()


def _contiguous(pairs: Sequence[Pair], dtype: np.dtype[Any]) -> list[Pair]:
    return [
        (
            np.ascontiguousarray(W, dtype),
            None if b is None else np.ascontiguousarray(b, dtype),
        )
        for W, b in pairs
    ]

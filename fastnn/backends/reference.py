"""The reference backend: the formulas in NumPy, in the dtype asked for, with no cleverness.

It says what is correct: the compiled core is compared with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._random import dropout_mask, gaussian
from fastnn._types import Array
from fastnn.activations import ACTIVATIONS
from fastnn.backends import SECONDS_BETWEEN_TICKS, Pair, Spec, broken
from fastnn.losses import resolve
from fastnn.optimizers import Optimizer


@dataclass(frozen=True)
class _State:
    """What training changes; replaced as a whole, so that no step is ever half taken."""

    weights: list[Pair]
    slots: list[list[Pair]]
    steps: int
    average: list[Pair] | None


@dataclass(frozen=True)
class Pass:
    """What a layer's forward pass leaves for the way back, all ``(batch, ...)``."""

    x: Array
    mask: Array | None
    z: Array
    h: Array


# Training may diverge: what overflows becomes inf or NaN, and says so in the loss.
_silently = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class ReferenceBackend:
    """See `fastnn.backends.Backend`."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._loss = resolve(spec.loss)
        # In the dtype, lest an array of several raise that of the results.
        several = isinstance(spec.loss_parameter, tuple)
        self._parameter = (
            np.array(spec.loss_parameter, spec.dtype) if several else spec.loss_parameter
        )
        self._fused = self._loss.fused(spec.layers[-1].activation)
        self._state = _State(weights=_zeros(spec), slots=[], steps=0, average=None)

    def weights(self) -> list[Pair]:
        return _copies(self._state.weights)

    def first_broken(self) -> int | None:
        return next(broken(self._state.weights), None)

    def set_weights(self, weights: Sequence[Pair]) -> None:
        self._state = replace(self._state, weights=_copies(weights, self.spec.dtype))

    def state(self) -> tuple[int, list[list[Pair]]]:
        return self._state.steps, [_copies(slot) for slot in self._state.slots]

    def set_state(self, steps: int, slots: Sequence[Sequence[Pair]]) -> None:
        copies = [_copies(slot, self.spec.dtype) for slot in slots]
        self._state = replace(self._state, slots=copies, steps=steps)

    def steps(self) -> int:
        return self._state.steps

    def average(self) -> list[Pair] | None:
        average = self._state.average
        return None if average is None else _copies(average)

    def set_average(self, average: Sequence[Pair] | None) -> None:
        copies = None if average is None else _copies(average, self.spec.dtype)
        self._state = replace(self._state, average=copies)

    def predict_directly(self, X: object, out: object) -> None:
        return None

    @_silently
    def predict(self, X: Array, out: Array) -> None:
        out[...] = self._forward(self._state.weights, X)[-1].h

    @_silently
    def passes(self, X: Array, step: int | None = None) -> list[Pass]:
        """What goes through each layer; in training, given the number of the step."""
        return self._forward(self._state.weights, X, step)

    @_silently
    def loss(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None
    ) -> tuple[float, int]:
        weights = self._state.weights
        passes = self._forward(weights, X)
        t = self._one_hot(target)
        return self._mean_loss(weights, passes, t, sample_weight), self._hits(passes, t)

    @_silently
    def gradients(
        self, X: Array, target: npt.NDArray[Any], sample_weight: Array | None, step: int
    ) -> tuple[float, list[Pair]]:
        weights = self._state.weights
        passes = self._forward(weights, X, step)
        t = self._one_hot(target)
        loss = self._mean_loss(weights, passes, t, sample_weight)
        return loss, self._backward(weights, passes, t, sample_weight)

    @_silently
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
        for i, rate in enumerate(rates.tolist()):
            batch = slice(i * batch_size, (i + 1) * batch_size)
            rows = batch if order is None else order[batch]
            t = self._one_hot(target[rows])
            w = None if sample_weight is None else sample_weight[rows]

            weights = self._state.weights
            passes = self._forward(weights, X[rows], self._state.steps)
            losses[i] = self._mean_loss(weights, passes, t, w)
            hits[i] = self._hits(passes, t)
            grads = self._backward(weights, passes, t, w)
            share = None if shares is None else float(shares[i])
            self._state = self._updated(optimizer, grads, rate, share)

            if tick is not None and time.monotonic() - last_tick >= SECONDS_BETWEEN_TICKS:
                tick(i + 1)
                last_tick = time.monotonic()

    def _forward(self, weights: list[Pair], X: Array, step: int | None = None) -> list[Pass]:
        """``h = activation(x @ W + b)``, layer after layer; with noise and dropout of a step."""
        passes = []
        x = X
        for i, (layer, (W, b)) in enumerate(zip(self.spec.layers, weights, strict=True)):
            mask = None
            if step is not None and layer.noise > 0:
                x = x + gaussian(self.spec.seed, step, i, x.shape, layer.noise, x.dtype)
            if step is not None and layer.dropout > 0:
                mask = dropout_mask(self.spec.seed, step, i, x.shape, layer.dropout, x.dtype)
                x = x * mask
            z = x @ W
            if b is not None:
                z = z + b
            h = ACTIVATIONS[layer.activation].forward(z, layer.parameter)
            passes.append(Pass(x, mask, z, h))
            x = h
        return passes

    def _mean_loss(
        self, weights: list[Pair], passes: list[Pass], t: Array, sample_weight: Array | None
    ) -> float:
        """Mean over the rows, plus ``l1 * sum|W| + l2 * sum W**2`` of each layer."""
        t, p = self._smoothed(t), self._parameter
        if self._fused is not None:
            rows = self._fused.value(passes[-1].z, t, p)
        else:
            rows = self._loss.value(passes[-1].h, t, p)
        loss = self.spec.loss_scale * (_shares(rows, sample_weight) * rows).sum()
        penalty_scale = self._penalty_scale(rows, sample_weight)
        for layer, (W, _) in zip(self.spec.layers, weights, strict=True):
            if layer.l1 or layer.l2:
                penalty = layer.l1 * np.abs(W).sum() + layer.l2 * (W * W).sum()
                loss += penalty * penalty_scale
        return float(loss)

    def _backward(
        self, weights: list[Pair], passes: list[Pass], t: Array, sample_weight: Array | None
    ) -> list[Pair]:
        """Gradients of `_mean_loss` with respect to W and b, by the chain rule from the end."""
        dz = self._output_gradient(passes[-1], t)
        dz = dz * (_shares(dz, sample_weight) * self.spec.gradient_scale)[:, np.newaxis]
        penalty_scale = self._penalty_scale(dz, sample_weight)
        grads: list[Pair] = []
        for i in reversed(range(len(weights))):
            layer, (W, b) = self.spec.layers[i], weights[i]
            dW = passes[i].x.T @ dz
            if layer.l1 or layer.l2:
                dW = dW + penalty_scale * (layer.l1 * np.sign(W) + 2 * layer.l2 * W)
            db = None if b is None else dz.sum(axis=0)
            grads.append((dW, db))
            if i > 0:
                dx, mask = dz @ W.T, passes[i].mask
                dh = dx if mask is None else dx * mask
                dz = self._through_activation(i - 1, passes[i - 1], dh)
        return grads[::-1]

    def _penalty_scale(self, rows: Array, sample_weight: Array | None) -> float:
        if not self.spec.mean_penalty:
            return 1.0
        total = float(len(rows) if sample_weight is None else sample_weight.sum())
        return 1 / total if total else 0.0

    def _output_gradient(self, last: Pass, t: Array) -> Array:
        """Gradient of each row's loss with respect to the last layer's z, ``(batch, n_out)``."""
        t, p = self._smoothed(t), self._parameter
        if self._fused is not None:
            return self._fused.gradient(last.z, t, p)
        return self._through_activation(-1, last, self._loss.gradient(last.h, t, p))

    def _through_activation(self, i: int, at: Pass, dh: Array) -> Array:
        layer = self.spec.layers[i]
        return ACTIVATIONS[layer.activation].backward(at.z, at.h, dh, layer.parameter)

    def _updated(
        self, optimizer: Optimizer, grads: list[Pair], rate: float, share: float | None
    ) -> _State:
        """The state after one more step, whose weights have that share in the average."""
        old = self._state
        weights = _copies(old.weights)
        slots = [_copies(slot) for slot in old.slots]
        if not slots:
            slots = [_zeros(self.spec) for _ in range(optimizer.slots)]
        if len(slots) != optimizer.slots:
            raise ValueError(
                f"{optimizer!r} needs a state of {optimizer.slots} slots; got {len(slots)}"
            )
        params = _flat(weights)
        memories = [_flat(slot) for slot in slots]
        steps = old.steps + 1
        for i, grad in enumerate(optimizer.clipped(_flat(grads))):
            optimizer.apply(params[i], grad, [memory[i] for memory in memories], steps, rate)
        for layer, (W, _) in zip(self.spec.layers, weights, strict=True):
            if layer.max_norm < math.inf:
                W *= layer.max_norm / np.maximum(np.linalg.norm(W, axis=0), layer.max_norm)
        average = old.average
        if share is not None:
            average = _copies(old.weights if average is None else average)
            for mean, param in zip(_flat(average), params, strict=True):
                mean[...] = (1 - share) * mean + share * param
        return _State(weights, slots, steps, average)

    def _one_hot(self, target: npt.NDArray[Any]) -> Array:
        """``(batch, n_out)`` from labels; what is that already stays as it is."""
        if target.ndim == 2:
            return target
        one_hot = np.zeros((len(target), self.spec.layers[-1].n_out), dtype=self.spec.dtype)
        one_hot[np.arange(len(target)), target] = 1
        return one_hot

    def _smoothed(self, t: Array) -> Array:
        part = self.spec.label_smoothing
        if not part:
            return t
        classes = t.shape[1] if self._loss.kind == "categorical" else 2
        return (1 - part) * t + part / classes

    def _hits(self, passes: list[Pass], t: Array) -> int:
        return int(self._loss.hits(passes[-1].h, t).sum())


def not_finite(
    spec: Spec, weights: Sequence[Pair], X: Array, step: int | None = None
) -> Iterator[tuple[int, str, Array]]:
    """Find the layers whose "sums" or "outputs" hold infinities or nan, and give these."""
    backend = ReferenceBackend(spec)
    backend.set_weights(weights)
    for layer, at in enumerate(backend.passes(X, step)):
        for what, values in (("sums", at.z), ("outputs", at.h)):
            if not np.isfinite(values).all():
                yield layer, what, values


def _shares(rows: Array, sample_weight: Array | None) -> Array:
    """``(batch,)``: what each row counts in the mean; all 0 if all weights are."""
    w = np.ones(len(rows), dtype=rows.dtype) if sample_weight is None else sample_weight
    total = w.sum(dtype=np.float64)
    shares: Array = (w / total if total else 0 * w).astype(w.dtype)
    return shares


def _zeros(spec: Spec) -> list[Pair]:
    return [
        (
            np.zeros((layer.n_in, layer.n_out), dtype=spec.dtype),
            np.zeros(layer.n_out, dtype=spec.dtype) if layer.use_bias else None,
        )
        for layer in spec.layers
    ]


def _copies(pairs: Sequence[Pair], dtype: np.dtype[Any] | None = None) -> list[Pair]:
    return [
        (np.array(W, dtype, order="C"), None if b is None else np.array(b, dtype, order="C"))
        for W, b in pairs
    ]


def _flat(pairs: Sequence[Pair]) -> list[Array]:
    """All the arrays in a row."""
    return [array for pair in pairs for array in pair if array is not None]

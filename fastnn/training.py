"""The loop over epochs: batches, validation, callbacks, history."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastnn._position import Position
from fastnn._random import permutation
from fastnn._types import Array
from fastnn._validation import all_finite
from fastnn._weights import flat, unflat
from fastnn.callbacks import Callback, Checkpoint, Progress, StopTraining, TerminateOnNaN
from fastnn.history import History
from fastnn.optimizers import LBFGS

if TYPE_CHECKING:
    from fastnn.averaging import Averaging
    from fastnn.backends import Backend
    from fastnn.network import Network

__all__ = [
    "Clock",
    "Data",
    "Figures",
    "Pause",
    "Stream",
    "Training",
    "batch_weights",
    "check_losses",
    "evaluate",
    "shares_of",
]

Figures = dict[str, float]
_FOREVER = 2**62
_ADVICE = (
    "Scale the inputs to about [-1, 1], or give the optimizer a smaller learning_rate or"
    " a clip_norm"
)


@dataclass(frozen=True)
class Data:
    """Rows to train on or to judge by, checked and converted to what a backend takes.

    Parameters
    ----------
    X : ndarray of shape (rows, features)
    target : ndarray of shape (rows, outputs), or (rows,) of int32 labels
    sample_weight : ndarray of shape (rows,) or None
    """

    X: Array
    target: npt.NDArray[np.generic]
    sample_weight: Array | None

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | npt.NDArray[np.int32]) -> Data:
        """Return some of the rows; of a slice without copying."""
        weight = self.sample_weight
        return Data(self.X[rows], self.target[rows], None if weight is None else weight[rows])

    def split(self, first: int) -> tuple[Data, Data]:
        """Return the first rows and the others, without copying."""
        return self[:first], self[first:]

    def weighted(self, weights: npt.NDArray[np.float64]) -> Data:
        """Return the same rows, each counting so many times what it did."""
        old = 1 if self.sample_weight is None else self.sample_weight
        with np.errstate(over="ignore"):
            product = (old * weights).astype(self.X.dtype)
        if not all_finite(product):
            raise ValueError(
                f"class_weight must leave weights that are finite in {product.dtype};"
                f" got {float(np.max(weights))!r}"
            )
        return replace(self, sample_weight=product)


def evaluate(backend: Backend, data: Data, has_accuracy: bool) -> Figures:
    """Return the mean loss over all rows and, where it means something, the accuracy."""
    loss, hits = backend.loss(data.X, data.target, data.sample_weight)
    return {"loss": loss, "accuracy": hits / len(data)} if has_accuracy else {"loss": loss}


@dataclass(frozen=True)
class Stream:
    """Rows to train on that come a batch at a time.

    Parameters
    ----------
    epoch : callable
        ``epoch(number, first)`` gives the batches of an epoch, `Data` each, from number `first` on.
    batches : int or None
        How many there are in an epoch, if that is known.
    """

    epoch: Callable[[int, int], Iterator[Data]]
    batches: int | None


class Pause(Exception):
    """Ends a run of steps early, since a callback wants to be called."""


@dataclass(frozen=True)
class Training:
    """All that one call of ``fit`` needs to know.

    `net` is what the callbacks get to see, and keeps count of the epochs; without shuffling the
    rows stay in their order; `judge` gives further figures at the end of an epoch; the figures go
    to `history`.
    """

    net: Network
    backend: Backend
    averaging: Averaging | None
    data: Data | Stream
    validation: Data | None
    epochs: int
    batch_size: int
    shuffler: np.random.Generator
    shuffle: bool
    has_accuracy: bool
    judge: Callable[[], Figures]
    callbacks: Sequence[Callback]
    progress: Progress
    history: History
    position: Position

    def run(self, resume: bool) -> None:
        """Train for all epochs, or until a callback stops it."""
        # Checkpoints last: they save what all others know of the epoch.
        own = sorted(self.callbacks, key=lambda callback: isinstance(callback, Checkpoint))
        callbacks = [self.progress, *own]
        position = self.position
        try:
            if resume:
                position.states = position.callback_states()
            for callback in callbacks:
                callback.on_train_begin(self.net)
            if resume:
                position.give_back_states(own)
            position.callbacks = own
            self._tell(callbacks)
            if isinstance(self.net.optimizer, LBFGS):
                self._minimize(self.net.optimizer, callbacks)
            else:
                self._take_steps(callbacks, own)
            check_weights(self.backend)
            for callback in callbacks:
                callback.on_train_end(self.net, self.history)
        finally:
            self.progress.close()

    def _take_steps(self, callbacks: Sequence[Callback], own: Sequence[Callback]) -> None:
        """Go through the rows batch by batch, epoch after epoch."""
        position, clock = self.position, Clock(own, self.progress.tick)
        while position.epoch < self.epochs and not position.stopped:
            for callback in callbacks:
                callback.on_epoch_begin(self.net, position.epoch)
            if not self._train(clock):
                break
            position.end_epoch(self.net, self._figures())
            self._tell(callbacks)

    def _minimize(self, optimizer: LBFGS, callbacks: Sequence[Callback]) -> None:
        """Let the optimizer have the loss of all rows, each of its iterations being an epoch."""
        backend, data, position = self.backend, self.data, self.position
        assert isinstance(data, Data)
        clock = Clock(callbacks, None)
        best = backend.weights()
        before: Figures = {}

        def loss_and_gradient(vector: npt.NDArray[np.float64]) -> tuple[float, Array]:
            backend.set_weights(unflat(vector, best))
            loss, gradients = backend.gradients(data.X, data.target, data.sample_weight, 0)
            return loss, flat(gradients)

        def begin() -> bool:
            nonlocal before
            if position.epoch == self.epochs or position.stopped:
                return False
            for callback in callbacks:
                callback.on_epoch_begin(self.net, position.epoch)
            before = evaluate(backend, data, self.has_accuracy)
            check_losses(backend, np.array([before["loss"]]), position.epoch)
            return True

        def iterated(vector: npt.NDArray[np.float64]) -> bool:
            nonlocal best
            best = unflat(vector, best)
            backend.set_weights(best)
            backend.set_state(backend.steps() + 1, [])
            try:
                clock.call(self.net, backend.steps())
            except StopTraining:
                position.stopped = True
                return False
            position.end_epoch(self.net, self._judged(before))
            self._tell(callbacks)
            return begin()

        try:
            if begin():
                optimizer.search(loss_and_gradient, flat(best), self.epochs, iterated)
        finally:
            backend.set_weights(best)  # and not where the line search looked last

    def _tell(self, callbacks: Sequence[Callback]) -> None:
        """Tell every callback that the epoch is over, even when one of them wants to stop."""
        position = self.position
        if position.figures is None:
            return
        if len(self.history) < position.epoch:
            self.history.append(position.epoch - 1, position.figures)
        while position.told < len(callbacks):
            try:
                callbacks[position.told].on_epoch_end(
                    self.net, position.epoch - 1, dict(position.figures)
                )
            except StopTraining:
                position.stopped = True
            position.told += 1
        position.figures = None

    def _train(self, clock: Clock) -> bool:
        """Go through the rows once, or what is left of them; False if a callback stops it."""
        try:
            if isinstance(self.data, Stream):
                self._train_stream(self.data, clock)
            else:
                self._train_rows(self.data, clock)
        except StopTraining:
            self.position.stopped = True
            return False
        return True

    def _train_rows(self, data: Data, clock: Clock) -> None:
        position, shape = self.position, (len(data), self.batch_size, self.shuffle)
        if position.generator is None:
            position.begin_epoch(self.shuffler.bit_generator.state, shape)
        elif position.rows == shape:
            self.shuffler.bit_generator.state = dict(position.generator)
        else:
            raise ValueError(
                "an epoch must be resumed with the rows, batch_size and shuffle it began with,"
                f" {position.rows}; got {shape}"
            )
        order = permutation(self.shuffler, len(data)) if self.shuffle else None
        weights = batch_weights(data, order, self.batch_size)
        optimizer = None
        while position.batch < len(weights):
            first, step = position.batch, self.backend.steps()
            if self.net.optimizer is not optimizer:  # a callback may have changed it
                optimizer = self.net.optimizer
                rates = optimizer.rates(self.net.epochs, step - first, len(weights))
            last = min(len(weights), first + clock.steps_to_next_call(step))
            rows = slice(first * self.batch_size, last * self.batch_size)
            part, part_order = (data, order[rows]) if order is not None else (data[rows], None)
            ends = last == len(weights)
            self._take(part, part_order, rates[first:last], weights[first:last], clock, ends)
            clock.call(self.net, self.backend.steps())

    def _train_stream(self, stream: Stream, clock: Clock) -> None:
        position = self.position
        if position.generator is None:
            position.begin_epoch(self.shuffler.bit_generator.state, None)
        elif position.rows is not None:
            raise ValueError("an epoch over arrays must be resumed with arrays; got batches")
        with closing(stream.epoch(self.net.epochs, position.batch)) as batches:  # type: ignore[type-var]
            for data, is_last in self._in_turn(batches):
                step = self.backend.steps()
                rates = self.net.optimizer.rates(self.net.epochs, step, 1)
                weights = batch_weights(data, None, len(data))
                self._take(data, None, rates, weights, clock, is_last)
                clock.call(self.net, self.backend.steps())
        if not position.batch:
            raise ValueError("X must give at least one batch an epoch; got none")

    def _in_turn(self, batches: Iterator[Data]) -> Iterator[tuple[Data, bool]]:
        """Return each batch with whether it is the last, where that matters."""
        if self.averaging is None or not self.averaging.by_epochs:
            yield from ((data, False) for data in batches)
            return
        following = next(batches, None)
        while following is not None:
            data, following = following, next(batches, None)
            yield data, following is None

    def _take(
        self,
        data: Data,
        order: npt.NDArray[np.int32] | None,
        rates: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64],
        clock: Clock,
        ends_epoch: bool,
    ) -> None:
        """Take a run of steps, and keep account of it however it ends."""
        position, before = self.position, self.backend.steps()
        losses, hits = np.empty(len(rates)), np.empty(len(rates), np.int64)
        batch_size = len(data) if isinstance(self.data, Stream) else self.batch_size
        try:
            self.backend.train(
                data.X,
                data.target,
                data.sample_weight,
                order,
                batch_size,
                self.net.optimizer,
                rates,
                losses,
                hits,
                clock.ticks_from(position.batch),
                shares_of(self.averaging, self.backend, len(rates), self.net.epochs, ends_epoch),
            )
        except Pause:
            pass
        finally:
            done = self.backend.steps() - before
            run = losses[:done], hits[:done], weights[:done]
            rows = min(len(data if order is None else order), done * batch_size)
            # Without a call, at which a second Ctrl-C might come in between
            position.batches += [run]
            position.seen += rows
            position.batch += done
        first = position.batch - done
        found = self._found(data, order, batch_size)
        check_losses(self.backend, losses[:done], position.epoch, first, found)

    def _found(
        self, data: Data, order: npt.NDArray[np.int32] | None, batch_size: int
    ) -> Callable[[int, int], str | None]:
        """Return what finds where numbers that are not finite began in a step of a run."""

        def where(step: int, number: int) -> str | None:
            from fastnn.backends.reference import not_finite

            batch = slice(number * batch_size, (number + 1) * batch_size)
            X = data.X[batch if order is None else order[batch]]
            for watcher in self.callbacks:
                if isinstance(watcher, TerminateOnNaN) and (before := watcher.weights_before(step)):
                    for layer, what, _ in not_finite(self.backend.spec, before, X, step - 1):
                        if what == "outputs":
                            return f"it began with the outputs of the layer of net.weights[{layer}]"
                    return "it began there: all outputs were finite"
            return None

        return where

    def _figures(self) -> Figures:
        """Return the figures of the epoch whose rows have been gone through."""
        position = self.position
        losses, hits, weights = position.figures_of_batches()
        figures = {"loss": _mean(losses, weights)}
        if self.has_accuracy:
            figures["accuracy"] = int(hits.sum()) / position.seen
        return self._judged(figures)

    def _judged(self, figures: Figures) -> Figures:
        """Return the figures of the training rows with those that judge by others."""
        if self.validation is not None:
            judged = evaluate(self.backend, self.validation, self.has_accuracy)
            if not math.isfinite(judged["loss"]):
                warnings.warn(
                    f"val_loss became {judged['loss']} in epoch {self.position.epoch + 1}, while"
                    " the loss is finite: some validation rows are too large for the network",
                    RuntimeWarning,
                    stacklevel=6,
                )
            figures = figures | {f"val_{name}": value for name, value in judged.items()}
        return figures | self.judge()


class Clock:
    """Knows when which callback of a training wants to be called within its epochs."""

    def __init__(
        self, callbacks: Sequence[Callback], progress: Callable[[int], object] | None
    ) -> None:
        self._callbacks = callbacks
        self._progress = progress
        self._called = [time.monotonic()] * len(callbacks)

    def steps_to_next_call(self, step: int) -> int:
        """Return after how many steps at most a callback wants to be called."""
        periods = [c.every_steps for c in self._callbacks if c.every_steps is not None]
        return min((period - step % period for period in periods), default=_FOREVER)

    def ticks_from(self, first: int) -> Callable[[int], None] | None:
        """Return what a backend is to call now and then in a run of steps from batch `first` on."""
        if self._progress is None and self._next_due() == math.inf:
            return None

        def tick(done: int) -> None:
            if self._progress is not None:
                self._progress(first + done)
            if time.monotonic() >= self._next_due():
                raise Pause

        return tick

    def call(self, net: Network, step: int) -> None:
        """Call the callbacks that want it after this step, even when one of them wants to stop."""
        stop = False
        for number, callback in enumerate(self._callbacks):
            steps, seconds = callback.every_steps, callback.every_seconds
            due = seconds is not None and time.monotonic() >= self._called[number] + seconds
            if due or (steps is not None and step % steps == 0):
                try:
                    callback.on_step(net, step)
                except StopTraining:
                    stop = True
            if due:
                self._called[number] = time.monotonic()
        if stop:
            raise StopTraining

    def _next_due(self) -> float:
        """Return the time at which the first callback wants to be called."""
        due = [
            called + callback.every_seconds
            for callback, called in zip(self._callbacks, self._called, strict=True)
            if callback.every_seconds is not None
        ]
        return min(due, default=math.inf)


def shares_of(
    averaging: Averaging | None,
    backend: Backend,
    batches: int,
    epochs: int,
    ends_epoch: bool = False,
) -> npt.NDArray[np.float64] | None:
    """Return what the next steps count in the average; None where all count nothing."""
    if averaging is None:
        return None
    shares = averaging.shares(backend.steps(), batches, epochs, ends_epoch)
    return shares if shares.any() else None


def batch_weights(
    data: Data, order: npt.NDArray[np.int32] | None, batch_size: int
) -> npt.NDArray[np.float64]:
    """Return (batches,): what each batch counts in the mean over the epoch."""
    rows = len(data) if order is None else len(order)
    if data.sample_weight is None:
        batches = -(-rows // batch_size)
        counts = np.full(batches, float(batch_size))
        counts[-1] = rows - (batches - 1) * batch_size
        return counts
    weights = data.sample_weight if order is None else data.sample_weight[order]
    return np.bincount(np.arange(rows) // batch_size, weights).astype(np.float64)


def _mean(losses: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    """Summed one after the other, as the core does for a population."""
    if not weights.any():
        weights = np.ones(len(weights))
    return float((losses * weights).cumsum()[-1] / weights.cumsum()[-1])


def check_losses(
    backend: Backend,
    losses: npt.NDArray[np.float64],
    epoch: int | None = None,
    batch: int = 0,
    found: Callable[[int, int], str | None] | None = None,
) -> None:
    """Raise FloatingPointError if the last steps left the finite numbers.

    Of the `losses`, one a step, the first is that of the `batch` of the `epoch`, if one is given.
    ``found(step, number)`` may tell where that began in a step, the `number`-th of these.
    """
    finite = np.isfinite(losses)
    if finite.all():
        return
    first = int(finite.argmin())
    step = backend.steps() - len(losses) + first + 1
    where = "" if epoch is None else f" (epoch {epoch + 1}, batch {batch + first + 1})"
    layer = backend.first_broken()
    broken = (found and found(step, first)) or (
        "all weights are still finite"
        if layer is None
        else f"net.weights[{layer}] is no longer finite"
    )
    raise FloatingPointError(
        f"the loss became {losses[first]} at step {step}{where}, and {broken}. {_ADVICE}"
    )


def check_weights(backend: Backend) -> None:
    """Raise FloatingPointError if the last step, whose loss was still finite, spoilt a weight."""
    layer = backend.first_broken()
    if layer is not None:
        raise FloatingPointError(
            f"net.weights[{layer}] is no longer finite after step {backend.steps()}. {_ADVICE}"
        )

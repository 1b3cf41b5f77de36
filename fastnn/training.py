"""The loop over epochs: batches, validation, callbacks, history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn._validation import all_finite
from fastnn.callbacks import Callback, Progress, StopTraining
from fastnn.history import History

if TYPE_CHECKING:
    from fastnn.averaging import Averaging
    from fastnn.backends import Backend
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer

__all__ = ["Data", "Figures", "Training", "check_losses", "evaluate", "shares_of"]

Figures = dict[str, float]


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

    def split(self, first: int) -> tuple[Data, Data]:
        """Return the first rows and the others, without copying."""
        weight = self.sample_weight
        return (
            Data(self.X[:first], self.target[:first], None if weight is None else weight[:first]),
            Data(self.X[first:], self.target[first:], None if weight is None else weight[first:]),
        )

    def weighted(self, weights: npt.NDArray[np.float64]) -> Data:
        """Return the same rows, each counting so many times what it did."""
        old = 1 if self.sample_weight is None else self.sample_weight
        return replace(self, sample_weight=(old * weights).astype(self.X.dtype))


def evaluate(backend: Backend, data: Data, has_accuracy: bool) -> Figures:
    """Return the mean loss over all rows and, where it means something, the accuracy."""
    loss, hits = backend.loss(data.X, data.target, data.sample_weight)
    return {"loss": loss, "accuracy": hits / len(data)} if has_accuracy else {"loss": loss}


@dataclass(frozen=True)
class Training:
    """All that one call of ``fit`` needs to know.

    `net` is only what the callbacks get to see; without a `shuffler` the rows stay in their order;
    the figures go to `history`.
    """

    net: Network
    backend: Backend
    optimizer: Optimizer
    averaging: Averaging | None
    data: Data
    validation: Data | None
    epochs: int
    batch_size: int
    shuffler: np.random.Generator | None
    has_accuracy: bool
    callbacks: Sequence[Callback]
    progress: Progress
    history: History

    def run(self) -> None:
        """Train for all epochs, or until a callback stops it."""
        callbacks = [self.progress, *self.callbacks]
        try:
            for callback in callbacks:
                callback.on_train_begin(self.net)
            for epoch in range(self.epochs):
                for callback in callbacks:
                    callback.on_epoch_begin(self.net, epoch)
                figures = self._epoch(epoch)
                self.history.append(epoch, figures)
                if _told_to_stop(callbacks, self.net, epoch, figures):
                    break
            for callback in callbacks:
                callback.on_train_end(self.net, self.history)
        finally:
            self.progress.close()

    def _epoch(self, epoch: int) -> Figures:
        """Go through all rows once, and through those for validation."""
        data, rows = self.data, len(self.data)
        order = None
        if self.shuffler is not None:
            order = self.shuffler.permutation(rows).astype(np.int32)
        batches = -(-rows // self.batch_size)
        rates = np.full(batches, self.optimizer.learning_rate)
        losses = np.empty(batches)
        hits = np.empty(batches, np.int64)
        self.backend.train(
            data.X,
            data.target,
            data.sample_weight,
            order,
            self.batch_size,
            self.optimizer,
            rates,
            losses,
            hits,
            self.progress.tick,
            shares_of(self.averaging, self.backend, batches),
        )
        check_losses(self.backend, losses, f"epoch {epoch + 1}, ")
        figures = {"loss": _mean(losses, _batch_weights(data, order, self.batch_size))}
        if self.has_accuracy:
            figures["accuracy"] = int(hits.sum()) / rows
        if self.validation is not None:
            judged = evaluate(self.backend, self.validation, self.has_accuracy)
            figures |= {f"val_{name}": value for name, value in judged.items()}
        return figures


def shares_of(
    averaging: Averaging | None, backend: Backend, batches: int
) -> npt.NDArray[np.float64] | None:
    """Return what the next steps count in the average; None where all count nothing."""
    if averaging is None:
        return None
    shares = averaging.shares(backend.steps(), batches)
    return shares if shares.any() else None


def _batch_weights(
    data: Data, order: npt.NDArray[np.int32] | None, batch_size: int
) -> npt.NDArray[np.float64]:
    """Return (batches,): what each batch counts in the mean over the epoch."""
    starts = np.arange(0, len(data), batch_size)
    if data.sample_weight is None:
        return np.diff(starts, append=len(data)).astype(np.float64)
    weights = data.sample_weight if order is None else data.sample_weight[order]
    return np.add.reduceat(weights, starts, dtype=np.float64)


def _mean(losses: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    total = weights.sum()
    return float(losses @ weights / total if total > 0 else losses.mean())


def check_losses(backend: Backend, losses: npt.NDArray[np.float64], where: str = "") -> None:
    """Raise FloatingPointError if the training left the finite numbers."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if not bad.size:
        return
    broken = next(
        (
            f"net.weights[{layer}] is no longer finite"
            for layer, pair in enumerate(backend.weights())
            if not all(array is None or all_finite(array) for array in pair)
        ),
        "all weights are still finite",
    )
    raise FloatingPointError(
        f"the loss became {losses[bad[0]]} at {where}batch {bad[0] + 1}, and {broken}."
        " Scale the inputs to about [-1, 1], or give the optimizer a smaller learning_rate or"
        " a clip_norm"
    )


def _told_to_stop(callbacks: Sequence[Callback], net: Network, epoch: int, logs: Figures) -> bool:
    """Tell every callback that the epoch is over, even when one of them wants to stop."""
    stop = False
    for callback in callbacks:
        try:
            callback.on_epoch_end(net, epoch, dict(logs))
        except StopTraining:
            stop = True
    return stop

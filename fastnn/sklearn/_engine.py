"""The compiled networks behind one estimator, and the data as they take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.special import xlogy

from fastnn._types import Array
from fastnn._weights import flat
from fastnn.activations import ACTIVATIONS
from fastnn.averaging import Averaging
from fastnn.backends import DenseSpec, Spec, create
from fastnn.backends.native import NativeBackend
from fastnn.losses import LOSSES, Given, Parametric, resolve
from fastnn.sklearn._optimizers import RuleOptimizer, rates_of, rule_of
from fastnn.training import Clock, Pause

_ACTIVATIONS = {"logistic": "sigmoid", "exp": "identity"}
"""scikit-learn's names that are others here; the exponential is taken afterwards."""

_DENSE_BYTES = 1 << 24
"""About how much of a sparse X is made dense at a time."""

_PART_ROWS = 256
"""Of a sparse X, for the gradient of all rows: the least that are made dense at a time."""


def spec_of(
    coefs: Sequence[Array],
    dtype: np.dtype[Any],
    activation: str | Sequence[str],
    out_activation: str,
    loss: Given = "squared_error",
    alpha: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
    label_smoothing: float = 0.0,
) -> Spec:
    """A network of scikit-learn's as a backend takes it."""
    n_out = coefs[-1].shape[1]
    name, parameter, loss_scale, gradient_scale = _loss(loss, out_activation, n_out, dtype)
    last = len(coefs) - 1
    hidden = [activation] * last if isinstance(activation, str) else list(activation)
    names = [_ACTIVATIONS.get(given, given) for given in [*hidden, out_activation]]
    return Spec(
        layers=tuple(
            DenseSpec(
                n_in=int(W.shape[0]),
                n_out=int(W.shape[1]),
                activation=own,
                parameter=ACTIVATIONS[own].parameter,
                use_bias=True,
                dropout=dropout if i else 0.0,
                l1=0.0,
                l2=float(alpha) / 2,
            )
            for i, (W, own) in enumerate(zip(coefs, names, strict=True))
        ),
        loss=name,
        # scikit-learn's clipping holds for labels that are 0 or 1
        loss_parameter=0.0 if label_smoothing else parameter,
        dtype=dtype,
        seed=seed,
        label_smoothing=label_smoothing,
        loss_scale=loss_scale,
        gradient_scale=gradient_scale,
        mean_penalty=True,
    )


def _loss(
    loss: Given, out_activation: str, n_out: int, dtype: np.dtype[Any]
) -> tuple[Any, Any, float, float]:
    """Name and parameter of a loss here; how many times it, and its gradient, are scikit-learn's.

    scikit-learn sums over the outputs where we take the mean. The exception is its squared error:
    the mean of halves, but with the gradient of the sum.
    """
    clip = float(np.finfo(dtype).eps)
    if loss == "poisson":
        return "poisson", 0.0, n_out, n_out
    if loss == "log_loss":
        if out_activation == "softmax":
            return "cross_entropy", clip, 1.0, 1.0
        return "binary_cross_entropy", clip, n_out, n_out
    if loss == "squared_error":
        return "mse", 0.0, 0.5, n_out / 2
    if callable(loss):
        return loss, 0.0, 1.0, 1.0
    name, parameter = (
        (loss.name, loss.parameters(n_out)[1])
        if isinstance(loss, Parametric)
        else (loss, LOSSES[loss].parameter)
    )
    if name == "focal" and out_activation == "logistic":
        name = "binary_focal"
    return name, parameter, 1.0, 1.0


def network(spec: Spec) -> NativeBackend:
    """A compiled network, its weights still to be set."""
    return cast(NativeBackend, create("native", spec))


@dataclass(frozen=True)
class Rows:
    """Data to learn from.

    Parameters
    ----------
    X : ndarray or sparse CSR of shape (n, n_in)
        Of the network's dtype; C-contiguous.
    target : ndarray of shape (n,) or (n, n_out)
        Class numbers, int32, for losses over classes; else of the network's dtype.
    weight : ndarray of shape (n,) or None
        Of the network's dtype.
    constant : ndarray of shape (n,) or None
        What scikit-learn's loss of each row is above ours.
    """

    X: Any
    target: npt.NDArray[Any]
    weight: Array | None
    constant: npt.NDArray[np.float64] | None

    @classmethod
    def of(cls, X: Any, y: npt.NDArray[Any], weight: Array | None, spec: Spec) -> Rows:
        """From what scikit-learn has made of ``fit``'s arguments; y is (n, n_out)."""
        dtype = spec.dtype
        constant = None
        if spec.loss == "poisson":
            constant = (xlogy(y, y) - y).sum(axis=1, dtype=np.float64)
        if resolve(spec.loss).kind == "categorical":
            target = y.argmax(axis=1).astype(np.int32)
        else:
            target = np.ascontiguousarray(y, dtype)
        return cls(
            X=X.tocsr().astype(dtype, copy=False)
            if scipy.sparse.issparse(X)
            else np.ascontiguousarray(X, dtype),
            target=target,
            weight=None if weight is None else np.ascontiguousarray(weight, dtype),
            constant=constant,
        )

    def __len__(self) -> int:
        return len(self.target)

    def chunks(
        self, order: npt.NDArray[np.int32] | None, batch_size: int
    ) -> Iterator[tuple[slice, Rows, npt.NDArray[np.int32] | None]]:
        """The batches to take in one go: which they are, their rows, the order of those.

        All of them if X is dense; of a sparse X, as many as may be dense at a time.
        """
        batches = -(-len(self) // batch_size)
        if not scipy.sparse.issparse(self.X):
            yield slice(0, batches), self, order
            return
        row_bytes = self.X.shape[1] * self.X.dtype.itemsize
        step = max(1, _DENSE_BYTES // (row_bytes * batch_size))
        for first in range(0, batches, step):
            last = min(first + step, batches)
            span = slice(first * batch_size, min(last * batch_size, len(self)))
            rows = span if order is None else order[span]
            part = Rows(
                self.X[rows].toarray(),
                self.target[rows],
                None if self.weight is None else self.weight[rows],
                None,
            )
            yield slice(first, last), part, None


def dense_chunks(X: Any, dtype: np.dtype[Any]) -> Iterator[tuple[slice, Array]]:
    """The rows of a sparse X, some at a time."""
    X = X.tocsr()
    step = max(1, _DENSE_BYTES // max(1, X.shape[1] * dtype.itemsize))
    for first in range(0, X.shape[0], step):
        span = slice(first, min(first + step, X.shape[0]))
        yield span, np.ascontiguousarray(X[span].toarray(), dtype)


class Epochs:
    """Passes over some rows by a network, with all that they need made once.

    Parameters
    ----------
    net : NativeBackend
    rows : Rows
    batch_size : int
    optimizer : object
        Of scikit-learn's kind, see `fastnn.sklearn._optimizers`; looked at before each pass.
    clipping : dict
        ``clip_norm`` and ``clip_value`` of the rule.
    averaging : Averaging or None
        What average of the weights to keep.
    averaged : tuple of int
        The steps and epochs that have been taken since it began.
    """

    def __init__(
        self,
        net: NativeBackend,
        rows: Rows,
        batch_size: int,
        optimizer: Any,
        clipping: dict[str, float | None],
        averaging: Averaging | None = None,
        averaged: tuple[int, int] = (0, 0),
    ) -> None:
        self.net = net
        self.rows = rows
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.averaged = averaged
        self.done = 0  # batches of this pass
        self._clipping = clipping
        # scikit-learn's optimizers change nothing but their rates
        ours = isinstance(optimizer, RuleOptimizer)
        self._their_rule = None if ours else rule_of(optimizer, **clipping)
        self._averaging = averaging
        starts = np.arange(0, len(rows), batch_size)
        self._starts = starts
        self._lengths = np.diff(starts, append=len(rows)).astype(np.float64)
        self._losses = np.empty(len(starts))
        self._hits = np.empty(len(starts), np.int64)
        self._order: npt.NDArray[np.int32] | None = None
        self._totals: npt.NDArray[np.float64] | None = None

    def look_at_optimizer(self) -> None:
        """Take over its rule and rates, in the midst of a pass for what is left of it."""
        self.rule = self._their_rule or rule_of(self.optimizer, **self._clipping)
        before = self.net.steps() - self.done
        self._rates = rates_of(self.optimizer, before, len(self._starts))

    def run(
        self,
        order: npt.NDArray[np.int32] | None,
        clock: Clock | None = None,
        handle: Any = None,
    ) -> float:
        """Train on each row once; return the mean loss of the batches, as they were met.

        The clock's callbacks are called with the handle, and may raise `StopTraining`.
        """
        self.done, self._order = 0, order
        self._totals = self._batch_sums(self.rows.weight)
        if self._totals is not None and not self._totals.all():
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        self.look_at_optimizer()
        for batches, rows, order_there in self.rows.chunks(order, self.batch_size):
            while self.done < batches.stop:
                self._train(rows, order_there, batches, clock)
                if clock is not None:
                    clock.call(handle, self.net.steps())
        return self.mean_loss()

    def _train(
        self,
        rows: Rows,
        order: npt.NDArray[np.int32] | None,
        batches: slice,
        clock: Clock | None,
    ) -> None:
        """Take the steps up to the next call of the clock, or all of these batches'."""
        first, before = self.done, self.net.steps()
        stop, tick = batches.stop, None
        if clock is not None:
            stop = min(stop, first + clock.steps_to_next_call(before))
            tick = clock.ticks_from(first)
        X, target, weight = rows.X, rows.target, rows.weight
        if first > batches.start or stop < batches.stop:
            span = slice(
                (first - batches.start) * self.batch_size, (stop - batches.start) * self.batch_size
            )
            if order is not None:
                order = order[span]
            else:
                X, target = X[span], target[span]
                weight = None if weight is None else weight[span]
        steps = slice(first, stop)
        try:
            self.net.train(
                X,
                target,
                weight,
                order,
                self.batch_size,
                self.rule,
                self._rates[steps],
                self._losses[steps],
                self._hits[steps],
                tick,
                self._shares(stop - first),
            )
        except Pause:
            pass
        finally:
            taken = self.net.steps() - before
            self.done += taken
            steps_before, epochs = self.averaged
            self.averaged = steps_before + taken, epochs + (self.done == len(self._starts))

    def _shares(self, steps: int) -> npt.NDArray[np.float64] | None:
        if self._averaging is None:
            return None
        ends_epoch = self.done + steps == len(self._starts)
        before, epochs = self.averaged
        shares = self._averaging.shares(before, steps, epochs, ends_epoch)
        return shares if shares.any() else None

    @property
    def rows_done(self) -> int:
        """Rows of this pass that have been trained on."""
        return min(self.done * self.batch_size, len(self.rows))

    def mean_loss(self) -> np.float64:
        """The mean loss of the batches of this pass that are done."""
        losses, done = self._losses, slice(self.done)
        constant, weight = self.rows.constant, self.rows.weight
        if constant is not None:
            if weight is None:
                losses = losses + self._batch_sums(constant) / self._lengths
            else:
                losses = losses + self._batch_sums(constant * weight) / self._totals
        return np.float64(losses[done] @ self._lengths[done] / self.rows_done)

    def _batch_sums(self, values: npt.NDArray[Any] | None) -> Any:
        if values is None:
            return None
        ordered = values if self._order is None else values[self._order]
        return np.add.reduceat(ordered, self._starts, dtype=np.float64)


def mean_loss(net: NativeBackend, rows: Rows) -> float:
    """Mean loss of all rows, without dropout; without penalties if the network has none."""
    whole, loss = _total(rows), 0.0
    for _, part, _ in rows.chunks(None, _PART_ROWS if scipy.sparse.issparse(rows.X) else len(rows)):
        loss += _total(part) / whole * net.loss(part.X, part.target, part.weight)[0]
    if rows.constant is not None:
        loss += float(np.average(rows.constant, weights=rows.weight))
    return loss


def loss_and_gradient(net: NativeBackend, rows: Rows) -> tuple[float, Array]:
    """Mean loss of all rows with the penalty, and its gradient, in the order of `flat`."""
    whole = _total(rows)
    loss, gradient, parts = 0.0, np.zeros(()), 0
    for _, part, _ in rows.chunks(None, _PART_ROWS if scipy.sparse.issparse(rows.X) else len(rows)):
        value, pairs = net.gradients(part.X, part.target, part.weight, 0)
        share = _total(part) / whole
        loss += share * value
        gradient = gradient + share * flat(pairs)
        parts += 1
    if parts > 1:  # each of them brought the penalty along
        l2 = net.spec.layers[0].l2
        weights = flat([(W, np.zeros(W.shape[1], W.dtype)) for W, _ in net.weights()])
        loss -= (parts - 1) * l2 / whole * float(weights @ weights)
        gradient -= (parts - 1) * 2 * l2 / whole * weights
    if rows.constant is not None:
        loss += float(np.average(rows.constant, weights=rows.weight))
    return np.float64(loss), gradient


def _total(rows: Rows) -> float:
    return float(len(rows) if rows.weight is None else rows.weight.sum(dtype=np.float64))

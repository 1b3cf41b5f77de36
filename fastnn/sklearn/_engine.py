"""The compiled networks behind one estimator, and the data as they take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.special import xlogy

from fastnn._types import Array
from fastnn._weights import flat
from fastnn.activations import ACTIVATIONS
from fastnn.backends import DenseSpec, Spec
from fastnn.backends.native import NativeBackend
from fastnn.losses import LOSSES
from fastnn.optimizers import Optimizer

_ACTIVATIONS = {"logistic": "sigmoid", "exp": "identity"}
"""scikit-learn's names that are others here; the exponential is taken afterwards."""

_DENSE_BYTES = 1 << 24
"""About how much of a sparse X is made dense at a time."""

_PART_ROWS = 256
"""Of a sparse X, for the gradient of all rows: the least that are made dense at a time."""


def spec_of(
    coefs: Sequence[Array],
    dtype: np.dtype[Any],
    activation: str,
    out_activation: str,
    loss: str = "squared_error",
    alpha: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> Spec:
    """A network of scikit-learn's as a backend takes it."""
    n_out = coefs[-1].shape[1]
    loss_name, parameter, loss_scale, gradient_scale = _loss(loss, out_activation, n_out, dtype)
    last = len(coefs) - 1
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
            for i, W in enumerate(coefs)
            for name in [activation if i < last else out_activation]
            for own in [_ACTIVATIONS.get(name, name)]
        ),
        loss=loss_name,
        loss_parameter=parameter,
        dtype=dtype,
        seed=seed,
        loss_scale=loss_scale,
        gradient_scale=gradient_scale,
        mean_penalty=True,
    )


def _loss(
    loss: str, out_activation: str, n_out: int, dtype: np.dtype[Any]
) -> tuple[str, float, float, float]:
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
    return loss, LOSSES[loss].parameter, 1.0, 1.0


@dataclass(frozen=True)
class Rows:
    """Data to learn from.

    Parameters
    ----------
    X : ndarray or sparse CSR of shape (n, n_in)
        Of the network's dtype; C-contiguous.
    target : ndarray of shape (n,) or (n, n_out)
        Class numbers, int32, for softmax; else of the network's dtype.
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
        if spec.loss == "cross_entropy":
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
    """Passes over some rows by a network, with all that they need made once."""

    def __init__(self, net: NativeBackend, rows: Rows, batch_size: int, rule: Optimizer) -> None:
        self.net = net
        self.rows = rows
        self.batch_size = batch_size
        self.rule = rule
        starts = np.arange(0, len(rows), batch_size)
        self._starts = starts
        self._lengths = np.diff(starts, append=len(rows)).astype(np.float64)
        self._rates = np.empty(len(starts))
        self._losses = np.empty(len(starts))
        self._hits = np.empty(len(starts), np.int64)

    def run(self, order: npt.NDArray[np.int32] | None, rate: float) -> float:
        """Train on each row once; return the mean loss of the batches, as they were met."""
        totals = self._batch_sums(self.rows.weight, order)
        if totals is not None and not totals.all():
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        self._rates.fill(rate)
        for batches, rows, order_there in self.rows.chunks(order, self.batch_size):
            self.net.train(
                rows.X,
                rows.target,
                rows.weight,
                order_there,
                self.batch_size,
                self.rule,
                self._rates[batches],
                self._losses[batches],
                self._hits[batches],
                None,
            )
        losses = self._losses
        if self.rows.constant is not None:
            if totals is None or self.rows.weight is None:
                constants = self._batch_sums(self.rows.constant, order) / self._lengths
            else:
                weighted = self.rows.constant * self.rows.weight
                constants = self._batch_sums(weighted, order) / totals
            losses = losses + constants
        return float(losses @ self._lengths) / len(self.rows)

    def _batch_sums(
        self, values: npt.NDArray[Any] | None, order: npt.NDArray[np.int32] | None
    ) -> Any:
        if values is None:
            return None
        ordered = values if order is None else values[order]
        return np.add.reduceat(ordered, self._starts, dtype=np.float64)


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
    return loss, gradient


def _total(rows: Rows) -> float:
    return float(len(rows) if rows.weight is None else rows.weight.sum(dtype=np.float64))

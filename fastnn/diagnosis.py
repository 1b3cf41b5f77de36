"""What goes through the layers of a network, forward and back: whether it can learn at all.

The figures are those of Glorot and Bengio 2010, "Understanding the difficulty of training deep
feedforward neural networks".  NumPy does the arithmetic, as the reference backend, whichever
backend the network has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, overload

import numpy as np

from fastnn._optional import needed
from fastnn._types import Array
from fastnn.backends import Pair, Spec
from fastnn.backends.reference import ReferenceBackend
from fastnn.training import Data

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Diagnosis", "LayerStatistics", "diagnose"]

# The range of what saturates; a fortieth from an end of it, the slope is a tenth of its largest.
_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
_NEAR_AN_END = 1 / 40


@dataclass(frozen=True)
class LayerStatistics:
    """The figures of one dense layer.

    Attributes
    ----------
    layer : int
        Its number among the dense layers, from 0.
    activation : str
    units : int
    mean, spread : float
        Mean and standard deviation of its outputs, over rows and units.
    dead : float or None
        For relu, the part of the units that put out 0 for every row: they pass no gradient on, so
        nothing brings them back.  None for other activations.
    saturated : float or None
        For sigmoid and tanh, the part of the outputs within a fortieth of the range from its ends,
        where the slope is less than a tenth of the largest.  None for other activations.
    weight_norm, gradient_norm : float
        Frobenius norms of W and of the loss's gradient with respect to it, without penalties.
    """

    layer: int
    activation: str
    units: int
    mean: float
    spread: float
    dead: float | None
    saturated: float | None
    weight_norm: float
    gradient_norm: float


@dataclass(frozen=True)
class Diagnosis(Sequence[LayerStatistics]):
    """The figures of all dense layers, from the first to the last.

    Attributes
    ----------
    layers : tuple of LayerStatistics
    loss : float
        The mean loss of the rows, without penalties.
    """

    layers: tuple[LayerStatistics, ...]
    loss: float

    @overload
    def __getitem__(self, index: int) -> LayerStatistics: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LayerStatistics, ...]: ...
    def __getitem__(self, index: int | slice) -> LayerStatistics | tuple[LayerStatistics, ...]:
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerStatistics]:
        return iter(self.layers)

    def __str__(self) -> str:
        rows = [("layer", "activation", "mean", "spread", "dead", "saturated", "gradient norm")]
        rows += [
            (
                str(layer.layer),
                layer.activation,
                f"{layer.mean:.3g}",
                f"{layer.spread:.3g}",
                "" if layer.dead is None else f"{layer.dead:.0%}",
                "" if layer.saturated is None else f"{layer.saturated:.0%}",
                f"{layer.gradient_norm:.3g}",
            )
            for layer in self
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)

    def to_dataframe(self) -> pd.DataFrame:
        """Return the figures as a pandas DataFrame, a row a layer; nan where there is none.

        Raises
        ------
        ImportError
            If pandas is not there.
        """
        with needed("to_dataframe", "pandas", "pandas"):
            import pandas as pd
        frame = pd.DataFrame([asdict(layer) for layer in self]).set_index("layer")
        return frame.astype({"dead": np.float64, "saturated": np.float64})


def diagnose(spec: Spec, weights: Sequence[Pair], data: Data) -> Diagnosis:
    """Return the figures for some rows, without dropout, noise and penalties."""
    plain = tuple(replace(layer, dropout=0.0, noise=0.0, l1=0.0, l2=0.0) for layer in spec.layers)
    backend = ReferenceBackend(replace(spec, layers=plain))
    backend.set_weights(weights)
    outputs = [at.h for at in backend.passes(data.X)]
    loss, gradients = backend.gradients(data.X, data.target, data.sample_weight, 0)
    layers = [
        LayerStatistics(
            number,
            layer.activation,
            layer.n_out,
            float(h.mean(dtype=np.float64)),
            float(h.std(dtype=np.float64)),
            float((h == 0).all(axis=0).mean()) if layer.activation == "relu" else None,
            _saturated(layer.activation, h),
            _norm(W),
            _norm(dW),
        )
        for number, (layer, h, (W, _), (dW, _)) in enumerate(
            zip(plain, outputs, weights, gradients, strict=True)
        )
    ]
    return Diagnosis(tuple(layers), loss)


def _saturated(activation: str, h: Array) -> float | None:
    if activation not in _RANGES:
        return None
    low, high = _RANGES[activation]
    margin = _NEAR_AN_END * (high - low)
    return float(((h < low + margin) | (h > high - margin)).mean())


def _norm(W: Array) -> float:
    return math.sqrt(float(np.square(W, dtype=np.float64).sum()))

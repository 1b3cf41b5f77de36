"""Initial weights.

Sources: Glorot and Bengio 2010 (``xavier_*``), He et al. 2015 (``he_*``), LeCun et al. 1998
(``lecun_normal``), Saxe et al. 2014 (``orthogonal``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn._validation import known_name
from fastnn.activations import ACTIVATIONS

__all__ = ["INITIALIZERS", "default_for", "draw"]

# Fills a matrix.  As a string: NumPy's random numbers are a quarter of what fastnn takes to import.
_Draw: TypeAlias = "Callable[[np.random.Generator, Array], None]"

# Random numbers come in float64; so many at a time are no memory beside a large layer's weights.
_AT_ONCE = 1 << 16


def _fill(W: Array, values: Callable[[tuple[int, ...]], Array]) -> None:
    """Give each entry a value, a few rows at a time."""
    rows = max(1, _AT_ONCE // W.shape[1])
    for first in range(0, len(W), rows):
        part = W[first : first + rows]
        part[...] = values(part.shape)


def _zeros(rng: np.random.Generator, W: Array) -> None:
    W[...] = 0


def _normal(std: Callable[[int, int], float]) -> _Draw:
    def drawn(rng: np.random.Generator, W: Array) -> None:
        deviation = std(*W.shape)
        _fill(W, lambda shape: rng.normal(0.0, deviation, shape))

    return drawn


def _uniform(limit: Callable[[int, int], float]) -> _Draw:
    def drawn(rng: np.random.Generator, W: Array) -> None:
        bound = limit(*W.shape)
        _fill(W, lambda shape: rng.uniform(-bound, bound, shape))

    return drawn


def _orthogonal(rng: np.random.Generator, W: Array) -> None:
    n_in, n_out = W.shape
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    # QR leaves the signs open; those of r's diagonal make the distribution uniform.
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    W[...] = q if n_in >= n_out else q.T


INITIALIZERS: dict[str, _Draw] = {
    "zeros": _zeros,
    "normal": _normal(lambda n_in, n_out: 0.01),
    "uniform": _uniform(lambda n_in, n_out: 0.05),
    "xavier_uniform": _uniform(lambda n_in, n_out: math.sqrt(6 / (n_in + n_out))),
    "xavier_normal": _normal(lambda n_in, n_out: math.sqrt(2 / (n_in + n_out))),
    "he_uniform": _uniform(lambda n_in, n_out: math.sqrt(6 / n_in)),
    "he_normal": _normal(lambda n_in, n_out: math.sqrt(2 / n_in)),
    "lecun_normal": _normal(lambda n_in, n_out: math.sqrt(1 / n_in)),
    "orthogonal": _orthogonal,
}


def default_for(activation: str) -> str:
    """Name of the initializer for weights in front of that activation.

    He for the ReLU family, LeCun for SELU, Xavier (uniform) otherwise.
    """
    return ACTIVATIONS[activation].weight_init


def draw(name: str, rng: np.random.Generator, n_in: int, n_out: int, dtype: npt.DTypeLike) -> Array:
    """Draw a matrix of weights.

    Parameters
    ----------
    name : str
        A name of `INITIALIZERS`: ``zeros``, ``normal`` (standard deviation 0.01), ``uniform``
        (within ±0.05), ``xavier_uniform``, ``xavier_normal``, ``he_uniform``, ``he_normal``,
        ``lecun_normal`` or ``orthogonal`` (orthonormal columns, or rows where they are fewer).
    rng : numpy.random.Generator
        The values come from it in float64, so that both dtypes start from the same ones.
    n_in, n_out : int
        The matrix's shape.
    dtype : numpy.dtype
        The matrix's dtype.

    Returns
    -------
    numpy.ndarray
        ``(n_in, n_out)``, C-contiguous.

    Raises
    ------
    ValueError
        If ``name`` is unknown.
    """
    W = np.empty((n_in, n_out), dtype)
    INITIALIZERS[known_name("initializer", name, INITIALIZERS)](rng, W)
    return W

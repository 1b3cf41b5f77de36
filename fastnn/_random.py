"""Random numbers, the same in every backend: the order of rows, dropout masks and noise.

Masks and noise are counter-based: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011.  A value depends only on the key and on the place that it is
for, hence not on the number of threads, nor on how the rows of a batch are divided up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._core import why_missing
from fastnn._types import Array

if why_missing is None:
    from fastnn._native import permutation as permutation
else:

    def permutation(generator: np.random.Generator, n: int) -> npt.NDArray[np.int32]:
        """Return the numbers below n in an order drawn from the generator."""
        return generator.permutation(n).astype(np.int32)


_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

Words = npt.NDArray[np.uint32]


def philox(
    c0: npt.ArrayLike, c1: npt.ArrayLike, c2: npt.ArrayLike, c3: npt.ArrayLike, seed: int
) -> tuple[Words, Words, Words, Words]:
    """Four random words for each counter ``(c0, c1, c2, c3)``.

    Parameters
    ----------
    c0, c1, c2, c3 : array_like of unsigned 32-bit values
        The counters' words, broadcast against each other.
    seed : int
        64-bit key, its low word first.

    Returns
    -------
    tuple of four uint32 arrays, of the counters' common shape
    """
    counters = (np.asarray(c, dtype=np.uint64) for c in (c0, c1, c2, c3))
    x0, x1, x2, x3 = np.broadcast_arrays(*counters)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(_ROUNDS):
        # A 32 by 32 bit product fits 64 bits.
        p0, p1 = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            (p1 >> _HALF) ^ x1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _HALF) ^ x3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0 = (k0 + _KEY_INCREMENTS[0]) & 0xFFFFFFFF
        k1 = (k1 + _KEY_INCREMENTS[1]) & 0xFFFFFFFF
    w0, w1, w2, w3 = (np.asarray(x).astype(np.uint32) for x in (x0, x1, x2, x3))
    return w0, w1, w2, w3


def dropout_mask(
    seed: int, step: int, layer: int, shape: tuple[int, int], rate: float, dtype: np.dtype[Any]
) -> Array:
    """What a batch of inputs is multiplied by: 0 where dropped, ``1 / (1 - rate)`` where kept.

    Parameters
    ----------
    seed : int
        64-bit key.
    step : int
        Number of the training step, the first being 0; counts modulo 2**32.
    layer : int
        Number of the dense layer whose input it is.
    shape : (int, int)
        Rows of the batch, inputs of the layer.
    rate : float
        Probability that a value is dropped, ``0 <= rate < 1``.
    dtype : numpy.dtype
        Of the result.
    """
    n_rows, n_cols = shape
    groups = np.arange((n_cols + 3) // 4)
    rows = np.arange(n_rows)[:, np.newaxis]
    words = philox(groups, rows, layer, step & 0xFFFFFFFF, seed)
    u = np.stack(words, axis=-1).reshape(n_rows, 4 * groups.size)[:, :n_cols]
    mask: Array = (u >= int(rate * 2**32)) * dtype.type(1 / (1 - rate))
    return mask


def gaussian(
    seed: int, step: int, layer: int, shape: tuple[int, int], stddev: float, dtype: np.dtype[Any]
) -> Array:
    """Noise of mean 0 for a batch of inputs, by the transform of Box and Muller (1958).

    The words ``w`` of a counter, made as for `dropout_mask` but for the highest bit of the layer's
    word, which is set, are for four columns: with ``u = (w[0] + 1/2) / 2**32`` and
    ``v = w[1] / 2**32`` the first two get ``sqrt(-2 log u)`` times ``cos(2 pi v)`` and
    ``sin(2 pi v)``, the other two the same of ``w[2]`` and ``w[3]``.

    Parameters
    ----------
    seed, step, layer, shape, dtype
        As of `dropout_mask`.
    stddev : float
        Standard deviation.
    """
    n_rows, n_cols = shape
    groups = np.arange((n_cols + 3) // 4)
    rows = np.arange(n_rows)[:, np.newaxis]
    words = philox(groups, rows, layer | 1 << 31, step & 0xFFFFFFFF, seed)
    columns = []
    for w, angle in (words[:2], words[2:]):
        radius = np.sqrt(-2 * np.log((w + 0.5) / 2**32))
        v = angle.view(np.int32) * (2 * np.pi / 2**32)
        columns += [radius * np.cos(v), radius * np.sin(v)]
    noise = np.stack(columns, axis=-1).reshape(n_rows, 4 * groups.size)[:, :n_cols]
    result: Array = (stddev * noise).astype(dtype)
    return result

"""Lists of ``(W, b)``: taken from callers, by name to and from files, and as one vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn._validation import all_finite, as_array, cast, describe
from fastnn.backends import DenseSpec, Pair, Spec

_AVERAGE = "average."


def converted(
    weights: Sequence[tuple[npt.ArrayLike, npt.ArrayLike | None]], spec: Spec
) -> list[Pair]:
    """Return weights as a backend takes them."""
    expected = f"a list of {len(spec.layers)} pairs (W, b), one for each dense layer"
    if not isinstance(weights, (list, tuple)):
        raise TypeError(f"weights must be {expected}; got {type(weights).__name__}")
    if len(weights) != len(spec.layers):
        raise ValueError(f"weights must be {expected}; got {len(weights)}")
    pairs: list[Pair] = []
    for number, (pair, layer) in enumerate(zip(weights, spec.layers, strict=True)):
        name = f"weights[{number}]"
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"{name} must be a pair (W, b); got {describe(pair)}")
        W, b = pair
        if (b is None) == layer.use_bias:
            expected_b = f"of shape ({layer.n_out},)" if layer.use_bias else "None, without bias,"
            raise ValueError(f"{name}[1] must be {expected_b}; got {describe(b)}")
        pairs.append(
            (
                _converted(f"{name}[0]", W, (layer.n_in, layer.n_out), spec.dtype),
                None if b is None else _converted(f"{name}[1]", b, (layer.n_out,), spec.dtype),
            )
        )
    return pairs


def _converted(argument: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    array = as_array(argument, value)
    if array.shape != shape:
        raise ValueError(f"{argument} must have shape {shape}; got shape {array.shape}")
    return cast(argument, array, dtype)


def named(
    weights: Sequence[Pair],
    slots: Sequence[Sequence[Pair]] = (),
    average: Sequence[Pair] | None = None,
) -> dict[str, Array]:
    """Return all arrays under their names in a file: weights, slots of the optimizer, average."""
    arrays = {}
    parts = [("", weights), *zip(_slot_prefixes(), slots, strict=False), (_AVERAGE, average or ())]
    for prefix, pairs in parts:
        for number, (W, b) in enumerate(pairs):
            arrays[f"{prefix}layers.{number}.weight"] = W
            if b is not None:
                arrays[f"{prefix}layers.{number}.bias"] = b
    return arrays


def from_named(arrays: Mapping[str, Array]) -> list[Pair]:
    """Undo `named` of weights without slots."""
    keys = takewhile(lambda key: f"{key}.weight" in arrays, (f"layers.{i}" for i in count()))
    return [(arrays[f"{key}.weight"], arrays.get(f"{key}.bias")) for key in keys]


def flat(pairs: Sequence[Pair]) -> Array:
    """Return one vector in scikit-learn's order: all W, then all b."""
    arrays = [W for W, _ in pairs] + [b for _, b in pairs if b is not None]
    return np.concatenate([array.ravel() for array in arrays])


def unflat(vector: npt.NDArray[Any], like: Sequence[Pair]) -> list[Pair]:
    """Undo `flat` for pairs of the shapes and dtypes of others."""
    ends = np.cumsum([W.size for W, _ in like] + [b.size for _, b in like if b is not None])
    parts = iter(np.split(vector, ends[:-1]))
    weights = [next(parts).reshape(W.shape).astype(W.dtype) for W, _ in like]
    biases = [None if b is None else next(parts).astype(b.dtype) for _, b in like]
    return list(zip(weights, biases, strict=True))


def check_finite(expected: str, arrays: Mapping[str, Array]) -> None:
    """Refuse weights, and averages of them, that are infinite or nan."""
    for name, array in arrays.items():
        if name.startswith(("layers.", _AVERAGE)) and not all_finite(array):
            raise ValueError(f"{expected}; got an infinite or nan one in {name!r}")


def unnamed(
    arrays: Mapping[str, Array], layers: Sequence[DenseSpec], dtype: np.dtype[Any]
) -> tuple[list[Pair], list[list[Pair]], list[Pair] | None]:
    """Undo `named`; whether the numbers are finite does not matter."""
    left = dict(arrays)

    def take(name: str, shape: tuple[int, ...]) -> Array:
        if name not in left:
            raise ValueError(f"there must be a tensor {name!r}; got {sorted(arrays)}")
        array = left.pop(name)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"tensor {name!r} must have shape {shape} and dtype {dtype}; got {describe(array)}"
            )
        return array

    def take_all(prefix: str) -> list[Pair]:
        return [
            (
                take(f"{prefix}layers.{number}.weight", (layer.n_in, layer.n_out)),
                take(f"{prefix}layers.{number}.bias", (layer.n_out,)) if layer.use_bias else None,
            )
            for number, layer in enumerate(layers)
        ]

    weights = take_all("")
    prefixes = takewhile(
        lambda prefix: any(name.startswith(prefix) for name in left), _slot_prefixes()
    )
    slots = [take_all(prefix) for prefix in prefixes]
    averaged = any(name.startswith(_AVERAGE) for name in left)
    average = take_all(_AVERAGE) if averaged else None
    if left:
        raise ValueError(f"there must be no tensors but the network's; got {sorted(left)}")
    return weights, slots, average


def _slot_prefixes() -> Iterator[str]:
    return (f"optimizer.{number}." for number in count())

"""The layers of a network: from what its constructor is given to what a backend takes."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from fastnn._validation import LARGEST, describe, integer
from fastnn.activations import ACTIVATIONS
from fastnn.backends import DenseSpec, Spec
from fastnn.layers import Dense, Dropout, GaussianNoise, Layer


def parse(
    given: Sequence[int | Layer], activation: str, output_activation: str | None, implied: str
) -> tuple[int, tuple[Layer, ...]]:
    """Return the number of features, and the layers with the activations they are to have.

    `implied` is the last one's, unless something else is said.
    """
    expected = (
        "[n_features, ..., n_outputs], of ints and of Dense, Dropout and GaussianNoise layers"
    )
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"layers must be a list {expected}; got {describe(given)}")
    elements = list(given)
    if len(elements) < 2:
        raise ValueError(f"layers must be a list {expected}; got {describe(given)}")
    features = integer("layers[0], the number of features,", elements[0], 1, LARGEST)
    parsed: list[Layer] = []
    for number, element in enumerate(elements[1:], 1):
        if isinstance(element, (Dropout, GaussianNoise)):
            parsed.append(element)
            continue
        if isinstance(element, Dense):
            layer, usual = element, "identity"
        else:
            name = f"layers[{number}], a number of units or a Dense, Dropout or GaussianNoise,"
            layer, usual = Dense(integer(name, element, 1, LARGEST)), activation
        if number == len(elements) - 1:
            if layer.activation and output_activation and layer.activation != output_activation:
                raise ValueError(
                    f"output_activation must be that of the last layer, {layer.activation!r}, or"
                    f" be left out; got {output_activation!r}"
                )
            usual = output_activation or implied
        parsed.append(replace(layer, activation=layer.activation or usual))
    return features, tuple(parsed)


def check_order(layers: tuple[Layer, ...]) -> None:
    """Refuse layers that do not make a network."""
    if not layers or not isinstance(layers[-1], Dense):
        raise ValueError(f"layers must end with a dense layer; got {describe(layers[-1:])}")
    for number, (layer, following) in enumerate(pairwise(layers), 1):
        if isinstance(layer, type(following)) and not isinstance(layer, Dense):
            raise ValueError(
                f"layers must not have one {type(layer).__name__} after another; got {layer},"
                f" {following} at layers[{number}]"
            )
        if isinstance(layer, Dropout) and isinstance(following, GaussianNoise):
            raise ValueError(
                f"layers must have the noise before the dropout; got {layer}, {following}"
                f" at layers[{number}]"
            )
        if isinstance(layer, Dense) and layer.activation == "softmax":
            raise ValueError(
                "activation must be other than 'softmax' in all layers but the last;"
                f" got it at layers[{number}]"
            )


def dense_specs(features: int, layers: tuple[Layer, ...]) -> tuple[DenseSpec, ...]:
    specs = []
    n_in, noise, dropout = features, 0.0, 0.0
    for layer in layers:
        if isinstance(layer, Dropout):
            dropout = layer.rate
            continue
        if isinstance(layer, GaussianNoise):
            noise = layer.stddev
            continue
        activation = ACTIVATIONS[layer.activation or "identity"]
        specs.append(
            DenseSpec(
                n_in,
                layer.units,
                activation.name,
                activation.parameter,
                layer.use_bias,
                dropout,
                layer.l1,
                layer.l2,
                noise,
                layer.max_norm or math.inf,
            )
        )
        n_in, noise, dropout = layer.units, 0.0, 0.0
    return tuple(specs)


def check_memory(spec: Spec) -> None:
    """Refuse weights that this machine cannot hold, before anything tries to."""
    needed = sum(map(_parameters, spec.layers)) * spec.dtype.itemsize
    there = sys.maxsize
    with contextlib.suppress(AttributeError, ValueError, OSError):  # where it cannot be asked
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        widest = max(spec.layers, key=_parameters)
        raise ValueError(
            f"layers must have weights that fit in memory, {_size(there)}; got {_size(needed)},"
            f" most of it for the layer of {widest.n_in} inputs and {widest.n_out} units"
        )


def as_given(features: int, layers: Sequence[Layer]) -> tuple[str, str, str]:
    """Undo `parse`: the list in its shortest form, the hidden and the last activation."""
    activations = [layer.activation or "" for layer in layers if isinstance(layer, Dense)]
    hidden = activations[0] if len(activations) > 1 else "relu"
    last = activations[-1]
    usual = [hidden] * (len(layers) - 1) + [last]
    shown = [
        str(layer.units)
        if isinstance(layer, Dense) and layer == Dense(layer.units, activation)
        else repr(layer)
        for layer, activation in zip(layers, usual, strict=True)
    ]
    return f"[{', '.join([str(features), *shown])}]", hidden, last


def table(layers: Sequence[Layer], spec: Spec) -> str:
    """Return a line for each layer, and the total."""
    itemsize = spec.dtype.itemsize
    specs = iter(spec.layers)
    rows = [("layer", "shape", "activation", "parameters", "memory")]
    for layer in layers:
        if not isinstance(layer, Dense):
            rows.append((repr(layer), "", "", "0", _size(0)))
            continue
        dense = next(specs)
        shape = f"{dense.n_in} -> {dense.n_out}"
        number = _parameters(dense)
        name = "Dense" if dense.use_bias else "Dense, no bias"
        rows.append((name, shape, dense.activation, f"{number:,}", _size(number * itemsize)))
    total = sum(map(_parameters, spec.layers))
    rows.append(("total", "", "", f"{total:,}", _size(total * itemsize)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([*map(str.ljust, row[:3], widths[:3]), *map(str.rjust, row[3:], widths[3:])])
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([rule, lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _parameters(spec: DenseSpec) -> int:
    return (spec.n_in + spec.use_bias) * spec.n_out


def _size(number: float) -> str:
    """Return a number of bytes for people to read."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(int(math.log(max(number, 1), 1024)), len(units) - 1)
    return f"{number / 1024**power:.{min(power, 1)}f} {units[power]}"

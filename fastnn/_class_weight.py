"""What the rows of each class count in training: ``class_weight`` of `fastnn.Network.fit`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._validation import LARGEST, Family, describe, integer, non_negative

__all__ = ["ClassWeights", "balanced", "given"]


@dataclass(frozen=True)
class ClassWeights:
    """What a row counts by its class; those of a class that is not in the mapping count 1."""

    weights: Mapping[int, float]
    family: Family

    def of(self, target: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return what each row counts, (rows,), from targets as a backend takes them."""
        classes, where = np.unique(_classes(target, self.family), return_inverse=True)
        return np.array([self.weights.get(number, 1.0) for number in classes.tolist()])[where]


def given(class_weight: object, family: Family, columns: int) -> ClassWeights:
    """Return the weights of a mapping, for targets of so many columns.

    Raises
    ------
    TypeError, ValueError
        If it is none, or not of numbers of classes to numbers >= 0.
    """
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            "class_weight must be 'balanced' or a mapping of class numbers to numbers;"
            f" got {describe(class_weight)}"
        )
    last: int | None = columns - 1
    if columns == 1 and family != "categorical":
        last = 1 if family == "binary" else None  # a regression on numbers of classes
    weights = {}
    for key, value in class_weight.items():
        number = integer("class_weight: a class", key, 0, last)
        weights[number] = non_negative(f"class_weight[{number}]", value)
    return ClassWeights(weights, family)


def balanced(targets: Iterable[npt.NDArray[Any]], family: Family) -> ClassWeights:
    """Return the weights that give all classes the same sum, and the rows the mean 1.

    A class counts ``rows / (classes * its rows)``, as in scikit-learn.
    """
    counts: Counter[int] = Counter()
    for target in targets:
        classes, rows = np.unique(_classes(target, family), return_counts=True)
        counts.update(dict(zip(classes.tolist(), rows.tolist(), strict=True)))
    total = counts.total()
    return ClassWeights({n: total / (len(counts) * rows) for n, rows in counts.items()}, family)


def _classes(target: npt.NDArray[Any], family: Family) -> npt.NDArray[np.integer[Any]]:
    """Return the number of each row's class, (rows,)."""
    if target.ndim == 1:
        return target
    of_largest: npt.NDArray[np.intp] = target.argmax(axis=1)
    if family == "categorical":
        return of_largest
    if target.shape[1] == 1:
        column = target[:, 0]
        if family == "binary":
            return (column >= 0.5).astype(np.intp)
        if ((column >= 0) & (column <= LARGEST) & (column == np.floor(column))).all():
            return column.astype(np.intp)
    elif ((target == 0) | (target == 1)).all() and (target.sum(axis=1) == 1).all():
        return of_largest
    raise ValueError(
        "class_weight needs a target that is one class a row: its number, or 1 in its column and 0"
        " in all others; weight other rows by sample_weight"
    )

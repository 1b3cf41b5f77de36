"""Checks of what callers hand in, and conversion to the arrays that a backend takes.

Every error names the argument, what was expected and what came.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import operator
import reprlib
from collections.abc import Callable, Collection, Iterable
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastnn._core import why_missing

if why_missing is None:
    from fastnn._native import all_finite as all_finite
else:

    def all_finite(array: npt.NDArray[Any]) -> bool:
        """Tell whether there is no nan and no infinity in a float array."""
        return bool(np.isfinite(array).all())


Array = npt.NDArray[Any]
Family = Literal["regression", "categorical", "binary"]
UNITS = ("epoch", "step")  # what durations may count
Sign = Literal["any", "non-negative", "positive"]

# Row and class numbers are int32 in the backends.
LARGEST = 2**31 - 1
_NUMERIC = "biuf"  # NumPy's kinds: bool, int, unsigned, float


def unknown_name(argument: str, got: object, valid: Iterable[str]) -> ValueError:
    """Return (not raise) the error for a name that is not in a table, and suggest the nearest."""
    names = list(valid)
    message = f"{argument} must be one of {', '.join(names)}; got {got!r}"
    nearest = difflib.get_close_matches(str(got).lower(), names, n=1, cutoff=0.5)
    if nearest:
        message += f". Did you mean {nearest[0]!r}?"
    return ValueError(message)


def known_name(argument: str, value: object, valid: Collection[str]) -> str:
    """Return a name that is in a table."""
    if not isinstance(value, str) or value not in valid:
        raise unknown_name(argument, value, valid)
    return value


def describe(value: object) -> str:
    """Name a value in an error: short, and an array or frame by its type, dtype and shape."""
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or shape == ():
        return reprlib.repr(value)
    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__} of shape {shape}" + (f" and dtype {dtype}" if dtype else "")


def integer(argument: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """Return an integer of any integer type (but no bool) as an int within the bounds."""
    bounds = f">= {minimum}" if maximum is None else f"in [{minimum}, {maximum}]"
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{argument} must be an integer {bounds}; got {describe(value)}"
            f" of type {type(value).__name__}"
        ) from None
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{argument} must be an integer {bounds}; got {number}")
    return number


def non_negative(argument: str, value: object) -> float:
    """Return a finite real number >= 0 as a float."""
    return _number(argument, value, "a finite number >= 0", lambda number: 0 <= number < math.inf)


def positive(argument: str, value: object) -> float:
    """Return a finite real number > 0 as a float."""
    return _number(argument, value, "a finite number > 0", lambda number: 0 < number < math.inf)


def fraction(argument: str, value: object) -> float:
    """Return a real number in [0, 1) as a float."""
    return _number(argument, value, "a number in [0, 1)", lambda number: 0 <= number < 1)


def _number(argument: str, value: object, expected: str, within: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{argument} must be {expected}; got {describe(value)} of type {type(value).__name__}"
        )
    try:
        number = float(value)
    except OverflowError:  # of an integer
        raise ValueError(f"{argument} must be {expected}; got {describe(value)}") from None
    if not within(number):
        raise ValueError(f"{argument} must be {expected}; got {number!r}")
    return number


def flag(argument: str, value: object) -> bool:
    """Return a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument} must be True or False; got {describe(value)}")
    return bool(value)


def float_dtype(argument: str, value: object) -> np.dtype[Any]:
    """Return float32 or float64 as a NumPy dtype."""
    name = None
    if value is not None:  # which NumPy takes for float64
        with contextlib.suppress(TypeError):
            name = np.dtype(value).str  # type: ignore[call-overload]
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        if name == dtype.str:
            return dtype
    raise unknown_name(argument, value, ("float32", "float64"))


def as_array(argument: str, value: object) -> Array:
    """Return anything that holds real numbers as a NumPy array, of whatever layout and dtype."""
    array = value if type(value) is np.ndarray else _to_numpy(argument, value)
    if array.dtype.kind not in _NUMERIC:
        hint = "; call its .toarray() first" if hasattr(value, "toarray") else ""
        raise TypeError(
            f"{argument} must be an array of real numbers;"
            f" got {type(value).__name__} of dtype {array.dtype}{hint}"
        )
    return array


def as_rows(argument: str, value: object) -> Array:
    """Return the same, of one dimension at least."""
    array = as_array(argument, value)
    if array.ndim == 0:
        raise ValueError(f"{argument} must have rows; got a single number")
    return array


def _to_numpy(argument: str, value: object) -> Array:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{argument} must not have masked values; fill or drop them first")
    library = type(value).__module__.partition(".")[0]
    if library == "torch":
        value = _plain_tensor(argument, value)
    elif library in ("pandas", "polars"):
        value = _plain_frame(argument, value)
    try:
        array = np.asarray(value)
        opaque = array is not value and array.dtype == object and array.ndim == 0
        return np.from_dlpack(value) if opaque and hasattr(value, "__dlpack__") else array
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument} must be an array of real numbers; {error}") from error


def _plain_tensor(argument: str, tensor: Any) -> Any:
    """Return a torch tensor that NumPy can look into."""
    if tensor.device.type != "cpu":
        raise TypeError(
            f"{argument} must be in the memory of the CPU; got a tensor on {tensor.device}."
            " Move it with .cpu()"
        )
    tensor = tensor.detach()
    # NumPy has no bfloat16
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor


def _plain_frame(argument: str, frame: Any) -> Any:
    """Return the numbers in a pandas or Polars frame or series, nan where one is missing."""
    array = np.asarray(frame)
    if array.dtype.kind in _NUMERIC or not (hasattr(frame, "columns") or hasattr(frame, "dtype")):
        return array
    # An object array may come from text, but also from numbers: booleans beside floats, missing
    # values, decimals.
    columns = (
        zip(frame.columns, frame.dtypes, strict=True)
        if hasattr(frame, "columns")
        else [(getattr(frame, "name", None), frame.dtype)]
    )
    wrong = [f"{name!r} ({dtype})" for name, dtype in columns if not _is_number(dtype)]
    if wrong:
        raise TypeError(
            f"{argument} must have columns of real numbers only; got {', '.join(wrong[:5])}"
        )
    if type(frame).__module__.startswith("pandas"):
        return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return array.astype(np.float64)


def _is_number(dtype: Any) -> bool:
    """Tell whether a pandas or Polars dtype is of numbers or booleans."""
    if hasattr(dtype, "kind"):
        return dtype.kind in _NUMERIC
    return bool(dtype.is_numeric()) or str(dtype) == "Boolean"


def cast(argument: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return the array C-contiguous, aligned, of native byte order, finite and of the dtype.

    It is the same array, not a copy, when it is all that already.
    """
    if array.dtype == dtype:
        result = np.ascontiguousarray(array)
    else:
        with np.errstate(over="ignore"):
            result = np.ascontiguousarray(array, dtype)
    if not result.flags.aligned:
        result = result.copy()
    if not all_finite(result):
        first = np.argwhere(~np.isfinite(result))[0].tolist()
        place = ", ".join(
            f"{axis} {number}" for axis, number in zip(("row", "column"), first, strict=False)
        )
        got = array[tuple(first)]
        reason = f" (too large for {dtype})" if np.isfinite(got) else ""
        raise ValueError(f"{argument} must be finite; got {got} at {place}{reason}")
    return result


def matrix(argument: str, value: object, columns: int, dtype: np.dtype[Any]) -> Array:
    """Return rows of features as (rows, columns); there may be none."""
    array = as_array(argument, value)
    if array.ndim != 2 or array.shape[1] != columns:
        if array.shape == (0,):
            return np.empty((0, columns), dtype)
        hint = ""
        if array.shape == (columns,):
            hint = f". For a single row pass {argument}.reshape(1, -1)"
        elif array.ndim == 1 and columns == 1:
            hint = f". For a single feature pass {argument}.reshape(-1, 1)"
        elif array.ndim > 2 and math.prod(array.shape[1:]) == columns:
            hint = f". To flatten each row pass {argument}.reshape(len({argument}), -1)"
        raise ValueError(
            f"{argument} must have shape (rows, {columns}), one column a feature;"
            f" got shape {array.shape}{hint}"
        )
    return cast(argument, array, dtype)


def read_only(array: Array) -> Array:
    """Return a view for somebody who is not to write to it."""
    view = array.view()
    view.flags.writeable = False
    return view


def some_rows(argument: str, array: Array) -> None:
    """Refuse an empty array."""
    if array.shape[0] == 0:
        raise ValueError(f"{argument} must have at least one row; got shape {array.shape}")
    if array.shape[0] > LARGEST:
        raise ValueError(f"{argument} must have at most {LARGEST} rows; got {array.shape[0]}")


def target(
    argument: str,
    value: object,
    X: Array,
    outputs: int,
    family: Family,
    rows_of: str = "X",
    sign: Sign = "any",
) -> Array:
    """Return what the outputs for X should be, of X's dtype or as labels.

    Parameters
    ----------
    argument : str
        Its name, for errors.
    value : array_like
        (rows, outputs), or (rows,) where there is one output, or labels.
    X : ndarray of shape (rows, features)
        The features, converted already.
    outputs : int
        The units of the last layer.
    family : {"regression", "categorical", "binary"}
        What the loss compares: the members of a class, of which one is right; several or one
        yes and no; any numbers.
    rows_of : str
        The name of X, for errors.
    sign : {"any", "non-negative", "positive"}
        What the numbers of a regression may be.

    Returns
    -------
    ndarray
        (rows,) int32 labels, or (rows, outputs) of X's dtype and C-contiguous.
    """
    array = as_array(argument, value)
    rows = X.shape[0]
    if array.ndim == 0 or array.shape[0] != rows:
        raise ValueError(
            f"{rows_of} and {argument} must have the same number of rows;"
            f" got {rows} and {array.shape[0] if array.ndim else 'a single number'}"
        )
    by_label = family == "categorical" and array.shape in ((rows,), (rows, 1))
    if by_label and array.shape != (rows, outputs):
        return _labels(argument, array.reshape(rows), outputs)
    if array.ndim == 1 and outputs == 1:
        array = array.reshape(rows, 1)
    if array.shape != (rows, outputs):
        expected = {
            "categorical": f"({rows},) of integer labels, or ({rows}, {outputs})",
            "binary": f"({rows}, {outputs})" + (f" or ({rows},)" if outputs == 1 else ""),
            "regression": f"({rows}, {outputs})" + (f" or ({rows},)" if outputs == 1 else ""),
        }[family]
        raise ValueError(f"{argument} must have shape {expected}; got shape {array.shape}")
    result = cast(argument, array, X.dtype)
    if sign != "any" and result.size:
        low = result.min()
        if low < 0 or (low == 0 and sign == "positive"):
            raise ValueError(f"{argument} must be {sign} for this loss; got {low}")
    yes_or_no = family == "categorical" and outputs == 1 and np.isin(result, (0, 1)).all()
    if yes_or_no and not result.all():
        raise ValueError(
            f"{argument} must be 1 in all rows for this loss and one output, the only class there"
            " is; got 0.0. For yes or no use loss='binary_cross_entropy'"
        )
    if family != "regression" and result.size:
        low, high = result.min(), result.max()
        if low < 0 or high > 1:
            raise ValueError(
                f"{argument} must be within [0, 1] for this loss; got {low if low < 0 else high}"
            )
    return result


def _labels(argument: str, array: Array, classes: int) -> Array:
    """Return (rows,) class numbers as int32."""
    if array.dtype.kind == "f":
        cast(argument, array, np.dtype(np.float64))
        fractional = array != np.floor(array)
        if fractional.any():
            raise ValueError(
                f"{argument} must be integers, the class numbers from 0 to {classes - 1};"
                f" got {array[fractional][0]} at row {int(fractional.argmax())}"
            )
    if array.size:
        low, high = array.min(), array.max()
        if low < 0 or high >= classes:
            raise ValueError(
                f"{argument} must be class numbers from 0 to {classes - 1}, one for each of the"
                f" network's {classes} outputs; got {low if low < 0 else high}"
            )
    # A copy: what somebody writes into the caller's array later would not be checked.
    return np.array(array, np.int32, order="C")


def sample_weights(argument: str, value: object, X: Array, rows_of: str = "X") -> Array | None:
    """Return None, or one weight >= 0 for each row of X, of its dtype."""
    if value is None:
        return None
    array = as_array(argument, value)
    if array.shape != X.shape[:1]:
        raise ValueError(
            f"{argument} must have shape {X.shape[:1]}, a number for each row of {rows_of};"
            f" got shape {array.shape}"
        )
    result = cast(argument, array, X.dtype)
    if result.size and result.min() < 0:
        raise ValueError(f"{argument} must be >= 0; got {result.min()}")
    return result


def output_buffer(out: object, shape: tuple[int, int], dtype: np.dtype[Any], X: Array) -> Array:
    """Return `out` if results can be written to it as it is."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array; got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must have the network's dtype {dtype}; got dtype {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}; got shape {out.shape}")
    flags = out.flags
    if not (flags.c_contiguous and flags.aligned and flags.writeable):
        lacking = [
            name
            for name, has in (
                ("C-contiguous", flags.c_contiguous),
                ("aligned", flags.aligned),
                ("writable", flags.writeable),
            )
            if not has
        ]
        raise ValueError(
            "out must be C-contiguous, aligned and writable;"
            f" got an array that is not {' and not '.join(lacking)}"
        )
    if np.may_share_memory(out, X):
        raise ValueError("out must not overlap X; got arrays that share memory")
    return out

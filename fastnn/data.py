"""Data on their way to a network: prepared, split, and in batches when they exceed the memory.

A NumPy array may be larger than the memory as it is: `fastnn.Network.fit` takes a C-contiguous
``numpy.memmap`` of the network's dtype without copying it. For all else there are batches, which
are made in other threads while the network trains.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice, repeat
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from fastnn._config import MOST_THREADS
from fastnn._optional import needed
from fastnn._validation import as_array, as_rows, describe, flag, integer, positive

__all__ = [
    "ArrayBatches",
    "ArrowBatches",
    "Batch",
    "Batches",
    "normalize",
    "one_hot",
    "prefetch",
    "split",
    "standardize",
]

Batch: TypeAlias = Sequence[Any]
"""``(X, y)`` or ``(X, y, sample_weight)``, rows as in `fastnn.Network.fit`."""

Transform: TypeAlias = Callable[[npt.NDArray[Any], np.random.Generator], npt.ArrayLike]
"""What makes other features of some rows, by random numbers, as `fastnn.augment.Images` does."""

_T = TypeVar("_T")
_PATIENCE = 1.0  # seconds that prefetch, when it is left, waits for calls that have begun


# -- preparation


def one_hot(
    labels: npt.ArrayLike, classes: int | None = None, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """Return a row for each label: 1 in the column of its number, 0 in all others.

    Parameters
    ----------
    labels : array_like of int, shape (rows,)
        Numbers of classes, from 0.
    classes : int, optional
        How many classes there are; by default one more than the largest label.
    dtype : dtype, default float32
        Of the result.

    Returns
    -------
    ndarray of shape (rows, classes)

    Raises
    ------
    TypeError, ValueError
        If the labels are no integers from 0 to ``classes - 1`` in one dimension.

    Examples
    --------
    >>> from fastnn.data import one_hot
    >>> one_hot([2, 0]).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    numbers = as_array("labels", labels)
    if numbers.ndim != 1 or (numbers.size == 0 and classes is None):
        raise ValueError(f"labels must have shape (rows,), rows > 0; got shape {numbers.shape}")
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise TypeError(f"labels must be integers; got dtype {numbers.dtype}")
    n = int(numbers.max()) + 1 if classes is None else integer("classes", classes, 1)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= n):
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise ValueError(f"labels must be from 0 to {n - 1}; got {wrong}")
    result = np.zeros((len(numbers), n), dtype)
    result[np.arange(len(numbers)), numbers.astype(np.intp)] = 1
    return result


def standardize(X: npt.ArrayLike, *others: npt.ArrayLike) -> tuple[Any, ...]:
    """Scale each feature to mean 0 and standard deviation 1 over the rows to train on.

    Parameters
    ----------
    X : array_like of shape (rows, features)
        The rows to train on.
    *others : array_like of shape (any, features)
        Rows to validate and test on, scaled by the numbers of those.

    Returns
    -------
    tuple
        `X`, `others`, and the ``sklearn.preprocessing.StandardScaler``, whose ``transform`` and
        ``inverse_transform`` do so to further rows.

    Raises
    ------
    ImportError
        If scikit-learn is not there.
    """
    return _scaled(_sklearn("preprocessing").StandardScaler(), X, others)


def normalize(X: npt.ArrayLike, *others: npt.ArrayLike) -> tuple[Any, ...]:
    """Scale each feature to the range from 0 to 1 over the rows to train on.

    Parameters
    ----------
    X : array_like of shape (rows, features)
        The rows to train on.
    *others : array_like of shape (any, features)
        Rows to validate and test on, scaled by the numbers of those.

    Returns
    -------
    tuple
        `X`, `others`, and the ``sklearn.preprocessing.MinMaxScaler``, whose ``transform`` and
        ``inverse_transform`` do so to further rows.

    Raises
    ------
    ImportError
        If scikit-learn is not there.
    """
    return _scaled(_sklearn("preprocessing").MinMaxScaler(), X, others)


def split(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    test_size: float = 0.25,
    *,
    stratify: bool = False,
    seed: int = 0,
) -> tuple[Any, Any, Any, Any]:
    """Split rows at random into some to train on and some to test on.

    Parameters
    ----------
    X, y : array_like
        The rows.
    test_size : float, default 0.25
        The part of the rows to test on.
    stratify : bool, default False
        Whether each class is to have the same share of both parts; `y` is of labels then, or
        one-hot.
    seed : int, default 0
        Decides which rows are in which part.

    Returns
    -------
    X_train, X_test, y_train, y_test
        As in scikit-learn.

    Raises
    ------
    ImportError
        If scikit-learn is not there.
    ValueError
        If the rows cannot be split so.
    """
    test_size = positive("test_size", test_size)
    classes = np.asarray(y)
    if classes.ndim == 2:
        classes = classes.argmax(axis=1)
    X_train, X_test, y_train, y_test = _sklearn("model_selection").train_test_split(
        X,
        y,
        test_size=test_size,
        random_state=integer("seed", seed, 0),
        stratify=classes if flag("stratify", stratify) else None,
    )
    return X_train, X_test, y_train, y_test


def _sklearn(module: str) -> Any:
    import importlib

    with needed("this", "scikit-learn", "sklearn"):
        return importlib.import_module(f"sklearn.{module}")


def _scaled(scaler: Any, X: npt.ArrayLike, others: Sequence[npt.ArrayLike]) -> tuple[Any, ...]:
    return (scaler.fit_transform(X), *map(scaler.transform, others), scaler)


# -- batches


class Batches(ABC):
    """Base of what gives the batches of each epoch anew; subclass it for data of your own.

    The batches must depend on the number of the epoch alone: then a training can be resumed in
    the middle of one.
    """

    @abstractmethod
    def epoch(self, number: int) -> Iterator[Batch]:
        """Return the batches of an epoch, the first being 0."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are in an epoch."""

    def targets(self) -> Iterator[Any]:
        """Return the targets of all rows, in parts, as ``class_weight="balanced"`` counts them.

        By default, they are those of the batches of the first epoch; override this where they can
        be had without making batches.
        """
        return (y for _, y, _ in map(parts, self.epoch(0)))


class ArrayBatches(Batches):
    """Batches of arrays' rows that are picked, converted and changed one batch at a time.

    That is for arrays of another dtype than the network's in a file larger than the memory, and
    for augmentation.

    Parameters
    ----------
    X : ndarray of shape (rows, ...)
        The features, of any dtype: an array or ``numpy.memmap``.
    y : array_like
        The targets, as in `fastnn.Network.fit`.
    batch_size : int, default 32
        Rows a batch; the last of an epoch may have fewer.
    sample_weight : array_like of shape (rows,), optional
        What each row counts.
    transform : callable, optional
        ``transform(X, rng)`` of a batch's features gives those to train on, (rows, n_features).
        By default they are only made flat.
    shuffle : bool, default True
        Whether to take the rows in a new random order in each epoch.
    seed : int, default 0
        Decides that order, and with the numbers of the epoch and the batch what ``rng`` draws.
    workers : int, default 1
        How many threads make batches. What they make does not depend on it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """

    def __init__(
        self,
        X: npt.NDArray[Any],
        y: npt.ArrayLike,
        batch_size: int = 32,
        *,
        sample_weight: npt.ArrayLike | None = None,
        transform: Transform | None = None,
        shuffle: bool = True,
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        arrays = {"X": as_rows("X", X), "y": as_array("y", y)}
        if sample_weight is not None:
            arrays["sample_weight"] = as_array("sample_weight", sample_weight)
        for name, array in arrays.items():
            if array.ndim == 0 or len(array) != len(arrays["X"]):
                raise ValueError(
                    f"{name} must have a row for each of the {len(arrays['X'])} of X;"
                    f" got {describe(array)}"
                )
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be callable; got {describe(transform)}")
        self._arrays = tuple(arrays.values())
        self._batch_size = integer("batch_size", batch_size, 1)
        self._transform = transform
        self._shuffle = flag("shuffle", shuffle)
        self._seed = integer("seed", seed, 0)
        self._workers = integer("workers", workers, 1, MOST_THREADS)

    def __len__(self) -> int:
        return -(-len(self._arrays[0]) // self._batch_size)

    def targets(self) -> Iterator[Any]:
        yield self._arrays[1]

    def epoch(self, number: int) -> Iterator[Batch]:
        rows = len(self._arrays[0])
        order = np.arange(rows)
        if self._shuffle:
            order = np.random.default_rng([self._seed, number]).permutation(rows)
        calls = (partial(self._batch, order, number, batch) for batch in range(len(self)))
        return prefetch(calls, self._workers)

    def _batch(self, order: npt.NDArray[np.intp], epoch: int, number: int) -> Batch:
        rows = order[number * self._batch_size :][: self._batch_size]
        X, *others = (array[rows] for array in self._arrays)
        if self._transform is None:
            return (X.reshape(len(X), -1), *others)
        rng = np.random.default_rng([self._seed, epoch, number])
        return (self._transform(X, rng), *others)


class ArrowBatches(Batches):
    """Batches of the rows of Parquet or Arrow files, of which one row group is in memory at once.

    Needs ``pip install "fastnn[parquet]"``.

    Parameters
    ----------
    source : str, os.PathLike, list of these, or pyarrow.dataset.Dataset
        The files: Parquet, or by their ending ``.arrow`` and ``.feather`` the Arrow format, or a
        directory of them.
    target : str or sequence of str
        Name of the column, or columns, of targets.
    batch_size : int, default 32
        Rows a batch; the last of an epoch may have fewer.
    features : sequence of str, optional
        Names of the columns of features; by default all others.
    sample_weight : str, optional
        Name of a column of what each row counts.
    shuffle : bool, default True
        Whether to take the row groups, and the rows of each, in a new random order in each epoch.
    seed : int, default 0
        Decides that order.

    Raises
    ------
    ImportError
        If pyarrow is not there.
    TypeError, ValueError
        If an argument is not as described, or there is no such column.
    """

    def __init__(
        self,
        source: Any,
        target: str | Sequence[str],
        batch_size: int = 32,
        *,
        features: Sequence[str] | None = None,
        sample_weight: str | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        dataset = _dataset(source)
        targets = _names("target", [target] if isinstance(target, str) else target)
        self._target = target if isinstance(target, str) else targets
        weights = [] if sample_weight is None else [sample_weight]
        names = dataset.schema.names
        if features is None:
            features = [name for name in names if name not in (*targets, *weights)]
        self._features = _names("features", features)
        for name in (*targets, *weights, *self._features):
            if name not in names:
                raise ValueError(f"there must be a column {name!r}; got {', '.join(names)}")
        self._sample_weight = sample_weight
        self._columns = list(dict.fromkeys((*self._features, *targets, *weights)))
        self._parts = [
            part
            for fragment in dataset.get_fragments()
            for part in (
                fragment.split_by_row_group()
                if hasattr(fragment, "split_by_row_group")
                else [fragment]
            )
        ]
        self._rows = dataset.count_rows()
        self._batch_size = integer("batch_size", batch_size, 1)
        self._shuffle = flag("shuffle", shuffle)
        self._seed = integer("seed", seed, 0)

    def __len__(self) -> int:
        return int(-(-self._rows // self._batch_size))

    def targets(self) -> Iterator[Any]:
        columns = [self._target] if isinstance(self._target, str) else self._target
        for part in self._parts:
            yield self._targets(part.to_table(columns=columns))

    def epoch(self, number: int) -> Iterator[Batch]:
        rng = np.random.default_rng([self._seed, number])
        parts = rng.permutation(len(self._parts)) if self._shuffle else range(len(self._parts))
        left: list[npt.NDArray[Any]] = []
        for part in parts:
            arrays = self._arrays(self._parts[part].to_table(columns=self._columns))
            if self._shuffle:
                order = rng.permutation(len(arrays[0]))
                arrays = [array[order] for array in arrays]
            if left:
                arrays = [np.concatenate(pair) for pair in zip(left, arrays, strict=True)]
            full = len(arrays[0]) // self._batch_size * self._batch_size
            for first in range(0, full, self._batch_size):
                yield [array[first : first + self._batch_size] for array in arrays]
            left = [array[full:] for array in arrays]
        if left and len(left[0]):
            yield left

    def _arrays(self, table: Any) -> list[npt.NDArray[Any]]:
        """Return features, targets and weights of some rows."""
        arrays = [_columns(table, self._features), self._targets(table)]
        if self._sample_weight is not None:
            arrays.append(table[self._sample_weight].to_numpy())
        return arrays

    def _targets(self, table: Any) -> npt.NDArray[Any]:
        if isinstance(self._target, str):
            return np.asarray(table[self._target].to_numpy())
        return _columns(table, self._target)


def _columns(table: Any, names: Sequence[str]) -> npt.NDArray[Any]:
    return np.column_stack([table[name].to_numpy() for name in names])


def _names(argument: str, given: object) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{argument} must be names of columns; got {describe(given)}")
    names = list(given)
    if not names:
        raise ValueError(f"{argument} must be at least one column; got none")
    return names


def _dataset(source: Any) -> Any:
    with needed("ArrowBatches", "pyarrow", "parquet"):
        from pyarrow import dataset
    if isinstance(source, dataset.Dataset):
        return source
    paths = list(source) if isinstance(source, (list, tuple)) else [source]
    if not paths or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise TypeError(f"source must be paths or a pyarrow dataset; got {describe(source)}")
    names = [os.fspath(path) for path in paths]
    arrow = all(name.endswith((".arrow", ".feather")) for name in names)
    return dataset.dataset(
        names if len(names) > 1 else names[0], format="arrow" if arrow else "parquet"
    )


def prefetch(calls: Iterable[Callable[[], _T]], workers: int = 1) -> Iterator[_T]:
    """Return what some calls return, in their order, calling ahead in other threads.

    Parameters
    ----------
    calls : iterable of callable
        With one worker they run one after another, else several at once.
    workers : int, default 1
        Number of threads.

    Yields
    ------
    object
        What each call returns; an exception is raised when its turn comes. Who leaves before the
        end waits for calls that have begun no longer than a second.

    Raises
    ------
    TypeError, ValueError
        If `workers` is no integer from 1 to 4096; as all else, when the first is asked for.
    """
    workers, calls = integer("workers", workers, 1, MOST_THREADS), iter(calls)
    tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def work() -> None:
        while (task := tasks.get()) is not None:
            task()
            del task  # and with it the result

    def submit(call: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        tasks.put(partial(_settle, future, call))
        return future

    # Not an executor: leaving, and the end of the process, would wait for calls without end.
    threads = [Thread(target=work, name="fastnn-prefetch", daemon=True) for _ in range(workers)]
    waiting: deque[Future[_T]] = deque()
    try:
        for thread in threads:
            thread.start()
        waiting.extend(map(submit, islice(calls, 2 * workers)))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(map(submit, islice(calls, 1)))
            yield result
    finally:
        for future in waiting:
            future.cancel()
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            if thread.is_alive():  # and so was started
                thread.join(_PATIENCE / workers)


def _settle(future: Future[_T], call: Callable[[], _T]) -> None:
    """Run a call, unless it has been cancelled."""
    if future.set_running_or_notify_cancel():
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)


def parts(batch: object) -> tuple[Any, Any, Any]:
    """Return X, y and sample weights of a batch, None if there are none.

    Raises
    ------
    ValueError
        If it is no batch.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise ValueError(f"a batch must be (X, y) or (X, y, sample_weight); got {describe(batch)}")
    X, y, weight = (*batch, None)[:3]
    return X, y, weight


def targets_of(source: Any, steps_per_epoch: int | None) -> Iterator[Any]:
    """Return the targets of an epoch, before any is trained on.

    Raises
    ------
    ValueError
        If `source` can be gone through but once.
    """
    if isinstance(source, Batches):
        yield from source.targets()
        return
    if isinstance(source, Iterator):
        raise ValueError(
            "class_weight must be a mapping where X is an iterator, whose classes cannot be counted"
            " beforehand; got 'balanced'"
        )
    iterable = isinstance(source, Iterable)
    batches = source if iterable else (source[i] for i in range(len(source)))
    for batch in islice(batches, steps_per_epoch):
        yield parts(batch)[1]


def _batches_of(source: object, shuffle: bool, seed: int) -> Callable[[int], Iterable[Batch]]:
    """Return what gives the batches of an epoch, in their order."""
    if isinstance(source, Batches):
        return source.epoch
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        length = len(source)

        def of_epoch(number: int) -> Iterable[Batch]:
            order: Iterable[Any] = range(length)
            if shuffle:
                order = np.random.default_rng([seed, number]).permutation(length).tolist()
            return (source[i] for i in order)

        return of_epoch
    if isinstance(source, Iterable):
        return lambda number: source
    raise TypeError(
        f"X must be an array, with y, or without y an iterable of batches; got {describe(source)}"
    )


def epochs_of(
    source: object,
    convert: Callable[[Batch], _T],
    shuffle: bool,
    seed: int,
    steps_per_epoch: int | None,
) -> tuple[Callable[[int, int], Iterator[_T]], int | None]:
    """Return what gives the converted batches of an epoch, from one on, and how many there are.

    Raises
    ------
    TypeError
        If there are no batches in `source`.
    """
    of_epoch = _batches_of(source, shuffle, seed)

    def ahead(number: int, first: int) -> Iterator[_T]:
        batches = iter(of_epoch(number))
        if batches is source and first:
            raise ValueError(
                "an epoch can only be resumed with batches that can be gone through again, such"
                f" as fastnn.data.Batches; got {describe(source)}"
            )
        wanted = islice(batches, first, steps_per_epoch)

        def call() -> tuple[_T, ...]:
            return tuple(map(convert, islice(wanted, 1)))

        for one_or_none in prefetch(repeat(call)):
            if not one_or_none:
                break
            yield one_or_none[0]

    if steps_per_epoch is None and hasattr(source, "__len__"):
        return ahead, len(source)
    return ahead, steps_per_epoch

"""Many networks trained at once.

Small networks leave most of a processor with several cores idle when they are trained one after
the other. Here each is trained by one thread from its first step to its last, and all threads
take networks from one queue, without processes and without copies of the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastnn._position import Position
from fastnn._random import permutation
from fastnn._validation import LARGEST, as_array, as_rows, describe, flag, integer
from fastnn.callbacks import EarlyStopping, moving_bar
from fastnn.history import History
from fastnn.network import Network
from fastnn.optimizers import LBFGS
from fastnn.schedules import Schedule
from fastnn.training import Data, batch_weights, check_losses

if TYPE_CHECKING:
    from fastnn._native import Member

__all__ = ["train_many"]

_T = TypeVar("_T")
Rows = npt.NDArray[np.int32]


def train_many(
    networks: Iterable[Network],
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    epochs: int | Sequence[int] = 1,
    batch_size: int | Sequence[int] = 32,
    *,
    rows: Sequence[npt.ArrayLike | None] | None = None,
    validation_rows: Sequence[npt.ArrayLike | None] | None = None,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[int, float] | None = None,
    shuffle: bool | Sequence[bool] = True,
    early_stopping: EarlyStopping | Sequence[EarlyStopping | None] | None = None,
    verbose: int = 0,
) -> list[History]:
    """Train many networks at once, each as `Network.fit` would on its rows alone.

    Each is trained by one thread from its first step to its last, to the same bits as by ``fit``,
    whatever the number of threads. They may differ in all: layers, loss, optimizer, dropout,
    seed. Networks of the backend "numpy", and those whose loss is a Python function or whose
    optimizer is `fastnn.LBFGS`, are trained one after the other.

    Parameters
    ----------
    networks : iterable of Network
        All different; trained ones go on.
    X, y, sample_weight
        As of `Network.fit`, rows for all networks.
    epochs, batch_size, shuffle
        As of `Network.fit`; each one for all, or a sequence with one for each network. There may be
        up to 2,147,483,647 epochs: memory for their figures is taken beforehand.
    rows : sequence of array_like, optional
        For each network the numbers of the rows to train on, which may repeat, or a mask of bool,
        or None for all rows. X is not copied for it.
    validation_rows : sequence of array_like, optional
        Likewise the rows to judge by after each epoch; by default none.
    class_weight : "balanced" or mapping of int to float, optional
        As of `Network.fit`; "balanced" in the rows of each network.
    early_stopping : EarlyStopping or sequence, optional
        When to end a training early; by "val_loss" or "val_accuracy". One for all, or one or None
        for each network. It is not changed by it.
    verbose : {0, 1}
        1 shows how many networks are done, on a bar if tqdm is there and a terminal or notebook
        to show it.

    Returns
    -------
    list of History
        Of each network; also in their attributes `history`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; nothing has changed then.
    ExceptionGroup
        Of a FloatingPointError for each network whose loss became infinite or nan, which ended its
        training as it ends ``fit``; all others have been trained.
    RuntimeError
        If another thread is training one of the networks.
    KeyboardInterrupt
        On Ctrl-C; each network is as after its last finished step, from where
        ``net.fit(X[rows], y[rows], ..., resume=True)`` goes on as if nothing had happened.

    Examples
    --------
    >>> import fastnn
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> networks = [
    ...     fastnn.Network([2, hidden, 1], loss="binary_cross_entropy", seed=0)
    ...     for hidden in (4, 8, 16)
    ... ]
    >>> histories = fastnn.train_many(networks, X, y, epochs=200)
    >>> best = min(range(3), key=lambda i: histories[i]["loss"][-1])
    """
    courses = courses_of(
        networks,
        X,
        y,
        epochs,
        batch_size,
        rows,
        validation_rows,
        sample_weight,
        class_weight,
        shuffle,
        early_stopping,
    )
    _raise_all(train(courses, integer("verbose", verbose, 0, 1)))
    return [history_of(course.net) for course in courses]


@dataclass(frozen=True)
class Course:
    """How one network is to be trained, checked and converted; `rows` None: all of `data`."""

    net: Network
    data: Data
    rows: Rows | None
    validation: Data | None
    epochs: int
    batch_size: int
    shuffle: bool
    stopping: EarlyStopping | None

    @property
    def length(self) -> int:
        return len(self.data) if self.rows is None else len(self.rows)

    @property
    def in_core(self) -> bool:
        net = self.net
        whole = callable(net.loss) or isinstance(net.optimizer, LBFGS)  # leave the core in between
        return net.backend == "native" and not whole and self.epochs > 0


def courses_of(
    networks: Iterable[Network],
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    epochs: int | Sequence[int],
    batch_size: int | Sequence[int],
    rows: Sequence[npt.ArrayLike | None] | None,
    validation_rows: Sequence[npt.ArrayLike | None] | None,
    sample_weight: npt.ArrayLike | None,
    class_weight: str | Mapping[int, float] | None,
    shuffle: bool | Sequence[bool],
    early_stopping: EarlyStopping | Sequence[EarlyStopping | None] | None,
) -> list[Course]:
    """Check everything, and convert X and y once for all networks that take them alike."""
    nets = _networks(networks)
    n = len(nets)
    X, y = as_rows("X", X), as_rows("y", y)
    every_epochs = each("epochs", epochs, n, lambda name, value: integer(name, value, 0, LARGEST))
    every_batch = each("batch_size", batch_size, n, lambda name, value: integer(name, value, 1))
    every_shuffle = each("shuffle", shuffle, n, flag)
    every_stopping = each("early_stopping", early_stopping, n, _stopping)
    every_rows = _every_rows("rows", rows, n, len(X))
    every_validation = _every_rows("validation_rows", validation_rows, n, len(X))
    converted: dict[Any, Data] = {}
    gathered: dict[Any, Data] = {}
    courses = []
    for number, net in enumerate(nets):
        loss, of_one = net._loss, net._outputs_a_target
        alike = (net.n_features, net.n_outputs, net.dtype, loss.kind, loss.sign, of_one)
        if alike not in converted:
            try:
                converted[alike] = net._data(X, y, sample_weight)
            except (TypeError, ValueError) as error:
                raise type(error)(f"networks[{number}]: {error}") from error
        data, own, validation = converted[alike], every_rows[number], None
        judged = every_validation[number]
        if judged is not None:
            key = (alike, id(judged))
            if key not in gathered:
                gathered[key] = data[judged]
            validation = gathered[key]
        if every_stopping[number] is not None and validation is None:
            raise ValueError(
                f"validation_rows[{number}] must be given for early_stopping; got None"
            )
        if class_weight is not None:
            chosen = slice(None) if own is None else own
            weights = np.ones(len(data))
            target = net._given_target(data)[chosen]
            weights[chosen] = net._class_weights(class_weight, [target]).of(target)
            data = data.weighted(weights)
        length = len(data) if own is None else len(own)
        courses.append(
            Course(
                net,
                data,
                own,
                validation,
                every_epochs[number],
                min(every_batch[number], length),
                every_shuffle[number],
                every_stopping[number],
            )
        )
    return courses


def _networks(networks: Iterable[Network]) -> list[Network]:
    if not isinstance(networks, Iterable):
        raise TypeError(f"networks must be a list of Network objects; got {describe(networks)}")
    listed = list(networks)
    numbers: dict[int, int] = {}
    for number, net in enumerate(listed):
        if not isinstance(net, Network):
            raise TypeError(f"networks[{number}] must be a fastnn.Network; got {describe(net)}")
        first = numbers.setdefault(id(net), number)
        if first != number:
            raise ValueError(
                f"networks must all be different; got the same one as networks[{first}] and"
                f" networks[{number}]"
            )
    return listed


def each(name: str, given: Any, n: int, check: Callable[[str, Any], _T]) -> list[_T]:
    """Return what is given for all, or for each of n networks, n times."""
    if not isinstance(given, (list, tuple, np.ndarray)):
        return [check(name, given)] * n
    if len(given) != n:
        raise ValueError(
            f"{name} must have one item for each of the {n} networks; got {len(given)}"
        )
    return [check(f"{name}[{number}]", value) for number, value in enumerate(given)]


def _stopping(name: str, given: object) -> EarlyStopping | None:
    if given is None:
        return None
    if not isinstance(given, EarlyStopping):
        raise TypeError(f"{name} must be a fastnn.EarlyStopping or None; got {describe(given)}")
    if given.monitor not in ("val_loss", "val_accuracy"):
        raise ValueError(f"{name} must monitor 'val_loss' or 'val_accuracy'; got {given.monitor!r}")
    return given


def _every_rows(name: str, given: Any, n: int, length: int) -> list[Rows | None]:
    if given is None:
        return [None] * n
    if not isinstance(given, (list, tuple, np.ndarray)) or len(given) != n:
        raise ValueError(
            f"{name} must have one array or None for each of the {n} networks;"
            f" got {describe(given)}"
        )
    done: dict[int, Rows] = {}  # by their arrays, of which several networks may have one
    for number, value in enumerate(given):
        if value is not None and id(value) not in done:
            done[id(value)] = row_numbers(f"{name}[{number}]", value, length)
    return [None if value is None else done[id(value)] for value in given]


def row_numbers(name: str, given: npt.ArrayLike, length: int) -> Rows:
    array = as_array(name, given)
    if array.dtype == bool and array.shape == (length,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise ValueError(
            f"{name} must be some numbers of rows, or a mask of {length} bools;"
            f" got {describe(array)}"
        )
    if array.min() < 0 or array.max() >= length:
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"{name} must be numbers of rows from 0 to {length - 1}; got {wrong}")
    return array.astype(np.int32)


# -- training


def train(courses: Sequence[Course], verbose: int = 0) -> list[FloatingPointError | None]:
    """Train all; return what ended each training, if anything did."""
    errors: dict[int, FloatingPointError] = {}
    with ExitStack() as stack, Count(verbose, len(courses), "networks") as count:
        for course in courses:
            stack.enter_context(course.net._one_trainer)
        in_core = [number for number, course in enumerate(courses) if course.in_core]
        errors |= _train_in_core({number: courses[number] for number in in_core}, count)
        for number, course in enumerate(courses):
            if not course.in_core:
                try:
                    _train_alone(course)
                except FloatingPointError as error:
                    errors[number] = error
                count(count.done + 1)
    return [errors.get(number) for number in range(len(courses))]


def _raise_all(errors: Sequence[FloatingPointError | None]) -> None:
    found = [
        FloatingPointError(f"networks[{number}]: {error}")
        for number, error in enumerate(errors)
        if error is not None
    ]
    if found:
        raise ExceptionGroup(f"{len(found)} of {len(errors)} networks diverged", found)


def _train_alone(course: Course) -> None:
    data = course.data if course.rows is None else course.data[course.rows]
    stopping = course.stopping
    callbacks = []
    if stopping is not None:
        callbacks = [
            EarlyStopping(
                stopping.monitor,
                stopping.patience,
                min_delta=stopping.min_delta,
                mode=stopping.mode,
                restore_best_weights=stopping.restore_best_weights,
            )
        ]
    course.net._train(
        data,
        course.validation,
        course.epochs,
        course.batch_size,
        course.shuffle,
        callbacks=callbacks,
    )


def _train_in_core(
    courses: dict[int, Course], tick: Callable[[int], object]
) -> dict[int, FloatingPointError]:
    if not courses:
        return {}
    from fastnn.backends.native import train_many

    members = {number: _member(course) for number, course in courses.items()}
    before = {
        number: course.net._shuffler.bit_generator.state for number, course in courses.items()
    }
    try:
        train_many(list(members.values()), tick)
    finally:
        for number, course in courses.items():
            _take_note(course, members[number], before[number])
    errors = {}
    for number, member in members.items():
        if member.diverged:
            try:
                check_losses(courses[number].net._backend, member.batch_loss, member.epoch)
            except FloatingPointError as error:
                errors[number] = error
    return errors


def _member(course: Course) -> Member:
    from fastnn.backends.native import NativeBackend, member

    net, stopping = course.net, course.stopping
    backend = net._backend
    assert isinstance(backend, NativeBackend)
    batches = -(-course.length // course.batch_size)
    rate, step = net.learning_rate, net.steps
    if isinstance(rate, Schedule):
        rates = [
            net.optimizer.rates(net.epochs + epoch, step + epoch * batches, batches)
            for epoch in range(course.epochs)
        ]
    else:
        rates = [net.optimizer.rates(net.epochs, step, batches)]
    validation = course.validation
    return member(
        backend,
        course.data.X,
        course.data.target,
        course.data.sample_weight,
        course.rows,
        course.batch_size,
        course.epochs,
        net.optimizer,
        np.concatenate([*rates, np.empty(0)]),
        _shares(course, batches),
        net._shuffler.bit_generator if course.shuffle else None,
        None if validation is None else (validation.X, validation.target, validation.sample_weight),
        None
        if stopping is None
        else (
            stopping.patience,
            stopping.monitor == "val_accuracy",
            stopping.mode == "max",
            stopping.min_delta,
            stopping.restore_best_weights,
        ),
    )


def _shares(course: Course, batches: int) -> npt.NDArray[np.float64] | None:
    """Return what each step of all epochs counts in the average; None where all count nothing."""
    net, averaging = course.net, course.net.averaging
    if averaging is None:
        return None
    shares = np.concatenate(
        [
            averaging.shares(net.steps + epoch * batches, batches, net.epochs + epoch, True)
            for epoch in range(course.epochs)
        ]
    )
    return shares if shares.any() else None


def _take_note(course: Course, member: Member, before: Any) -> None:
    """Give the network what `Network.fit` would leave: its history, and where it is."""
    net, done = course.net, member.epoch
    net.history = _history(course, member) if done else History()
    net.epochs += done
    stopped = member.ended and done < course.epochs and not member.diverged
    net._position = Position(epoch=done, stopped=stopped)
    if member.batch:
        _note_batches(course, member, before)


def _history(course: Course, member: Member) -> History:
    done, judged = member.epoch, course.validation
    history = History()
    history.epoch = list(range(done))
    history.history["loss"] = member.loss[:done].tolist()
    if course.net._has_accuracy:
        history.history["accuracy"] = (member.hits[:done] / course.length).tolist()
    if judged is not None and member.val_loss is not None and member.val_hits is not None:
        history.history["val_loss"] = member.val_loss[:done].tolist()
        if course.net._has_accuracy:
            history.history["val_accuracy"] = (member.val_hits[:done] / len(judged)).tolist()
    return history


def _note_batches(course: Course, member: Member, before: Any) -> None:
    """Note where in an epoch a training ended, for which its epochs are drawn anew up to there."""
    position, n, shuffler = course.net._position, course.length, course.net._shuffler
    order: npt.NDArray[Any] | None = course.rows
    if course.shuffle:
        shuffler.bit_generator.state = before
        for _ in range(member.epoch):
            permutation(shuffler, n)
    position.begin_epoch(shuffler.bit_generator.state, (n, course.batch_size, course.shuffle))
    if course.shuffle:
        order = permutation(shuffler, n)
        order = order if course.rows is None else course.rows[order]
    weights = batch_weights(course.data, order, course.batch_size)
    done = slice(member.batch)
    position.batch = member.batch
    position.batches = [(member.batch_loss[done], member.batch_hits[done], weights[done])]
    position.seen = min(n, member.batch * course.batch_size)


def history_of(net: Network) -> History:
    assert net.history is not None
    return net.history


class Count:
    """Shows how many of some things are done: a bar where one can move, else a line in the end."""

    def __init__(self, verbose: int, total: int, what: str) -> None:
        self.done = 0
        self._total = total
        self._what = what
        self._verbose = verbose
        self._began = time.perf_counter()
        bar = moving_bar() if verbose else None
        self._bar = bar and bar(total=total, unit=f" {what}")

    def __call__(self, done: int, **figures: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix(figures, refresh=False)
            self._bar.update(done - self.done)
        self.done = done

    def __enter__(self) -> Count:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._verbose:
            seconds = time.perf_counter() - self._began
            print(f"{self.done}/{self._total} {self._what}  {seconds:.2f} s", flush=True)

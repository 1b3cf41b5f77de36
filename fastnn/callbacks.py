"""What may happen on the way of a training: callbacks, and displays of the progress."""

from __future__ import annotations

import csv
import math
import os
import string
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn._types import Array
from fastnn._validation import describe, flag, fraction, integer, known_name, non_negative, positive
from fastnn._weights import from_named, named
from fastnn.backends import Pair, broken
from fastnn.optimizers import LBFGS

if TYPE_CHECKING:
    from fastnn.history import History
    from fastnn.network import Network

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "ReduceLROnPlateau",
    "StopTraining",
    "TensorBoardLogger",
    "TerminateOnNaN",
]


class StopTraining(Exception):
    """Raised by a callback to end the training: after this epoch, or in `on_step` at once."""


class Callback:
    """Base of what `fastnn.Network.fit` calls on its way; override what you need.

    A callback may use the network as it likes: predict, read and set weights, set the
    `learning_rate`, save it. Any exception but `StopTraining` ends the training and goes on to the
    caller of ``fit``. Callbacks are called in the order of the list, a `Checkpoint` last.

    Attributes
    ----------
    every_steps : int or None
        If not None, `on_step` is called whenever the number of the optimizer's steps can be
        divided by it.
    every_seconds : float or None
        If not None, `on_step` is called about every so many seconds, however short epochs are.
    """

    every_steps: int | None = None
    every_seconds: float | None = None

    def on_train_begin(self, net: Network) -> None:
        """Run before the first epoch."""

    def on_epoch_begin(self, net: Network, epoch: int) -> None:
        """Run before each epoch; the first is 0. Again if it is resumed in its middle."""

    def on_step(self, net: Network, step: int) -> None:
        """Run within an epoch, after `step` steps in all, if the attributes above ask for it."""

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        """Run after each epoch, given its figures as `fastnn.History` has them."""

    def on_train_end(self, net: Network, history: History) -> None:
        """Run after the last epoch, also when `StopTraining` made it the last."""

    def state(self) -> dict[str, Any]:
        """Return what a resumed training needs to know: JSON values, float arrays, by name."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; runs after `on_train_begin` of a resumed training."""


_FALLING = ("loss", "error", "deviance", "mse", "mae", "rmse")
_RISING = ("accuracy", "score", "f1", "auc", "r2", "precision", "recall", "variance", "jaccard",
           "corrcoef", "likelihood_ratio")  # fmt: skip
_LOSSES = ("_loss", "_error", "_deviance")  # so end scikit-learn's functions that are to be small


def mode_of(name: str, mode: str) -> str:
    """Return "min" or "max", the way in which a figure gets better, for "auto" by its name."""
    if known_name("mode", mode, ("auto", "min", "max")) != "auto":
        return mode
    if "neg_" in name:
        return "max"
    if name.endswith(_LOSSES):
        return "min"
    if any(word in name for word in _RISING):
        return "max"
    if any(word in name for word in _FALLING):
        return "min"
    raise ValueError(
        f"mode must be 'min' or 'max' for the figure {name!r}, of which it is not known which way"
        " it gets better"
    )


class _Monitor(Callback):
    """Base of the callbacks that look whether a figure gets better."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a figure; got {describe(monitor)}")
        self.monitor = monitor
        self.mode = mode_of(monitor, mode)
        self.min_delta = non_negative("min_delta", min_delta)
        self.best = self._worst

    @property
    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    def _improved(self, logs: Mapping[str, float]) -> bool:
        """Tell whether the figure is the best so far, and if so remember it."""
        if self.monitor not in logs:
            hint = ""
            if self.monitor.startswith("val_"):
                hint = "; for those of validation rows give fit validation_data"
            raise ValueError(
                f"monitor must be one of {', '.join(logs)}; got {self.monitor!r}{hint}"
            )
        gain = logs[self.monitor] - self.best
        if not (gain if self.mode == "max" else -gain) > self.min_delta:
            return False
        self.best = logs[self.monitor]
        return True

    def on_train_begin(self, net: Network) -> None:
        self.best = self._worst

    def state(self) -> dict[str, Any]:
        return {"best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best = float(state["best"])


class EarlyStopping(_Monitor):
    """End the training when a figure has not got better for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A figure of `fastnn.History`.
    patience : int, default 10
        The training ends after so many epochs in a row that are no better than the best.
    min_delta : float, default 0.0
        By how much more than that a figure must be better to count.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; by default known from the name.
    restore_best_weights : bool, default False
        Whether the network ends with the weights of the best epoch instead of the last.

    Attributes
    ----------
    best : float
        The best figure.
    best_epoch : int or None
        Its epoch.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; from ``fit`` if there is no such figure.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        *,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = integer("patience", patience, 1)
        self.restore_best_weights = flag("restore_best_weights", restore_best_weights)
        self.best_epoch: int | None = None
        self._waited = 0
        self._best_weights: dict[str, Array] = {}

    def on_train_begin(self, net: Network) -> None:
        super().on_train_begin(net)
        self.best_epoch, self._waited, self._best_weights = None, 0, {}

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        if self._improved(logs):
            self.best_epoch, self._waited = epoch, 0
            if self.restore_best_weights:
                self._best_weights = named(net.weights)
            return
        self._waited += 1
        if self._waited >= self.patience:
            raise StopTraining

    def on_train_end(self, net: Network, history: History) -> None:
        if self._best_weights:
            net.set_weights(from_named(self._best_weights))

    def state(self) -> dict[str, Any]:
        counts = {"best_epoch": self.best_epoch, "waited": self._waited}
        return {**super().state(), **counts, **self._best_weights}

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        self.best_epoch, self._waited = state["best_epoch"], int(state["waited"])
        self._best_weights = {name: state[name] for name in state if name.startswith("layers.")}


class ReduceLROnPlateau(_Monitor):
    """Make the learning rate smaller when a figure has not got better for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A figure of `fastnn.History`.
    factor : float, default 0.1
        What the rate is multiplied by, ``0 < factor < 1``.
    patience : int, default 10
        How many epochs in a row may be no better than the best; the rate falls after one more, as
        in PyTorch.
    min_delta : float, default 1e-4
        By how much more than that a figure must be better to count.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; by default known from the name.
    min_rate : float, default 0.0
        The rate does not fall below this.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; from ``fit`` if there is no such figure, or the
        learning rate is a schedule, or there is none, as with `fastnn.LBFGS`.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        *,
        min_delta: float = 1e-4,
        mode: str = "auto",
        min_rate: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = fraction("factor", positive("factor", factor))
        self.patience = integer("patience", patience, 0)
        self.min_rate = non_negative("min_rate", min_rate)
        self._waited = 0

    def on_train_begin(self, net: Network) -> None:
        super().on_train_begin(net)
        self._waited = 0
        if isinstance(net.optimizer, LBFGS):
            raise TypeError("ReduceLROnPlateau needs a learning rate, and LBFGS has none")
        if not isinstance(net.learning_rate, float):
            raise TypeError(
                "ReduceLROnPlateau needs a number as the optimizer's learning_rate;"
                f" got {net.learning_rate}"
            )

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        self._waited = 0 if self._improved(logs) else self._waited + 1
        if self._waited > self.patience:
            assert isinstance(net.learning_rate, float)
            lower = max(net.learning_rate * self.factor, self.min_rate)
            net.learning_rate = min(net.learning_rate, lower)
            self._waited = 0

    def state(self) -> dict[str, Any]:
        return {**super().state(), "waited": self._waited}

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        self._waited = int(state["waited"])


class Checkpoint(_Monitor):
    """Save the network with all that the rest of the training depends on.

    `fastnn.Network.load` reads the file, and ``fit(..., resume=True)`` goes on from there to the
    same weights, bit for bit, that a training without interruption ends with. A file is replaced
    as a whole: at any moment it is the old one or the new one.

    Parameters
    ----------
    path : str or os.PathLike
        The file. It may hold ``{step}``, how many the optimizer has taken, ``{epoch}``, how many
        of this training there were, and with ``every_epochs`` names of figures, as in
        ``"net-{epoch:03d}-{val_loss:.4f}.safetensors"``.
    monitor : str, optional
        If given, a figure of `fastnn.History`, and only epochs at which it is the best so far are
        saved; with `every_steps` or `every_seconds`, `path` must hold ``{step}`` then, or the best
        would be replaced.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; by default known from the name.
    every_epochs : int or None, default 1
        Save after each so many epochs.
    every_steps : int, optional
        Save whenever the number of the optimizer's steps can be divided by this, too.
    every_seconds : float, optional
        Save about every so many seconds, however short epochs are, too.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    OSError
        From ``fit``, if the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        monitor: str | None = None,
        mode: str = "auto",
        every_epochs: int | None = 1,
        every_steps: int | None = None,
        every_seconds: float | None = None,
    ) -> None:
        super().__init__("loss" if monitor is None else monitor, mode)
        self.path = _template(path)
        self.best_only = monitor is not None
        self.every_epochs = (
            None if every_epochs is None else integer("every_epochs", every_epochs, 1)
        )
        if every_steps is not None:
            self.every_steps = integer("every_steps", every_steps, 1)
        if every_seconds is not None:
            self.every_seconds = positive("every_seconds", every_seconds)
        if every_epochs is every_steps is every_seconds is None:
            raise ValueError("every_epochs, every_steps and every_seconds must not all be None")
        within_epochs = every_steps is not None or every_seconds is not None
        if self.best_only and within_epochs and "{step" not in self.path:
            raise ValueError(
                "path must hold {step} with monitor and every_steps or every_seconds, which would"
                f" replace the best; got {self.path!r}"
            )
        self._epoch = 0

    def on_epoch_begin(self, net: Network, epoch: int) -> None:
        self._epoch = epoch

    def on_step(self, net: Network, step: int) -> None:
        self._save(net, {"epoch": self._epoch})

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        if self.every_epochs is None or (epoch + 1) % self.every_epochs:
            return
        if self.best_only and not self._improved(logs):
            return
        self._save(net, {"epoch": epoch + 1, **logs})

    def state(self) -> dict[str, Any]:
        return super().state() if self.best_only else {}

    def _save(self, net: Network, figures: Mapping[str, float]) -> None:
        known = {"step": net.steps, **figures}
        try:
            path = self.path.format(**known)
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            fields = ", ".join(f"{{{name}}}" for name in known)
            raise ValueError(f"path may hold {fields} here; got {self.path!r}") from error
        net.save(path, include_optimizer=True)


def _template(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a path of one; got {describe(path)}")
    try:
        list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"path must have braces as in {{epoch}} only; got {text!r}") from error
    return text


class TerminateOnNaN(Callback):
    """End the training with an error as soon as the loss or a weight is infinite or nan.

    Without it, ``fit`` looks at the losses at the end of each epoch only.

    Parameters
    ----------
    every : int, default 1
        How many steps to take between two looks. Steps of a very small network are that much
        faster the fewer looks there are.

    Raises
    ------
    FloatingPointError
        From ``fit``: names the step, and the layer where it began if that was the step before
        which this looked, as it is with ``every=1``. Else it names a layer whose weights are not
        finite.
    """

    def __init__(self, every: int = 1) -> None:
        self.every_steps = integer("every", every, 1)
        self._looked: tuple[int, list[Pair]] | None = None

    def on_train_begin(self, net: Network) -> None:
        self._looked = net.steps, net.weights

    def on_step(self, net: Network, step: int) -> None:
        # Of the losses fit itself takes care, at each call of this.
        weights = net.weights
        # Gradients overflow on their way back, so the last broken layer was the first.
        layer = max(broken(weights), default=None)
        if layer is not None:
            raise FloatingPointError(
                f"net.weights[{layer}] is no longer finite after step {step}."
                " Give the optimizer a smaller learning_rate or a clip_norm"
            )
        self._looked = step, weights

    def weights_before(self, step: int) -> list[Pair] | None:
        """Return the weights before a step, if this looked then."""
        return self._looked[1] if self._looked and self._looked[0] == step - 1 else None


class CSVLogger(Callback):
    """Write the figures of each epoch to a CSV file, a row an epoch.

    The file is made anew, with the epochs before in a training that is resumed: it is always that
    of a training without interruption.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write or replace.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._written = -1  # the last epoch

    def on_train_begin(self, net: Network) -> None:
        self.path.write_text("")
        self._written = -1
        if net.history is not None:
            for row, epoch in enumerate(net.history.epoch):
                figures = {name: values[row] for name, values in net.history.history.items()}
                self.on_epoch_end(net, epoch, figures)

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        if epoch <= self._written:  # the history had it when the training was resumed
            return
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch + 1, *logs.values()])
        self._written = epoch


class TensorBoardLogger(Callback):
    """Write the figures and the learning rate, if there is one, of each epoch for TensorBoard.

    It needs tensorboardX, ``pip install "fastnn[tensorboard]"``, or PyTorch with tensorboard.

    Parameters
    ----------
    directory : str or os.PathLike
        Where TensorBoard is to find them: ``tensorboard --logdir directory``.

    Raises
    ------
    ImportError
        If neither is there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.fspath(directory)
        self._new_writer = _summary_writer()
        self._writer: Any = None

    def on_train_begin(self, net: Network) -> None:
        self._writer = self._new_writer(self.directory)

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        figures = dict(logs)
        if not isinstance(net.optimizer, LBFGS):
            rates = net.optimizer.rates(net.epochs - 1, net.steps - 1, 1)
            figures["learning_rate"] = float(rates[0])
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch + 1)
        self._writer.flush()

    def on_train_end(self, net: Network, history: History) -> None:
        self._writer.close()


def _summary_writer() -> Callable[[str], Any]:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                'TensorBoardLogger needs tensorboardX: pip install "fastnn[tensorboard]"'
            ) from error
    return SummaryWriter  # type: ignore[no-any-return]


def checked(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return a list of what are all callbacks."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of Callback objects; got {describe(callbacks)}")
    listed = list(callbacks)
    for number, callback in enumerate(listed):
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks[{number}] must be a fastnn.callbacks.Callback; got {describe(callback)}"
            )
        if callback.every_steps is not None:
            integer(f"callbacks[{number}].every_steps", callback.every_steps, 1)
        if callback.every_seconds is not None:
            positive(f"callbacks[{number}].every_seconds", callback.every_seconds)
    return listed


class Progress(Callback):
    """A display of the progress: a callback that may also be told about batches."""

    tick: Callable[[int], object] | None = None

    def close(self) -> None:
        """Tidy up, however the training ended."""


class Lines(Progress):
    """One plain line an epoch, on the standard output: for logs."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._start = 0.0

    def on_epoch_begin(self, net: Network, epoch: int) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        seconds = time.perf_counter() - self._start
        figures = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        print(f"Epoch {epoch + 1}/{self._epochs}  {seconds:.2f} s  {figures}", flush=True)


class Bar(Progress):
    """A bar of tqdm for each epoch, on the standard error."""

    def __init__(self, epochs: int, batches: int | None, bar: Callable[..., Any]) -> None:
        self._epochs = epochs
        self._batches = batches
        self._new_bar = bar
        self._bar: Any = None
        self.tick = self._tick

    def on_epoch_begin(self, net: Network, epoch: int) -> None:
        self._bar = self._new_bar(
            total=self._batches, desc=f"Epoch {epoch + 1}/{self._epochs}", unit=" batches"
        )

    def _tick(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in logs.items()}, refresh=False)
        self._bar.update((self._batches or self._bar.n) - self._bar.n)
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress(verbose: int, epochs: int, batches: int | None) -> Progress:
    """Return the display for ``verbose``: 0 none, 1 a bar where one can move, 2 or else lines."""
    if verbose == 0:
        return Progress()
    bar = moving_bar() if verbose == 1 else None
    return Lines(epochs) if bar is None else Bar(epochs, batches, bar)


def moving_bar() -> Callable[..., Any] | None:
    """Return tqdm, if it is there and a terminal or notebook to show it."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            pass
        else:
            return tqdm  # type: ignore[no-any-return]
    return None

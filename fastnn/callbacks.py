"""What may happen between the epochs of a training: callbacks, and displays of the progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastnn._validation import describe

if TYPE_CHECKING:
    from fastnn.history import History
    from fastnn.network import Network

__all__ = ["Callback", "StopTraining"]


class StopTraining(Exception):
    """Raised by a callback's `Callback.on_epoch_end` to end the training after this epoch."""


class Callback:
    """Base of what `fastnn.Network.fit` calls on its way; override what you need.

    A callback may use the network as it likes: predict, read and set weights, save it. Any
    exception but `StopTraining` ends the training and goes on to the caller of ``fit``.
    """

    def on_train_begin(self, net: Network) -> None:
        """Run before the first epoch."""

    def on_epoch_begin(self, net: Network, epoch: int) -> None:
        """Run before each epoch; the first is 0."""

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        """Run after each epoch, given its figures as `fastnn.History` has them."""

    def on_train_end(self, net: Network, history: History) -> None:
        """Run after the last epoch, also when `StopTraining` made it the last."""


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
    return listed


class Progress(Callback):
    """A display of the progress: a callback that may also be told about batches."""

    tick: Callable[[int], object] | None = None

    def close(self) -> None:
        """Tidy up, however the training ended."""


class Lines(Progress):
    """One plain line an epoch, on the standard output."""

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

    def __init__(self, epochs: int, batches: int, bar: Callable[..., Any]) -> None:
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
        self._tick(self._batches)
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress(verbose: int, epochs: int, batches: int) -> Progress:
    """Return the display for ``verbose``: 0 none, 1 a bar (lines without tqdm), 2 lines."""
    if verbose == 0:
        return Progress()
    if verbose == 1:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            pass
        else:
            return Bar(epochs, batches, tqdm)
    return Lines(epochs)

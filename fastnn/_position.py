"""Where a training is, in memory and in a file: what an interrupted one goes on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastnn._types import Array
from fastnn._validation import integer
from fastnn.history import History

if TYPE_CHECKING:
    from fastnn.callbacks import Callback
    from fastnn.network import Network

__all__ = ["Position", "apart", "read", "written"]

_PREFIX = "training."


@dataclass
class Position:
    """Where a training is, with the network's `history`: what ``fit(resume=True)`` goes on from.

    Parameters
    ----------
    epoch, batch : int
        Epochs that ended, and batches done of the present one.
    generator : dict or None
        State of the shuffler when the present epoch began; None while it did not.
    rows : tuple or None
        What the present epoch goes through: rows, batch size, whether shuffled.
    batches : list of (ndarray, ndarray, ndarray)
        Of the batches done, a run of steps after another: losses, rows that were right, and what
        they count in the mean.
    seen : int
        Rows in these batches.
    figures : dict or None
        Those of the epoch that just ended, while not all callbacks have been told.
    told : int
        How many have.
    stopped : bool
        Whether a callback ended the training.
    states : list of dict
        Of the callbacks that have one, when the position was read from a file.
    callbacks : list of Callback
        Those of the training that is at this position, whose states they are then.
    """

    epoch: int = 0
    batch: int = 0
    generator: Mapping[str, Any] | None = None
    rows: tuple[int, int, bool] | None = None
    batches: list[tuple[npt.NDArray[Any], ...]] = field(default_factory=list)
    seen: int = 0
    figures: dict[str, float] | None = None
    told: int = 0
    stopped: bool = False
    states: list[dict[str, Any]] = field(default_factory=list)
    callbacks: Sequence[Callback] = ()

    def begin_epoch(self, generator: Mapping[str, Any], rows: tuple[int, int, bool] | None) -> None:
        self.generator, self.rows = generator, rows
        self.batch, self.seen, self.batches = 0, 0, []

    def end_epoch(self, net: Network, figures: dict[str, float]) -> None:
        # Without a call, at which Ctrl-C might come in between
        self.figures, self.told = figures, 0
        self.generator, self.batch, self.batches = None, 0, []
        self.epoch += 1
        net.epochs += 1

    def figures_of_batches(self) -> tuple[npt.NDArray[Any], ...]:
        """Return losses, hits and weights of all batches done of the present epoch."""
        if len(self.batches) == 1:
            return self.batches[0]
        return tuple(np.concatenate(arrays) for arrays in zip(*self.batches, strict=True))

    def callback_states(self) -> list[dict[str, Any]]:
        """Return what the callbacks would have to know to go on, those that must know anything."""
        if not self.callbacks:
            return self.states
        return [
            {"callback": type(callback).__name__, **state}
            for callback in self.callbacks
            if (state := callback.state())
        ]

    def give_back_states(self, callbacks: Sequence[Callback]) -> None:
        """Let callbacks go on from where those of the interrupted training were."""
        stateful = [callback for callback in callbacks if callback.state()]
        names = [type(callback).__name__ for callback in stateful]
        saved = [state["callback"] for state in self.states]
        if names != saved:
            raise ValueError(
                "callbacks must be those of the training that is to be resumed, "
                f"{', '.join(saved) or 'none'}; got {', '.join(names) or 'none'}"
            )
        for callback, state in zip(stateful, self.states, strict=True):
            callback.set_state(state)


def written(history: History, position: Position) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what describes them in a file, ready for JSON, and the arrays that go with it."""
    tensors: dict[str, Array] = {
        f"{_PREFIX}history.{name}": np.array(values, np.float64)
        for name, values in history.history.items()
    }
    if position.batches:
        tensors[f"{_PREFIX}batches"] = np.array(position.figures_of_batches(), np.float64)
    states = []
    for number, state in enumerate(position.callback_states()):
        states.append({k: v for k, v in state.items() if not isinstance(v, np.ndarray)})
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                tensors[f"{_PREFIX}state.{number}.{name}"] = value
    config = {
        "epochs_in_history": history.epoch,
        "figures_in_history": list(history.history),
        "epoch": position.epoch,
        "batch": position.batch,
        "generator": position.generator,
        "rows": position.rows,
        "seen": position.seen,
        "figures": position.figures,
        "told": position.told,
        "stopped": position.stopped,
        "states": states,
    }
    return config, tensors


def apart(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the arrays of a file that are not `written`'s, and those that are."""
    own = {name: array for name, array in tensors.items() if not name.startswith(_PREFIX)}
    return own, {name: tensors[name] for name in tensors.keys() - own.keys()}


def read(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> tuple[History, Position]:
    """Undo `written`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not what `written` gives.
    """
    history = History()
    history.epoch = [integer("epoch", epoch, 0) for epoch in config["epochs_in_history"]]
    for name in config["figures_in_history"]:
        history.history[name] = tensors[f"{_PREFIX}history.{name}"].tolist()
    states = [dict(state) for state in config["states"]]
    for number, state in enumerate(states):
        prefix = f"{_PREFIX}state.{number}."
        for name, array in tensors.items():
            if name.startswith(prefix):
                state[name.removeprefix(prefix)] = array
    batches = tensors.get(f"{_PREFIX}batches")
    position = Position(
        epoch=integer("epoch", config["epoch"], 0),
        batch=integer("batch", config["batch"], 0),
        generator=config["generator"],
        rows=None if config["rows"] is None else tuple(config["rows"]),
        batches=[] if batches is None else [tuple(batches)],
        seen=integer("seen", config["seen"], 0),
        figures=None
        if config["figures"] is None
        else {name: float(value) for name, value in dict(config["figures"]).items()},
        told=integer("told", config["told"], 0),
        stopped=bool(config["stopped"]),
        states=states,
    )
    _check(history, position, batches)
    return history, position


def _check(history: History, position: Position, batches: Array | None) -> None:
    """Refuse what no training leaves behind, and what would fail only when one goes on."""
    shape = (3, 0) if batches is None else batches.shape
    if shape != (3, position.batch):
        raise ValueError(f"there must be three figures of each of {position.batch} batches")
    for name, values in history.history.items():
        if np.shape(values) != (len(history),):
            raise ValueError(f"there must be {len(history)} figures {name!r}, one an epoch")
    for state in position.states:
        if "callback" not in state:
            raise ValueError("each state must say of which callback it is")
    if position.generator is not None:
        np.random.PCG64().state = dict(position.generator)  # type: ignore[assignment]

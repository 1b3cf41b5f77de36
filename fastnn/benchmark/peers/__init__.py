"""What fastnn is compared with: a file each, which has a `Peer` of the name ``PEER``.

The file is named after what has to be installed; one that cannot be imported is left out.
``native`` is fastnn itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastnn._types import Array
from fastnn.benchmark.cases import Task

__all__ = ["Model", "Peer", "load", "names"]


class Model(Protocol):
    """A network of a peer, made from a `Task`: its weights, rows, batch size and threads."""

    def train(self) -> None:
        """Go once through all rows, in batches drawn by shuffling, a step of Adam each."""

    def predictor(self, X: Array) -> Callable[[], object]:
        """Return what computes the outputs for X: an array of whatever kind the peer gives.

        Whatever turns X into the kind that the peer takes has been done by then.
        """


@dataclass(frozen=True)
class Peer:
    """A library, or a way to use one.

    Parameters
    ----------
    label : str
        What tables call it.
    version : str
    model : callable
        Makes a `Model` from a `Task`.
    trains, predicts : bool, default True
        Whether `Model.train` and `Model.predictor` are worth timing.
    on_request : bool, default False
        Whether it is left out unless it is named.
    """

    label: str
    version: str
    model: Callable[[Task], Model]
    trains: bool = True
    predicts: bool = True
    on_request: bool = False


def names() -> list[str]:
    """Return the names of all files."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def load(name: str) -> Peer:
    """Return the peer of a file.

    Raises
    ------
    ImportError
        If what it needs is not installed.
    """
    peer: Peer = importlib.import_module(f"{__name__}.{name}").PEER
    return peer

"""Fast training and inference of fully connected neural networks on CPUs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastnn._config import (
    backend,
    get_num_threads,
    openmp_enabled,
    set_num_threads,
    show_config,
)
from fastnn.averaging import EMA, SWA
from fastnn.callbacks import Callback, Checkpoint, EarlyStopping, StopTraining
from fastnn.history import History
from fastnn.layers import Dense, Dropout, GaussianNoise
from fastnn.network import Network
from fastnn.optimizers import LBFGS, SGD, AdaDelta, AdaGrad, Adam, AdamW, Lion, NAdam, RMSProp
from fastnn.rate_finder import find_learning_rate

if TYPE_CHECKING:
    from fastnn.population import train_many
    from fastnn.resampling import bag, cross_validate

__version__ = "0.1.0"

__all__ = [
    "EMA",
    "LBFGS",
    "SGD",
    "SWA",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Callback",
    "Checkpoint",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "GaussianNoise",
    "History",
    "Lion",
    "NAdam",
    "Network",
    "RMSProp",
    "StopTraining",
    "__version__",
    "backend",
    "bag",
    "cross_validate",
    "find_learning_rate",
    "get_num_threads",
    "openmp_enabled",
    "set_num_threads",
    "show_config",
    "train_many",
]

_LOADED_ON_USE = (
    "augment",
    "data",
    "datasets",
    "diagnosis",
    "plotting",
    "search",
    "serialization",
    "sklearn",
)
_FROM_LOADED_ON_USE = {
    "patch_sklearn": "sklearn",
    "unpatch_sklearn": "sklearn",
    "train_many": "population",
    **dict.fromkeys(("bag", "cross_validate"), "resampling"),
}


def __getattr__(name: str) -> Any:
    if name in _LOADED_ON_USE:
        return importlib.import_module(f"fastnn.{name}")
    if name in _FROM_LOADED_ON_USE:
        return getattr(importlib.import_module(f"fastnn.{_FROM_LOADED_ON_USE[name]}"), name)
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LOADED_ON_USE, *_FROM_LOADED_ON_USE})

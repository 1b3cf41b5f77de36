"""The compiled core, as `fastnn` uses it; the sources are in ``src/``."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.floating[Any]]
_Pair = tuple[_Array, _Array | None]
_Layer = tuple[int, int, int, float, bool, float, float, float, float, float]
_Optimizer = tuple[int, int, tuple[float, ...], float | None, float | None]

class _OpenMP(TypedDict):
    version: int
    runtime: str

VECTOR_FUNCTIONS: tuple[str, ...]

def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_num_threads(n: int | None) -> None: ...
def get_num_threads() -> int: ...
def learn_from_calls(learn: bool) -> None: ...
def simulated_calls(
    seconds: Callable[[int, float], float], pauses: Sequence[float], flop: float
) -> list[int]: ...
def openmp() -> _OpenMP | None: ...
def compiler() -> str: ...
def usable_processors(count: int, root: str = ...) -> int: ...
def all_finite(array: npt.NDArray[Any]) -> bool: ...
def permutation(generator: np.random.Generator, n: int) -> npt.NDArray[np.int32]: ...
def vector_math(function: str, x: _Array, out: _Array, isa: str | None = None) -> None: ...
def fma_peak(itemsize: int, threads: int, seconds: float) -> float: ...

class Core:
    step: int
    def __init__(
        self,
        layers: Sequence[_Layer],
        loss: int,
        on_logits: bool,
        loss_parameter: float | _Array,
        smoothing: tuple[float, int],
        itemsize: int,
        seed: int,
        isa: str | None = None,
        loss_scale: float = 1.0,
        gradient_scale: float = 1.0,
        mean_penalty: bool = False,
    ) -> None: ...
    def weights(self) -> list[_Pair]: ...
    def first_broken(self) -> int | None: ...
    def has_weights(self, pairs: Sequence[_Pair]) -> bool: ...
    def set_weights(self, pairs: Sequence[_Pair]) -> None: ...
    def state(self) -> list[list[_Pair]]: ...
    def average(self) -> list[_Pair] | None: ...
    def set_average(self, pairs: Sequence[_Pair] | None) -> None: ...
    def set_state(self, step: int, slots: Sequence[Sequence[_Pair]]) -> None: ...
    def predict(self, X: object, out: object = None) -> _Array | None: ...
    def loss(
        self, X: _Array, target: npt.NDArray[Any], weight: _Array | None
    ) -> tuple[float, int]: ...
    def outputs(self, X: _Array, step: int) -> _Array: ...
    def gradients(
        self, X: _Array, target: npt.NDArray[Any], weight: _Array | None, step: int
    ) -> tuple[float, list[_Pair]]: ...
    def train(
        self,
        X: _Array,
        target: npt.NDArray[Any],
        weight: _Array | None,
        order: npt.NDArray[np.int32] | None,
        batch_size: int,
        optimizer: _Optimizer,
        rates: npt.NDArray[np.float64],
        losses: npt.NDArray[np.float64],
        hits: npt.NDArray[np.int64],
        tick: Callable[[int], object] | None,
        shares: npt.NDArray[np.float64] | None = None,
    ) -> None: ...

class Member:
    epoch: int
    batch: int
    ended: bool
    diverged: bool
    batch_loss: npt.NDArray[np.float64]
    batch_hits: npt.NDArray[np.int64]
    batch_weight: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    hits: npt.NDArray[np.int64]
    val_loss: npt.NDArray[np.float64] | None
    val_hits: npt.NDArray[np.int64] | None
    def __init__(
        self,
        core: Core,
        X: _Array,
        target: npt.NDArray[Any],
        weight: _Array | None,
        rows: npt.NDArray[np.int32] | None,
        batch_size: int,
        epochs: int,
        optimizer: _Optimizer,
        rates: npt.NDArray[np.float64],
        shares: npt.NDArray[np.float64] | None,
        generator: np.random.BitGenerator | None,
        validation: tuple[_Array, npt.NDArray[Any], _Array | None] | None,
        stopping: tuple[int, bool, bool, float, bool] | None,
    ) -> None: ...

def train_many(members: Sequence[Member], tick: Callable[[int], object] | None = None) -> None: ...

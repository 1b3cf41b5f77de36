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
def openmp() -> _OpenMP | None: ...
def compiler() -> str: ...
def all_finite(array: npt.NDArray[Any]) -> bool: ...
def vector_math(function: str, x: _Array, out: _Array, isa: str | None = None) -> None: ...
def fma_peak(itemsize: int, threads: int, seconds: float) -> float: ...

class Core:
    step: int
    def __init__(
        self,
        layers: Sequence[_Layer],
        loss: int,
        loss_parameter: float | _Array,
        smoothing: tuple[float, int],
        itemsize: int,
        seed: int,
        isa: str | None = None,
    ) -> None: ...
    def weights(self) -> list[_Pair]: ...
    def set_weights(self, pairs: Sequence[_Pair]) -> None: ...
    def state(self) -> list[list[_Pair]]: ...
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
    ) -> None: ...

"""What this build of fastnn is and has found, and the number of threads that it uses."""

from __future__ import annotations

import os
import platform
import re
import sys
import warnings
from typing import Any, Literal, overload

import numpy as np

from fastnn._core import cure, why_missing
from fastnn._validation import integer

if why_missing is None:
    from fastnn import _native
else:
    warnings.warn(
        f"fastnn is without its compiled core ({why_missing}): it computes by NumPy, many times "
        f"slower. {cure}",
        RuntimeWarning,
        stacklevel=3,
    )

DEFAULT_BACKEND = "native" if why_missing is None else "numpy"

__all__ = [
    "DEFAULT_BACKEND",
    "MOST_THREADS",
    "backend",
    "get_num_threads",
    "openmp_enabled",
    "set_num_threads",
    "show_config",
]

# More is a slip of the pen, and would be refused by the system in the middle of a computation.
MOST_THREADS = 4096
_threads_were_set = False


def set_num_threads(n: int | None) -> None:
    """Let the native backend use up to `n` threads, in every network of this process.

    It takes fewer where a computation is too small to be worth them, and computations that threads
    of Python's run at once share them. The results are the same bits for any number. Built without
    OpenMP it uses one thread, whatever `n` is, and so it does in a process that was forked from one
    that had computed.

    Parameters
    ----------
    n : int or None
        At least 1, or None for the default that `get_num_threads` tells of.

    Raises
    ------
    TypeError
        If `n` is no integer.
    ValueError
        If `n` is less than 1, or more than 4096.
    """
    global _threads_were_set
    if n is not None:
        n = integer("n", n, 1, MOST_THREADS)
    if why_missing is None:
        _native.set_num_threads(n)
        _threads_were_set = n is not None


def get_num_threads() -> int:
    """Return the number of threads that the native backend may use.

    Unless `set_num_threads` was called it is the environment variable ``OMP_NUM_THREADS``, or
    else one for each processor that this process may use, by its affinity and its control group;
    divided among this and other computations while there are some in other threads.
    """
    return _native.get_num_threads() if why_missing is None else 1


def threads_were_set() -> bool:
    """Tell whether `set_num_threads` has fixed the number of threads."""
    return _threads_were_set


def backend() -> str:
    """Return the name of the backend that networks have unless they name another.

    It is ``"native"``, or ``"numpy"`` where the compiled core is missing: `show_config` says why.
    """
    return DEFAULT_BACKEND


def openmp_enabled() -> bool:
    """Tell whether the compiled core is there and has OpenMP, and so can use several threads."""
    return why_missing is None and _native.openmp() is not None


@overload
def show_config(as_dict: Literal[False] = False) -> None: ...
@overload
def show_config(as_dict: Literal[True]) -> dict[str, Any]: ...
def show_config(as_dict: bool = False) -> dict[str, Any] | None:
    """Print what this build is and what it found here; ``python -m fastnn info`` does the same.

    Parameters
    ----------
    as_dict : bool, default False
        Return it, and print nothing.

    Returns
    -------
    dict or None
        With the keys

        - ``"fastnn"``, ``"numpy"``, ``"python"``, ``"platform"``: versions, as str;
        - ``"native"``: None where the compiled core was loaded, else why it was not;
        - ``"isa"``, ``"available_isas"``: the instruction set in use, or None without the core,
          and those that the core has and this processor runs, best first;
        - ``"num_threads"``, ``"num_threads_from"``: how many threads may be used, and why so many;
        - ``"openmp"``: ``{"version": int, "runtime": str}``, or None without OpenMP;
        - ``"compiler"``: what compiled the core, or None.
    """
    import fastnn

    config: dict[str, Any] = {
        "fastnn": fastnn.__version__,
        "native": why_missing,
        "isa": None,
        "available_isas": [],
        "num_threads": get_num_threads(),
        "num_threads_from": _why_so_many_threads(),
        "openmp": None,
        "compiler": None,
        "numpy": np.__version__,
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "platform": f"{platform.platform()}, {platform.machine()}",
    }
    if why_missing is None:
        config |= {
            "isa": _native.isa(),
            "available_isas": _native.available_isas(),
            "openmp": _native.openmp(),
            "compiler": _native.compiler(),
        }
    if as_dict:
        return config
    print(_as_text(config))
    return None


def _why_so_many_threads() -> str:
    if not openmp_enabled():
        return "without OpenMP"
    if _threads_were_set:
        return "set_num_threads"
    # As OpenMP reads it: a number for each level of nesting, or else nothing.
    levels = os.environ.get("OMP_NUM_THREADS", "").split(",")
    if all(re.fullmatch(r"\s*\+?0*[1-9]\d*\s*", level) for level in levels):
        return "OMP_NUM_THREADS"
    return "processors for this process"


def _as_text(config: dict[str, Any]) -> str:
    if config["native"] is None:
        forced = ", by FASTNN_ISA" if os.environ.get("FASTNN_ISA") else ""
        core = f"{config['isa']}{forced}; available: {', '.join(config['available_isas'])}"
    else:
        core = f"none, NumPy only ({config['native']})"
    openmp = config["openmp"]
    rows = {
        "instructions": core,
        "threads": f"{config['num_threads']} ({config['num_threads_from']})",
        "OpenMP": f"{openmp['runtime']}, {openmp['version']}" if openmp else "none",
        "compiler": config["compiler"] or "none",
        "NumPy": config["numpy"],
        "Python": config["python"],
        "platform": config["platform"],
    }
    return "\n".join(
        [f"fastnn {config['fastnn']}", *(f"  {name:<13} {text}" for name, text in rows.items())]
    )

"""Loads the compiled core, if there is one; whoever wants it imports this first."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

# Wheels carry a libgomp of their own here. Of the system's, PyTorch for one becomes a user, too.
own_openmp = (Path(__file__).parents[1] / "fastnn.libs").exists()
_chosen_by_user = os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
# How often GNU's OpenMP, which reads it when the core brings it in, has a thread without work look
# for some before it sleeps: 30 us instead of 8 ms, which it would burn after each call.
_SPINS = {"GOMP_SPINCOUNT": "1000"} if own_openmp and not _chosen_by_user else {}

why_missing: str | None = None
try:
    os.environ |= _SPINS
    importlib.import_module("fastnn._native")
except ImportError as error:
    why_missing = str(error)
finally:
    for _name in _SPINS:
        del os.environ[_name]

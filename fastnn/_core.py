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
_told = {"GOMP_SPINCOUNT": "1000"} if own_openmp and not _chosen_by_user else {}
# The core knows the instruction set that it is to take by its own name alone.
if _isa := os.environ.get("FASTNN_ISA", "").lower().replace("_", "-"):
    _told["FASTNN_ISA"] = {"baseline": "generic"}.get(_isa, _isa)

why_missing: str | None = None
cure = ""
_before = {_name: os.environ.get(_name) for _name in _told}
try:
    os.environ |= _told
    importlib.import_module("fastnn._native")
except ImportError as error:
    why_missing = str(error)
    cure = (
        "Set FASTNN_ISA to one of these, or not at all"
        if why_missing.startswith("FASTNN_ISA")
        else "Install a C compiler (Debian: apt install gcc python3-dev; Fedora: dnf install "
        "gcc python3-devel; macOS: xcode-select --install; Windows: Visual Studio with clang-cl), "
        "then fastnn again: pip install --force-reinstall --no-deps --no-cache-dir fastnn"
    )
finally:
    for _name, _value in _before.items():
        del os.environ[_name]
        if _value is not None:
            os.environ[_name] = _value

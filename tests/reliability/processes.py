"""What the tests of reliability share: how much to try, and Python in processes of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# Multiplies how often the slow tests try, and how long: 1 for CI, more for a release.
EFFORT = float(os.environ.get("FASTNN_EFFORT", "1"))


def times(number: float) -> int:
    """How often to try what is tried `number` times in CI."""
    return max(1, round(EFFORT * number))


def run(code: str, *arguments: object, timeout: float = 300, **environment: str) -> str:
    """Run Python code in a process of its own, which must end well, and return what it prints."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shared_library(source: str, folder: Path) -> str:
    """Compile C code that is to take the place of the system's, by LD_PRELOAD; return its path."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C library of its own: install a C compiler")
    code, library = folder / "library.c", folder / "library.so"
    code.write_text(source)
    made = subprocess.run(
        [compiler, "-O1", "-fPIC", "-shared", "-fno-builtin", str(code), "-o", str(library)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"needs a C library that works with glibc's: {made.stderr[-200:]}")
    return str(library)

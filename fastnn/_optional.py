"""Packages that only some features need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed"]


@contextmanager
def needed(by: str, package: str, extra: str) -> Iterator[None]:
    """Say what to install where an import in the ``with`` block fails."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f'{by} needs {package}: pip install "fastnn[{extra}]"') from error

"""The parts of the report: a file each, which measures something and makes a table of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from fastnn.benchmark.report import Report, Result
from fastnn.benchmark.run import Run
from fastnn.benchmark.sections import (
    estimators,
    memory,
    mnist,
    population,
    predict,
    scaling,
    search,
    sweep,
    train,
)

__all__ = ["SECTIONS", "Section"]


class Section(Protocol):
    """A file of this package."""

    def measure(self, run: Run) -> Iterator[Result]:
        """Take the figures one by one."""

    def table(self, report: Report) -> str:
        """Return what the report has on this section, as Markdown."""


SECTIONS: dict[str, Section] = {
    "train": train,
    "predict": predict,
    "mnist": mnist,
    "population": population,
    "scaling": scaling,
    "sweep": sweep,
    "memory": memory,
    "estimators": estimators,
    "search": search,
}

"""What a run has found, as data, as JSON and as Markdown."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fastnn.benchmark.machine import Machine
from fastnn.benchmark.timing import Timing

__all__ = ["Report", "Result", "columns", "number", "side_by_side", "table"]

_FORMAT = 1


@dataclass(frozen=True)
class Result:
    """A figure.

    Parameters
    ----------
    section, case, subject : str
        Of which part of the report, of what, by whom.
    value : float
        The median, in seconds or, of memory, in bytes: less is better.
    spread : float
        Interquartile range over median.
    cpu : float
        Seconds of all cores together.
    flop : float
        Floating-point operations that were done.
    rounds : int
        How many timings the median is of.
    """

    section: str
    case: str
    subject: str
    value: float
    spread: float = 0.0
    cpu: float = 0.0
    flop: float = 0.0
    rounds: int = 1

    @classmethod
    def of(
        cls, section: str, case: str, subject: str, timing: Timing, flop: float, parts: int = 1
    ) -> Result:
        """Make one of a timing of calls that do `parts` equal parts, `flop` operations each."""
        value, cpu = timing.median / parts, timing.median_cpu / parts
        rounds = len(timing.wall)
        return cls(section, case, subject, value, timing.spread, cpu, flop, rounds)

    @property
    def key(self) -> tuple[str, str, str]:
        """What the figure is of."""
        return self.section, self.case, self.subject

    @property
    def error(self) -> float:
        """Standard error of the median, as a part of it, were the timings normally distributed."""
        return 0.93 * self.spread / math.sqrt(self.rounds)

    @property
    def rate(self) -> float:
        """Floating-point operations a second."""
        return self.flop / self.value


@dataclass
class Report:
    """All figures of a run.

    Parameters
    ----------
    machine : Machine
    peers : dict of str to str
        Their versions.
    missing : dict of str to str
        Peers that could not be had, and why.
    results : list of Result
    others : float or None
        Cores that other programs kept busy during the run, if known.
    quick : bool
        Whether less was done than in a full run.
    """

    machine: Machine
    peers: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    others: float | None = None
    quick: bool = False

    def find(self, section: str, subject: str | None = None) -> list[Result]:
        """Return the figures of a section, of all or of one subject."""
        return [r for r in self.results if r.section == section and subject in (None, r.subject)]

    def head(self) -> str:
        """Say in Markdown where the figures come from."""
        versions = ", ".join(f"{name} {version}" for name, version in self.peers.items())
        lines = [
            f"- {self.machine}",
            f"- {versions}; Python {self.machine.python}; {self.machine.compiler}",
        ]
        if self.quick:
            lines.append("- a trial by `--quick`, of fewer rows, rounds and seconds")
        if self.missing:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in self.missing.items())
            lines.append(f"- not there: {reasons}")
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If it is something else.
        OSError
            If it could not be read.
        """
        try:
            found = json.loads(Path(path).read_text())
            if found.pop("format") != _FORMAT:
                raise ValueError("of another version")
            machine = Machine(**found.pop("machine"))
            results = [Result(**result) for result in found.pop("results")]
            return cls(machine=machine, results=results, **found)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)!r} is no result of fastnn bench: {error}") from None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are of numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Write a number with three digits, or all that are before the point."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits)}f}"


def columns(results: Iterable[Result]) -> tuple[list[str], dict[str, dict[str, Result]]]:
    """Return the subjects in order, and of each case the result of each subject."""
    subjects: dict[str, None] = {}
    cases: dict[str, dict[str, Result]] = {}
    for result in results:
        subjects[result.subject] = None
        cases.setdefault(result.case, {})[result.subject] = result
    return list(subjects), cases


def side_by_side(report: Report, section: str, unit: str, scale: float) -> str:
    """Return two tables: times with their ratios to the first subject's; spreads and cores."""
    subjects, cases = columns(report.find(section))
    if not cases:
        return ""
    first, *others = subjects
    times, spreads = [], []
    for case, found in cases.items():
        own = found[first]
        times.append(
            [case, number(own.value * scale), f"{own.rate / report.machine.peak:.2f}"]
            + [
                f"{number(found[name].value * scale)} ({number(found[name].value / own.value)}×)"
                if name in found
                else "–"
                for name in others
            ]
        )
        spreads.append(
            [case]
            + [
                f"{found[name].spread:.0%}, {found[name].cpu / found[name].value:.2f}"
                if name in found
                else "–"
                for name in subjects
            ]
        )
    return "\n\n".join(
        [
            table([unit, first, "share of peak", *others], times),
            "Their spread (interquartile range over median), and CPU seconds a second:",
            table(["", *subjects], spreads),
        ]
    )

"""What has become slower since an earlier run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastnn.benchmark.report import Report, Result, number, table

__all__ = ["Change", "changes", "check", "comparison"]

_DRIFT = 0.05
"""Runs of the same code differ by so much however little each one spreads."""


class Change(NamedTuple):
    """A figure of fastnn's in two runs."""

    old: Result
    new: Result

    @property
    def ratio(self) -> float:
        """New over old: above 1 is worse."""
        return self.new.value / self.old.value

    @property
    def noise(self) -> float:
        """By how much the two may differ without meaning anything."""
        return _DRIFT + 2 * math.hypot(self.old.error, self.new.error)

    @property
    def verdict(self) -> str:
        """Return "worse", "better" or, within the noise, nothing."""
        if self.ratio > 1 + self.noise:
            return "worse"
        return "better" if self.ratio < 1 / (1 + self.noise) else ""


def check(old: Report, new: Report) -> None:
    """Refuse to compare what is not alike.

    Raises
    ------
    ValueError
        If one is of another processor, or used otherwise, or of less work.
    """
    for what in ("processor", "isa", "threads", "dtype"):
        then, now = getattr(old.machine, what), getattr(new.machine, what)
        if then != now:
            raise ValueError(f"the older run must be of the same {what}, {now}; it is of {then}")
    if old.quick != new.quick:
        now, then = ("with" if report.quick else "without" for report in (new, old))
        raise ValueError(f"the older run must be one {now} --quick, too; it is one {then}")


def changes(old: Report, new: Report) -> list[Change]:
    """Return what both runs have of fastnn, but for the sweep, which judges itself."""
    then = {result.key: result for result in old.results}
    return [
        Change(then[result.key], result)
        for result in new.results
        if result.key in then and result.subject.startswith("fastnn") and result.section != "sweep"
    ]


def comparison(found: Sequence[Change]) -> str:
    """Return a table of changes as Markdown."""
    rows = [
        [
            f"{change.new.section}, {change.new.case}, {change.new.subject}",
            *(number(r.value * (1e-6 if r.section == "memory" else 1e6)) for r in change),
            f"{change.ratio:.2f}×",
            f"{change.noise:.0%}",
            change.verdict,
        ]
        for change in found
    ]
    return "\n\n".join(
        [
            "## Compared with the older run",
            table(["µs (memory: MB)", "old", "new", "ratio", "noise", ""], rows),
        ]
    )

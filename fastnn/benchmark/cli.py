"""``python -m fastnn bench``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import fastnn
from fastnn._config import MOST_THREADS, openmp_enabled
from fastnn._validation import known_name
from fastnn.benchmark import peers
from fastnn.benchmark.cases import CASES
from fastnn.benchmark.compare import changes, check, comparison
from fastnn.benchmark.machine import Others, limited_threads, look_around
from fastnn.benchmark.report import Report
from fastnn.benchmark.run import Run
from fastnn.benchmark.sections import SECTIONS
from fastnn.benchmark.timing import Plan

__all__ = ["add_arguments"]

_PLAN = Plan()
_QUICK = Plan(seconds=1.0, fewest=3, most=5, shortest=0.005)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of the suite and, as ``run``, what to do with them."""
    parser.description = "Time fastnn beside other libraries; the report is Markdown."
    parser.add_argument(
        "--peers", type=_names(_others()), metavar="A,B", help=f"of {', '.join(_others())}"
    )
    parser.add_argument(
        "--shapes",
        type=_names(CASES),
        default=list(CASES),
        metavar="A,B",
        help=f"of {', '.join(CASES)}",
    )
    parser.add_argument(
        "--sections",
        type=_names(SECTIONS),
        default=list(SECTIONS),
        metavar="A,B",
        help=f"of {', '.join(SECTIONS)}",
    )
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=_threads, help="default: what fastnn would use")
    parser.add_argument(
        "--seconds",
        type=_positive,
        help=f"to measure for, a row of a table; default: {_PLAN.seconds:g}",
    )
    parser.add_argument("--quick", action="store_true", help="a trial: fewer rows, rounds, seconds")
    parser.add_argument("--json", type=_output, metavar="FILE", help="write all figures")
    parser.add_argument("--markdown", type=_output, metavar="FILE", help="write the report")
    parser.add_argument("--roofline", type=_output, metavar="FILE", help="draw the training steps")
    parser.add_argument(
        "--compare",
        type=_report,
        metavar="FILE",
        help="by --json: tell what is worse now, and return 1 if something is",
    )
    parser.set_defaults(run=partial(_run, parser))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if without_core := fastnn.show_config(as_dict=True)["native"]:
        parser.error(f"the compiled core is missing: {without_core}")
    if options.roofline and "train" not in options.sections:
        parser.error("--roofline needs the section train")
    if options.roofline and importlib.util.find_spec("matplotlib") is None:
        parser.error('--roofline needs matplotlib: pip install "fastnn[plot]"')
    threads = options.threads or fastnn.get_num_threads()
    plan = _QUICK if options.quick else _PLAN
    if options.seconds:
        plan = replace(plan, seconds=options.seconds)
    found, missing = _load(options.peers)
    cases = [CASES[name] for name in options.shapes]
    run = Run(cases, found, options.dtype, threads, plan, options.quick)
    with limited_threads(threads):
        machine = look_around(run.dtype, threads)
        versions = {peer.label: peer.version for peer in found}
        report = Report(machine, versions, missing, quick=run.quick)
        if options.compare:
            try:
                check(options.compare, report)
            except ValueError as error:
                parser.error(str(error))
        return _measure(run, report, options)


def _load(asked: Sequence[str] | None) -> tuple[list[peers.Peer], dict[str, str]]:
    """Return fastnn and the peers, and why others are not there."""
    found, missing = [peers.load("native")], {}
    for name in _others() if asked is None else asked:
        try:
            peer = peers.load(name)
        except ImportError as error:
            missing[name] = str(error)
        else:
            if asked is not None or not peer.on_request:
                found.append(peer)
    return found, missing


def _measure(run: Run, report: Report, options: argparse.Namespace) -> int:
    """Fill the report, printing it as it grows, and write what was asked for."""
    parts: list[str] = []

    def say(part: str) -> None:
        parts.append(part)
        print(f"{part}\n", flush=True)

    say(f"# fastnn beside others\n\n{report.head()}")
    others = Others()
    for name in options.sections:
        section = SECTIONS[name]
        report.results += section.measure(run)
        say(section.table(report))
    report.others = others.cores()
    if report.others is not None:
        say(f"Other programs kept {report.others:.2f} cores busy meanwhile.")
    found = changes(options.compare, report) if options.compare else []
    if options.compare:
        say(comparison(found))
    if options.markdown:
        options.markdown.write_text("\n\n".join(parts) + "\n")
    if options.json:
        report.save(options.json)
    if options.roofline:
        from fastnn.benchmark.roofline import draw

        draw(report, options.roofline)
    return int(any(change.verdict == "worse" for change in found))


def _others() -> list[str]:
    return [name for name in peers.names() if name != "native"]


def _names(valid: Collection[str]) -> Callable[[str], list[str]]:
    """Return what reads names out of a table, separated by commas."""

    def read(text: str) -> list[str]:
        try:
            return [known_name("each name", name, valid) for name in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (value := float(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"must be a number > 0; got {text!r}")


def _threads(text: str) -> int:
    most = MOST_THREADS if openmp_enabled() else 1
    if text.isdecimal() and 1 <= int(text) <= most:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"must be an integer from 1 to {most}, the most of this build; got {text!r}"
    )


def _output(text: str) -> Path:
    path = Path(text)
    if path.parent.is_dir():
        return path
    raise argparse.ArgumentTypeError(f"must be in a folder that exists; got {text!r}")


def _report(text: str) -> Report:
    try:
        return Report.load(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None

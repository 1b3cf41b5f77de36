"""The command line: ``python -m fastnn info`` and ``python -m fastnn bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import fastnn
from fastnn.benchmark import cli as benchmark


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastnn", description=fastnn.__doc__)
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    info = commands.add_parser("info", help="print versions, instruction sets, threads, compiler")
    info.set_defaults(run=_info)
    bench = commands.add_parser("bench", help="time fastnn beside other libraries")
    benchmark.add_arguments(bench)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _info(options: argparse.Namespace) -> int:
    fastnn.show_config()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What all examples share: their options, and where their pictures go."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

mpl.use("agg")


def options(description: str) -> argparse.Namespace:
    """Read the command line: ``quick``, and ``output``, a directory that is there then."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="train less, to see that it runs")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="for the pictures")
    parsed = parser.parse_args()
    parsed.output.mkdir(parents=True, exist_ok=True)
    return parsed


def save(figure: plt.Figure, directory: Path) -> None:
    """Save a picture under the name of the script."""
    path = directory / f"{Path(sys.argv[0]).stem}.png"
    figure.savefig(path, dpi=100)
    print(f"wrote {path}")

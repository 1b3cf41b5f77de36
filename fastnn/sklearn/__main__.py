"""``python -m fastnn.sklearn script.py ...``: run an unchanged script under the patch."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from fastnn.sklearn import patch_sklearn


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script as ``python script.py ...`` would, with scikit-learn patched."""
    parser = argparse.ArgumentParser(
        prog="python -m fastnn.sklearn",
        description="Run a Python script with fastnn's MLPs in the place of scikit-learn's.",
    )
    parser.add_argument("script", help="path of the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")
    options = parser.parse_args(arguments)
    sys.argv = [options.script, *options.arguments]
    sys.path[0] = str(Path(options.script).resolve().parent)
    with patch_sklearn():
        runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    main()

"""``python -m fastnn.sklearn script.py ...``: run an unchanged script under the patch."""

from __future__ import annotations

import argparse
import os
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
    parser.add_argument("script", help="path of the script, and what it gets")
    given = list(sys.argv[1:] if arguments is None else arguments)
    script = parser.parse_args(given[:1]).script
    sys.argv = given
    sys.path[0] = str(Path(script).resolve().parent)
    with patch_sklearn():
        runpy.run_path(os.path.abspath(script), run_name="__main__")


if __name__ == "__main__":
    main()

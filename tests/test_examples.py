"""Each example runs, checks its own figures and draws its picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
# Of data that may have to be downloaded, and long
NOT_HERE = {"common.py", "train_mnist.py", "mnist_recipe.py"}
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in NOT_HERE)

if not SCRIPTS:
    pytest.skip("there are no examples beside these tests", allow_module_level=True)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_example(script, tmp_path, native):
    pytest.importorskip("matplotlib", reason='needs pip install "fastnn[demo]"')
    pytest.importorskip("sklearn", reason='needs pip install "fastnn[demo]"')
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, "--quick", "--output", tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (picture,) = tmp_path.iterdir()
    assert picture.name == Path(script).with_suffix(".png").name
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_readme_lists_all():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.name == "common.py" or f"[{path.name}]({path.name})" in listed

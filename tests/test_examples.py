"""Each example runs, checks its own figures and draws its picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "common.py")

if not SCRIPTS:
    pytest.skip("there are no examples beside these tests", allow_module_level=True)


@pytest.fixture(scope="module")
def small_mnist(tmp_path_factory):
    """A directory with a small MNIST: scikit-learn's digits, enlarged from 8 by 8 to 28 by 28."""
    datasets = pytest.importorskip("sklearn.datasets", reason='needs pip install "fastnn[demo]"')
    X, y = datasets.load_digits(return_X_y=True)
    at = (np.arange(28) * 8) // 28
    images = (X.reshape(-1, 8, 8)[:, at][:, :, at] / 16 * 255).astype(np.uint8)
    directory = tmp_path_factory.mktemp("mnist")
    test = np.arange(len(y)) % 6 == 0
    train = ~test
    arrays = {"x_train": images[train], "y_train": y[train].astype(np.uint8)}
    arrays |= {"x_test": images[test], "y_test": y[test].astype(np.uint8)}
    np.savez(directory / "mnist.npz", **arrays)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_example(script, tmp_path, native, small_mnist):
    pytest.importorskip("matplotlib", reason='needs pip install "fastnn[demo]"')
    quick = ["--epochs", "2"] if script == "train_mnist.py" else ["--quick"]
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *quick, "--output", tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "FASTNN_DATA": str(small_mnist)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    pictures = sorted(tmp_path.iterdir())
    names = ["confusion_matrix", "learning_curve"] if script == "train_mnist.py" else [script[:-3]]
    assert [picture.name for picture in pictures] == [f"{name}.png" for name in names]
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_readme_lists_all():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.name == "common.py" or f"[{path.name}]({path.name})" in listed

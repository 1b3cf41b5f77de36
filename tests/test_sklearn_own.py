"""scikit-learn's own tests of its estimators, from its wheel, run over ours.

The test module is executed with ours in the place of ``sklearn.neural_network``'s names, and its
tests are collected here; nothing is copied and nothing is left out.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from conftest import require_native

pytest.importorskip("sklearn", reason='needs scikit-learn: pip install "fastnn[sklearn]"')
require_native()

import sklearn.neural_network  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastnn.sklearn import MLPClassifier, MLPRegressor  # noqa: E402

# scikit-learn's tests warn as they please; those that expect a warning say so themselves
pytestmark = pytest.mark.filterwarnings("ignore")


def _load() -> ModuleType:
    """scikit-learn's test module, with our classes where it imports scikit-learn's."""
    found = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if found is None or found.origin is None:
        pytest.skip("this scikit-learn was installed without its tests: install its wheel")
    spec = importlib.util.spec_from_file_location("scikit_learns_test_mlp", found.origin)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.neural_network, "MLPClassifier", MLPClassifier)
        patch.setattr(sklearn.neural_network, "MLPRegressor", MLPRegressor)
        spec.loader.exec_module(module)
    return module


_module = _load()
_theirs = {name: value for name, value in vars(_module).items() if name.startswith("test_")}
globals().update(_theirs)


@pytest.fixture
def global_random_seed() -> int:
    """scikit-learn's conftest has it; 42 is what it takes unless told otherwise."""
    return 42


def test_all_of_them_are_here_and_run_over_ours():
    assert _module.__file__ is not None
    source = Path(_module.__file__).read_text(encoding="utf-8")
    assert len(_theirs) == source.count("\ndef test_") > 30
    assert _module.MLPClassifier is MLPClassifier
    assert _module.MLPRegressor is MLPRegressor
    assert sklearn.neural_network.MLPClassifier is not MLPClassifier


_checks = parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])


# before scikit-learn 1.9 they are a generator, which pytest is giving up
@pytest.mark.parametrize(_checks.args[0], list(_checks.args[1]), **_checks.kwargs)
def test_estimator_checks(estimator, check):
    check(estimator)

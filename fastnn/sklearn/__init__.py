"""scikit-learn's MLPClassifier and MLPRegressor: the same results, by the compiled core."""

from __future__ import annotations

try:
    import sklearn.neural_network  # noqa: F401
except ImportError as error:
    raise ImportError(
        'fastnn.sklearn needs scikit-learn 1.6 or newer: pip install "fastnn[sklearn]"'
    ) from error

from fastnn.sklearn._estimators import MLPClassifier, MLPRegressor
from fastnn.sklearn._patch import from_sklearn, patch_sklearn, to_sklearn, unpatch_sklearn

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "from_sklearn",
    "patch_sklearn",
    "to_sklearn",
    "unpatch_sklearn",
]

for _class in (MLPClassifier, MLPRegressor):  # where pickles are to look for them
    _class.__module__ = __name__

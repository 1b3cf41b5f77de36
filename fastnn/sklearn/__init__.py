"""scikit-learn's MLPClassifier and MLPRegressor: the same results, by the compiled core."""

from __future__ import annotations

from fastnn.sklearn._estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]

for _class in (MLPClassifier, MLPRegressor):  # where pickles are to look for them
    _class.__module__ = __name__

"""What a training reports: one row of figures an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastnn._optional import needed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["History"]


class History:
    """The figures of a training, epoch by epoch.

    Attributes
    ----------
    epoch : list of int
        The epochs that ended, counted from 0.
    history : dict of str to list of float
        A list as long as `epoch` for each of

        - ``"loss"``: the mean over the epoch's training rows, each taken before the update that
          it led to, with dropout and penalties;
        - ``"accuracy"``: the part of the training rows that were right, taken likewise; for the
          losses that compare classes, the cross-entropies and focal losses, only;
        - ``"val_loss"``, ``"val_accuracy"``: the same on the validation rows, after the epoch and
          without dropout; where there are such rows;
        - the names of ``fit``'s `metrics`, behind ``"val_"`` where there are validation rows.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add the figures of one epoch; nan where others have one that it has not."""
        for name in logs:
            self.history.setdefault(name, [math.nan] * len(self.epoch))
        self.epoch.append(epoch)
        for name, values in self.history.items():
            values.append(logs.get(name, math.nan))

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __len__(self) -> int:
        return len(self.epoch)

    def __repr__(self) -> str:
        last = "".join(f", {name}={values[-1]:.4g}" for name, values in self.history.items())
        return f"<History of {len(self)} epochs{last}>"

    def to_dataframe(self) -> pd.DataFrame:
        """Return the figures as a pandas DataFrame, a row an epoch and a column a figure.

        Raises
        ------
        ImportError
            If pandas is not there.
        """
        with needed("to_dataframe", "pandas", "pandas"):
            import pandas as pd
        return pd.DataFrame(self.history, index=pd.Index(self.epoch, name="epoch"))

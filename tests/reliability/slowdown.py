"""How much slower fastnn trains in a process that other libraries compute in, and the other way.

    python tests/reliability/slowdown.py

has NumPy, PyTorch, scikit-learn and LightGBM, those that are there, compute in turn with fastnn,
each alone and all together, and compares each one's time with its time in a process of its own:
medians, which want a quiet machine. All together are also timed without fastnn, since some slow
each other.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

NAMES = [
    name
    for name in ("fastnn", "numpy", "torch", "sklearn", "lightgbm")
    if importlib.util.find_spec(name)
]
rng = np.random.default_rng(0)
X = rng.normal(size=(6000, 256)).astype(np.float32)
y = X[:, :8].copy()


def work(name: str) -> Callable[[], object]:
    """What a library is to do, of some 50 ms."""
    if name == "fastnn":
        import fastnn

        net = fastnn.Network([256, 512, 512, 8], seed=0)
        return lambda: net.fit(X, y, 1, 200)
    if name == "torch":
        import torch

        model = torch.nn.Sequential(
            torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 8)
        )
        inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
        return lambda: ((model(inputs) - targets) ** 2).mean().backward()
    if name == "sklearn":
        from sklearn.ensemble import HistGradientBoostingRegressor

        return lambda: HistGradientBoostingRegressor(max_iter=2).fit(X[:, :64], y[:, 0])
    if name == "lightgbm":
        import lightgbm

        options = {"verbose": -1, "num_threads": 2}
        rows, targets = X[:, :64].copy(), y[:, 0].copy()
        return lambda: lightgbm.train(options, lightgbm.Dataset(rows, targets), 10)
    a = rng.normal(size=(1200, 1200))
    return lambda: a @ a


def medians(names: list[str], rounds: int = 15) -> dict[str, float]:
    """Seconds of each when they take turns."""
    calls = {name: work(name) for name in names}
    took: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            took[name].append(time.perf_counter() - began)
    return {name: float(np.median(times[2:])) for name, times in took.items()}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(medians(sys.argv[1:])))
        return

    def apart(*names: str) -> dict[str, float]:
        command = [sys.executable, __file__, *names]
        return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))

    ours, *others = NAMES
    together, without = apart(*NAMES), apart(*others)
    fastnn_alone = apart(ours)[ours]
    widths = {"": 10, "alone": 9, "with fastnn": 16, "fastnn": 7, "with all": 16, "but fastnn": 17}
    print(*(f"{title:>{width}}" for title, width in widths.items()))
    for name in others:
        alone, pair = apart(name)[name], apart(ours, name)
        print(
            f"{name:10} {1e3 * alone:6.1f} ms",
            f"{1e3 * pair[name]:6.1f} ms {pair[name] / alone - 1:+6.0%}",
            f"{pair[ours] / fastnn_alone - 1:+7.0%}",
            f"{1e3 * together[name]:6.1f} ms {together[name] / alone - 1:+6.0%}",
            f"{1e3 * without[name]:7.1f} ms {without[name] / alone - 1:+6.0%}",
        )
    print(
        f"{ours:10} {1e3 * fastnn_alone:6.1f} ms {'':24}",
        f"{1e3 * together[ours]:6.1f} ms {together[ours] / fastnn_alone - 1:+6.0%}",
    )


if __name__ == "__main__":
    main()

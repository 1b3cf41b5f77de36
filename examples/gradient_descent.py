"""Gradient descent and its successors on a bowl, a dip with a cliff behind it, and a ravine.

x² has one minimum. x³ - 0.75x + 1 has a dip at x = 0.5, and falls without end left of the hill at
x = -0.5: who starts at 1 and goes downhill stays in the dip. In a ravine, steep one way and flat
the other, one rate is too large for the one or too small for the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from common import options, plt, save

from fastnn.optimizers import SGD, AdaGrad, Adam, Optimizer, RMSProp

Function = Callable[[np.ndarray], np.ndarray]


def descend(optimizer: Optimizer, slope: Function, start: list[float], steps: int) -> np.ndarray:
    """Return the points on the way, (steps + 1, dimensions)."""
    x = np.array(start)
    path = [x.copy()]
    for _ in range(steps):
        optimizer.update([x], [slope(x)])
        path.append(x.copy())
        if np.abs(x).max() > 3:  # over the cliff
            break
    return np.array(path)


def bowl(x: np.ndarray) -> np.ndarray:
    return x**2


def dip(x: np.ndarray) -> np.ndarray:
    return x**3 - 0.75 * x + 1


def ravine(x: np.ndarray) -> np.ndarray:
    return x[..., 0] ** 2 / 20 + x[..., 1] ** 2


def main() -> None:
    args = options(__doc__)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")

    # 25,000 small steps of plain gradient descent
    steps = 25_000
    at_zero = descend(SGD(0.001), lambda x: 2 * x, [1.0], steps)[-1, 0]
    in_dip = descend(SGD(0.001), lambda x: 3 * x**2 - 0.75, [1.0], steps)[-1, 0]
    print(f"after {steps} steps from 1.0: x² at {at_zero:.2g}, x³ - 0.75x + 1 at {in_dip:.4f}")
    assert abs(at_zero) < 1e-12
    assert abs(in_dip - 0.5) < 1e-6

    # How fast each comes down, from 1.0 on x²
    contenders: dict[str, Callable[[], Optimizer]] = {
        "gradient descent": lambda: SGD(0.01),
        "momentum": lambda: SGD(0.01, momentum=0.9),
        "AdaGrad": lambda: AdaGrad(0.1),
        "RMSProp": lambda: RMSProp(0.01, rho=0.9),
        "Adam": lambda: Adam(0.03),
        "a rate too large": lambda: SGD(1.03),
        "a rate too small": lambda: SGD(0.0005),
    }
    for name, make in contenders.items():
        steps = 8 if "large" in name else 150
        path = descend(make(), lambda x: 2 * x, [1.0], steps)[:, 0]
        axes[0].plot(path, label=name, linestyle=":" if "rate" in name else "-")
    axes[0].set(title="x² from 1.0", xlabel="step", ylabel="x", ylim=(-1.5, 1.5))
    axes[0].legend(fontsize="small")

    # Who stays in the dip. The hill is as high as the start, 1.25, so what rolls like a ball with
    # friction comes back; long steps get over it.
    x = np.linspace(-1.6, 1.3, 200)
    axes[1].plot(x, dip(x), color="black", linewidth=0.8)
    leavers: dict[str, Callable[[], Optimizer]] = {
        "gradient descent": lambda: SGD(0.01),
        "momentum": lambda: SGD(0.01, momentum=0.9),
        "momentum, rate 0.3": lambda: SGD(0.3, momentum=0.9),
        "AdaGrad": lambda: AdaGrad(0.1),
        "AdaGrad, rate 2": lambda: AdaGrad(2.0),
        "RMSProp": lambda: RMSProp(0.01, rho=0.9),
        "Adam": lambda: Adam(0.03),
    }
    where = {}
    for number, (name, make) in enumerate(leavers.items()):
        path = descend(make(), lambda x: 3 * x**2 - 0.75, [1.0], 2000)[:, 0]
        where[name] = path[-1]
        outcome = "left it" if path[-1] < -0.5 else f"stays at {path[-1]:.3f}"
        print(f"in the dip of x³ - 0.75x + 1: {name:18} {outcome}")
        axes[1].plot(np.clip(path, -1.6, 1.3), dip(np.clip(path, -1.6, 1.3)) + 0.12 * (number + 1),
                     ".-", markersize=2, linewidth=0.5, label=f"{name}: {outcome}")  # fmt: skip
    assert abs(where["gradient descent"] - 0.5) < 1e-3
    assert where["momentum, rate 0.3"] < -0.5
    axes[1].set(title="x³ - 0.75x + 1 from 1.0 (raised, to tell them apart)", xlabel="x")
    axes[1].legend(fontsize="small")

    # Ways through a ravine
    a, b = np.meshgrid(np.linspace(-3.5, 1.5, 80), np.linspace(-2.2, 2.2, 80))
    axes[2].contour(a, b, ravine(np.stack([a, b], axis=-1)), levels=12, colors="lightgrey")
    in_ravine: dict[str, Callable[[], Optimizer]] = {
        "gradient descent": lambda: SGD(0.95),
        "momentum": lambda: SGD(0.1, momentum=0.9),
        "AdaGrad": lambda: AdaGrad(1.5),
        "RMSProp": lambda: RMSProp(0.15, rho=0.9),
        "Adam": lambda: Adam(0.3),
    }
    for name, make in in_ravine.items():
        path = descend(make(), lambda x: x * [0.1, 2], [-2.9, 2.0], 30)
        axes[2].plot(*path.T, "o-", markersize=3, linewidth=1, label=name)
    axes[2].set(title="a ravine, 30 steps")
    axes[2].legend(fontsize="small")
    save(figure, args.output)


if __name__ == "__main__":
    main()

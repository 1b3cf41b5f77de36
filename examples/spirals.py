"""Three spirals, and how the boundaries between them form as training goes on.

A callback draws them; no straight line separates the spirals, so hidden layers have to.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from common import options, plt, save

from fastnn import Adam, Callback, Network
from fastnn.schedules import OneCycle


def spirals(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return n points of each of three arms, and the number of the arm of each."""
    r = np.tile(np.linspace(0.05, 1, n), 3)
    y = np.repeat([0, 1, 2], n)
    angle = 4 * (y + r) + rng.normal(0, 0.2, 3 * n)
    return np.column_stack([r * np.sin(angle), r * np.cos(angle)]), y


COLORS = ["tab:blue", "tab:orange", "tab:green"]
PALE = ["#c3daea", "#ffdfc2", "#c6e6c6"]


class Boundaries(Callback):
    """Draw the class that the network would give each point, after some of the epochs."""

    def __init__(self, X: np.ndarray, y: np.ndarray, axes: Mapping[int, plt.Axes]) -> None:
        self.X, self.y, self.axes = X, y, axes

    def on_epoch_end(self, net: Network, epoch: int, logs: Mapping[str, float]) -> None:
        ax = self.axes.get(epoch + 1)
        if ax is None:
            return
        axis = np.linspace(-1.2, 1.2, 200)
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        said = net.predict(grid).argmax(axis=1).reshape(200, 200)
        ax.contourf(axis, axis, said, levels=[-0.5, 0.5, 1.5, 2.5], colors=PALE)
        ax.scatter(*self.X.T, c=np.take(COLORS, self.y), s=5)
        ax.set(title=f"epoch {epoch + 1}: {logs['accuracy']:.0%} right", xticks=[], yticks=[])


def main() -> None:
    args = options(__doc__)
    X, y = spirals(100, np.random.default_rng(0))
    epochs = [1, 10, 50, 100] if args.quick else [1, 10, 30, 100, 200, 400]
    figure, axes = plt.subplots(
        1, len(epochs), figsize=(3 * len(epochs), 3.3), layout="constrained"
    )
    net = Network(
        [2, 64, 64, 3],
        loss="cross_entropy",
        optimizer=Adam(OneCycle(0.02, epochs[-1])),
        seed=0,
    )
    drawing = Boundaries(X, y, dict(zip(epochs, axes, strict=True)))
    history = net.fit(X, y, epochs=epochs[-1], batch_size=32, callbacks=[drawing])
    print(f"{history['accuracy'][-1]:.1%} of {len(X)} points right after {epochs[-1]} epochs")
    assert history["accuracy"][-1] > 0.9
    save(figure, args.output)


if __name__ == "__main__":
    main()

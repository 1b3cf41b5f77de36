"""Overfitting, and six cures side by side.

Few noisy rows and many units: the network learns the noise by heart, the training loss falls and
the validation loss rises. What helps: fewer units, L2, dropout, early stopping, more rows, and rows
changed a little each time.
"""

from __future__ import annotations

import numpy as np
from common import options, plt, save

from fastnn import Adam, Callback, Dense, Dropout, EarlyStopping, Network
from fastnn.data import ArrayBatches

ROWS = 80


def moons(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles in each other's arms, with much noise."""
    y = rng.integers(2, size=n)
    angle = np.pi * rng.uniform(size=n)
    X = np.where(y[:, np.newaxis] == 0,
                 np.column_stack([np.cos(angle), np.sin(angle)]),
                 np.column_stack([1 - np.cos(angle), 0.5 - np.sin(angle)]))  # fmt: skip
    return X + rng.normal(0, 0.35, X.shape), y


def network(*hidden: Dense | Dropout) -> Network:
    layers = hidden or (Dense(100, "relu"), Dense(100, "relu"))
    return Network([2, *layers, 1], loss="binary_cross_entropy", optimizer=Adam(0.005), seed=0)


def cross_entropy(y: np.ndarray, outputs: np.ndarray) -> float:
    """The loss without the penalty, so that all can be compared."""
    p = np.clip(outputs.astype(np.float64), 1e-12, 1 - 1e-12)
    return -float(np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


def noisy(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return X + rng.normal(0, 0.3, X.shape)


def main() -> None:
    args = options(__doc__)
    epochs = 120 if args.quick else 300
    rng = np.random.default_rng(0)
    X, y = moons(ROWS, rng)
    many_X, many_y = moons(20 * ROWS, rng)
    test = moons(1000, rng)
    stopping: list[Callback] = [EarlyStopping(patience=20, restore_best_weights=True)]
    l2 = {"activation": "relu", "l2": 0.003}
    trainings = {
        "nothing done": (network(), (X, y), []),
        "fewer units": (network(Dense(6, "relu")), (X, y), []),
        "L2 penalty": (network(Dense(100, **l2), Dense(100, **l2)), (X, y), []),
        "dropout": (
            network(Dense(100, "relu"), Dropout(0.5), Dense(100, "relu"), Dropout(0.5)),
            (X, y),
            [],
        ),
        "early stopping": (network(), (X, y), stopping),
        "more rows": (network(), (many_X, many_y), []),
        "rows changed each time": (network(), (ArrayBatches(X, y, transform=noisy),), []),
    }
    axis = np.linspace(-2, 3, 120), np.linspace(-1.8, 2.2, 120)
    grid = np.stack(np.meshgrid(*axis), axis=-1).reshape(-1, 2)
    figure, axes = plt.subplots(2, 7, figsize=(20, 5.6), layout="constrained", sharey="row")
    test_loss = {}
    print(f"{'':24}test loss   test accuracy")
    for (name, (net, rows, callbacks)), (curve, ax) in zip(trainings.items(), axes.T, strict=True):
        # As many steps for the many rows as for the few
        n = epochs // 20 if name == "more rows" else epochs
        history = net.fit(*rows, epochs=n, validation_data=test, callbacks=callbacks,
                          metrics=[cross_entropy])  # fmt: skip
        test_loss[name] = cross_entropy(test[1][:, np.newaxis], net.predict(test[0]))
        accuracy = net.evaluate(*test)["accuracy"]
        print(f"{name:24}{test_loss[name]:9.3f}{accuracy:16.1%}")
        curve.plot(history["loss"], label="training, penalties included")
        curve.plot(history["val_cross_entropy"], "--", label="validation")
        curve.set(title=name, xlabel="epoch", ylim=(0, 1.5))
        ax.contourf(*axis, net.predict(grid).reshape(120, 120), levels=10, cmap="RdBu", alpha=0.55)
        points, labels = rows if len(rows) == 2 else (X, y)
        ax.scatter(*points.T, c=labels, cmap="RdBu", edgecolors="black", linewidth=0.3,
                   s=14 if len(points) == ROWS else 5)  # fmt: skip
        ax.set(xticks=[], yticks=[])
    axes[0, 0].legend()
    assert max(test_loss, key=lambda name: test_loss[name]) == "nothing done"
    save(figure, args.output)


if __name__ == "__main__":
    main()

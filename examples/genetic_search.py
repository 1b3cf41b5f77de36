"""A genetic search for hyperparameters: what the network looks like and how it is trained.

A population of candidates is trained at once, each on three folds. The best are crossed and mutated
to make the next population, and so on. What it found is then trained on all rows and tested on rows
that the search never saw.
"""

from __future__ import annotations

import numpy as np
from common import options, plt, save
from sklearn.datasets import load_digits

from fastnn import SGD, Dropout, Network, plotting
from fastnn.data import split, standardize
from fastnn.search import hyperparameters

SPACE = {
    "hidden": [(16,), (32,), (64,), (32, 16), (64, 32)],
    "activation": ["relu", "tanh", "sigmoid"],
    "dropout": (0.0, 0.5),
    "learning_rate": (1e-4, 1.0, "log"),
    "momentum": (0.0, 0.95),
    "batch_size": [16, 32, 64, 128],
    "epochs": (2, 15),
}


def build(
    hidden: tuple[int, ...],
    activation: str,
    dropout: float,
    learning_rate: float,
    momentum: float,
    seed: int,
) -> Network:
    return Network(
        [64, *hidden, Dropout(dropout), 10],
        activation=activation,
        loss="cross_entropy",
        optimizer=SGD(learning_rate, momentum),
        seed=seed,
    )


def main() -> None:
    args = options(__doc__)
    population, generations = (8, 4) if args.quick else (20, 10)
    digits = load_digits()
    X, X_test, y, y_test = split(digits.data, digits.target, stratify=True)
    X, X_test, _ = standardize(X, X_test)

    found = hyperparameters(
        build,
        SPACE,
        X,
        y,
        trials=population * generations,
        population=population,
        folds=3,
        metric="accuracy",
        verbose=1,
    )
    scores = np.array([row["score"] for row in found.rows]).reshape(generations, population)
    for number, generation in enumerate(scores):
        median, highest = np.median(generation), generation.max()
        print(f"generation {number + 1}: median {median:.1%}, best {highest:.1%}")
    print(f"the best of {scores.size}: {found.best}")

    best = found.best
    training = {name: best.pop(name) for name in ("epochs", "batch_size")}
    net = build(**best, seed=0)
    net.fit(X, y, **training)
    accuracy = net.evaluate(X_test, y_test)["accuracy"]
    print(f"trained on all rows, of the test rows right: {accuracy:.1%}")
    assert np.median(scores[-1]) > np.median(scores[0])
    assert accuracy > 0.93

    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained", sharey=True)
    names = ["trial", "learning_rate", "momentum", "dropout", "hidden", "epochs"]
    for ax, name in zip(axes.flat, names, strict=True):
        plotting.search(found, name, ax)
    save(figure, args.output)


if __name__ == "__main__":
    main()

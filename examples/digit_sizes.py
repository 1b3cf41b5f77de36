"""Handwritten digits of 8 by 8, 16 by 16 and 28 by 28 pixels: what finer images are worth.

MNIST as it is and shrunk: four times the pixels are four times the weights of the first layer, and
about as much more work. Where MNIST cannot be had, it is the digits of 8 by 8 that come with
scikit-learn, enlarged: more pixels of the same tell no more.
"""

from __future__ import annotations

import time

import numpy as np
from common import options, plt, save
from sklearn.datasets import load_digits

from fastnn import Adam, Dropout, Network
from fastnn.data import split
from fastnn.datasets import load_mnist
from fastnn.schedules import OneCycle

SIZES = (8, 16, 28)


def load(most: int | None) -> tuple[np.ndarray, ...]:
    """Return images from 0 to 1, (n, side, side), and labels, to train on and to test on."""
    try:
        x_train, y_train, x_test, y_test = load_mnist(normalize=True)
    except ConnectionError as error:
        print(f"{error}\n\nEnlarging the 1,797 digits of scikit-learn, 8 x 8 pixels, instead.\n")
        X, y = load_digits(return_X_y=True)
        X = X.reshape(-1, 8, 8).astype(np.float32) / 16
        x_train, x_test, y_train, y_test = split(X, y, 0.25, stratify=True)
    return x_train[:most], y_train[:most], x_test[:most], y_test[:most]


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """Return images of another size, each pixel the mean of what it covers."""
    old = images.shape[1]
    edges = np.linspace(0, old, side + 1)
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    share = (np.maximum(overlap, 0) * side / old).astype(images.dtype)
    return share @ images @ share.T


def main() -> None:
    args = options(__doc__)
    x_train, y_train, x_test, y_test = load(5000 if args.quick else None)
    batches = -(-len(x_train) // 100)
    epochs = 10 if len(x_train) > 10_000 else 40
    figure, (top, bottom) = plt.subplots(
        2, 3, figsize=(12, 6), layout="constrained", height_ratios=[1, 2]
    )
    accuracies, times = {}, {}
    for side, ax in zip(SIZES, top, strict=True):
        X, X_test = (resized(x, side).reshape(len(x), -1) for x in (x_train, x_test))
        net = Network(
            [side * side, 100, Dropout(0.1), 100, Dropout(0.1), 10],
            loss="cross_entropy",
            optimizer=Adam(OneCycle(0.005, epochs * batches, per="step")),
            seed=0,
        )
        start = time.perf_counter()
        history = net.fit(X, y_train, epochs, 100, validation_data=(X_test, y_test))
        name = f"{side} × {side}"
        times[name] = (time.perf_counter() - start) / epochs
        accuracies[name] = history["val_accuracy"][-1]
        print(f"{side:2} x {side:<2}  {accuracies[name]:.2%} of {len(y_test)} test digits right,"
              f" {times[name]:.2f} s an epoch of {len(X)}")  # fmt: skip

        examples = [
            np.pad(resized(x_train[y_train == digit][:1], side)[0], side // 8)
            for digit in range(10)
        ]
        ax.imshow(np.vstack([np.hstack(examples[:5]), np.hstack(examples[5:])]), cmap="gray_r")
        ax.set(title=name, xticks=[], yticks=[])
        bottom[0].plot(range(1, epochs + 1), history["val_accuracy"], label=name)
    bottom[0].set(xlabel="epoch", ylabel="test accuracy", ylim=(0.9, 1))
    bottom[0].locator_params(axis="x", integer=True)
    bottom[0].legend(loc="lower right")
    for ax, title, figures, shown in (
        (bottom[1], "test accuracy after training", accuracies, "{:.2%}"),
        (bottom[2], "seconds an epoch", times, "{:.2g}"),
    ):
        bars = ax.bar(
            figures.keys(), figures.values(), color=["tab:blue", "tab:orange", "tab:green"]
        )
        ax.bar_label(bars, [shown.format(figure) for figure in figures.values()])
        ax.set(title=title)
    bottom[1].set(ylim=(0.9, 1))
    save(figure, args.output)
    assert min(accuracies.values()) > 0.92


if __name__ == "__main__":
    main()

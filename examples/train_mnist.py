"""Train a network on handwritten digits, draw how it went, and time the same work elsewhere.

Run it by ``make demo``, or with ``pip install "fastnn[demo]"``. The digits are MNIST where it can
be had, else the small set that comes with scikit-learn.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import fastnn
from fastnn import plotting
from fastnn.datasets import load_mnist

HIDDEN = [100, 100]
BATCH_SIZE = 100
ROUNDS = 3  # of the comparison, unless that takes long
ENOUGH_SECONDS = 40


class Digits(NamedTuple):
    name: str
    epochs: int
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class Timing(NamedTuple):
    seconds: float
    accuracy: float


def load() -> Digits:
    try:
        return Digits("MNIST", 5, *load_mnist(flatten=True, normalize=True))
    except ConnectionError as error:
        print(f"{error}\n\nTraining on the 1,797 digits of scikit-learn, 8x8 pixels, instead.\n")
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        (x / 16).astype(np.float32), y, test_size=0.2, random_state=0, stratify=y
    )
    return Digits("scikit-learn's digits", 30, x_train, y_train, x_test, y_test)


def network(digits: Digits, backend: str = "native") -> fastnn.Network:
    return fastnn.Network(
        [digits.x_train.shape[1], *HIDDEN, 10],
        activation="relu",
        loss="cross_entropy",  # of softmax, which follows from it
        optimizer="adam",
        backend=backend,
        seed=0,
    )


def time_fastnn(digits: Digits, epochs: int, backend: str) -> Timing:
    net = network(digits, backend)
    start = time.perf_counter()
    net.fit(digits.x_train, digits.y_train, epochs=epochs, batch_size=BATCH_SIZE, verbose=0)
    seconds = time.perf_counter() - start
    return Timing(seconds, net.evaluate(digits.x_test, digits.y_test)["accuracy"])


def time_sklearn(digits: Digits, epochs: int) -> Timing:
    # No penalty and no early end: exactly the work of the others.
    model = MLPClassifier(
        HIDDEN,
        activation="relu",
        solver="adam",
        alpha=0,
        batch_size=BATCH_SIZE,
        max_iter=epochs,
        n_iter_no_change=epochs + 1,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = time.perf_counter()
        model.fit(digits.x_train, digits.y_train)
        seconds = time.perf_counter() - start
    return Timing(seconds, model.score(digits.x_test, digits.y_test))


def compare(digits: Digits, epochs: int) -> None:
    contenders: dict[str, Callable[[], Timing]] = {
        "fastnn": lambda: time_fastnn(digits, epochs, "native"),
        "fastnn, NumPy backend": lambda: time_fastnn(digits, epochs, "numpy"),
        f"scikit-learn {sklearn.__version__}": lambda: time_sklearn(digits, epochs),
    }
    shape = "-".join(str(n) for n in [digits.x_train.shape[1], *HIDDEN, 10])
    print(
        f"\nThe same work elsewhere: {shape}, float32, Adam, batches of {BATCH_SIZE}, "
        f"{epochs} epochs of {len(digits.x_train):,} rows"
    )
    # In turns, and the best of each, since other programs may want the processor for a while.
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    start = time.perf_counter()
    while len(timings["fastnn"]) < ROUNDS and time.perf_counter() - start < ENOUGH_SECONDS:
        for name, run in contenders.items():
            timings[name].append(run())
    best = {name: min(several) for name, several in timings.items()}
    print(f"{'':22}{'seconds an epoch':>18}{'beside fastnn':>15}{'test accuracy':>15}")
    for name, (seconds, accuracy) in best.items():
        times = f"{seconds / best['fastnn'].seconds:.1f} x"
        print(f"{name:22}{seconds / epochs:18.3f}{times:>15}{accuracy:>15.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="default: 5 for MNIST, 30 for the small set")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="for the pictures")
    options = parser.parse_args()

    fastnn.show_config()
    digits = load()
    epochs = options.epochs or digits.epochs
    net = network(digits)
    print(
        f"\nTraining on {digits.name}: {len(digits.x_train):,} digits, "
        f"{len(digits.x_test):,} others to test"
    )
    print(net.summary())
    history = net.fit(
        digits.x_train,
        digits.y_train,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        validation_data=(digits.x_test, digits.y_test),
        verbose=1,
    )
    print("epoch    loss   train accuracy   test accuracy")
    for epoch, *figures in zip(
        history.epoch, history["loss"], history["accuracy"], history["val_accuracy"], strict=True
    ):
        print("{:5}  {:6.4f} {:16.2%} {:15.2%}".format(epoch + 1, *figures))

    options.output.mkdir(parents=True, exist_ok=True)
    predicted = net.predict(digits.x_test).argmax(axis=1)
    right = np.mean(predicted == digits.y_test)
    for name, ax in {
        "learning_curve": plotting.learning_curve(history),
        "confusion_matrix": plotting.confusion_matrix(digits.y_test, predicted),
    }.items():
        ax.set_title(f"{digits.name}: {right:.2%} of the test digits right")
        path = options.output / f"{name}.png"
        ax.figure.savefig(path, dpi=120)
        print(f"wrote {path}")

    compare(digits, epochs)


if __name__ == "__main__":
    main()

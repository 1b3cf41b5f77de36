"""MNIST to more than 98.5 %: wide layers with dropout, augmentation, one cycle of learning rates.

The digits are moved, turned and zoomed a little each time they are trained on, in threads that work
while the network does. Needs MNIST: see `fastnn.datasets`.
"""

from __future__ import annotations

import time

import numpy as np
from common import options, plt, save

from fastnn import Adam, Dropout, Network, plotting
from fastnn.augment import Images
from fastnn.data import ArrayBatches
from fastnn.datasets import load_mnist
from fastnn.schedules import OneCycle


def main() -> None:
    args = options(__doc__)
    x_train, y_train, x_test, y_test = load_mnist()
    x_test = x_test.reshape(len(x_test), -1) / np.float32(255)
    change = Images((28, 28), shift=2, rotate=12, zoom=0.12, scale=1 / 255)
    batches = ArrayBatches(x_train, y_train, 100, transform=change, workers=2)
    epochs = -(-600 // len(batches)) if args.quick else 20
    net = Network(
        [784, 512, Dropout(0.2), 512, Dropout(0.2), 10],
        loss="cross_entropy",
        optimizer=Adam(OneCycle(0.004, epochs * len(batches), per="step")),
        seed=0,
    )
    start = time.perf_counter()
    history = net.fit(batches, epochs=epochs, validation_data=(x_test, y_test), verbose=1)
    seconds = time.perf_counter() - start
    accuracy = net.evaluate(x_test, y_test)["accuracy"]
    print(f"{accuracy:.2%} of the test digits right after {seconds:.0f} s")
    assert accuracy > (0.96 if args.quick else 0.985)

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    plotting.learning_curve(history, axes[0])
    changed = change(np.repeat(x_train[:8], 8, axis=0), np.random.default_rng(0))
    axes[1].imshow(changed.reshape(8, 8, 28, 28).swapaxes(1, 2).reshape(224, 224), cmap="gray_r")
    axes[1].set(title="eight digits, changed eight times each", xticks=[], yticks=[])
    save(figure, args.output)


if __name__ == "__main__":
    main()

"""A training that is killed, and goes on as if nothing had happened.

A checkpoint holds all that the rest of the training depends on: weights, the optimizer's state, the
average of the weights, the shuffling and the position in the epoch. Here another process is killed
in the middle of an epoch, without any warning, and this one goes on from its last checkpoint.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from common import options, plt, save
from sklearn.datasets import load_digits

from fastnn import EMA, Adam, Callback, Checkpoint, Dropout, History, Network
from fastnn.schedules import OneCycle

EPOCHS, KILLED_AFTER = 12, 317  # steps, of which an epoch has 45


class Kill(Callback):
    """Kill this process as ``kill -9`` does."""

    every_steps = KILLED_AFTER

    def on_step(self, net: Network, step: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def network() -> Network:
    return Network(
        [64, 100, Dropout(0.3), 50, 10],
        loss="cross_entropy",
        optimizer=Adam(OneCycle(0.01, EPOCHS)),
        averaging=EMA(0.98),
        seed=0,
    )


def train(net: Network, *callbacks: Callback, resume: bool = False) -> History:
    X, y = load_digits(return_X_y=True)
    return net.fit(
        X / 16, y, EPOCHS, batch_size=32, validation_split=0.2,
        callbacks=callbacks, resume=resume,
    )  # fmt: skip


def train_and_be_killed(path: Path) -> None:
    train(network(), Checkpoint(path, every_epochs=None, every_steps=20), Kill())


def main() -> None:
    args = options(__doc__)
    whole = network()
    expected = train(whole)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "training.safetensors"
        process = multiprocessing.get_context("spawn").Process(
            target=train_and_be_killed, args=(path,)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        net = Network.load(path)
    print(f"killed after {KILLED_AFTER} steps; the checkpoint is of step {net.steps},"
          f" in epoch {net.epochs + 1} of {EPOCHS}")  # fmt: skip
    resumed_at = net.steps / (whole.steps / EPOCHS)
    history = train(net, resume=True)

    assert history.history == expected.history
    for mine, its in ((net, whole), (net.averaged(), whole.averaged())):
        for (W, b), (V, c) in zip(mine.weights, its.weights, strict=True):
            np.testing.assert_array_equal(W, V)
            np.testing.assert_array_equal(b, c)
    print("weights, their average and all figures are those of a training without interruption")

    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    epochs = range(1, EPOCHS + 1)
    ax.plot(epochs, expected["val_loss"], linewidth=5, alpha=0.3, label="without interruption")
    ax.plot(epochs, history["val_loss"], "k--", linewidth=1, label="killed and resumed")
    ax.axvline(resumed_at, color="tab:red", label="resumed here")
    ax.set(xlabel="epoch", ylabel="validation loss")
    ax.legend()
    save(figure, args.output)


if __name__ == "__main__":
    main()

"""Handwritten digits: what the networks that everybody starts with reach."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import SGD, Network, datasets


@pytest.fixture(scope="module")
def mnist():
    """MNIST, where it is on this machine."""

    def skip(dataset):
        pytest.skip(
            f"{dataset.title} is not here, and tests download nothing: set FASTNN_DATA to a"
            f" directory with {dataset.name}.npz or the four IDX files"
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "_download", skip)
        return datasets.load_mnist(flatten=True, normalize=True)


def assert_reaches(accuracy, net, mnist, epochs):
    reached = []
    for _ in range(epochs):
        net.fit(mnist.x_train, mnist.y_train, batch_size=100)
        reached.append(net.evaluate(mnist.x_test, mnist.y_test)["accuracy"])
        if reached[-1] > accuracy:
            return
    pytest.fail(f"expected more than {accuracy} within {epochs} epochs; got {reached}")


def test_two_hidden_layers(native, dtype, mnist):
    net = Network([784, 100, 100, 10], loss="cross_entropy", dtype=dtype, backend=native, seed=0)
    assert_reaches(0.97, net, mnist, epochs=5)


def test_one_hidden_layer(native, mnist):
    net = Network(
        [784, 100, 10],
        activation="sigmoid",
        loss="cross_entropy",
        optimizer=SGD(0.1, momentum=0.9),
        backend=native,
        seed=0,
    )
    assert_reaches(0.93, net, mnist, epochs=30)


def test_backends_learn_alike(native, mnist):
    X, y = mnist.x_train[:2000], mnist.y_train[:2000]
    batch_size, epochs = 100, 3
    curves = []
    for backend in (native, "numpy"):
        net = Network(
            [784, 100, 100, 10], loss="cross_entropy", dtype="float64", backend=backend, seed=0
        )
        curves.append(net.fit(X, y, epochs, batch_size).history)
    assert curves[0]["accuracy"] == curves[1]["accuracy"]
    # an epsilon for each term of a sum, summed over the steps
    terms = 784 + 100 + 100 + batch_size
    steps = epochs * len(X) // batch_size
    rtol = steps * terms * np.finfo(np.float64).eps
    np.testing.assert_allclose(curves[0]["loss"], curves[1]["loss"], rtol=rtol)

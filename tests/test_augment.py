"""Augmentation of images."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastnn import Network
from fastnn.data import ArrayBatches

pytest.importorskip("scipy", reason='needs pip install "fastnn[augment]"')

from fastnn.augment import Images


def rng(seed=0):
    return np.random.default_rng(seed)


def images(n=5, side=16):
    """A square off the centre."""
    X = np.zeros((n, side, side), np.float32)
    X[:, 3:7, 8:12] = 1
    return X


def test_nothing_by_default():
    X = images()
    np.testing.assert_array_equal(Images((16, 16))(X, rng()), X.reshape(5, -1))
    np.testing.assert_array_equal(Images((16, 16))(X.reshape(5, -1), rng()), X.reshape(5, -1))
    assert not np.shares_memory(Images((16, 16))(X, rng()), X)


def centres(X, side=16):
    X = X.reshape(-1, side, side)
    weights = X.sum(axis=(1, 2))
    axis = np.arange(side)
    return np.stack([X.sum(axis=2) @ axis / weights, X.sum(axis=1) @ axis / weights], -1)


def test_shift_moves_by_what_was_drawn():
    X = images(200)
    moved = centres(Images((16, 16), shift=2)(X, rng())) - [4.5, 9.5]
    assert np.abs(moved).max() <= 2 + 1e-5
    assert np.abs(moved).max() > 1.9
    # Of a uniform distribution on [-2, 2] the mean of 200 has a standard deviation of 0.08.
    assert np.abs(moved.mean(axis=0)).max() < 0.4


def test_rotate_turns_about_the_centre():
    X = images(200)
    before = np.array([4.5, 9.5]) - 7.5
    after = centres(Images((16, 16), rotate=30)(X, rng())) - 7.5
    np.testing.assert_allclose(np.hypot(*after.T), np.hypot(*before), rtol=0.02)
    angles = np.degrees(np.arctan2(after[:, 1], after[:, 0]) - np.arctan2(before[1], before[0]))
    angles = (angles + 180) % 360 - 180
    assert 28 < np.abs(angles).max() < 30.5


def test_zoom_scales_about_the_centre():
    X = images(200)
    before = np.array([4.5, 9.5]) - 7.5
    after = Images((16, 16), zoom=0.2)(X, rng())
    sizes = np.hypot(*(centres(after) - 7.5).T) / np.hypot(*before)
    assert 0.79 < sizes.min() < 0.82
    assert 1.18 < sizes.max() < 1.21
    area = after.sum(axis=1) / 16
    np.testing.assert_allclose(area, sizes**2, rtol=0.1)


def test_noise_and_scale():
    X = np.full((50, 16, 16), 255, np.uint8)
    result = Images((16, 16), noise=0.1, scale=1 / 255)(X, rng())
    assert result.dtype == np.float32
    # Of 12,800 pixels: the mean to 0.1 / sqrt(12800), the spread to that / sqrt(2), times 5.
    assert result.mean() == pytest.approx(1, abs=5 * 0.0009)
    assert result.std() == pytest.approx(0.1, abs=5 * 0.0007)


def test_cut_out():
    X = np.ones((300, 16, 16), np.float32)
    holes = (Images((16, 16), cut_out=4)(X, rng()) == 0).reshape(-1, 16, 16)
    assert holes.sum(axis=(1, 2)).max() == 16
    assert holes.sum(axis=(1, 2)).min() >= 1
    rows, columns = holes.any(axis=2).sum(axis=1), holes.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(rows * columns, holes.sum(axis=(1, 2)))
    assert holes.any(axis=0).all()


def test_all_at_once_depends_on_the_seed_alone():
    change = Images((16, 16), shift=1, rotate=10, zoom=0.1, noise=0.1, cut_out=3)
    X = images()
    np.testing.assert_array_equal(change(X, rng(1)), change(X, rng(1)))
    assert (change(X, rng(1)) != change(X, rng(2))).any()
    np.testing.assert_array_equal(X, images())


@pytest.mark.parametrize("workers", [1, 2])
def test_training(backend, workers):
    X = images(40)
    X[20:] = X[20:, ::-1]
    y = np.arange(40) // 20
    nets = []
    for threads in (1, workers):
        batches = ArrayBatches(
            X, y, 10, transform=Images((16, 16), shift=1, rotate=10), seed=1, workers=threads
        )
        net = Network([256, 8, 2], loss="cross_entropy", backend=backend, seed=0)
        net.fit(batches, epochs=10)
        assert net.evaluate(X.reshape(40, -1), y)["accuracy"] == 1
        nets.append(net)
    np.testing.assert_array_equal(nets[0].weights[0][0], nets[1].weights[0][0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shape": 16}, ValueError, r"shape must be \(rows, columns\)"),
        ({"shape": (16, 0)}, ValueError, r"shape\[1\] must be"),
        ({"shift": -1}, ValueError, "shift must be"),
        ({"rotate": "10"}, TypeError, "rotate must be"),
        ({"zoom": 1.0}, ValueError, "zoom must be"),
        ({"cut_out": 1.5}, TypeError, "cut_out must be"),
    ],
)
def test_bad_parameters(options, error, message):
    with pytest.raises(error, match=message):
        Images(**{"shape": (16, 16), **options})


def test_images_of_another_shape():
    with pytest.raises(ValueError, match=r"X must hold images of shape \(8, 8\); got .*\(5, 16"):
        Images((8, 8))(images(), rng())


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"fastnn\[augment\]"):
        Images((8, 8))


@pytest.mark.parametrize(
    ("X", "message"), [(1.0, "X must have rows"), ([1.0], "X must hold images")]
)
def test_what_is_no_images(X, message):
    with pytest.raises(ValueError, match=message):
        Images((1, 3))(X, np.random.default_rng(0))

"""How many threads single calls take, by what they and the pauses between them were like before."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn

_native = pytest.importorskip(
    "fastnn._native", reason="fastnn._native is not built", exc_type=ModuleNotFoundError
)

FLOP = 10e6
ALONE = 50e-6


def quick(threads, now):
    """Threads share the work at no cost."""
    return ALONE / threads


def test_threads_that_are_quicker_are_taken():
    for pause in (0, 1e-3):
        taken = _native.simulated_calls(quick, [pause] * 200, FLOP)
        assert taken[0] == 1
        assert taken[4:] == [2] * 196


def test_threads_that_have_to_be_woken_each_time_are_left_alone():
    def seconds(threads, now):
        return ALONE if threads == 1 else ALONE / 2 + 50e-6

    taken = _native.simulated_calls(seconds, [1e-3] * 20_000, FLOP)
    assert taken.count(2) < 300


def test_threads_that_others_keep_from_their_processor_are_left_alone():
    """Those of OpenBLAS, after each product of NumPy's; when they have gone, ours are back."""

    def seconds(threads, now):
        return 3e-3 if threads == 2 and now < 20 else ALONE / threads

    taken = _native.simulated_calls(seconds, [0.5e-3] * 100_000, FLOP)
    beside = taken[: int(15 / 0.55e-3)]
    assert beside.count(2) * 3e-3 < 0.05 * 15
    assert taken[-20_000:] == [2] * 20_000


def test_a_slow_call_or_several_change_nothing():
    """Processors and caches that have rested take some calls to be quick again."""
    count = 0

    def seconds(threads, now):
        nonlocal count
        count += 1
        return 3 * ALONE if count % 100 < 8 else ALONE / threads

    taken = _native.simulated_calls(seconds, [0] * 1000, FLOP)
    assert taken[1:] == [2] * 999


def test_very_short_calls_take_threads_that_are_awake():
    def woken_each_time(threads, now):
        return ALONE if threads == 1 else ALONE / 2 + 50e-6

    assert _native.simulated_calls(quick, [0] * 100, 1.5e6) == [1] * 11 + [2] * 89
    assert _native.simulated_calls(quick, [50e-6] * 100, 1.5e6) == [1] * 100
    assert _native.simulated_calls(woken_each_time, [0] * 20_000, 1.5e6).count(2) < 200


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_the_same_bits_however_many_are_taken(rows, dtype, threads):
    _native.learn_from_calls(True)

    def network():
        return fastnn.Network([300, 900, 900, 7], loss="cross_entropy", dtype=dtype, seed=0)

    net, steps, others = network(), network(), network()
    X = np.random.default_rng(0).normal(size=(rows, 300)).astype(dtype)
    y = np.arange(rows) % 7
    fastnn.set_num_threads(1)
    expected = net.predict(X)
    losses = [steps.train_step(X, y) for _ in range(20)]
    fastnn.set_num_threads(2)
    for _ in range(50):
        np.testing.assert_array_equal(net.predict(X), expected)
    assert [others.train_step(X, y) for _ in range(20)] == losses

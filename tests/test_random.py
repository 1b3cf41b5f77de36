"""The order of rows, and the generator of the dropout masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn._random import dropout_mask, gaussian, permutation, philox

# Random123's file kat_vectors, "philox4x32 10": counter, key, result
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
SEED = 0x0123456789ABCDEF
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


@pytest.mark.parametrize("name", ["PCG64", "MT19937", "Philox", "SFC64"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 9, 255, 256, 257, 258, 512, 513, 769, 65537])
def test_rows_are_ordered_as_by_numpy(name, n):
    ours, theirs = (np.random.Generator(getattr(np.random, name)(SEED)) for _ in range(2))
    for _ in range(3):  # some draw 64 bits and keep a half for the next
        order = permutation(ours, n)
        assert order.dtype == np.int32
        np.testing.assert_array_equal(order, theirs.permutation(n))
    assert ours.integers(2**32) == theirs.integers(2**32)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    words = philox(*counter, seed=key[0] | key[1] << 32)
    assert tuple(int(w) for w in words) == expected
    assert all(w.dtype == np.uint32 for w in words)


def test_known_answers_side_by_side():
    # One seed only, so only the counters of that key
    counters = np.array([c for c, key, _ in KNOWN_ANSWERS if key == (0, 0)] * 3).T
    words = np.array(philox(*counters, seed=0))
    assert words.shape == (4, 3)
    assert (words == np.array(KNOWN_ANSWERS[0][2])[:, np.newaxis]).all()


def test_counters_broadcast():
    c0, c1 = np.arange(3), np.arange(2)[:, np.newaxis]
    words = philox(c0, c1, 7, 9, SEED)
    assert [w.shape for w in words] == [(2, 3)] * 4
    for i in range(2):
        for j in range(3):
            alone = philox(j, i, 7, 9, SEED)
            assert [w[i, j] for w in words] == [int(w) for w in alone]


@pytest.mark.parametrize("dtype", DTYPES)
def test_mask_is_what_is_written(dtype):
    rate, step, layer = 0.3, 11, 2
    mask = dropout_mask(SEED, step, layer, (5, 9), rate, dtype)
    assert mask.dtype == dtype
    assert mask.shape == (5, 9)
    kept = dtype.type(1 / (1 - rate))
    for row in range(5):
        for col in range(9):
            u = int(philox(col // 4, row, layer, step, SEED)[col % 4])
            assert mask[row, col] == (0 if u < math.floor(rate * 2**32) else kept)


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_rate_and_mean(rate):
    n = 400 * 250
    mask = dropout_mask(SEED, 0, 0, (400, 250), rate, DTYPES[1])
    deviation = math.sqrt(rate * (1 - rate) / n)
    assert (mask == 0).mean() == pytest.approx(rate, abs=5 * deviation)
    assert mask.mean() == pytest.approx(1, abs=5 * deviation / (1 - rate))


def test_no_dropout_at_rate_0():
    assert (dropout_mask(SEED, 0, 0, (30, 30), 0.0, DTYPES[0]) == 1).all()


def test_mask_does_not_depend_on_the_batch():
    whole = dropout_mask(SEED, 3, 1, (32, 13), 0.5, DTYPES[0])
    assert 0 < (whole == 0).mean() < 1
    for shape in ((1, 13), (7, 13), (32, 4), (20, 5)):
        part = dropout_mask(SEED, 3, 1, shape, 0.5, DTYPES[0])
        np.testing.assert_array_equal(part, whole[: shape[0], : shape[1]])


def test_same_places_in_both_dtypes():
    masks = [dropout_mask(SEED, 3, 1, (20, 20), 0.5, dtype) for dtype in DTYPES]
    np.testing.assert_array_equal(masks[0] == 0, masks[1] == 0)


def test_every_part_of_the_place_counts():
    places = {
        "first": (SEED, 0, 0),
        "step": (SEED, 1, 0),
        "layer": (SEED, 0, 1),
        "low word of the seed": (SEED ^ 1, 0, 0),
        "high word of the seed": (SEED ^ 1 << 63, 0, 0),
    }
    masks = [dropout_mask(*place, (50, 40), 0.5, DTYPES[0]) for place in places.values()]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            # Independent masks agree in half of the places, give or take 5 deviations.
            assert (a == b).mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2000))


def test_steps_count_modulo_2_to_the_32():
    shape, dtype = (3, 4), DTYPES[0]
    late = dropout_mask(SEED, 2**32 + 5, 0, shape, 0.5, dtype)
    np.testing.assert_array_equal(late, dropout_mask(SEED, 5, 0, shape, 0.5, dtype))


class TestGaussian:
    def test_by_hand(self):
        """Four columns from one counter, whose highest bit is apart from that of dropout."""
        noise = gaussian(SEED, 3, 2, (2, 6), 0.5, DTYPES[1])
        w = [int(word) for word in philox(0, 1, 2 + 2**31, 3, SEED)]
        for first in (0, 2):
            radius = 0.5 * math.sqrt(-2 * math.log((w[first] + 0.5) / 2**32))
            angle = 2 * math.pi * w[first + 1] / 2**32
            expected = [radius * math.cos(angle), radius * math.sin(angle)]
            np.testing.assert_allclose(noise[1, first : first + 2], expected, rtol=1e-9)
        rest = philox(1, 1, 2 + 2**31, 3, SEED)
        radius = 0.5 * math.sqrt(-2 * math.log((int(rest[0]) + 0.5) / 2**32))
        assert np.hypot(*noise[1, 4:]) == pytest.approx(radius)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_is_normal(self, dtype):
        """Moments, and the shares within 1 and 2 deviations, give or take 5 of their own."""
        n = 200_000
        noise = gaussian(SEED, 0, 0, (400, 500), 2.0, dtype)
        assert noise.dtype == dtype
        z = noise.astype(np.float64) / 2
        for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
            deviation = math.sqrt((math.prod(range(1, 2 * power, 2)) - moment**2) / n)
            assert (z**power).mean() == pytest.approx(moment, abs=5 * deviation)
        for limit in (1, 2):
            share = math.erf(limit / math.sqrt(2))
            deviation = math.sqrt(share * (1 - share) / n)
            assert (np.abs(z) < limit).mean() == pytest.approx(share, abs=5 * deviation)

    def test_columns_do_not_depend_on_each_other(self):
        z = gaussian(SEED, 0, 0, (20_000, 8), 1.0, DTYPES[1])
        for values in (z, z**2):
            correlation = np.corrcoef(values.T) - np.eye(8)
            assert np.abs(correlation).max() < 5 / math.sqrt(20_000)

    def test_does_not_depend_on_the_batch(self):
        whole = gaussian(SEED, 3, 1, (32, 13), 1.0, DTYPES[0])
        part = gaussian(SEED, 3, 1, (7, 6), 1.0, DTYPES[0])
        np.testing.assert_array_equal(part, whole[:7, :6])
        assert not np.isclose(whole, gaussian(SEED, 4, 1, (32, 13), 1.0, DTYPES[0])).any()
        assert not np.isclose(whole, gaussian(SEED, 3, 0, (32, 13), 1.0, DTYPES[0])).any()

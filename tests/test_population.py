"""Many networks trained at once: the same bits as one by one, whatever happens to the others."""

from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Adam, Dense, Dropout, EarlyStopping, Network, schedules
from fastnn.losses import Quantile

RNG = np.random.default_rng(0)
N = 90
X = RNG.normal(size=(N, 5))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
WEIGHT = RNG.uniform(0, 2, N)
FOLD = RNG.permutation(N)[:60]
OTHERS = np.setdiff1d(np.arange(N), FOLD)
SAMPLE = RNG.integers(N, size=N)  # as for bagging: some rows several times


def mean_square(y, out):
    return ((out - y) ** 2).mean(axis=1), 2 * (out - y) / out.shape[1]


# One of everything that goes another way through the core; a seed each, so that none is alike
NETWORKS = [
    lambda **o: Network([5, 8, 2], loss="cross_entropy", **o),
    lambda **o: Network([5, 40, 7, 1], loss="binary_cross_entropy", optimizer="nadam", **o),
    lambda **o: Network([5, Dropout(0.2), Dense(33, "gelu", l2=0.01), Dropout(0.5), 2],
                        loss="softmax_cross_entropy", optimizer=SGD(0.05, 0.9, True), **o),
    lambda **o: Network([5, 6, 1], optimizer=Adam(schedules.Cosine(0.01, 30, per="step")), **o),
    lambda **o: Network([5, 6, 1], loss="huber",
                        optimizer=Adam(schedules.ExponentialDecay(0.01, 0.8), clip_norm=0.5), **o),
    lambda **o: Network([5, 9, 2], loss="cross_entropy", averaging=fastnn.EMA(0.9), **o),
    lambda **o: Network(
        [5, 9, 2], loss="cross_entropy", averaging=fastnn.SWA(7, 2, per="step"), **o
    ),
    lambda **o: Network([5, Dense(4, "tanh", max_norm=0.5), 1], loss="mae",
                        optimizer="adadelta", **o),
    lambda **o: Network([5, 6, 2], loss=Quantile([0.2, 0.8]), optimizer=Adam(clip_value=0.1), **o),
    lambda **o: Network([5, 6, 1], loss=mean_square, **o),
]  # fmt: skip
ROWS = [None, FOLD, SAMPLE, np.arange(N) % 2 == 0]


def networks(**options):
    return [build(seed=seed, **options) for seed, build in enumerate(NETWORKS)]


def assert_same(net, other):
    """Assert that two networks would go on alike, and tell the same of themselves."""
    np.testing.assert_equal(net.weights, other.weights)
    assert net.steps == other.steps
    assert net.epochs == other.epochs
    assert net._shuffler.bit_generator.state == other._shuffler.bit_generator.state
    assert net.history.epoch == other.history.epoch
    assert net.history.history == other.history.history
    np.testing.assert_equal(net._backend.state(), other._backend.state())
    np.testing.assert_equal(net._backend.average(), other._backend.average())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads_used", [1, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_same_bits_as_alone(backend, dtype, threads_used, weighted, shuffle):
    fastnn.set_num_threads(threads_used)
    together = networks(dtype=dtype, backend=backend)
    alone = networks(dtype=dtype, backend=backend)
    n = len(together)
    options = {"sample_weight": WEIGHT, "class_weight": None} if weighted else {}
    rows = [ROWS[i % len(ROWS)] for i in range(n)]
    validation = [OTHERS if i % 3 == 0 else None for i in range(n)]
    epochs = [i % 5 for i in range(n)]
    batch_size = [32, 7, 1000]
    batch_sizes = [batch_size[i % 3] for i in range(n)]
    for part in range(2):  # the second goes on
        histories = fastnn.train_many(
            together, X, Y, epochs, batch_sizes, rows=rows, validation_rows=validation,
            shuffle=shuffle, **options,
        )  # fmt: skip
        for i, net in enumerate(alone):
            own = slice(None) if rows[i] is None else rows[i]
            judged = None if validation[i] is None else [X[OTHERS], Y[OTHERS]]
            if weighted:
                judged = judged and [*judged, WEIGHT[OTHERS]]
                options["sample_weight"] = WEIGHT[own]
            history = net.fit(
                X[own], Y[own], epochs[i], batch_sizes[i], validation_data=judged,
                shuffle=shuffle, **options,
            )  # fmt: skip
            assert history.history == histories[i].history, (part, i)
            assert_same(together[i], net)
        if weighted:
            options["sample_weight"] = WEIGHT


def test_folds_copy_no_rows(native):
    many = RNG.normal(size=(50_000, 40)).astype(np.float32)
    y = many[:, 0].copy()
    folds = [np.flatnonzero(np.arange(len(many)) % 4 != i) for i in range(4)]
    nets = [Network([40, 4, 1], seed=i) for i in range(4)]
    tracemalloc.start()
    try:
        fastnn.train_many(nets, many, y, 1, 1000, rows=folds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < many.nbytes / 2  # numbers of rows, and the order of each network's


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0}])
def test_class_weights_are_those_of_each_networks_rows(backend, class_weight):
    build = NETWORKS[0]
    (together,), alone = [build(seed=1, backend=backend)], build(seed=1, backend=backend)
    fastnn.train_many([together], X, Y, 3, rows=[SAMPLE], class_weight=class_weight)
    alone.fit(X[SAMPLE], Y[SAMPLE], 3, class_weight=class_weight)
    assert_same(together, alone)


def test_all_weights_zero(backend):
    together, alone = (NETWORKS[0](seed=1, backend=backend) for _ in range(2))
    fastnn.train_many([together], X, Y, 2, sample_weight=np.zeros(N))
    alone.fit(X, Y, 2, sample_weight=np.zeros(N))
    assert_same(together, alone)


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_early_stopping(backend, monitor, restore):
    def stopping(patience):
        return EarlyStopping(monitor, patience, min_delta=0.01, restore_best_weights=restore)

    def make():
        return [NETWORKS[i](seed=3, backend=backend) for i in (0, 2, 5)]

    patience = [1, 3, None]
    together, alone = make(), make()
    fastnn.train_many(
        together, X, Y, 20, 10, rows=[FOLD] * 3, validation_rows=[OTHERS] * 3,
        early_stopping=[p and stopping(p) for p in patience],
    )  # fmt: skip
    lengths = []
    for net, other, p in zip(together, alone, patience, strict=True):
        other.fit(
            X[FOLD], Y[FOLD], 20, 10, validation_data=(X[OTHERS], Y[OTHERS]),
            callbacks=[stopping(p)] if p else [],
        )  # fmt: skip
        assert_same(net, other)
        lengths.append(len(net.history))
        predicted = net.predict(X), other.predict(X)  # the transposed weights, too
        np.testing.assert_array_equal(*predicted)
        np.testing.assert_array_equal(net.train_step(X, Y), other.train_step(X, Y))
    assert lengths[0] < lengths[2] == 20
    assert_same(together[0], alone[0])


def test_none_one_and_no_epochs(backend):
    assert fastnn.train_many([], X, Y) == []
    net = NETWORKS[0](seed=0, backend=backend)
    before = net.weights
    (history,) = fastnn.train_many([net], X, Y, epochs=0)
    assert len(history) == 0
    np.testing.assert_array_equal(net.weights[0][0], before[0][0])


def test_a_network_that_diverges_spoils_no_other(backend):
    def make(rate):
        return Network([5, 20, 1], optimizer=SGD(rate), backend=backend, seed=0)

    rates = [0.01, 1e30, 0.02, 1e30]
    together = [make(rate) for rate in rates]
    with pytest.raises(ExceptionGroup, match="2 of 4 networks diverged") as caught:
        fastnn.train_many(together, X, Y, 5)
    errors = caught.value.exceptions
    for i, rate in enumerate(rates):
        alone = make(rate)
        if rate < 1:
            alone.fit(X, Y, 5)
        else:
            with pytest.raises(FloatingPointError) as own:
                alone.fit(X, Y, 5)
            assert str(errors[i // 2]) == f"networks[{i}]: {own.value}"
            assert type(errors[i // 2]) is FloatingPointError
        assert_same(together[i], alone)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shuffle", [False, True])
def test_ctrl_c(backend, shuffle, interruptible):
    fastnn.set_num_threads(2)

    def make():
        return [Network([5, 8, 1], optimizer="nadam", backend=backend, seed=i) for i in range(4)]

    rows = [FOLD, None, SAMPLE, None]
    together, alone = make(), make()
    done = [2, 10**6, 10**6, 10**6]
    sent = interruptible(lambda: any(net.steps for net in together), after=0.1)
    with pytest.raises(KeyboardInterrupt):
        fastnn.train_many(together, X, Y, done, 1, rows=rows, shuffle=shuffle)
    # 0.3 seconds by two threads; by the clock the machine might do something else
    assert time.process_time() - sent[0] < 0.6
    assert any(net.steps for net in together)
    for i, (net, other) in enumerate(zip(together, alone, strict=True)):
        # as if nothing had happened: to the end of the next epoch but one
        own = slice(None) if rows[i] is None else rows[i]
        epochs = net.epochs + 2
        net.fit(X[own], Y[own], epochs, 1, resume=True, shuffle=shuffle)
        if backend == "native" or i == 0:
            other.fit(X[own], Y[own], epochs, 1, shuffle=shuffle)
            assert_same(net, other)


@pytest.mark.usefixtures("threads")
def test_ctrl_c_within_one_long_epoch(native, interruptible):
    fastnn.set_num_threads(2)
    rng = np.random.default_rng(0)
    many, y = rng.normal(size=(100_000, 5)), rng.normal(size=100_000)

    def make(seed):
        return Network([5, 32, 32, 1], seed=seed)

    nets = [make(seed) for seed in range(3)]
    interruptible(lambda: any(net.steps for net in nets))
    with pytest.raises(KeyboardInterrupt):
        fastnn.train_many(nets, many, y, 100, 1)
    seed = next(seed for seed, net in enumerate(nets) if net.steps % len(y))
    net, other = nets[seed], make(seed)
    epochs = net.epochs + 1
    net.fit(many, y, epochs, 1, resume=True)
    other.fit(many, y, epochs, 1)
    assert net.steps == epochs * len(y)
    assert_same(net, other)


def test_the_core_guards_networks_in_training(native):
    nets = [Network([5, 8, 1], seed=i) for i in range(2)]
    with nets[1]._one_trainer:
        other = threading.Thread(target=lambda: errors.append(caught()))
        errors = []

        def caught():
            with pytest.raises(RuntimeError, match="another thread is training"):
                fastnn.train_many(nets, X, Y)
            return nets[0].steps

        other.start()
        other.join()
    assert errors == [0]
    fastnn.train_many(nets, X, Y)  # both are free again
    assert nets[0].steps == nets[1].steps == 3


def test_a_schedule_that_uses_the_networks_meanwhile(native):
    """No call but the training itself decides what the core's steps are about."""

    class Curious(schedules.Schedule):
        def rates(self, epoch, step, n):
            for net in nets:
                net.gradients(X[:3], Y[:3])
            return np.full(n, 0.01)

    def make(seed, rate=0.01):
        return Network([5, 8, 1], optimizer=Adam(rate), seed=seed)

    nets = [make(seed) for seed in range(3)]
    curious = [*nets[:2], make(2, Curious())]
    nets[2] = curious[2]
    others = [make(seed) for seed in range(3)]
    fastnn.train_many(curious, X, Y, 3)
    fastnn.train_many(others, X, Y, 3)
    for net, other in zip(curious, others, strict=True):
        np.testing.assert_equal(net.weights, other.weights)


GOOD = {"networks": 2}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"networks": None}, TypeError, "networks must be a list of Network objects; got None"),
        ({"networks": [3]}, TypeError, r"networks\[0\] must be a fastnn.Network; got 3"),
        ({"X": X[:, :3]}, ValueError, r"networks\[0\]: X must have shape \(rows, 5\)"),
        ({"y": Y[:5]}, ValueError, r"networks\[0\]: X and y must have the same number of rows"),
        ({"y": Y + 1}, ValueError, r"networks\[0\]: y must be class numbers from 0 to 1"),
        ({"epochs": -1}, ValueError, r"epochs must be an integer in \[0, 2147483647\]; got -1"),
        ({"epochs": [1, 2.5]}, TypeError, r"epochs\[1\] must be an integer in .* got 2.5"),
        ({"epochs": 2**63}, ValueError, "epochs must be an integer in .* got 9223372036854775808"),
        ({"epochs": [1]}, ValueError, "epochs must have one item for each of the 2"),
        ({"batch_size": [8, 0]}, ValueError, r"batch_size\[1\] must be an integer >= 1; got 0"),
        ({"shuffle": [True, 3]}, TypeError, r"shuffle\[1\] must be True or False; got 3"),
        ({"rows": [None]}, ValueError, "rows must have one array or None for each of the 2"),
        ({"rows": FOLD}, ValueError, "rows must have one array or None for each of the 2"),
        ({"rows": [None, [0, N]]}, ValueError, rf"rows\[1\] must be numbers .*; got {N}"),
        ({"rows": [[-1], None]}, ValueError, r"rows\[0\] must be numbers of rows from 0 .* got -1"),
        ({"rows": [None, []]}, ValueError, r"rows\[1\] must be some numbers of rows, or a mask"),
        ({"rows": [None, [0.5]]}, ValueError, r"rows\[1\] must be some numbers of rows, or a mask"),
        ({"validation_rows": [[N], None]}, ValueError, r"validation_rows\[0\] must be numbers of"),
        ({"sample_weight": [1]}, ValueError, r"networks\[0\]: sample_weight must have shape"),
        ({"class_weight": "x"}, ValueError, "class_weight must be 'balanced' or a mapping"),
        ({"early_stopping": 3}, TypeError, "early_stopping must be a fastnn.EarlyStopping or None"),
        ({"early_stopping": [None, EarlyStopping()]}, ValueError,
         r"validation_rows\[1\] must be given for early_stopping; got None"),
        ({"early_stopping": EarlyStopping("loss")}, ValueError,
         "early_stopping must monitor 'val_loss' or 'val_accuracy'; got 'loss'"),
        ({"verbose": 2}, ValueError, r"verbose must be an integer in \[0, 1\]; got 2"),
    ],
)  # fmt: skip
def test_bad_input(backend, given, error, message):
    nets = [NETWORKS[0](seed=i, backend=backend) for i in range(2)]
    before = [net.weights for net in nets]
    arguments = {"networks": nets, "X": X, "y": Y, **given}
    with pytest.raises(error, match=message):
        fastnn.train_many(**arguments)
    for net, weights in zip(nets, before, strict=True):
        np.testing.assert_array_equal(net.weights[0][0], weights[0][0])
        assert net.history is None


def test_the_same_network_twice(backend):
    one, two = NETWORKS[0](backend=backend), NETWORKS[0](backend=backend)
    message = r"networks must all be different; got the same one as networks\[0\] and networks\[2\]"
    with pytest.raises(ValueError, match=message):
        fastnn.train_many([one, two, one], X, Y)


def test_verbose_tells_how_many_are_done(backend, capsys):
    fastnn.train_many([NETWORKS[0](backend=backend) for _ in range(3)], X, Y, verbose=1)
    assert capsys.readouterr().out.startswith("3/3 networks  ")


# -- cross-validation and bagging


def test_cross_validate(backend):
    def build(fold):
        return NETWORKS[0](seed=fold, backend=backend)

    def worst(y, outputs):
        return float(outputs.min())

    found = fastnn.cross_validate(build, X, Y, 6, 16, folds=4, metrics=[worst], seed=5)
    assert [*found.figures] == ["loss", "accuracy", "worst"]
    left_out = np.concatenate([judge for _, judge in found.rows])
    np.testing.assert_array_equal(np.sort(left_out), np.arange(N))
    for fold, (train, judge) in enumerate(found.rows):
        np.testing.assert_array_equal(np.union1d(train, judge), np.arange(N))
        assert abs(Y[judge].sum() - Y.sum() / 4) <= 1  # stratified
        assert abs(len(judge) - N / 4) <= 1
        alone = build(fold)
        history = alone.fit(X[train], Y[train], 6, 16, validation_data=(X[judge], Y[judge]))
        assert_same(found.networks[fold], alone)
        assert found.histories[fold].history == history.history
        assert found["accuracy"][fold] == history["val_accuracy"][-1]
        assert found["worst"][fold] == alone.predict(X[judge]).min()
    assert repr(found).startswith("<CrossValidation of 4 folds, loss=0.")


def test_cross_validate_candidates_on_given_folds(backend):
    folds = [(FOLD, OTHERS), (OTHERS, FOLD)]
    builds = [
        lambda fold, rate=rate: Network([5, 8, 1], optimizer=SGD(rate), backend=backend, seed=fold)
        for rate in (0.01, 1e30)
    ]
    good, bad = fastnn.cross_validate(builds, X, Y, [3, 4], [8, 16], folds=iter(folds))
    alone = builds[0](1)
    alone.fit(X[OTHERS], Y[OTHERS], 3, 8, validation_data=(X[FOLD], Y[FOLD]))
    assert_same(good.networks[1], alone)
    assert np.isfinite(good["loss"]).all()
    assert np.isnan(bad["loss"]).all()
    assert fastnn.cross_validate([], X, Y) == []


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"build": 3}, TypeError, r"build must be a callable build\(fold\), or some; got 3"),
        ({"build": [3]}, TypeError, r"build must be a callable build\(fold\); got 3"),
        ({"build": lambda fold: 3}, TypeError, r"build\(0\) must return a fastnn.Network; got 3"),
        ({"folds": 1}, ValueError, r"folds must be an integer in \[2, 90\]; got 1"),
        ({"folds": []}, ValueError, "folds must have at least one fold; got none"),
        ({"folds": [3]}, ValueError, r"folds\[0\] must be the numbers of the rows"),
        ({"folds": [([0], [N])]}, ValueError, r"folds\[0\]\[1\] must be numbers of rows from 0"),
        ({"metrics": [3]}, TypeError, r"metrics\[0\] must be a name or a callable"),
        ({"epochs": [1, 2]}, ValueError, "epochs must have one item for each of the 1"),
    ],
)
def test_bad_input_of_cross_validate(given, error, message):
    arguments = {"build": lambda fold: NETWORKS[0](backend="numpy"), "X": X, "y": Y, **given}
    with pytest.raises(error, match=message):
        fastnn.cross_validate(**arguments)


def test_bag(backend):
    def build(number):
        return Network([5, 6, 1], backend=backend, dtype="float64", seed=number)

    ensemble = fastnn.bag(build, X, Y, 3, networks=4, seed=1)
    mean = np.mean([net.predict(X) for net in ensemble.networks], axis=0)
    np.testing.assert_array_equal(ensemble.predict(X), mean)
    assert len(ensemble.histories) == 4
    assert repr(ensemble) == "<Ensemble of 4 networks>"
    # each saw the rows that were drawn for it, and no others
    rng = np.random.default_rng(1)
    drawn = [rng.integers(N, size=N) for _ in range(4)]
    for number, net in enumerate(ensemble.networks):
        alone = build(number)
        alone.fit(X[drawn[number]], Y[drawn[number]], 3)
        assert_same(net, alone)
    for row in range(N):
        unseen = [
            net for net, rows in zip(ensemble.networks, drawn, strict=True) if row not in rows
        ]
        expected = [net.predict(X[row : row + 1])[0] for net in unseen]
        expected = np.mean(expected, axis=0) if unseen else [np.nan]
        np.testing.assert_allclose(ensemble.out_of_bag[row], expected, rtol=1e-12)


def test_bad_input_of_bag():
    with pytest.raises(TypeError, match=r"build must be a callable build\(number\); got 3"):
        fastnn.bag(3, X, Y)
    with pytest.raises(ValueError, match="networks must be an integer >= 1; got 0"):
        fastnn.bag(lambda number: NETWORKS[0](), X, Y, networks=0)

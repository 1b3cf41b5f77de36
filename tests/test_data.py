"""Preparing data, and training on batches that come one by one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fastnn import Callback, Dropout, Network, StopTraining
from fastnn.callbacks import Checkpoint
from fastnn.data import (
    ArrayBatches,
    ArrowBatches,
    Batches,
    normalize,
    one_hot,
    prefetch,
    split,
    standardize,
)


def rows(n=50, dtype=np.float32):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)).astype(dtype)
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def network(backend="numpy", **options):
    return Network(
        [4, Dropout(0.2), 6, 3],
        **{"loss": "cross_entropy", "seed": 0, "backend": backend, **options},
    )


# -- preparation


def test_one_hot():
    expected = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    result = one_hot([1, 2, 0])
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.float32
    assert one_hot(np.uint8([1]), classes=4, dtype=bool).tolist() == [[False, True, False, False]]
    assert one_hot([], classes=3).shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1]],), ValueError, r"labels must have shape \(rows,\).*got shape \(1, 1\)"),
        (([],), ValueError, r"labels must have shape"),
        (([0.5],), TypeError, "labels must be integers; got dtype float64"),
        (([3], 3), ValueError, "labels must be from 0 to 2; got 3"),
        (([-1],), ValueError, "labels must be from 0 to .*; got -1"),
        (([0], 0), ValueError, "classes must be"),
    ],
)
def test_one_hot_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        one_hot(*arguments)


def test_standardize_and_normalize():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    X, test = rng.normal(5, 3, (200, 2)), rng.normal(5, 3, (50, 2))
    scaled, scaled_test, scaler = standardize(X, test)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1)
    np.testing.assert_allclose(scaled_test, (test - X.mean(axis=0)) / X.std(axis=0))
    np.testing.assert_allclose(scaler.inverse_transform(scaled), X)
    scaled, _ = normalize(X)
    np.testing.assert_allclose(scaled, (X - X.min(axis=0)) / np.ptp(X, axis=0))


def test_split():
    pytest.importorskip("sklearn")
    X = np.arange(100)
    y = (X < 20).astype(int)
    for labels in (y, one_hot(y)):
        X_train, X_test, y_train, y_test = split(X, labels, 0.3, stratify=True)
        assert sorted([*X_train, *X_test]) == X.tolist()
        assert (X_test < 20).sum() == 6
        np.testing.assert_array_equal(y_test, labels[X_test])
        np.testing.assert_array_equal(y_train, labels[X_train])
    again = split(X, y, 0.3, stratify=True, seed=0)
    np.testing.assert_array_equal(again[1], X_test)
    assert split(X, y, seed=1)[1].tolist() != split(X, y, seed=2)[1].tolist()


@pytest.mark.parametrize("call", [lambda: standardize([[1]]), lambda: split([1, 2], [0, 1])])
def test_says_what_to_install(monkeypatch, call):
    for name in [name for name in sys.modules if name.startswith("sklearn")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"fastnn\[sklearn\]"):
        call()


# -- larger than the memory


def test_fit_does_not_copy_a_memmap(backend, dtype, tmp_path):
    X, y = rows(dtype=dtype)
    on_disk = np.memmap(tmp_path / "X", dtype, "w+", shape=X.shape)
    on_disk[:] = X
    read_only = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape)
    net, other = network(backend, dtype=dtype), network(backend, dtype=dtype)
    assert np.shares_memory(net._data(read_only, y, None).X, read_only)
    net.fit(read_only, y, epochs=2)
    other.fit(X, y, epochs=2)
    np.testing.assert_equal(net.weights, other.weights)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_fit_on_a_memmap_needs_no_memory(native, tmp_path):
    """The pages of the file are the system's to take back; what is fit's own must be little."""
    n = 400_000  # of 64 floats: 102 MB
    X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(n, 64))
    y = np.zeros(n)
    X.flush()
    net = Network([64, 1], backend=native)
    net.fit(X[:1000], y[:1000], batch_size=1000)

    def anonymous():
        with open("/proc/self/status") as file:
            (line,) = (line for line in file if line.startswith("RssAnon"))
        return int(line.split()[1])

    class Measure(Callback):
        every_steps = 100
        most = 0

        def on_step(self, net, step):
            self.most = max(self.most, anonymous())

    measure = Measure()
    before = anonymous()
    net.fit(X, y, batch_size=1000, callbacks=[measure])
    assert measure.most - before < 20_000  # kB; the order of the rows and y have 3,200


# -- batches


def as_list(X, y):
    return [(X[i : i + 10], y[i : i + 10]) for i in range(0, len(X), 10)]


class AsBatches(Batches):
    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def epoch(self, number):
        return iter(self.batches)


class AsIterable:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class AsSequence:
    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return self.batches[number]


@pytest.mark.parametrize("wrap", [list, tuple, AsBatches, AsIterable, AsSequence])
def test_batches_are_worth_as_much_as_arrays(backend, wrap):
    X, y = rows()
    one, other = network(backend), network(backend)
    expected = one.fit(X, y, epochs=3, batch_size=10, shuffle=False)
    history = other.fit(wrap(as_list(X, y)), epochs=3, shuffle=False)
    assert history.history == expected.history
    np.testing.assert_equal(one.weights, other.weights)


def test_batches_of_different_sizes_and_weights(backend):
    X, y = rows()
    w = np.random.default_rng(1).uniform(size=50)
    cuts = [0, 7, 8, 30, 50]
    parts = [slice(a, b) for a, b in pairwise(cuts)]
    one, other = network(backend), network(backend)
    history = one.fit([(X[part], y[part], w[part]) for part in parts], shuffle=False)
    losses = [other.train_step(X[part], y[part], w[part]) for part in parts]
    np.testing.assert_equal(one.weights, other.weights)
    weights = [w[part].sum() for part in parts]
    assert history["loss"] == [pytest.approx(np.average(losses, weights=weights), rel=1e-6)]


def classes_of(y):
    return (np.asarray(y) > 0).astype(int) + (np.asarray(y) > 1)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 2: 3}], ids=str)
@pytest.mark.parametrize("wrap", [list, AsBatches, AsIterable, AsSequence])
def test_class_weight_of_batches(backend, wrap, class_weight):
    """The same as of arrays, "balanced" over all batches, whatever is in each."""
    X, y = rows()
    y = np.sort(classes_of(X[:, 0]))
    options = {"epochs": 2, "shuffle": False, "class_weight": class_weight}
    one, other = network(backend), network(backend)
    expected = one.fit(X, y, batch_size=10, **options)
    history = other.fit(wrap(as_list(X, y)), **options)
    assert history.history == expected.history
    np.testing.assert_equal(one.weights, other.weights)


def test_class_weight_comes_on_top_of_the_batches_own(backend):
    X, y = rows()
    y, w = classes_of(X[:, 0]), np.arange(50) / 7
    one, other = network(backend), network(backend)
    one.fit(X, y, sample_weight=w, class_weight="balanced", batch_size=50, shuffle=False)
    other.fit([(X, y, w)], class_weight="balanced")
    np.testing.assert_equal(one.weights, other.weights)


def test_class_weight_of_a_generator(backend):
    X, y = rows()
    y = classes_of(X[:, 0])
    one, other = network(backend), network(backend)
    one.fit(X, y, class_weight={1: 4}, batch_size=10, shuffle=False)
    other.fit(iter(as_list(X, y)), class_weight={1: 4})
    np.testing.assert_equal(one.weights, other.weights)
    with pytest.raises(ValueError, match="class_weight must be a mapping where X is an iterator"):
        other.fit(iter(as_list(X, y)), class_weight="balanced")
    assert other.steps == 5


def test_balanced_makes_no_batches_where_targets_are_there():
    X, _ = rows()

    def transform(images, rng):
        raise ZeroDivisionError

    batches = ArrayBatches(X, classes_of(X[:, 0]), 10, transform=transform)
    (targets,) = batches.targets()
    np.testing.assert_array_equal(targets, classes_of(X[:, 0]))


def test_generator_over_several_epochs(backend):
    X, y = rows()
    one, other = network(backend), network(backend)
    one.fit(X, y, epochs=2, batch_size=10, shuffle=False)

    def endless():
        while True:
            yield from as_list(X, y)

    other.fit(endless(), epochs=2, steps_per_epoch=5)
    np.testing.assert_equal(one.weights, other.weights)
    used = []

    def once():
        for batch in as_list(X, y):
            used.append(batch)
            yield batch

    other.fit(once(), epochs=2, steps_per_epoch=2)
    assert len(used) == 4  # none is drawn ahead and lost


def test_a_sequence_is_shuffled_alike(backend):
    X, y = rows()
    one, other, third = network(backend), network(backend), network(backend)
    one.fit(as_list(X, y), epochs=3)
    other.fit(as_list(X, y), epochs=2)
    other.fit(as_list(X, y), epochs=1)
    third.fit(as_list(X, y), epochs=3, shuffle=False)
    np.testing.assert_equal(one.weights, other.weights)
    assert (one.weights[0][0] != third.weights[0][0]).any()


def test_batches_are_made_in_another_thread():
    made_in = set()

    def batches():
        for batch in as_list(*rows()):
            made_in.add(threading.current_thread())
            yield batch

    network().fit(batches())
    assert threading.main_thread() not in made_in


def test_an_exception_in_a_batch_reaches_the_caller():
    def batches():
        yield as_list(*rows())[0]
        raise OSError("the disk is gone")

    net = network()
    with pytest.raises(OSError, match="the disk is gone"):
        net.fit(batches())
    assert net.steps == 1
    assert not [t for t in threading.enumerate() if t.name.startswith("fastnn-prefetch")]


class Interrupt(Callback):
    every_steps = 7

    def on_step(self, net, step):
        raise KeyboardInterrupt


def test_resume_within_batches(backend, tmp_path):
    X, y = rows()
    source = ArrayBatches(X, y, 10, seed=3)
    whole, parts = network(backend), network(backend)
    whole.fit(source, epochs=3)
    path = tmp_path / "net"
    with pytest.raises(KeyboardInterrupt):
        parts.fit(source, epochs=3, callbacks=[Checkpoint(path, every_steps=3), Interrupt()])
    loaded = Network.load(path, backend)
    assert (parts.steps, loaded.steps) == (7, 6)
    for net in (parts, loaded):
        history = net.fit(source, epochs=3, resume=True)
        np.testing.assert_equal(net.weights, whole.weights)
        assert history.history == whole.history.history


def test_resume_of_an_iterator_is_refused(backend):
    X, y = rows()
    net = network(backend)
    batches = iter(as_list(X, y) * 3)
    with pytest.raises(KeyboardInterrupt):
        net.fit(batches, steps_per_epoch=9, callbacks=[Interrupt()])
    with pytest.raises(ValueError, match="can only be resumed with batches that can be gone"):
        net.fit(batches, steps_per_epoch=9, resume=True)
    with pytest.raises(ValueError, match="must be resumed with the rows"):
        net.fit(X, y, resume=True)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ([3], {}, TypeError, "X must be an array, with y, or without y an iterable of .*; got 3"),
        ([np.ones((3, 4))], {}, TypeError, "y must be an array .*; got None, and"),
        ([[3]], {}, ValueError, r"a batch must be \(X, y\) or .*; got 3"),
        ([[]], {}, ValueError, "X must give at least one batch an epoch; got none"),
        ([[(np.ones((3, 5)), [0, 1, 2])]], {}, ValueError, "X of a batch must have shape"),
        ([[(np.ones((3, 4)), [0, 1])]], {}, ValueError, "X of a batch and y of a batch must have"),
        ([iter([])], {"epochs": 2}, ValueError, "steps_per_epoch must be given where X is an iter"),
        ([iter([])], {"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be an integer >= 1"),
        ([[]], {"sample_weight": [1]}, ValueError, "batches must bring their own .*sample_weight"),
        ([[]], {"validation_split": 0.5}, ValueError, "batches must bring"),
        ([np.ones((3, 4)), [0, 1, 2]], {"steps_per_epoch": 2}, ValueError, "must only be"),
        ([[]], {"metrics": [max]}, ValueError, "metrics of batches need validation_data"),
    ],
)  # fmt: skip
def test_bad_batches(arguments, options, error, message):
    net = network()
    with pytest.raises(error, match=message):
        net.fit(*arguments, **options)
    assert net.steps == 0


# -- batches of arrays


def test_array_batches_have_each_row_once():
    X = np.arange(25).reshape(25, 1)
    batches = ArrayBatches(X, X[:, 0], 10, sample_weight=X[:, 0] / 2, seed=1)
    assert len(batches) == 3
    orders = []
    for epoch in range(2):
        got = list(batches.epoch(epoch))
        assert [len(x) for x, *_ in got] == [10, 10, 5]
        for x, y, w in got:
            np.testing.assert_array_equal(x[:, 0], y)
            np.testing.assert_array_equal(y / 2, w)
        orders.append(np.concatenate([y for _, y, _ in got]).tolist())
        assert sorted(orders[-1]) == list(range(25))
    assert orders[0] != orders[1]
    again = np.concatenate([y for _, y, _ in batches.epoch(1)]).tolist()
    assert again == orders[1]
    plain = np.concatenate([y for _, y in ArrayBatches(X, X[:, 0], 10, shuffle=False).epoch(0)])
    np.testing.assert_array_equal(plain, X[:, 0])


@pytest.mark.parametrize("workers", [1, 3])
def test_transform_is_the_same_for_any_number_of_workers(workers):
    def transform(X, rng):
        time.sleep(rng.uniform(0, 0.005))
        return X + rng.normal(size=X.shape)

    X, y = rows()
    batches = ArrayBatches(X, y, 10, transform=transform, workers=workers, seed=2)
    expected = ArrayBatches(X, y, 10, transform=transform, seed=2)
    for epoch in range(2):
        for (x1, y1), (x2, y2) in zip(batches.epoch(epoch), expected.epoch(epoch), strict=True):
            np.testing.assert_array_equal(x1, x2)
            np.testing.assert_array_equal(y1, y2)


def test_array_batches_of_images_in_a_file_of_bytes(backend, tmp_path):
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(50, 2, 2))
    images[:] = np.random.default_rng(0).integers(256, size=images.shape)
    y = (images[:, 0, 0] > 127).astype(int)
    net = network(backend)
    net.fit(ArrayBatches(images, y, 10), epochs=2)
    assert net.steps == 10


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": [1]}, ValueError, "y must have a row for each of the 2 of X"),
        ({"sample_weight": 3}, ValueError, "sample_weight must have a row for each"),
        ({"transform": 3}, TypeError, "transform must be callable; got 3"),
        ({"workers": 0}, ValueError, "workers must be"),
        ({"workers": 10**9}, ValueError, "workers must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
    ],
)
def test_bad_array_batches(options, error, message):
    with pytest.raises(error, match=message):
        ArrayBatches(**{"X": np.eye(2), "y": [0, 1], **options})


# -- Arrow


@pytest.fixture
def table():
    pyarrow = pytest.importorskip("pyarrow", reason="needs pip install pyarrow")
    X, y = rows(25)
    columns = {f"x{i}": X[:, i] for i in range(4)}
    return pyarrow.table({**columns, "y": y, "number": np.arange(25.0)})


def written(table, tmp_path, kind):
    if kind == "parquet":
        from pyarrow import parquet

        parquet.write_table(table, path := tmp_path / "rows.parquet", row_group_size=7)
        return path
    if kind == "directory":
        from pyarrow import parquet

        for i in range(3):
            parquet.write_table(table[i * 10 : i * 10 + 10], tmp_path / f"{i}.parquet")
        return tmp_path
    if kind == "arrow":
        from pyarrow import feather

        feather.write_feather(table, path := tmp_path / "rows.arrow")
        return path
    from pyarrow import dataset

    return dataset.dataset(table)


@pytest.mark.parametrize("kind", ["parquet", "directory", "arrow", "dataset"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_arrow_batches(table, tmp_path, kind, shuffle):
    source = written(table, tmp_path, kind)
    batches = ArrowBatches(source, "y", 10, sample_weight="number", shuffle=shuffle)
    X, y = rows(25)
    assert len(batches) == 3
    orders = []
    for epoch in (0, 1, 0):
        got = list(batches.epoch(epoch))
        assert [len(x) for x, _, _ in got] == [10, 10, 5]
        order = np.concatenate([w for *_, w in got]).astype(int)
        assert sorted(order) == list(range(25))
        np.testing.assert_array_equal(np.concatenate([x for x, *_ in got]), X[order])
        np.testing.assert_array_equal(np.concatenate([t for _, t, _ in got]), y[order])
        orders.append(order.tolist())
    assert orders[0] == orders[2]
    assert (orders[0] != orders[1]) == shuffle
    assert (orders[0] == list(range(25))) == (not shuffle)


def test_training_on_parquet(table, tmp_path, backend):
    source = written(table, tmp_path, "parquet")
    X, y = rows(25)
    one, other = network(backend), network(backend)
    one.fit(ArrowBatches(source, "y", 10, features=["x0", "x1", "x2", "x3"], shuffle=False))
    other.fit(X, y, batch_size=10, shuffle=False)
    np.testing.assert_equal(one.weights, other.weights)


def test_several_targets(table):
    from pyarrow import dataset

    batches = ArrowBatches(dataset.dataset(table), ["y", "number"], 10, features=["x0"])
    x, y = next(batches.epoch(0))
    assert (x.shape, y.shape) == ((10, 1), (10, 2))


def test_arrow_batches_refuse(table, monkeypatch):
    from pyarrow import dataset

    with pytest.raises(ValueError, match="there must be a column 'z'; got x0, x1"):
        ArrowBatches(dataset.dataset(table), "z")
    for given in ({"target": []}, {"target": "y", "features": []}):
        with pytest.raises(ValueError, match=r"(target|features) must be at least one column"):
            ArrowBatches(dataset.dataset(table), **given)
    with pytest.raises(TypeError, match="features must be names of columns; got 'x0'"):
        ArrowBatches(dataset.dataset(table), "y", features="x0")
    for source in ([], None, 3):
        with pytest.raises(TypeError, match="source must be paths or a pyarrow dataset; got"):
            ArrowBatches(source, "y")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"fastnn\[parquet\]"):
        ArrowBatches("rows.parquet", "y")


# -- prefetch


@pytest.mark.parametrize("workers", [1, 4])
def test_prefetch_keeps_the_order_and_stays_ahead_by_little(workers):
    begun = []

    def call(i):
        begun.append(i)
        time.sleep(0.002 * (i % 3))
        return i

    results = prefetch((lambda i=i: call(i) for i in range(30)), workers)
    for i, result in enumerate(results):
        assert result == i
        assert len(begun) <= i + 1 + 2 * workers
    assert len(begun) == 30


@pytest.mark.parametrize("workers", [0, -1, 10**9])
def test_prefetch_needs_workers(workers):
    with pytest.raises(ValueError, match="workers must be an integer in"):
        next(prefetch([int], workers))


def test_prefetch_can_be_left():
    results = prefetch((lambda i=i: i for i in range(1000)), 2)
    assert next(results) == 0
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("fastnn-prefetch")]


def test_prefetch_is_left_without_waiting_for_long():
    never = threading.Event()
    results = prefetch([int, never.wait, int])
    assert next(results) == 0
    results.close()
    assert not never.is_set()
    never.set()


@pytest.mark.parametrize("error", [StopTraining, KeyboardInterrupt])
def test_training_ends_while_the_next_batch_is_not_there_yet(backend, error):
    never, closed_by = threading.Event(), []

    def batches():
        try:
            yield rows()
            never.wait()
        finally:
            closed_by.append(threading.current_thread().name)

    class Stop(Callback):
        every_steps = 1

        def on_step(self, net, step):
            raise error

    net = network(backend)
    with contextlib.suppress(KeyboardInterrupt):
        net.fit(batches(), callbacks=[Stop()])
    assert net.steps == 1
    assert not closed_by
    never.set()
    for thread in threading.enumerate():
        if thread.name == "fastnn-prefetch":
            thread.join()
    assert closed_by == ["fastnn-prefetch"]


def test_the_end_of_a_process_can_train_on_batches_and_waits_for_none():
    code = """if True:
        import atexit, time
        import fastnn

        def batches():
            yield [[0.0]], [0.0]
            yield [[0.0]], [0.0]
            time.sleep(1e6)

        class Stop(fastnn.Callback):
            every_steps = 2

            def on_step(self, net, step):
                raise fastnn.StopTraining

        @atexit.register
        def train():
            net = fastnn.Network([1, 1])
            net.fit(batches(), callbacks=[Stop()])
            print(net.steps)
    """
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("2\n", "", 0)

"""Network: what it is made of, what it computes, how it is copied and kept."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import fastnn
from fastnn import Adam, AdamW, Dense, Dropout, Network, RMSProp
from fastnn.activations import ACTIVATIONS
from fastnn.losses import LOSSES, Quantile


def sample(rows=12, features=4, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, features)), rng.integers(outputs, size=rows)


def assert_same_weights(one, other):
    for (W1, b1), (W2, b2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(W1, W2, strict=True)
        assert (b1 is None) == (b2 is None)
        if b1 is not None:
            np.testing.assert_array_equal(b1, b2, strict=True)


# -- layers and arguments


def test_list_of_sizes_and_list_of_layers_are_the_same_network():
    sizes = Network([4, 5, 6, 3], activation="tanh", loss="cross_entropy", backend="numpy", seed=1)
    layers = Network(
        (4, Dense(5, "tanh"), Dense(6, "tanh"), Dense(3, "softmax")),
        loss="cross_entropy",
        backend="numpy",
        seed=1,
    )
    assert sizes.layers == layers.layers
    assert_same_weights(sizes.weights, layers.weights)


@pytest.mark.parametrize("loss", LOSSES)
def test_last_activation_follows_from_the_loss(loss):
    expected = {
        "cross_entropy": "softmax",
        "binary_cross_entropy": "sigmoid",
        "focal": "softmax",
        "binary_focal": "sigmoid",
    }.get(loss, "identity")
    assert Network([4, 5, 3], loss=loss, backend="numpy").layers[-1].activation == expected
    assert Network([4, Dense(3)], loss=loss, backend="numpy").layers[-1].activation == expected


def test_last_activation_can_be_given():
    def last(layer, **options):
        net = Network([4, 5, layer], loss="cross_entropy", backend="numpy", **options)
        return net.layers[-1].activation

    assert last(3, output_activation="sigmoid") == "sigmoid"
    assert last(Dense(3), output_activation="sigmoid") == "sigmoid"
    assert last(Dense(3, "identity")) == "identity"
    assert last(Dense(3, "tanh"), output_activation="tanh") == "tanh"
    with pytest.raises(ValueError, match=r"output_activation must be .*'tanh'.*got 'sigmoid'"):
        last(Dense(3, "tanh"), output_activation="sigmoid")


def test_hidden_activation_of_sizes_and_of_layers():
    net = Network([4, 5, Dense(6), Dense(7, "elu"), 3], activation="tanh", backend="numpy")
    assert [layer.activation for layer in net.layers] == ["tanh", "identity", "elu", "identity"]


def test_properties(backend, dtype):
    net = Network(
        [4, 5, 3], loss="huber", dtype=dtype, backend=backend, optimizer="rmsprop", seed=7
    )
    assert (net.loss, net.dtype, net.backend, net.seed) == ("huber", np.dtype(dtype), backend, 7)
    assert (net.n_features, net.n_outputs, net.optimizer) == (4, 3, RMSProp())
    assert net.history is None


def test_dtype_and_sizes_of_any_integer_type():
    for dtype in ("float64", np.float64, np.dtype(np.float64), float):
        assert Network([2, 1], dtype=dtype, backend="numpy").dtype == np.float64
    net = Network(np.array([4, 5, 3]), backend="numpy", seed=np.uint8(3))
    assert [layer.units for layer in net.layers] == [5, 3]
    assert type(net.seed) is int


def test_a_drawn_seed_is_told_and_can_be_used_again():
    one, other = Network([4, 3], backend="numpy"), Network([4, 3], backend="numpy")
    assert one.seed != other.seed
    again = Network([4, 3], backend="numpy", seed=one.seed)
    assert_same_weights(one.weights, again.weights)


def test_backends_and_dtypes_start_from_the_same_weights(native):
    layers = [4, Dense(5, bias_init="normal"), Dense(6, weight_init="orthogonal"), 3]
    a, b, c = (
        Network(layers, backend=backend, dtype=dtype, seed=3).weights
        for backend, dtype in ((native, "float32"), ("numpy", "float32"), ("numpy", "float64"))
    )
    assert_same_weights(a, b)
    assert_same_weights(a, [(W.astype(np.float32), b.astype(np.float32)) for W, b in c])


# -- repr and summary


def test_repr_reads_like_the_call_that_makes_an_equal_network():
    net = Network([784, 100, 100, 10], loss="cross_entropy", optimizer=Adam(1e-3), seed=0,
                  backend="numpy")  # fmt: skip
    assert repr(net) == (
        "Network([784, 100, 100, 10], activation='relu', loss='cross_entropy',"
        " optimizer=Adam(learning_rate=0.001), dtype='float32', backend='numpy', seed=0)"
    )


@pytest.mark.parametrize(
    ("layers", "options"),
    [
        ([3, 2], {}),
        ([3, 4, 2], {"activation": "tanh", "output_activation": "sigmoid"}),
        ([3, 4, 2], {"loss": "cross_entropy", "dtype": "float64"}),
        ([3, Dropout(0.1), 4, Dropout(0.25), 5, 2], {"optimizer": AdamW(0.1, weight_decay=0.5)}),
        ([3, Dense(4, "elu"), Dense(5, "selu", l2=0.5), Dense(2, "gelu", use_bias=False)], {}),
        ([3, Dense(2, "softmax", bias_init="normal")], {"loss": "cross_entropy"}),
    ],
)
def test_repr_evaluates_to_an_equal_network(layers, options):
    net = Network(layers, backend="numpy", seed=5, **options)
    again = eval(repr(net), vars(fastnn))
    assert again.layers == net.layers
    assert repr(again) == repr(net)
    assert_same_weights(again.weights, net.weights)


def test_summary():
    net = Network(
        [784, Dropout(0.2), 100, Dense(50, "tanh", use_bias=False), 10],
        loss="cross_entropy",
        backend="numpy",
    )
    head, *table = net.summary().splitlines()
    assert head == "Network, cross_entropy, adam, float32, numpy backend"
    assert len({len(line) for line in table}) == 1
    rows = [" ".join(line.split()) for line in table if set(line) != {"-"}]
    assert rows == [
        "layer shape activation parameters memory",
        "Dropout(rate=0.2) 0 0 B",
        "Dense 784 -> 100 relu 78,500 306.6 KiB",
        "Dense, no bias 100 -> 50 tanh 5,000 19.5 KiB",
        "Dense 50 -> 10 softmax 510 2.0 KiB",
        "total 84,010 328.2 KiB",
    ]


# -- what it computes


def test_predict_by_hand(backend, dtype):
    net = Network([2, 2, 2, 2], activation="sigmoid", output_activation="sigmoid", dtype=dtype,
                  backend=backend)  # fmt: skip
    net.set_weights(
        [
            ([[1, -1], [-2, 1]], [1, 0]),
            ([[2, -2], [-1, -1]], [0, 0]),
            ([[3, -1], [-1, 4]], [-2, 2]),
        ]
    )
    outputs = net.predict([[1, -1], [0, 0]])
    np.testing.assert_allclose(outputs, [[0.62, 0.83], [0.51, 0.85]], atol=0.005)
    assert outputs.dtype == dtype


def test_predict_gives_probabilities(backend, dtype):
    X, _ = sample()
    outputs = Network([4, 5, 3], loss="cross_entropy", dtype=dtype, backend=backend).predict(X)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_predict_into_a_buffer(backend, dtype, rows):
    X, _ = sample(rows=rows)
    net = Network([4, 5, 3], dtype=dtype, backend=backend)
    expected = net.predict(X)
    assert expected.shape == (rows, 3)
    out = np.full((rows, 3), np.nan, dtype)
    assert net.predict(X, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert net.predict(X, out) is out


@pytest.mark.parametrize("kind", [np.matrix, np.memmap, np.ma.MaskedArray])
def test_predict_into_a_kind_of_array(backend, kind, tmp_path):
    X, _ = sample()
    net = Network([4, 5, 3], backend=backend)
    if kind is np.memmap:
        out = np.memmap(tmp_path / "out", np.float32, "w+", shape=(len(X), 3))
    else:
        out = np.zeros((len(X), 3), np.float32).view(kind)
    assert net.predict(X, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), net.predict(X))


def test_a_network_of_very_many_layers(backend):
    layers = 2000
    net = Network([2] * layers, activation="identity", backend=backend, seed=0)
    net.set_weights([(np.eye(2), np.full(2, 2.0**-10))] * (layers - 1))
    X = np.ones((3, 2))
    assert net.train_step(X, X) == pytest.approx(((layers - 1) * 2.0**-10) ** 2, rel=1e-4)


def test_predict_of_no_rows(backend):
    net = Network([4, 5, 3], backend=backend)
    for empty in (np.empty((0, 4)), [], np.empty((0, 4), int)):
        result = net.predict(empty)
        assert result.shape == (0, 3)
        assert result.dtype == np.float32


def test_predict_leaves_its_input_alone(backend):
    X = sample()[0].astype(np.float32)
    before = X.copy()
    Network([4, 4], backend=backend).predict(X)
    np.testing.assert_array_equal(X, before)


def test_evaluate(backend):
    X, y = sample()
    net = Network([4, 5, 3], loss="cross_entropy", dtype="float64", backend=backend, seed=0)
    probabilities = net.predict(X)
    result = net.evaluate(X, y)
    assert result == pytest.approx(
        {
            "loss": -np.log(probabilities[np.arange(12), y]).mean(),
            "accuracy": (probabilities.argmax(axis=1) == y).mean(),
        }
    )
    assert type(result["loss"]) is float
    assert type(result["accuracy"]) is float
    weight = np.arange(12.0)
    assert net.evaluate(X, y, sample_weight=weight)["loss"] == pytest.approx(
        np.average(-np.log(probabilities[np.arange(12), y]), weights=weight)
    )
    regression = Network([4, 5, 3], backend=backend)
    assert list(regression.evaluate(X, np.eye(3)[y])) == ["loss"]


def test_labels_are_worth_as_much_as_one_hot_rows(backend):
    X, y = sample()
    for loss in ("cross_entropy", "softmax_cross_entropy"):
        net = Network([4, 5, 3], loss=loss, dtype="float64", backend=backend)
        assert net.evaluate(X, y) == pytest.approx(net.evaluate(X, np.eye(3)[y]))


def test_gradients_are_those_of_the_next_step(backend):
    X, y = sample(rows=50)
    net = Network([4, Dropout(0.3), 8, Dropout(0.5), 3], loss="cross_entropy", dtype="float64",
                  optimizer=fastnn.SGD(0.5), backend=backend)  # fmt: skip
    for _ in range(3):
        before = net.weights
        loss, grads = net.gradients(X, y)
        assert_same_weights(net.weights, before)
        assert net.train_step(X, y) == pytest.approx(loss, rel=1e-13)
        for (W, b), (dW, db), (W2, b2) in zip(before, grads, net.weights, strict=True):
            np.testing.assert_allclose(W2, W - 0.5 * dW, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(b2, b - 0.5 * db, rtol=1e-12, atol=1e-14)


def test_gradients_without_bias(backend):
    X, y = sample()
    net = Network([4, Dense(5, use_bias=False), 3], loss="cross_entropy", backend=backend)
    _, grads = net.gradients(X, y)
    assert [(dW.shape, None if db is None else db.shape) for dW, db in grads] == [
        ((4, 5), None),
        ((5, 3), (3,)),
    ]


# -- weights


def test_weights_are_copies(backend):
    net = Network([4, 5, 3], backend=backend)
    before = net.weights
    for W, b in net.weights:
        W += 1
        b += 1
    assert_same_weights(net.weights, before)


def test_set_weights(backend, dtype):
    rng = np.random.default_rng(0)
    net = Network([4, Dense(5, use_bias=False), 3], dtype=dtype, backend=backend)
    W1, W2, b2 = rng.normal(size=(4, 5)), rng.normal(size=(5, 3)), rng.normal(size=3)
    net.set_weights([(W1, None), (np.asfortranarray(W2), b2.tolist())])
    expected = [(W1.astype(dtype), None), (W2.astype(dtype), b2.astype(dtype))]
    assert_same_weights(net.weights, expected)
    W1 += 1
    assert_same_weights(net.weights, expected)


def test_set_weights_takes_what_weights_gives(backend):
    one = Network([4, 5, 3], backend=backend, seed=0)
    other = Network([4, 5, 3], backend=backend, seed=1)
    other.set_weights(one.weights)
    assert_same_weights(one.weights, other.weights)


# -- copies and files


def trained(backend, dtype="float32", **options):
    X, y = sample(rows=40)
    net = Network(
        [4, Dropout(0.1), Dense(5, "tanh"), Dropout(0.5), Dense(6, use_bias=False, l2=0.01), 3],
        loss="cross_entropy",
        dtype=dtype,
        backend=backend,
        **options,
    )
    net.fit(X, y, epochs=2, batch_size=16)
    return net, X, y


def pickled(net, tmp_path):
    return pickle.loads(pickle.dumps(net))


def copied(net, tmp_path):
    return copy.deepcopy(net)


def filed(net, tmp_path):
    net.save(tmp_path / "net.safetensors", include_optimizer=True)
    return Network.load(tmp_path / "net.safetensors", backend=net.backend)


@pytest.mark.parametrize("duplicate", [pickled, copied, copy.copy, filed])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", RMSProp(momentum=0.5)], ids=str)
def test_a_duplicate_goes_on_to_train_alike(backend, dtype, optimizer, duplicate, tmp_path):
    net, X, y = trained(backend, dtype, optimizer=optimizer)
    other = duplicate(net) if duplicate is copy.copy else duplicate(net, tmp_path)
    assert repr(other) == repr(net)
    assert_same_weights(other.weights, net.weights)
    before = net.weights
    history = other.fit(X, y, epochs=3, batch_size=16)
    assert_same_weights(net.weights, before)
    assert net.fit(X, y, epochs=3, batch_size=16).history == history.history
    assert_same_weights(other.weights, net.weights)


@pytest.mark.parametrize("duplicate", [pickled, copied, filed])
def test_a_duplicate_of_an_untrained_network(backend, duplicate, tmp_path):
    X, y = sample()
    net = Network([4, 5, 3], loss="cross_entropy", backend=backend)
    other = duplicate(net, tmp_path)
    assert net.fit(X, y, epochs=2).history == other.fit(X, y, epochs=2).history


def test_a_duplicate_keeps_the_history(backend):
    net, _, _ = trained(backend)
    assert pickle.loads(pickle.dumps(net)).history.history == net.history.history


def test_load_without_the_optimizer(backend, tmp_path):
    net, X, _ = trained(backend)
    net.save(tmp_path / "m.safetensors")
    other = Network.load(tmp_path / "m.safetensors", backend=backend)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    assert other._backend.state()[0] == 0
    assert repr(other) == repr(net)


def test_load_into_the_other_backend(native, tmp_path):
    for backend, other in ((native, "numpy"), ("numpy", native)):
        net, _, _ = trained(backend)
        net.save(tmp_path / "m.safetensors", include_optimizer=True)
        loaded = Network.load(tmp_path / "m.safetensors", backend=other)
        assert loaded.backend == other
        assert_same_weights(loaded.weights, net.weights)
        for mine, its in zip(loaded._backend.state()[1], net._backend.state()[1], strict=True):
            assert_same_weights(mine, its)


@pytest.mark.parametrize("weight", [-0.0, 1e-40, -3e38])
def test_files_keep_any_finite_weight(weight, tmp_path):
    net = Network([1, 1], backend="numpy")
    W = np.full((1, 1), weight, np.float32)
    net._backend.set_weights([(W, np.zeros(1, np.float32))])
    net.save(tmp_path / "m.safetensors")
    loaded = Network.load(tmp_path / "m.safetensors", backend="numpy").weights[0][0]
    assert loaded.tobytes() == W.tobytes()


@pytest.mark.parametrize("optimizer", fastnn.optimizers.OPTIMIZERS)
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "softmax"])
def test_files_describe_all(optimizer, activation, tmp_path):
    net = Network([2, 3, 1], activation=activation, optimizer=optimizer, backend="numpy")
    net.save(tmp_path / "m.safetensors")
    assert repr(Network.load(tmp_path / "m.safetensors", backend="numpy")) == repr(net)


# -- several threads


def test_one_trainer_at_a_time(backend):
    X, y = sample()
    net = Network([4, 5, 3], loss="cross_entropy", backend=backend)
    inside, done = threading.Event(), threading.Event()

    class Wait(fastnn.Callback):
        def on_epoch_end(self, net, epoch, logs):
            inside.set()
            assert done.wait(30)

    trainer = threading.Thread(target=net.fit, args=(X, y), kwargs={"callbacks": [Wait()]})
    trainer.start()
    try:
        assert inside.wait(30)
        before = net.weights
        for call in (
            lambda: net.fit(X, y),
            lambda: net.train_step(X, y),
            lambda: net.set_weights(before),
        ):
            with pytest.raises(RuntimeError, match="another thread is training"):
                call()
        assert_same_weights(net.weights, before)
        net.predict(X)
    finally:
        done.set()
        trainer.join()
    net.train_step(X, y)


def test_many_threads_predict_at_once(backend):
    X, _ = sample(rows=200)
    net = Network([4, 50, 3], loss="cross_entropy", backend=backend)
    expected = net.predict(X)
    results = []

    def predict():
        results.extend(net.predict(X) for _ in range(50))

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200
    for result in results:
        np.testing.assert_array_equal(result, expected)


# -- class_weight


def imbalanced(loss, outputs, **options):
    net = Network([4, outputs], loss=loss, dtype="float64", seed=0, **options)
    X, _ = sample(rows=12)
    return net, X, np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2])


def test_class_weight_is_sample_weight(backend):
    """By class, times what is given already; classes that are not mentioned count 1."""
    given = np.arange(12.0)
    by_class, X, y = imbalanced("cross_entropy", 3, backend=backend)
    by_row, _, _ = imbalanced("cross_entropy", 3, backend=backend)
    one_hot, _, _ = imbalanced("cross_entropy", 3, backend=backend)
    options = {"epochs": 3, "batch_size": 5}
    expected = by_row.fit(X, y, sample_weight=given * np.array([0.5, 1, 3])[y], **options)
    for net, target in ((by_class, y), (one_hot, np.eye(3)[y])):
        weights = {0: 0.5, np.int64(2): 3}
        history = net.fit(X, target, sample_weight=given, class_weight=weights, **options)
        assert history.history == expected.history
        assert_same_weights(net.weights, by_row.weights)


def test_balanced_like_sklearn(backend):
    utils = pytest.importorskip("sklearn.utils", reason="the weights are scikit-learn's")
    net, X, y = imbalanced("cross_entropy", 4, backend=backend)
    other, _, _ = imbalanced("cross_entropy", 4, backend=backend)
    net.fit(X, y, class_weight="balanced")  # of the four classes, three are there
    other.fit(X, y, sample_weight=utils.compute_sample_weight("balanced", y))
    assert_same_weights(net.weights, other.weights)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "sigmoid_cross_entropy", "binary_focal"])
def test_class_weight_of_yes_and_no(loss, backend):
    net, X, y = imbalanced(loss, 1, backend=backend)
    other, _, _ = imbalanced(loss, 1, backend=backend)
    y = np.minimum(y, 1)
    net.fit(X, y, class_weight="balanced")
    other.fit(X, y, sample_weight=np.where(y == 1, 12 / 8, 12 / 16))
    assert_same_weights(net.weights, other.weights)


def squares(y, out):
    return ((out - y) ** 2).sum(axis=1), 2 * (out - y)


LOSSES_OF_NUMBERS = [*(n for n, row in LOSSES.items() if row.kind == "regression"), squares]


@pytest.mark.parametrize(
    "loss",
    [*LOSSES_OF_NUMBERS, Quantile([0.2, 0.5, 0.9])],
    ids=lambda loss: getattr(loss, "__name__", str(loss)),
)
def test_class_weight_of_numbers(loss, backend):
    """Any loss has them, where the targets are whole numbers or one-hot."""
    outputs = 9 if isinstance(loss, Quantile) else 3
    weights = {0: 0.5, 2: 3}
    for units, target in ((outputs, np.eye(3)), (outputs // 3, np.arange(3))):
        by_class, X, y = imbalanced(loss, units, backend=backend)
        by_row, _, _ = imbalanced(loss, units, backend=backend)
        shift = 1 if loss == "gamma" and target.ndim == 1 else 0
        if loss == "gamma" and not shift:
            continue  # whose targets cannot be 0
        expected = by_row.fit(X, target[y] + shift, sample_weight=np.array([0.5, 1, 3])[y])
        history = by_class.fit(
            X, target[y] + shift, class_weight={k + shift: v for k, v in weights.items()}
        )
        assert history.history == expected.history
        assert_same_weights(by_class.weights, by_row.weights)


def test_class_weight_leaves_the_validation(backend):
    net, X, y = imbalanced("cross_entropy", 3, backend=backend)
    history = net.fit(X, y, validation_data=(X, y), class_weight={2: 50})
    assert history["val_loss"] == [net.evaluate(X, y)["loss"]]
    part, _, _ = imbalanced("cross_entropy", 3, backend=backend)
    part.fit(X, y, validation_split=0.25, class_weight="balanced")
    first, _, _ = imbalanced("cross_entropy", 3, backend=backend)
    first.fit(X[:9], y[:9], class_weight="balanced")
    assert_same_weights(part.weights, first.weights)


@pytest.mark.parametrize(
    ("error", "match", "loss", "outputs", "class_weight"),
    [
        (ValueError, "class_weight needs a target that is one class a row", "mse", 1, "balanced"),
        (ValueError, "class_weight needs", "mse", 3, {1: 2}),
        (ValueError, "class_weight needs", "binary_cross_entropy", 3, "balanced"),
        (ValueError, "class_weight must be 'balanced' or", "cross_entropy", 3, "balance"),
        (ValueError, "class_weight must be 'balanced' or", "cross_entropy", 3, [1, 2, 3]),
        (TypeError, "class_weight: a class must be an integer", "cross_entropy", 3, {"a": 1}),
        (
            TypeError,
            r"class_weight\[1\] must be a finite number >= 0",
            "cross_entropy",
            3,
            {1: "2"},
        ),
        (
            ValueError,
            r"class_weight\[1\] must be a finite number >= 0",
            "cross_entropy",
            3,
            {1: -2},
        ),
        (ValueError, r"class_weight\[1\] must be a finite number", "cross_entropy", 3, {1: np.nan}),
        (ValueError, r"a class must be .* in \[0, 2\]; got 7", "cross_entropy", 3, {0: 1, 7: 9}),
        (ValueError, r"a class must be .* in \[0, 1\]; got 2", "binary_cross_entropy", 1, {2: 9}),
        (ValueError, r"a class must be .* in \[0, 2\]; got 3", "mse", 3, {3: 9}),
    ],
)
def test_refuses_class_weight(error, match, loss, outputs, class_weight):
    net, X, y = imbalanced(loss, outputs, backend="numpy")
    y = y if loss == "cross_entropy" else np.full((12, outputs), 0.5)
    before = net.weights
    with pytest.raises(error, match=match):
        net.fit(X, y, class_weight=class_weight)
    assert_same_weights(net.weights, before)

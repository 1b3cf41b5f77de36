"""Each mistake gives an error that names the argument and says what came, and changes nothing."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Adam, Callback, Checkpoint, Dense, Dropout, GaussianNoise, Network
from fastnn.data import ArrayBatches

ROWS, FEATURES, CLASSES = 6, 4, 3
rng = np.random.default_rng(0)
X = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
Y = rng.integers(CLASSES, size=ROWS)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[Y]


def changed(array, index, value):
    array = np.array(array, np.float64)
    array[index] = value
    return array


# -- the constructor

NETWORKS = [
    (([],), {}, ValueError, r"layers must be a list \[n_features, .*got \[\]"),
    (([4],), {}, ValueError, r"layers must be .*got \[4\]"),
    ((4,), {}, TypeError, "layers must be a list .*got 4"),
    (("4, 3",), {}, TypeError, "layers must be a list .*got '4, 3'"),
    (([4, 0, 3],), {}, ValueError, r"layers\[1\].* must be an integer in \[1, .*got 0"),
    (([0, 3],), {}, ValueError, r"layers\[0\], the number of features, must be .*got 0"),
    (([4, -1],), {}, ValueError, r"layers\[1\].*got -1"),
    (([4, 2.0],), {}, TypeError, r"layers\[1\].*integer.*got 2.0 of type float"),
    (([4, "3"],), {}, TypeError, r"layers\[1\].*got '3' of type str"),
    (([4, True],), {}, TypeError, r"layers\[1\].*got True of type bool"),
    (([4, None],), {}, TypeError, r"layers\[1\].*got None"),
    (([Dense(4), 3],), {}, TypeError, r"layers\[0\], the number of features, .*got Dense"),
    (([4, 2**40],), {}, ValueError, r"layers\[1\].*2147483647.*got 1099511627776"),
    (([4, 10**30],), {}, ValueError, r"layers\[1\].*got 1000000000000000000000000000000"),
    (([2**31 - 1, 2**31 - 1],), {}, ValueError, r"layers must .*memory.*got 16.0 EiB"),
    (([4, 3, Dropout(0.5)],), {}, ValueError, "layers must end with a dense layer.*got .*Dropout"),
    (([4, Dropout(0.5)],), {}, ValueError, "layers must end with a dense layer"),
    (([4, Dropout(0.5), Dropout(0.5), 3],), {}, ValueError, "layers must not have one Dropout"),
    (
        ([4, GaussianNoise(1), GaussianNoise(1), 3],),
        {},
        ValueError,
        "layers must not have one Gaus",
    ),
    (
        ([4, Dropout(0.5), GaussianNoise(1), 3],),
        {},
        ValueError,
        "layers must have the noise before",
    ),
    (([4, 3, GaussianNoise(1)],), {}, ValueError, "layers must end with a dense layer"),
    (([4, Dense(3, "softmax"), 3],), {}, ValueError, r"'softmax'.*layers\[1\]"),
    (([4, 5, 3],), {"activation": "softmax"}, ValueError, "activation must .*'softmax'"),
    (([4, 3],), {"activation": "rleu"}, ValueError, "activation must .*'rleu'.*mean 'relu'"),
    (([4, 3],), {"activation": "ReLU"}, ValueError, "activation must .*'ReLU'.*mean 'relu'"),
    (([4, 3],), {"activation": None}, ValueError, "activation must be one of .*got None"),
    (([4, 3],), {"activation": ["relu"]}, ValueError, r"activation must .*got \['relu'\]"),
    (([4, 3],), {"output_activation": "sofmax"}, ValueError, "output_activation .*'softmax'"),
    (([4, 3],), {"loss": "crossentropy"}, ValueError, "loss must .*mean 'cross_entropy'"),
    (([4, 3],), {"loss": None}, ValueError, "loss must be one of .*got None"),
    (([4, 3],), {"optimizer": "adma"}, ValueError, "optimizer must .*'adma'.*mean 'adam'"),
    (([4, 3],), {"optimizer": 0.1}, TypeError, "optimizer must .*got 0.1"),
    (([4, 3],), {"dtype": "flaot32"}, ValueError, "dtype must .*'flaot32'.*mean 'float32'"),
    (([4, 3],), {"dtype": "float16"}, ValueError, "dtype must be one of float32, float64; got"),
    (([4, 3],), {"dtype": np.int32}, ValueError, "dtype must be one of float32, float64; got"),
    (([4, 3],), {"dtype": ">f4" if np.little_endian else "<f4"}, ValueError, "dtype must"),
    (([4, 3],), {"dtype": None}, ValueError, "dtype must be one of .*got None"),
    (([4, 3],), {"backend": "nativ"}, ValueError, "backend must .*'nativ'.*mean 'native'"),
    (([4, 3],), {"backend": None}, ValueError, "backend must be one of .*got None"),
    (([4, 3],), {"seed": -1}, ValueError, "seed must be an integer >= 0; got -1"),
    (([4, 3],), {"seed": 1.5}, TypeError, "seed must be an integer >= 0; got 1.5"),
    (([4, 3],), {"seed": "1"}, TypeError, "seed must be an integer >= 0; got '1'"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), NETWORKS)
def test_network(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Network(*arguments, **{"backend": "numpy", **options})


LAYERS = [
    (lambda: Dense(0), ValueError, "units must .*got 0"),
    (lambda: Dense(-3), ValueError, "units must .*got -3"),
    (lambda: Dense(2.5), TypeError, "units must .*got 2.5"),
    (lambda: Dense(True), TypeError, "units must .*got True"),
    (lambda: Dense(3, "tahn"), ValueError, "activation must .*mean 'tanh'"),
    (lambda: Dense(3, use_bias="no"), TypeError, "use_bias must .*got 'no'"),
    (lambda: Dense(3, weight_init="he"), ValueError, "weight_init must .*got 'he'"),
    (lambda: Dense(3, bias_init="zero"), ValueError, "bias_init must .*mean 'zeros'"),
    (lambda: Dense(3, l1=-1), ValueError, "l1 must .*got -1"),
    (lambda: Dense(3, l2=np.nan), ValueError, "l2 must .*got nan"),
    (lambda: Dense(3, l2="0.1"), TypeError, "l2 must .*got '0.1'"),
    (lambda: Dropout(1.0), ValueError, "rate must .*got 1.0"),
    (lambda: Dropout(-0.1), ValueError, "rate must .*got -0.1"),
    (lambda: Dropout(np.nan), ValueError, "rate must .*got nan"),
    (lambda: Dropout("half"), TypeError, "rate must .*got 'half'"),
    (lambda: Adam(0), ValueError, "learning_rate must .*got 0"),
    (lambda: Adam(-1e-3), ValueError, "learning_rate must .*got -0.001"),
    (lambda: Adam(np.inf), ValueError, "learning_rate must .*got inf"),
    (lambda: Adam("fast"), TypeError, "learning_rate must .*got 'fast'"),
    (lambda: Adam(beta_1=1), ValueError, "beta_1 must .*got 1"),
    (lambda: Adam(epsilon=0), ValueError, "epsilon must .*got 0"),
    (lambda: Adam(weight_decay=-1), ValueError, "weight_decay must .*got -1"),
    (lambda: Adam(clip_norm=0), ValueError, "clip_norm must .*got 0"),
    (lambda: SGD(momentum=1.5), ValueError, "momentum must .*got 1.5"),
    (lambda: SGD(nesterov=True), ValueError, "nesterov .*momentum"),
]


@pytest.mark.parametrize(("make", "error", "message"), LAYERS)
def test_layers_and_optimizers(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -- a network's methods


def same(net, state):
    """Whether nothing has changed: weights, optimizer, generators, history, all to the bit."""
    return pickle.dumps(net) == state


def out(shape=(ROWS, CLASSES), dtype=np.float32):
    return np.zeros(shape, dtype)


def read_only_out():
    array = out()
    array.flags.writeable = False
    return array


def fit(*arguments, **options):
    return lambda net: net.fit(*(arguments or (X, Y)), **options)


FEATURE_MISTAKES = [
    (X[:, :3], ValueError, r"X must have shape \(rows, 4\).*got shape \(6, 3\)"),
    (X[0], ValueError, r"X must have shape \(rows, 4\).*got shape \(4,\).*reshape\(1, -1\)"),
    (X[:, 0], ValueError, r"X must have shape \(rows, 4\).*got shape \(6,\)"),
    (X.reshape(6, 2, 2), ValueError, r"X must have .*\(6, 2, 2\).*reshape\(len\(X\), -1\)"),
    (5.0, ValueError, r"X must have shape \(rows, 4\).*got shape \(\)"),
    (np.empty((0, 3)), ValueError, r"X must have shape \(rows, 4\).*got shape \(0, 3\)"),
    (changed(X, (2, 1), np.nan), ValueError, "X must be finite; got nan at row 2, column 1"),
    (changed(X, (5, 3), -np.inf), ValueError, "X must be finite; got -inf at row 5, column 3"),
    (changed(X, (0, 0), 1e300), ValueError, "X must be finite; got 1e.300 at row 0, .*float32"),
    (X.astype(complex), TypeError, "X must be an array of real numbers; got .*complex128"),
    (X.astype(str), TypeError, "X must be an array of real numbers; got .*<U"),
    (X.astype(object), TypeError, "X must be an array of real numbers; got .*object"),
    (None, TypeError, "X must be an array of real numbers; got None"),
]

TARGET_MISTAKES = [
    (Y[:-1], ValueError, "X and y must have the same number of rows; got 6 and 5"),
    (ONE_HOT[:-1], ValueError, "X and y must have the same number of rows; got 6 and 5"),
    (1, ValueError, "X and y must have the same number of rows; got 6 and a single number"),
    (changed(Y, 2, 3), ValueError, "y must be class numbers from 0 to 2.*got 3"),
    (changed(Y, 2, -1), ValueError, "y must be class numbers from 0 to 2.*got -1"),
    (changed(Y, 2, 1e300), ValueError, "y must be class numbers from 0 to 2.*got 1e.300"),
    (np.full(ROWS, 2**63, np.uint64), ValueError, "y must be class .*got 9223372036854775808"),
    (np.full(ROWS, 2**32), ValueError, "y must be class .*got 4294967296"),
    (changed(Y, 2, 0.5), ValueError, "y must be integers.*got 0.5 at row 2"),
    (changed(Y, 2, np.nan), ValueError, "y must be finite; got nan at row 2"),
    (changed(Y, 2, np.inf), ValueError, "y must be finite; got inf at row 2"),
    (changed(ONE_HOT, (2, 1), np.nan), ValueError, "y must be finite; got nan at row 2, column 1"),
    (changed(ONE_HOT, (2, 1), 1.5), ValueError, r"y must be within \[0, 1\].*got 1.5"),
    (changed(ONE_HOT, (2, 1), -1), ValueError, r"y must be within \[0, 1\].*got -1"),
    (ONE_HOT[:, :2], ValueError, r"y must have shape \(6,\) of integer labels, or \(6, 3\)"),
    (ONE_HOT[..., None], ValueError, r"y must have shape .*got shape \(6, 3, 1\)"),
    (Y.astype(str), TypeError, "y must be an array of real numbers; got .*<U"),
    (Y.astype(complex), TypeError, "y must be an array of real numbers; got .*complex"),
    (None, TypeError, "y must be an array of real numbers; got None"),
]

WEIGHT_MISTAKES = [
    (np.ones(5), ValueError, r"sample_weight must have shape \(6,\).*got shape \(5,\)"),
    (np.ones((6, 1)), ValueError, r"sample_weight must have shape \(6,\).*got shape \(6, 1\)"),
    (2.0, ValueError, r"sample_weight must have shape \(6,\).*got shape \(\)"),
    (changed(np.ones(6), 4, -1), ValueError, "sample_weight must be >= 0; got -1"),
    (changed(np.ones(6), 4, np.nan), ValueError, "sample_weight must be finite; got nan at row 4"),
    (np.full(6, "1"), TypeError, "sample_weight must be an array of real numbers; got"),
]

ON_DATA = {
    "fit": lambda net, *data: net.fit(*data[:2], sample_weight=data[2]),
    "train_step": lambda net, *data: net.train_step(*data),
    "gradients": lambda net, *data: net.gradients(*data),
    "evaluate": lambda net, *data: net.evaluate(*data),
}

CALLS = [
    *[(lambda net, X=X: net.predict(X), *rest) for X, *rest in FEATURE_MISTAKES],
    *[
        (lambda net, method=method, X=X: method(net, X, Y, None), *rest)
        for X, *rest in [
            *FEATURE_MISTAKES,
            (X[:0], ValueError, r"X must have at least one row; got shape \(0, 4\)"),
            ([], ValueError, r"X must have at least one row; got shape \(0, 4\)"),
        ]
        for method in ON_DATA.values()
    ],
    *[
        (lambda net, method=method, y=y: method(net, X, y, None), *rest)
        for y, *rest in TARGET_MISTAKES
        for method in ON_DATA.values()
    ],
    *[
        (lambda net, method=method, weight=weight: method(net, X, Y, weight), *rest)
        for weight, *rest in WEIGHT_MISTAKES
        for method in ON_DATA.values()
    ],
    # predict's buffer
    (lambda net: net.predict(X, out=[[0.0] * 3] * 6), TypeError, "out must be .*got list"),
    (lambda net: net.predict(X, out=out(dtype=np.float64)), TypeError, "out must .*got .*float64"),
    (lambda net: net.predict(X, out=out().astype(">f4" if np.little_endian else "<f4")), TypeError,
     "out must have the network's dtype float32"),
    (lambda net: net.predict(X, out=out((6, 4))), ValueError, r"out must .*\(6, 3\); got .*\(6, 4\)"),
    (lambda net: net.predict(X, out=out((5, 3))), ValueError, r"out must .*\(6, 3\); got .*\(5, 3\)"),
    (lambda net: net.predict(X, out=out((18,))), ValueError, r"out must .*\(6, 3\); got .*\(18,\)"),
    (lambda net: net.predict(X, out=out((3, 6)).T), ValueError, "out must .*not C-contiguous"),
    (lambda net: net.predict(X, out=out((6, 6))[:, ::2]), ValueError, "out .*not C-contiguous"),
    (lambda net: net.predict(X, out=read_only_out()), ValueError, "out must .*not writable"),
    # fit's other arguments
    (fit(epochs=-1), ValueError, "epochs must be an integer >= 0; got -1"),
    (fit(epochs=2.0), TypeError, "epochs must be an integer >= 0; got 2.0 of type float"),
    (fit(epochs="2"), TypeError, "epochs must be an integer >= 0; got '2'"),
    (fit(epochs=None), TypeError, "epochs must be an integer >= 0; got None"),
    (fit(batch_size=0), ValueError, "batch_size must be an integer >= 1; got 0"),
    (fit(batch_size=-5), ValueError, "batch_size must be an integer >= 1; got -5"),
    (fit(batch_size=1.5), TypeError, "batch_size must be an integer >= 1; got 1.5"),
    (fit(batch_size=True), TypeError, "batch_size must be an integer >= 1; got True"),
    (fit(verbose=3), ValueError, r"verbose must be an integer in \[0, 2\]; got 3"),
    (fit(verbose="yes"), TypeError, r"verbose must be an integer in \[0, 2\]; got 'yes'"),
    (fit(shuffle="no"), TypeError, "shuffle must be True or False; got 'no'"),
    (fit(validation_split=1.0), ValueError, r"validation_split must be .*\[0, 1\); got 1.0"),
    (fit(validation_split=-0.1), ValueError, r"validation_split must be .*\[0, 1\); got -0.1"),
    (fit(validation_split=np.nan), ValueError, r"validation_split must be .*\[0, 1\); got nan"),
    (fit(validation_split="0.1"), TypeError, r"validation_split must be .*got '0.1'"),
    (fit(validation_split=0.9), ValueError, "validation_split must leave rows .*got 0.9 of 6 rows"),
    (fit(validation_data=(X, Y), validation_split=0.5), ValueError, "must not both be given"),
    (fit(validation_data=X), ValueError, r"validation_data must be \(X, y\) .*got ndarray"),
    (fit(validation_data=(X,)), ValueError, r"validation_data must be \(X, y\) .*got tuple of 1"),
    (fit(validation_data=(X[:, :2], Y)), ValueError, r"validation_data\[0\] must .*\(6, 2\)"),
    (fit(validation_data=(X, Y[:2])), ValueError,
     r"validation_data\[0\] and validation_data\[1\] must have the same .*got 6 and 2"),
    (fit(validation_data=(X, Y + 3)), ValueError, r"validation_data\[1\] must be class numbers"),
    (fit(validation_data=(X[:0], Y[:0])), ValueError, r"validation_data\[0\] must have at least"),
    (fit(validation_data=(X, Y, -Y)), ValueError, r"validation_data\[2\] must be >= 0; got -"),
    (fit(callbacks=Callback()), TypeError, "callbacks must be a list of .*got <"),
    (fit(callbacks=[print]), TypeError, r"callbacks\[0\] must be a .*Callback; got <built-in"),
    (fit(callbacks=[Callback(), SimpleNamespace()]), TypeError, r"callbacks\[1\] must be a "),
    # weights
    (lambda net: net.set_weights(None), TypeError, "weights must be a list of 2 pairs.*NoneType"),
    (lambda net: net.set_weights([]), ValueError, "weights must be a list of 2 pairs .*got 0"),
    (lambda net: net.set_weights(net.weights[:1]), ValueError, "weights must be a list .*got 1"),
    (lambda net: net.set_weights([3, 4]), ValueError, r"weights\[0\] must be a pair .*got 3"),
    (lambda net: net.set_weights([w for w, _ in net.weights]), ValueError, r"weights\[0\] must"),
    (lambda net: net.set_weights([(w.T, b) for w, b in net.weights]), ValueError,
     r"weights\[0\]\[0\] must have shape \(4, 5\); got shape \(5, 4\)"),
    (lambda net: net.set_weights([net.weights[0], (np.zeros((5, 3)), np.zeros(4))]), ValueError,
     r"weights\[1\]\[1\] must have shape \(3,\); got shape \(4,\)"),
    (lambda net: net.set_weights([(w, None) for w, _ in net.weights]), ValueError,
     r"weights\[0\]\[1\] must be of shape \(5,\); got None"),
    (lambda net: net.set_weights([(np.ones((4, 5)), np.ones(5)), (np.ones((5, 3)) * 1j, np.ones(3))]),
     TypeError, r"weights\[1\]\[0\] must be an array of real numbers; got .*complex"),
    (lambda net: net.set_weights([(np.ones((4, 5)), np.ones(5)), (np.ones((5, 3)), [0, 0, np.nan])]),
     ValueError, r"weights\[1\]\[1\] must be finite; got nan at row 2"),
]  # fmt: skip


@pytest.fixture
def net(backend):
    """A network with an optimizer's state, used generators and a history."""
    net = Network([FEATURES, 5, CLASSES], loss="cross_entropy", backend=backend, seed=0)
    net.fit(X, Y, epochs=2, batch_size=4)
    return net


@pytest.mark.parametrize(("call", "error", "message"), CALLS)
def test_calls(net, call, error, message):
    state = pickle.dumps(net)
    with pytest.raises(error, match=message):
        call(net)
    assert pickle.dumps(net) == state


def test_a_good_call_does_change_what_is_compared(net):
    state = pickle.dumps(net)
    net.evaluate(X, Y)
    net.predict(X)
    net.gradients(X, Y)
    assert pickle.dumps(net) == state
    net.train_step(X, Y)
    assert pickle.dumps(net) != state


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 3, 15, 16, 17, 31, 32, 33, 47, 64])
def test_no_element_is_overlooked(columns, dtype, backend):
    net = Network([columns, 2], backend=backend, dtype=dtype)
    array = np.zeros((3, columns), dtype)
    for row, column in np.ndindex(array.shape):
        array[row, column] = np.nan if column % 2 else -np.inf
        with pytest.raises(ValueError, match=f"X must be finite.* row {row}, column {column}$"):
            net.predict(array)
        array[row, column] = 0
    assert np.isfinite(net.predict(array)).all()


def test_out_must_not_be_the_input(backend):
    net = Network([4, 4], backend=backend)
    array = np.zeros((6, 4), np.float32)
    with pytest.raises(ValueError, match="out must not overlap X"):
        net.predict(array, out=array)


def test_bias_given_where_there_is_none(backend):
    net = Network([4, Dense(3, use_bias=False)], backend=backend)
    with pytest.raises(ValueError, match=r"weights\[0\]\[1\] must be None, without bias, ?;? ?got"):
        net.set_weights([(np.zeros((4, 3)), np.zeros(3))])


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "sigmoid_cross_entropy"])
def test_binary_targets(backend, loss):
    net = Network([FEATURES, 1], loss=loss, backend=backend)
    with pytest.raises(ValueError, match=r"y must be within \[0, 1\] for this loss; got 2"):
        net.train_step(X, [0, 1, 2, 0, 1, 2])
    several = Network([FEATURES, 3], loss=loss, backend=backend)
    with pytest.raises(ValueError, match=r"y must have shape \(6, 3\); got shape \(6,\)"):
        several.train_step(X, [0, 1, 1, 0, 1, 0])


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_cross_entropy", "focal"])
def test_one_class_is_no_yes_or_no(backend, loss):
    net = Network([FEATURES, 1], loss=loss, backend=backend)
    net.train_step(X, np.ones((6, 1)))
    with pytest.raises(
        ValueError, match=r"y must be 1 in all rows .*got 0.0\. .*'binary_cross_ent"
    ):
        net.train_step(X, [[1], [0], [1], [0], [1], [1]])
    assert net.steps == 1


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "poisson"])
def test_regression_targets(backend, loss):
    net = Network([FEATURES, 3], loss=loss, backend=backend)
    with pytest.raises(ValueError, match=r"y must have shape \(6, 3\); got shape \(6,\)"):
        net.train_step(X, Y)
    with pytest.raises(ValueError, match="y must be finite; got inf at row 1, column 0"):
        net.train_step(X, changed(ONE_HOT, (1, 0), np.inf))


@pytest.mark.parametrize(
    ("loss", "lowest", "refused", "sign"),
    [("poisson", 0, -1e-3, "non-negative"), ("gamma", 1e-3, 0, "positive")],
)
def test_targets_that_a_distribution_cannot_give(backend, loss, lowest, refused, sign):
    net = Network([FEATURES, 3], loss=loss, backend=backend)
    y = np.ones((6, 3))
    net.train_step(X, changed(y, (1, 2), lowest))
    for call in (net.fit, net.train_step, net.evaluate, net.gradients, net.diagnose):
        with pytest.raises(ValueError, match=f"y must be {sign} for this loss; got {refused:g}"):
            call(X, changed(y, (1, 2), refused))
    assert net.steps == 1


# -- files


def test_load_refuses_what_is_no_model(tmp_path):
    path = tmp_path / "m.safetensors"
    fastnn.serialization.write(path, {"a": np.zeros(3)}, {"format": "pt"})
    with pytest.raises(ValueError, match=r"path must be of a fastnn model.*'pt'"):
        Network.load(path, backend="numpy")
    with pytest.raises(FileNotFoundError):
        Network.load(tmp_path / "absent.safetensors", backend="numpy")
    with pytest.raises(ValueError, match=r"backend must .*mean 'numpy'"):
        Network.load(path, backend="nunpy")


def drop(*names):
    def change(tensors, metadata, config):
        for name in names:
            del tensors[name]

    return change


def configured(**values):
    return lambda tensors, metadata, config: config.update(values)


def described(**values):
    return lambda tensors, metadata, config: metadata.update(values)


def with_tensor(name, array):
    return lambda tensors, metadata, config: tensors.update({name: array})


DAMAGES = [
    (described(format_version="2"), "format version 1.*version '2'"),
    (described(network="{"), "damaged"),
    (described(network="[]"), "damaged"),
    (described(network="[" * 100_000), "damaged"),
    (described(network="null"), "damaged"),
    (lambda tensors, metadata, config: metadata.pop("network"), "damaged"),
    (lambda tensors, metadata, config: config.pop("layers"), "damaged: KeyError: 'layers'"),
    (configured(n_features="4"), "n_features must be"),
    (configured(n_features=5), "layers.0.weight"),
    (configured(layers=[]), "layers must end with a dense layer"),
    (configured(layers=[{"name": "dense"}]), "damaged"),
    (configured(layers=[{"name": "conv", "units": 3}]), "damaged"),
    (configured(layers=[{"name": "dense", "units": 10**6}]), "layers.0.weight"),
    (configured(layers=[{"name": "dense", "units": 2**31 - 1}] * 3), "layers.0.weight"),
    (configured(loss="mze"), "loss must be one of"),
    (configured(dtype="float64"), "dtype float64"),
    (configured(optimizer={"name": "adam", "learning_rate": -1}), "learning_rate must"),
    (configured(optimizer={"name": "sgd"}), "slots"),
    (configured(seed=-1), "seed must"),
    (configured(steps="many"), "steps must"),
    (configured(steps=2**70), "steps must"),
    (configured(generator={}), "damaged"),
    (
        configured(generator={"bit_generator": "PCG64", "state": {"state": -1, "inc": "x"}}),
        "damaged",
    ),
    (drop("layers.1.bias"), "'layers.1.bias'"),
    (drop("optimizer.1.layers.0.weight"), "'optimizer.1.layers.0.weight'"),
    (with_tensor("layers.0.weight", np.zeros((4, 6), np.float32)), r"\(4, 5\).*\(4, 6\)"),
    (with_tensor("layers.0.bias", np.zeros(5)), "float32.*float64"),
    (with_tensor("layers.2.weight", np.zeros((3, 3), np.float32)), "layers.2.weight"),
    (with_tensor("optimizer.3.layers.0.weight", np.zeros((4, 5), np.float32)), "optimizer.3"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_load_refuses_damaged_models(net, damage, message, tmp_path):
    import json

    path = tmp_path / "m.safetensors"
    net.save(path, include_optimizer=True)
    tensors, metadata = fastnn.serialization.read(path)
    metadata.pop("crc32", None)
    config = json.loads(metadata["network"])
    before = dict(metadata)
    damage(tensors, metadata, config)
    if metadata == before:
        metadata["network"] = json.dumps(config)
    fastnn.serialization.write(path, tensors, metadata)
    with pytest.raises(ValueError, match=message):
        Network.load(path, backend=net.backend)


def test_a_failed_save_leaves_the_old_file(net, tmp_path):
    path = tmp_path / "m.safetensors"
    net.save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="include_optimizer must be True or False; got 'yes'"):
        net.save(path, include_optimizer="yes")
    assert path.read_bytes() == before


NET = Network([3, 2], loss="cross_entropy", backend="numpy")
ROWS, LABELS = np.ones((6, 3)), np.arange(6) % 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastnn.train_many([NET], 1.0, LABELS), ValueError, "X must have rows"),
        (lambda: fastnn.train_many([NET], ROWS, 1.0), ValueError, "y must have rows"),
        (lambda: fastnn.bag(lambda _: NET, 1.0, LABELS), ValueError, "X must have rows"),
        (lambda: fastnn.cross_validate(lambda _: NET, ROWS, 1.0), ValueError, "y must have rows"),
        (lambda: ArrayBatches(1.0, LABELS), ValueError, "X must have rows"),
        (lambda: fastnn.find_learning_rate("net", ROWS, LABELS), TypeError, "net must be .*'net'"),
        (lambda: Network([3, 2], dtype=np.zeros(2)), ValueError, "dtype must be one of float32"),
        (lambda: Adam(10**400), ValueError, "learning_rate must be a finite number > 0; got 1000"),
        (lambda: Dropout(10**400), ValueError, r"rate must be a number in \[0, 1\); got 1000"),
        (lambda: Checkpoint("a", monitor=np.ones(2)), TypeError, "monitor must be .*ndarray"),
    ],
)
def test_anything_in_the_place_of_anything(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("value", ["Categorical", "NA"])
def test_what_pandas_has_besides(value):
    pd = pytest.importorskip("pandas", reason='needs pip install "fastnn[pandas]"')
    given = pd.Categorical(list("abc")) if value == "Categorical" else pd.NA
    for call in (lambda: NET.fit(given, LABELS), lambda: NET.fit(ROWS, given)):
        with pytest.raises((TypeError, ValueError), match=r"^[Xy] must .*got"):
            call()

"""Whatever holds numbers is taken as input, and gives what the plain array gives."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pytest
from conftest import import_torch

from fastnn import Network
from fastnn._validation import as_array, matrix

ROWS, FEATURES, CLASSES = 12, 4, 3
# Small integers: the same numbers in every dtype.
X = np.random.default_rng(0).integers(0, 5, (ROWS, FEATURES)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, CLASSES, ROWS)
WEIGHTS = np.random.default_rng(2).integers(0, 3, ROWS).astype(np.float32)


def unaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def reversed_twice(array):
    return np.ascontiguousarray(array[::-1])[::-1]


def swapped(array):
    return array.astype(array.dtype.newbyteorder())


def pandas_frame(array):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(array) if array.ndim == 2 else pd.Series(array)


def pandas_of_many_dtypes(array):
    pd = pytest.importorskip("pandas")
    if array.ndim == 1:
        return pd.Series(array).astype("Int64")
    frame = pd.DataFrame(array, columns=list("abcd"))
    return frame.astype({"a": "Int64", "b": "int8", "c": "Float32", "d": "float64"})


def polars_frame(array):
    pl = pytest.importorskip("polars")
    return pl.DataFrame(array) if array.ndim == 2 else pl.Series(array)


def polars_of_many_dtypes(array):
    pl = pytest.importorskip("polars")
    if array.ndim == 1:
        return pl.Series(array.tolist(), dtype=pl.Int8, strict=False)
    types = [pl.Int64, pl.UInt8, pl.Float32, pl.Decimal(10, 2)]
    return pl.DataFrame([pl.Series(str(i), array[:, i]).cast(kind) for i, kind in enumerate(types)])


def tensor(array):
    torch = import_torch()
    return torch.from_numpy(array.copy())


def transposed_tensor(array):
    return tensor(np.ascontiguousarray(array.T)).T if array.ndim == 2 else tensor(array)


def tensor_with_gradient(array):
    return tensor(array.astype(np.float64)).requires_grad_()


def bfloat16_tensor(array):
    torch = import_torch()
    return tensor(array).to(torch.bfloat16)


class HasArray:
    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype)


class HasDLPack:
    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


CONTAINERS = [
    np.ndarray.copy,
    np.ndarray.tolist,
    lambda array: tuple(array.tolist()),
    list,
    np.asfortranarray,
    strided,
    reversed_twice,
    read_only,
    unaligned,
    swapped,
    lambda array: swapped(array.astype(np.int32)),
    *[
        lambda array, dtype=dtype: array.astype(dtype)
        for dtype in [
            "float16",
            "float32",
            "float64",
            "longdouble",
            "int8",
            "uint8",
            "int64",
            "uint64",
        ]
    ],
    np.ma.masked_array,
    memoryview,
    HasArray,
    HasDLPack,
    pandas_frame,
    pandas_of_many_dtypes,
    polars_frame,
    polars_of_many_dtypes,
    tensor,
    transposed_tensor,
    tensor_with_gradient,
    bfloat16_tensor,
]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda f: f.__name__)
def test_containers(backend, dtype, container):
    def results(convert):
        net = Network([FEATURES, 5, CLASSES], loss="cross_entropy", dtype=dtype, backend=backend,
                      seed=0)  # fmt: skip
        net.train_step(convert(X), convert(LABELS), convert(WEIGHTS))
        net.fit(
            convert(X),
            convert(LABELS),
            batch_size=5,
            sample_weight=convert(WEIGHTS),
            validation_data=(convert(X), convert(LABELS)),
        )
        loss, grads = net.gradients(convert(X), convert(LABELS))
        return [
            net.predict(convert(X)),
            loss,
            grads,
            net.evaluate(convert(X), convert(LABELS)),
            net.history.history,
        ]

    np.testing.assert_equal(results(container), results(np.copy))


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda f: f.__name__)
def test_containers_of_targets_and_weights(backend, container):
    nets = [Network([FEATURES, CLASSES], backend=backend, seed=0) for _ in range(2)]
    targets = X[:, :FEATURES].copy()
    nets = [Network([FEATURES, FEATURES], backend=backend, seed=0) for _ in range(2)]
    for net, convert in zip(nets, (container, np.copy), strict=True):
        net.set_weights([(convert(X[:FEATURES]), convert(X[0]))])
        net.train_step(X, convert(targets))
    np.testing.assert_equal(*(net.weights for net in nets))


def test_booleans(backend):
    net = Network([FEATURES, 1], loss="binary_cross_entropy", backend=backend, seed=0)
    for x, y in [(X > 2, LABELS > 1), ((X > 2).tolist(), (LABELS > 1).tolist())]:
        assert net.evaluate(x, y) == net.evaluate((X > 2).astype(float), (LABELS > 1).astype(int))


def test_booleans_beside_numbers_in_frames():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"a": [1.5, 2.0], "b": [True, False], "c": [3, 4]}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns)):
        expected = [[1.5, 1, 3], [2, 0, 4]]
        np.testing.assert_array_equal(matrix("X", frame, 3, np.dtype("f4")), expected)


def test_missing_values_in_frames_are_nan():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"a": [1, 2], "b": [None, 3], "c": [None, True]}
    nullable = pd.DataFrame(columns).astype({"b": "Int64", "c": "boolean"})
    for frame in (nullable, pl.DataFrame(columns)):
        np.testing.assert_array_equal(as_array("X", frame), [[1, np.nan, np.nan], [2, 3, 1]])
        with pytest.raises(ValueError, match="X must be finite; got nan at row 0, column 1"):
            matrix("X", frame, 3, np.dtype("f4"))


def test_one_hot_labels_of_any_dtype(backend):
    one_hot = np.eye(CLASSES)[LABELS]
    expected = Network([FEATURES, CLASSES], loss="cross_entropy", backend=backend, seed=0).evaluate(
        X, one_hot
    )
    for y in (one_hot.astype(int), one_hot.astype(bool), one_hot.tolist()):
        net = Network([FEATURES, CLASSES], loss="cross_entropy", backend=backend, seed=0)
        assert net.evaluate(X, y) == expected


def test_labels_in_a_column_and_as_floats(backend):
    net = Network([FEATURES, CLASSES], loss="cross_entropy", backend=backend, seed=0)
    expected = net.evaluate(X, LABELS)
    assert net.evaluate(X, LABELS.reshape(-1, 1)) == expected
    assert net.evaluate(X, LABELS.astype(float)) == expected


@pytest.mark.parametrize(
    "loss", ["mse", "poisson", "binary_cross_entropy", "sigmoid_cross_entropy"]
)
def test_one_output_takes_a_flat_target(backend, loss):
    net = Network([FEATURES, 1], loss=loss, backend=backend, seed=0)
    y = LABELS > 0
    assert net.evaluate(X, y) == net.evaluate(X, y.reshape(-1, 1))


def test_what_a_backend_can_take_is_not_copied(dtype):
    array = X.astype(dtype)
    assert matrix("X", array, FEATURES, np.dtype(dtype)) is array
    array.flags.writeable = False
    assert matrix("X", array, FEATURES, np.dtype(dtype)) is array
    assert np.shares_memory(matrix("X", array[2:7], FEATURES, np.dtype(dtype)), array)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, FEATURES), complex),
        np.full((2, FEATURES), "1"),
        [["1"] * FEATURES],
        [[None] * FEATURES],
        [[10**30] * FEATURES],
        [[decimal.Decimal(1)] * FEATURES],
        [[datetime.date(2000, 1, 1)] * FEATURES],
        np.zeros((2, FEATURES), "datetime64[s]"),
        np.zeros(2, [("a", float), ("b", float)]),
        {"a": [1, 2]},
        None,
        "text",
        pytest.param(object(), id="object"),
        pytest.param(iter([1, 2]), id="iterator"),
    ],
    ids=repr,
)
def test_what_holds_no_real_numbers_is_refused(backend, value):
    net = Network([FEATURES, 1], backend=backend)
    with pytest.raises(TypeError, match="X must be an array of real numbers; got "):
        net.predict(value)
    with pytest.raises(TypeError, match="y must be an array of real numbers; got "):
        net.evaluate(np.zeros((2, FEATURES)), value)


def test_ragged_lists_are_refused(backend):
    with pytest.raises(ValueError, match=r"X must be an array of real numbers; .*inhomogeneous"):
        Network([2, 1], backend=backend).predict([[1, 2], [3]])


def test_text_in_frames_is_refused_by_the_name_of_its_column():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"a": [1, 2], "town": ["x", "y"], "c": [True, False]}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns)):
        with pytest.raises(
            TypeError, match=r"X must have columns of real numbers only; got 'town'"
        ):
            as_array("X", frame)
    for numbers_as_text in (pd.Series(["1", "2"], name="n"), pl.Series("n", ["1", "2"])):
        with pytest.raises(TypeError, match="y must"):
            as_array("y", numbers_as_text)


def test_other_containers_are_refused_with_a_hint():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"X must .*call its \.toarray\(\) first"):
        as_array("X", sparse.eye(3).tocsr())
    torch = import_torch()
    with pytest.raises(TypeError, match="X must"):
        as_array("X", torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match=r"X must .*\.cpu\(\)"):
        as_array("X", torch.empty(2, 2, device="meta"))
    with pytest.raises(ValueError, match="X must not have masked values"):
        as_array("X", np.ma.masked_less(X, 2))


def test_what_dlpack_cannot_hand_over_is_refused():
    with pytest.raises(ValueError, match=r"X must be an array of real numbers; .*DLPack"):
        as_array("X", HasDLPack(np.full((2, 2), "1")))

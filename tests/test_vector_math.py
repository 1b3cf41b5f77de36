"""The core's own exp, log, tanh and the like, against functions of higher precision."""

from __future__ import annotations

from functools import cache

import mpmath
import numpy as np
import pytest
from scipy import special

_native = pytest.importorskip(
    "fastnn._native", reason="fastnn._native is not built", exc_type=ModuleNotFoundError
)

import fastnn  # noqa: E402
from fastnn.backends.native import NativeBackend  # noqa: E402

# Largest errors in units in the last place, whatever the instruction set and dtype: the measured
# ones, rounded up.
BOUNDS = {
    "exp": 1.5,
    "expm1": 2,
    "log": 1,
    "log1p": 1,
    "tanh": 3,
    "sigmoid": 3,
    "erf": 3,
}

IN_FLOAT64 = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": special.erf,
}
IN_MANY_DIGITS = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
}
DOMAIN = {"log": 0.0, "log1p": -1.0}  # starts there, is open

INF, NAN = np.inf, np.nan
SPECIAL = (-INF, -0.0, 0.0, INF, NAN)
AT_SPECIAL = {
    "exp": (0.0, 1, 1, INF, NAN),
    "expm1": (-1, -0.0, 0.0, INF, NAN),
    "log": (NAN, -INF, -INF, INF, NAN),
    "log1p": (NAN, -0.0, 0.0, INF, NAN),
    "tanh": (-1, -0.0, 0.0, 1, NAN),
    "sigmoid": (0.0, 0.5, 0.5, 1, NAN),
    "erf": (-1, -0.0, 0.0, 1, NAN),
}

EACH_FUNCTION = pytest.mark.parametrize("function", _native.VECTOR_FUNCTIONS)
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EACH_ISA = pytest.mark.parametrize("isa", _native.available_isas())


def apply(function, x, isa=None):
    out = np.full_like(x, 7)
    _native.vector_math(function, x, out, isa)
    return out


def bits(dtype):
    return np.dtype(dtype).str.replace("f", "u")


def places(dtype):
    """Where something changes: a formula, the exponent of a part, or the result's being finite."""
    limits = np.finfo(dtype)
    ends = np.log([float(limits.max), float(limits.tiny), float(limits.smallest_subnormal)])
    half_octaves = np.arange(1, 8) * np.log(2) / 2
    roots = np.sqrt([0.5, 2])
    plain = [0, limits.tiny, limits.eps, 1, 2, 4, 6, 9, 10, 19, 20, 37, limits.max]
    return np.concatenate([plain, roots, half_octaves, ends]).astype(dtype)


def around(dtype, neighbours):
    """All floats near `places`, of both signs."""
    near = np.arange(-neighbours, neighbours + 1).astype(bits(dtype))  # wraps round, as it should
    x = (places(dtype).view(bits(dtype))[:, np.newaxis] + near).ravel().view(dtype)
    return np.concatenate([x, -x])


@cache
def sample(function, dtype):
    """Points to try, and there the nearest results with what those lack of the exact ones."""
    if dtype is np.float32:
        x = np.concatenate([np.arange(0, 2**32, 1009, np.uint32).view(dtype), around(dtype, 5000)])
    else:
        rng = np.random.default_rng(0)
        spread = rng.integers(2**64, size=500, dtype=np.uint64).view(dtype)
        scaled = np.outer([0.5, 2, 10, 40, 750], rng.uniform(-1, 1, 1000)).ravel()
        x = np.concatenate([spread, scaled, around(dtype, 10)])
    x = x[np.isfinite(x) & (x > DOMAIN.get(function, -INF))]
    return x, *exact(function, x)


def exact(function, x):
    if x.dtype == np.float32:
        with np.errstate(all="ignore"):
            result = IN_FLOAT64[function](x.astype(np.float64))
            nearest = result.astype(np.float32)
            return nearest, result - nearest
    with mpmath.workprec(100):
        results = [IN_MANY_DIGITS[function](mpmath.mpf(value)) for value in x.tolist()]
        nearest = [float(result) for result in results]
        rest = [float(result - near) for result, near in zip(results, nearest, strict=True)]
    return np.array(nearest), np.array(rest)


def ulps(got, nearest, rest):
    """Distance from the exact result, of which `nearest` is the rounding."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(got.astype(np.float64) - nearest - rest) / np.spacing(np.abs(nearest))
    return np.where(np.isinf(nearest), np.where(got == nearest, 0, INF), off)


@EACH_ISA
@EACH_DTYPE
@EACH_FUNCTION
def test_accuracy(function, dtype, isa):
    x, nearest, rest = sample(function, dtype)
    errors = ulps(apply(function, x, isa), nearest, rest)
    worst = errors.argmax()  # a NaN, where there is one
    assert errors[worst] <= BOUNDS[function], f"at {x[worst]!r}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@EACH_FUNCTION
def test_accuracy_at_every_float32(function):
    chunk = 2**18
    for start in range(0, 2**32, chunk):
        x = np.arange(start, start + chunk, dtype=np.uint32).view(np.float32)
        x = x[np.isfinite(x) & (x > DOMAIN.get(function, -INF))]
        errors = ulps(apply(function, x), *exact(function, x))
        assert errors.max(initial=0) <= BOUNDS[function], f"at {x[errors.argmax()]!r}"


@EACH_ISA
@EACH_DTYPE
@EACH_FUNCTION
def test_special_values(function, dtype, isa):
    got = apply(function, np.array(SPECIAL, dtype), isa)
    np.testing.assert_array_equal(got, AT_SPECIAL[function])
    zero = got == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(AT_SPECIAL[function])[zero])


@EACH_ISA
@pytest.mark.parametrize(("dtype", "tail"), [(np.float32, -5.6), (np.float64, -8.4)])
def test_gelu_does_not_cancel_in_its_left_tail(dtype, tail, isa, monkeypatch):
    """The rounding of z**2 / 2, of which it is an exponential, is what there is of errors."""
    init = NativeBackend.__init__
    monkeypatch.setattr(NativeBackend, "__init__", lambda self, spec: init(self, spec, isa))
    net = fastnn.Network([1, fastnn.Dense(1, "gelu", use_bias=False)], dtype=dtype)
    net.set_weights([([[1.0]], None)])
    z = np.linspace(tail, 3, 5001, dtype=dtype)
    exact = z.astype(np.float64) * special.ndtr(z.astype(np.float64))
    np.testing.assert_allclose(
        net.predict(z[:, np.newaxis])[:, 0], exact, rtol=2 * tail**2 * np.finfo(dtype).eps
    )
    beyond = net.predict(np.linspace(tail, -1000, 5001, dtype=dtype)[:, np.newaxis])
    assert -exact[0] * 1.01 > np.abs(beyond).max()
    assert np.abs(beyond[-1]) < 1e-30


@EACH_ISA
@EACH_DTYPE
def test_logarithms_end_at_zero(dtype, isa):
    limits = np.finfo(dtype)
    x = np.array([-limits.smallest_subnormal, -limits.tiny, -1, -2, limits.min], dtype)
    assert np.isnan(apply("log", x, isa)).all()
    x = np.array([-1, -1 - limits.eps, -2, limits.min], dtype)
    np.testing.assert_array_equal(apply("log1p", x, isa), [-INF, NAN, NAN, NAN])


@EACH_ISA
@EACH_DTYPE
def test_any_number_of_values_wherever_they_are(dtype, isa):
    lanes = 64 // np.dtype(dtype).itemsize
    x = np.linspace(-3, 3, 3 * lanes, dtype=dtype)
    expected = apply("tanh", x, isa)
    for n in (0, 1, *range(lanes - 1, lanes + 2), 2 * lanes + 1):
        out = np.full_like(x, 7)
        _native.vector_math("tanh", x[1 : 1 + n], out[1 : 1 + n], isa)
        np.testing.assert_array_equal(out[1 : 1 + n], expected[1 : 1 + n])
        assert (out[0], *out[1 + n :]) == (7,) * (len(x) - n)


@EACH_ISA
@EACH_DTYPE
@EACH_FUNCTION
def test_in_place(function, dtype, isa):
    x = np.linspace(0.1, 3, 37, dtype=dtype)
    expected = apply(function, x, isa)
    _native.vector_math(function, x, x, isa)
    np.testing.assert_array_equal(x, expected)


def frozen(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("error", "function", "x", "out"),
    [
        (ValueError, "exp", np.zeros(4), np.zeros(3)),
        (ValueError, "exp", np.zeros(4), np.zeros(5)),
        (ValueError, "exp", np.zeros(4), np.zeros(4, np.float32)),
        (ValueError, "exp", np.zeros(4), np.zeros(8, np.float32)),
        (TypeError, "exp", np.zeros(4, np.int64), np.zeros(4)),
        (TypeError, "exp", np.zeros(4), np.zeros(4, np.int64)),
        (TypeError, "exp", [0.0], np.zeros(1)),
        ((ValueError, BufferError), "exp", np.zeros(8)[::2], np.zeros(4)),
        ((ValueError, BufferError), "exp", np.zeros(4), frozen(np.zeros(4))),
        (ValueError, "sine", np.zeros(4), np.zeros(4)),
    ],
)
def test_refuses(error, function, x, out):
    with pytest.raises(error):
        _native.vector_math(function, x, out)


def test_refuses_an_unknown_instruction_set():
    with pytest.raises(ImportError, match="'abacus' is not among the instruction sets"):
        _native.vector_math("exp", np.zeros(4), np.zeros(4), "abacus")

"""The optimizers against PyTorch's, against formulas written out, and as descriptions."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from conftest import import_torch

from fastnn import optimizers
from fastnn.optimizers import OPTIMIZERS, SGD, AdaDelta, AdaGrad, Adam, AdamW, Lion, NAdam, RMSProp

EACH = pytest.mark.parametrize("cls", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# Ours, and what PyTorch calls it
CONFIGURATIONS = [
    (SGD(0.1), "SGD", {}),
    (SGD(0.1, 0.9), "SGD", {"momentum": 0.9}),
    (SGD(0.1, 0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
    (SGD(0.1, 0.5, weight_decay=0.2), "SGD", {"momentum": 0.5, "weight_decay": 0.2}),
    (AdaGrad(0.1), "Adagrad", {}),
    (AdaGrad(0.1, 1e-2, weight_decay=0.2), "Adagrad", {"eps": 1e-2, "weight_decay": 0.2}),
    (RMSProp(0.1), "RMSprop", {}),
    (RMSProp(0.1, 0.8, 1e-2), "RMSprop", {"alpha": 0.8, "eps": 1e-2}),
    (
        RMSProp(0.1, momentum=0.7, weight_decay=0.2),
        "RMSprop",
        {"momentum": 0.7, "weight_decay": 0.2},
    ),
    (Adam(0.1), "Adam", {}),
    (
        Adam(0.1, 0.8, 0.9, 1e-2, weight_decay=0.2),
        "Adam",
        {"betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.2},
    ),
    (AdamW(0.1), "AdamW", {}),
    (AdamW(0.1, 0.8, 0.9, weight_decay=0.2), "AdamW", {"betas": (0.8, 0.9), "weight_decay": 0.2}),
    (Adam(0.1, amsgrad=True), "Adam", {"amsgrad": True}),
    (
        AdamW(0.1, 0.8, 0.5, weight_decay=0.2, amsgrad=True),
        "AdamW",
        {"betas": (0.8, 0.5), "weight_decay": 0.2, "amsgrad": True},
    ),
    (AdaDelta(), "Adadelta", {}),
    (
        AdaDelta(0.5, 0.8, 1e-2, weight_decay=0.2),
        "Adadelta",
        {"rho": 0.8, "eps": 1e-2, "weight_decay": 0.2},
    ),
    (NAdam(0.1), "NAdam", {}),
    (
        NAdam(0.1, 0.8, 0.9, 1e-2, 0.1, weight_decay=0.2),
        "NAdam",
        {"betas": (0.8, 0.9), "eps": 1e-2, "momentum_decay": 0.1, "weight_decay": 0.2},
    ),
]
EXAMPLES = [
    *(ours for ours, _, _ in CONFIGURATIONS),
    Adam(clip_norm=1.5),
    AdamW(weight_decay=0),
    Lion(),
    Lion(0.01, 0.8, 0.9, weight_decay=0.2, clip_value=0.5),
]


@pytest.fixture
def torch():
    """PyTorch, its scalars (such as NAdam's product of momentums) in float64."""
    torch = import_torch()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


def fresh(optimizer):
    """The same configuration without a past."""
    return dataclasses.replace(optimizer)


def problem(dtype=np.float64, steps=12, seed=8):
    """Parameters of several shapes, and gradients for a number of steps."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 4), (4,), (4, 1), ()]
    params = [np.asarray(rng.normal(size=shape), dtype=dtype) for shape in shapes]
    grads = [
        [np.asarray(rng.normal(size=shape) * 3, dtype=dtype) for shape in shapes]
        for _ in range(steps)
    ]
    return params, grads


@DTYPES
@pytest.mark.parametrize(("clip_norm", "clip_value"), [(None, None), (2.0, None), (2.0, 1.5)])
@pytest.mark.parametrize(("ours", "name", "options"), CONFIGURATIONS, ids=repr)
def test_like_torch(ours, name, options, clip_norm, clip_value, dtype, torch):
    ours = dataclasses.replace(ours, clip_norm=clip_norm, clip_value=clip_value)
    params, grads = problem(dtype)
    leaves = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    theirs = getattr(torch.optim, name)(leaves, lr=ours.learning_rate, **options)
    start = [p.copy() for p in params]
    for step_grads in grads:
        for leaf, grad in zip(leaves, step_grads, strict=True):
            leaf.grad = torch.tensor(grad)
        if clip_value is not None:
            torch.nn.utils.clip_grad_value_(leaves, clip_value)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(leaves, clip_norm)
        theirs.step()
        ours.update(params, step_grads)
        for param, leaf in zip(params, leaves, strict=True):
            expected = leaf.detach().numpy()
            # A few roundings a step, of values around 1
            tolerance = 20 * len(grads) * np.finfo(dtype).eps
            np.testing.assert_allclose(param, expected, rtol=tolerance, atol=tolerance)
    assert all((np.abs(p - s) > 1e-3).any() for p, s in zip(params, start, strict=True))


def test_the_largest_mean_of_squares_keeps_the_rate_small():
    """AMSGrad differs from Adam as soon as a gradient is smaller than those before."""
    params, _ = problem()
    plain, capped = params[0].copy(), params[0].copy()
    adam, amsgrad = Adam(0.1, 0.0, 0.5), Adam(0.1, 0.0, 0.5, amsgrad=True)
    for scale, same in ((1.0, True), (2.0, True), (0.1, False)):
        for optimizer, param in ((adam, plain), (amsgrad, capped)):
            optimizer.update([param], [np.full_like(param, scale)])
        assert np.array_equal(plain, capped) == same


class TestFormulas:
    """One parameter, written out; g are the gradients, the rate is 0.1."""

    g = (2.0, -1.0, 0.5)

    def run(self, optimizer, w=1.0):
        param = np.array([w])
        trace = []
        for g in self.g:
            optimizer.update([param], [np.array([g])])
            trace.append(param.item())
        return trace

    def test_sgd(self):
        assert self.run(SGD(0.1)) == pytest.approx([0.8, 0.9, 0.85])

    def test_momentum(self):
        # buf: 2, 0, 0.5
        assert self.run(SGD(0.1, 0.5)) == pytest.approx([0.8, 0.8, 0.75])

    def test_nesterov(self):
        # g + buf / 2: 3, -1, 0.75
        assert self.run(SGD(0.1, 0.5, True)) == pytest.approx([0.7, 0.8, 0.725])

    def test_adagrad(self):
        w1 = 1 - 0.1 * 2 / 4**0.5
        w2 = w1 + 0.1 / 5**0.5
        w3 = w2 - 0.1 * 0.5 / 5.25**0.5
        assert self.run(AdaGrad(0.1)) == pytest.approx([w1, w2, w3], rel=1e-9)

    def test_rmsprop(self):
        v1 = 0.25 * 4
        v2 = 0.75 * v1 + 0.25
        v3 = 0.75 * v2 + 0.25 * 0.25
        w1 = 1 - 0.1 * 2 / (v1**0.5 + 0.01)
        w2 = w1 + 0.1 / (v2**0.5 + 0.01)
        w3 = w2 - 0.1 * 0.5 / (v3**0.5 + 0.01)
        assert self.run(RMSProp(0.1, 0.75, 0.01)) == pytest.approx([w1, w2, w3])

    @pytest.mark.parametrize("cls", [Adam, AdamW])
    def test_adam(self, cls):
        b1, b2, eps, w, m, v = 0.5, 0.75, 0.01, 1.0, 0.0, 0.0
        expected = []
        for t, g in enumerate(self.g, start=1):
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            w -= 0.1 * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
            expected.append(w)
        assert self.run(cls(0.1, b1, b2, eps, weight_decay=0)) == pytest.approx(expected)

    def test_lion(self):
        b1, b2, decay, w, m = 0.5, 0.75, 0.3, 1.0, 0.0
        expected = []
        for g in self.g:
            w = w * (1 - 0.1 * decay) - 0.1 * np.sign(b1 * m + (1 - b1) * g)
            m = b2 * m + (1 - b2) * g
            expected.append(w)
        assert self.run(Lion(0.1, b1, b2, weight_decay=decay)) == pytest.approx(expected)
        assert self.run(Lion(0.1, 0.0)) == pytest.approx([0.9, 1.0, 0.9])

    def test_lion_rests_where_there_is_no_gradient(self):
        param = np.array([1.0, 1.0])
        Lion(0.1).update([param], [np.array([0.0, 1e-30])])
        assert param.tolist() == [1.0, 0.9]

    @EACH
    def test_weight_decay(self, cls):
        """A penalty is part of the gradient; AdamW and Lion shrink the weight, whatever it is."""
        decayed = self.run(cls(0.1, weight_decay=0.3), w=2.0)[0]
        if cls in (AdamW, Lion):
            assert decayed == pytest.approx(self.run(cls(0.1, weight_decay=0), w=2 * 0.97)[0])
        else:
            param = np.array([2.0])
            cls(0.1).update([param], [np.array([self.g[0] + 0.3 * 2])])
            assert decayed == pytest.approx(param.item(), rel=1e-15)

    def test_first_step_of_adam_is_the_rate(self):
        for scale in (1e-3, 1.0, 1e3):
            param = np.array([0.0, 0.0])
            Adam(0.01).update([param], [np.array([scale, -scale])])
            np.testing.assert_allclose(param, [-0.01, 0.01], rtol=2e-5)


class TestDescent:
    """The lesson: gradient descent in one dimension from 1.0, 25,000 small steps."""

    @staticmethod
    def descend(slope):
        w = np.array([1.0])
        optimizer = SGD(1e-3)
        for _ in range(25_000):
            optimizer.update([w], [slope(w)])
        return w.item()

    def test_square_goes_to_zero(self):
        assert self.descend(lambda w: 2 * w) == pytest.approx(0, abs=1e-12)

    def test_cubic_stays_in_the_dip(self):
        assert self.descend(lambda w: 3 * w**2 - 0.75) == pytest.approx(0.5, abs=1e-9)

    @EACH
    def test_every_optimizer_descends(self, cls):
        w = np.array([1.0, -2.0])
        optimizer = cls(1.0 if cls is AdaDelta else 0.05, weight_decay=0.0)
        for _ in range(400):
            optimizer.update([w], [2 * w])
        assert np.abs(w).max() < 0.7


class TestUpdate:
    @EACH
    def test_in_place_and_in_dtype(self, cls):
        big = np.arange(24, dtype=np.float32).reshape(4, 6)
        param = big[::2, 1::2]
        grad = np.ones((2, 3))
        before = big.copy()
        assert cls(0.1).update([param], [grad]) is None
        assert (param != before[::2, 1::2]).all()
        assert (big[1::2] == before[1::2]).all()
        assert (big[:, ::2] == before[:, ::2]).all()
        assert (grad == 1).all()

    @EACH
    def test_instances_do_not_share_a_past(self, cls):
        params, grads = problem(steps=3)
        others = [p.copy() for p in params]
        first, second = cls(0.1), cls(0.1)
        for g in grads:
            first.update(params, g)
        for g in grads:
            second.update(others, g)
        np.testing.assert_equal(params, others)

    @pytest.mark.parametrize("optimizer", EXAMPLES, ids=repr)
    @pytest.mark.parametrize("twin", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
    def test_copies_keep_the_past(self, optimizer, twin):
        optimizer = fresh(optimizer)
        params, grads = problem(steps=4)
        for g in grads[:2]:
            optimizer.update(params, g)
        other, others = twin(optimizer), [p.copy() for p in params]
        for g in grads[2:]:
            optimizer.update(params, g)
        for g in grads[2:]:
            other.update(others, g)
        np.testing.assert_equal(params, others)

    @pytest.mark.parametrize("optimizer", EXAMPLES, ids=repr)
    def test_is_apply_after_clipping(self, optimizer):
        optimizer = fresh(optimizer)
        params, grads = problem(steps=3)
        others = [p.copy() for p in params]
        slots = [[np.zeros_like(p) for _ in range(optimizer.slots)] for p in params]
        for step, g in enumerate(grads, start=1):
            optimizer.update(params, g)
            clipped = optimizer.clipped(g)
            for param, grad, memory in zip(others, clipped, slots, strict=True):
                optimizer.apply(param, grad, memory, step, optimizer.learning_rate)
        np.testing.assert_equal(params, others)
        assert all(np.any(slot) for memory in slots for slot in memory)

    @pytest.mark.parametrize("optimizer", EXAMPLES, ids=repr)
    def test_apply_takes_the_rate_of_the_step(self, optimizer):
        other = dataclasses.replace(optimizer, learning_rate=0.037)
        results = []
        for config in (optimizer, other):
            param, slots = np.array([1.0, -2.0]), [np.zeros(2) for _ in range(optimizer.slots)]
            config.apply(param, np.array([0.3, 0.4]), slots, 1, 0.037)
            results.append(param)
        np.testing.assert_array_equal(*results)

    def test_no_arrays(self):
        SGD().update([], [])

    @pytest.mark.parametrize(
        ("error", "match", "change"),
        [
            (ValueError, "grads must have one array for each of the 4", lambda p, g: (p, g[:3])),
            (ValueError, r"grads\[1\] must have the shape", lambda p, g: (p, [g[0], *g[:3]])),
            (TypeError, r"params\[0\] must be", lambda p, g: ([p[0].tolist(), *p[1:]], g)),
            (TypeError, r"params\[0\] must be", lambda p, g: ([p[0].astype(int), *p[1:]], g)),
            (ValueError, r"params\[3\].*read-only", lambda p, g: ([*p[:3], frozen(p[3])], g)),
            (ValueError, "params must be the 4 arrays", lambda p, g: (p[:2], g[:2])),
            (ValueError, r"params\[0\] must have the shape and", lambda p, g: (p[::-1], g[::-1])),
            (
                ValueError,
                r"params\[2\] must have the shape and dtype of the calls before",
                lambda p, g: ([*p[:2], p[2].astype(np.float32), p[3]], g),
            ),
        ],
    )
    def test_refuses_and_changes_nothing(self, error, match, change):
        params, grads = problem(steps=2)
        optimizer = Adam(0.1)
        optimizer.update(params, grads[0])
        twin, others = copy.deepcopy(optimizer), [p.copy() for p in params]
        with pytest.raises(error, match=match):
            optimizer.update(*change(params, grads[1]))
        np.testing.assert_equal(params, others)
        optimizer.update(params, grads[1])
        twin.update(others, grads[1])
        np.testing.assert_equal(params, others)


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


class TestClipping:
    def test_scales_all_gradients_together(self):
        grads = [np.array([3.0]), np.array([[4.0]])]
        clipped = SGD(clip_norm=2.5).clipped(grads)
        scale = 2.5 / (5 + 1e-6)
        assert [c.item() for c in clipped] == pytest.approx([3 * scale, 4 * scale], rel=1e-14)
        assert [g.item() for g in grads] == [3, 4]

    @pytest.mark.parametrize("clip_norm", [None, 5.1])
    def test_leaves_small_gradients(self, clip_norm):
        grads = [np.array([3.0]), np.array([4.0])]
        assert [g.item() for g in SGD(clip_norm=clip_norm).clipped(grads)] == [3, 4]

    def test_value_comes_before_norm(self):
        grads = [np.array([3.0, -0.5]), np.array([[-4.0]])]
        cut = SGD(clip_value=1.0).clipped(grads)
        assert [c.tolist() for c in cut] == [[1.0, -0.5], [[-1.0]]]
        both = SGD(clip_value=1.0, clip_norm=0.75).clipped(grads)
        scale = 0.75 / (1.5 + 1e-6)
        assert both[0].tolist() == pytest.approx([scale, -0.5 * scale], rel=1e-14)
        assert [g.tolist() for g in grads] == [[3.0, -0.5], [[-4.0]]]

    def test_squares_do_not_overflow(self):
        clipped = SGD(clip_norm=1.0).clipped([np.array([3e30, 4e30], dtype=np.float32)])
        np.testing.assert_allclose(clipped[0], [0.6, 0.8], rtol=1e-6)
        assert clipped[0].dtype == np.float32


@pytest.mark.parametrize("optimizer", EXAMPLES, ids=repr)
class TestDescription:
    def test_repr_round_trip(self, optimizer):
        assert eval(repr(optimizer)) == optimizer

    def test_config_round_trip(self, optimizer):
        config = json.loads(json.dumps(optimizer.get_config()))
        assert optimizers.from_config(config) == optimizer
        assert config["name"] == optimizer.name

    def test_equality_ignores_the_past(self, optimizer):
        other = fresh(optimizer)
        other.update(*[[np.ones(3)]] * 2)
        assert other == optimizer
        assert hash(other) == hash(optimizer)
        assert dataclasses.replace(optimizer, learning_rate=0.77) != optimizer


def test_repr_shows_what_differs_from_the_default():
    assert repr(Adam()) == "Adam(learning_rate=0.001)"
    assert repr(SGD(1, 0.9, weight_decay=0.1)) == (
        "SGD(learning_rate=1.0, momentum=0.9, weight_decay=0.1)"
    )


def test_classes_differ():
    assert Adam(0.1, weight_decay=0.1) != AdamW(0.1, weight_decay=0.1)
    assert len({cls(0.1) for cls in OPTIMIZERS.values()}) == len(OPTIMIZERS)


def test_defaults():
    assert SGD().get_config() == {
        "name": "sgd",
        "learning_rate": 0.001,
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
        "clip_norm": None,
        "clip_value": None,
    }
    rates = {name: cls().learning_rate for name, cls in OPTIMIZERS.items()}
    assert rates == {
        "sgd": 1e-3,
        "adagrad": 1e-2,
        "rmsprop": 1e-2,
        "adam": 1e-3,
        "adamw": 1e-3,
        "adadelta": 1.0,
        "nadam": 2e-3,
        "lion": 1e-4,
    }
    assert [name for name, cls in OPTIMIZERS.items() if cls().weight_decay] == ["adamw"]


def test_what_the_native_core_is_told():
    assert [cls.code for cls in OPTIMIZERS.values()] == list(range(len(OPTIMIZERS)))
    names = "sgd adagrad rmsprop adam adamw adadelta nadam lion"
    assert list(OPTIMIZERS)[:8] == names.split()
    told = [
        (SGD(), 0, (0, 0, 0, 0, 0)),
        (SGD(0.1, 0.9, True, weight_decay=0.2), 1, (0.9, 0, 0, 0.2, 1)),
        (AdaGrad(epsilon=1e-3, weight_decay=0.2), 1, (0, 0, 1e-3, 0.2, 0)),
        (RMSProp(weight_decay=0.2), 1, (0.99, 0, 1e-8, 0.2, 0)),
        (RMSProp(momentum=0.5), 2, (0.99, 0.5, 1e-8, 0, 0)),
        (Adam(), 2, (0.9, 0.999, 1e-8, 0, 0)),
        (AdamW(), 2, (0.9, 0.999, 1e-8, 0.01, 0)),
        (Adam(amsgrad=True), 3, (0.9, 0.999, 1e-8, 0, 0)),
        (AdaDelta(weight_decay=0.2), 2, (0.9, 0, 1e-6, 0.2, 0)),
        (NAdam(), 2, (0.9, 0.999, 1e-8, 0, 0.004)),
        (Lion(weight_decay=0.2), 1, (0.9, 0.99, 0, 0.2, 0)),
    ]
    for optimizer, slots, coefficients in told:
        assert optimizer.slots == slots
        assert optimizer.coefficients() == coefficients


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Adam().learning_rate = 0.1


def test_resolve():
    for name, cls in OPTIMIZERS.items():
        assert optimizers.resolve(name) == cls()
    mine = Adam(0.3)
    assert optimizers.resolve(mine) is mine
    with pytest.raises(ValueError, match=r"optimizer must be .*'adem'.*'adam'"):
        optimizers.resolve("adem")
    for wrong in (None, 0.1, Adam, ["adam"]):
        with pytest.raises(TypeError, match="optimizer must be a name or an optimizer"):
            optimizers.resolve(wrong)


@EACH
@pytest.mark.parametrize(
    ("error", "argument", "value"),
    [
        (ValueError, "learning_rate", 0),
        (ValueError, "learning_rate", -0.1),
        (ValueError, "learning_rate", float("nan")),
        (ValueError, "learning_rate", float("inf")),
        (TypeError, "learning_rate", "0.1"),
        (TypeError, "learning_rate", True),
        (TypeError, "learning_rate", 1j),
        (TypeError, "learning_rate", None),
        (ValueError, "weight_decay", -1e-3),
        (ValueError, "clip_norm", 0),
        (ValueError, "clip_norm", -1),
        (TypeError, "clip_norm", "1"),
        (ValueError, "clip_value", 0),
        (TypeError, "clip_value", True),
    ],
)
def test_refuses(cls, error, argument, value):
    with pytest.raises(error, match=f"{argument} must be"):
        cls(**{argument: value})


@pytest.mark.parametrize(
    ("cls", "argument", "value"),
    [
        (SGD, "momentum", 1),
        (SGD, "momentum", -0.1),
        (AdaGrad, "epsilon", 0),
        (RMSProp, "rho", 1.0),
        (RMSProp, "epsilon", 0),
        (RMSProp, "momentum", 1.5),
        (Adam, "beta_1", 1.0),
        (Adam, "beta_2", -0.5),
        (Adam, "epsilon", 0),
        (AdamW, "beta_1", float("nan")),
        (AdamW, "epsilon", -1e-8),
        (AdaDelta, "rho", 1.0),
        (AdaDelta, "epsilon", 0),
        (NAdam, "beta_1", 1.0),
        (NAdam, "momentum_decay", -1),
        (Lion, "beta_1", 1.0),
        (Lion, "beta_2", -0.1),
    ],
)
def test_refuses_out_of_range(cls, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be"):
        cls(**{argument: value})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov needs momentum > 0"):
        SGD(nesterov=True)
    with pytest.raises(TypeError, match="nesterov must be True or False"):
        SGD(momentum=0.9, nesterov="yes")


@pytest.mark.parametrize(
    ("match", "config"),
    [
        ("optimizer must be described by a mapping; got str", "adam"),
        ("name of optimizer must be .*'adm'.*'adam'", {"name": "adm"}),
        ("field of optimizer 'adam' must be .*'rate'", {"name": "adam", "rate": 0.1}),
        ("field of optimizer 'adam' must be", {"name": "adam", "_memory": None}),
        ("learning_rate must be", {"name": "adam", "learning_rate": "fast"}),
        ("learning_rate must be", {"name": "adam", "learning_rate": -1}),
    ],
)
def test_damaged_config(match, config):
    with pytest.raises(ValueError, match=match):
        optimizers.from_config(config)

"""Schedules: their formulas, PyTorch's, and how a network goes along them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from conftest import import_torch

import fastnn
from fastnn import SGD, Adam, Network, plotting, schedules
from fastnn.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    CosineRestarts,
    ExponentialDecay,
    InverseScaling,
    OneCycle,
    StepDecay,
    WarmUp,
)

EXAMPLES = [
    Constant(0.1),
    StepDecay(0.1, 3, 0.5),
    ExponentialDecay(0.1, 0.9),
    InverseScaling(0.1),
    Cosine(0.1, 10, 0.001),
    CosineRestarts(0.1, 3, 0.001, growth=2),
    OneCycle(0.1, 20),
    WarmUp(Cosine(0.1, 10, per="step"), 5),
    WarmUp(0.1, 5, per="step"),
    WarmUp(Cosine(0.1, 10), 5, per="step"),
]


def test_every_schedule_has_an_example():
    assert {type(example) for example in EXAMPLES} == set(SCHEDULES.values())


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (Constant(0.1), lambda t: 0.1),
        (StepDecay(0.1, 3, 0.5), lambda t: 0.1 * 0.5 ** (t // 3)),
        (ExponentialDecay(0.1, 0.9), lambda t: 0.1 * 0.9**t),
        (InverseScaling(0.1, 0.7), lambda t: 0.1 / (t + 1) ** 0.7),
        (Cosine(0.1, 5, 0.02), lambda t: 0.06 + 0.04 * math.cos(math.pi * min(t, 5) / 5)),
        (CosineRestarts(0.1, 5), lambda t: 0.05 + 0.05 * math.cos(math.pi * (t % 5) / 5)),
        (WarmUp(0.1, 4, 0.2), lambda t: 0.1 * min(0.2 + 0.8 * t / 4, 1)),
        (
            WarmUp(StepDecay(0.1, 3), 2, 0.0),
            lambda t: 0.05 * t if t < 2 else 0.1 ** (1 + (t - 2) // 3),
        ),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_formula(schedule, formula):
    t = np.arange(12)
    np.testing.assert_allclose(schedule(t), [formula(int(i)) for i in t], rtol=1e-12, atol=1e-17)
    assert schedule(7).shape == ()


def torch_rates(make, n):
    torch = import_torch()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = make(torch.optim.lr_scheduler, optimizer)
        rates = []
        for _ in range(n):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make", "n"),
    [
        (StepDecay(0.1, 4, 0.3), lambda s, o: s.StepLR(o, 4, 0.3), 30),
        (ExponentialDecay(0.1, 0.9), lambda s, o: s.ExponentialLR(o, 0.9), 30),
        (Cosine(0.1, 20, 0.01), lambda s, o: s.CosineAnnealingLR(o, 20, 0.01), 21),
        (CosineRestarts(0.1, 4), lambda s, o: s.CosineAnnealingWarmRestarts(o, 4), 30),
        (CosineRestarts(0.1, 3, growth=2), lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2), 60),
        (OneCycle(0.1, 30), lambda s, o: s.OneCycleLR(o, 0.1, 30), 30),
        (
            OneCycle(0.1, 30, 0.5, 10, 100),
            lambda s, o: s.OneCycleLR(o, 0.1, 30, None, None, 0.5, "cos", False, 0.8, 0.9, 10, 100),
            30,
        ),
        (
            WarmUp(Cosine(0.1, 15), 5, 0.2),
            lambda s, o: s.SequentialLR(
                o, [s.LinearLR(o, 0.2, total_iters=5), s.CosineAnnealingLR(o, 15)], [5]
            ),
            20,
        ),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)  # fmt: skip
def test_the_same_as_in_pytorch(schedule, make, n):
    # PyTorch gets some of them from the rate before, so errors add up.
    np.testing.assert_allclose(schedule(np.arange(n)), torch_rates(make, n), rtol=1e-9, atol=1e-12)


def test_one_cycle_stays_at_its_end_and_takes_any_duration():
    assert OneCycle(0.1, 20)(100) == pytest.approx(0.1 / 25e4)
    for duration in (2, 3, 5):
        rates = OneCycle(0.1, duration)(range(duration + 2))
        assert np.isfinite(rates).all()
        assert rates.max() <= 0.1


@pytest.mark.parametrize("schedule", EXAMPLES, ids=str)
def test_repr_config_and_file(schedule, tmp_path):
    assert eval(repr(schedule), vars(schedules)) == schedule
    assert schedules.from_config(schedule.get_config()) == schedule
    optimizer = Adam(schedule)
    assert fastnn.optimizers.from_config(optimizer.get_config()) == optimizer
    net = Network([2, 1], optimizer=optimizer, backend="numpy")
    net.save(tmp_path / "net")
    assert Network.load(tmp_path / "net", backend="numpy").optimizer == optimizer


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant(0), ValueError, "initial must be a finite number > 0; got 0"),
        (lambda: Constant("0.1"), TypeError, "initial must be a finite number > 0; got '0.1'"),
        (lambda: Constant(0.1, per="batch"), ValueError, "per must be one of epoch, step"),
        (lambda: StepDecay(0.1, 0), ValueError, "every must be an integer >= 1; got 0"),
        (lambda: StepDecay(0.1, 2.5), TypeError, "every must be an integer"),
        (lambda: ExponentialDecay(0.1, -1), ValueError, "factor must be"),
        (lambda: InverseScaling(0.1, math.nan), ValueError, "power must be"),
        (lambda: Cosine(0.1, 10, -0.1), ValueError, "final must be"),
        (lambda: CosineRestarts(0.1, 10, growth=0), ValueError, "growth must be"),
        (lambda: OneCycle(0.1, 1), ValueError, "duration must be an integer >= 2"),
        (lambda: OneCycle(0.1, 9, 1.0), ValueError, "rise must be"),
        (lambda: WarmUp(0.1, 5, 1.0), ValueError, "start must be"),
        (lambda: WarmUp("cosine", 5), TypeError, "after must be"),
        (lambda: WarmUp(0.1, 5, per="batch"), ValueError, "per must be one of epoch, step"),
        (lambda: Adam(lambda t: 0.1), TypeError, "learning_rate must be .*schedules; got"),
        (lambda: Adam("cosine"), TypeError, "learning_rate must be .*schedules; got 'cosine'"),
        (lambda: schedules.from_config({"name": "cosin"}), ValueError, "Did you mean 'cosine'"),
        (lambda: schedules.from_config({"name": "cosine"}), ValueError, "must have the field"),
    ],
)
def test_bad_parameters(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_unit_of_a_warm_up_is_that_of_what_follows():
    assert WarmUp(Cosine(0.1, 10, per="step"), 5).per == "step"
    assert WarmUp(Cosine(0.1, 10), 5).per == WarmUp(0.1, 5).per == "epoch"
    assert WarmUp(0.1, 5, per="step")(range(6))[-1] == 0.1


def test_a_warm_up_by_steps_in_front_of_epochs_and_the_other_way_round():
    after = StepDecay(0.1, 2)
    by_steps = WarmUp(after, 4, 0.2, per="step")
    for epoch, step in ((0, 0), (0, 3), (1, 3), (2, 9)):
        expected = [after(epoch) * min(0.2 + 0.8 * t / 4, 1) for t in range(step, step + 3)]
        np.testing.assert_allclose(by_steps.rates(epoch, step, 3), expected, rtol=1e-15)
    by_epochs = WarmUp(ExponentialDecay(0.1, 0.9, per="step"), 2, 0, per="epoch")
    for epoch, part in ((0, 0), (1, 0.5), (2, 1), (3, 1)):
        expected = 0.1 * 0.9 ** np.arange(5, 8) * part
        np.testing.assert_allclose(by_epochs.rates(epoch, 5, 3), expected, rtol=1e-15)
    with pytest.raises(ValueError, match="t must be the number of epochs and of steps for WarmUp"):
        by_steps(3)


# -- in a network


def rows(n=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), rng.normal(size=n)


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_network_goes_along_the_schedule(backend, per):
    X, y = rows()
    schedule = ExponentialDecay(0.1, 0.8, per=per)
    one = Network([3, 4, 1], optimizer=SGD(schedule), backend=backend, dtype="float64", seed=0)
    other = Network([3, 4, 1], optimizer=SGD(0.1), backend=backend, dtype="float64", seed=0)
    for epochs in (2, 1):  # a further call goes on along it
        one.fit(X, y, epochs=epochs, batch_size=6, shuffle=False)
    for epoch in range(3):
        for batch in range(4):
            other.learning_rate = float(schedule(epoch if per == "epoch" else 4 * epoch + batch))
            part = slice(6 * batch, 6 * batch + 6)
            other.train_step(X[part], y[part])
    assert one.epochs == 3
    np.testing.assert_equal(one.weights, other.weights)


class Own(Constant):
    def rates(self, epoch, step, n):
        return OWN[self.per](n)


OWN = {"epoch": lambda n: [0.1] * n, "step": lambda n: np.full(2 * n, 0.1, np.float32)[::2]}


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_schedule_may_give_rates_in_any_array(backend, per):
    X, y = rows()
    one, other, third = (
        Network([3, 1], optimizer=SGD(rate), backend=backend, seed=0)
        for rate in (Own(0.1, per=per), Own(0.1, per=per), float(OWN[per](1)[0]))
    )
    one.fit(X, y, batch_size=6)
    fastnn.train_many([other], X, y, batch_size=6)
    third.fit(X, y, batch_size=6)
    np.testing.assert_equal(one.weights, third.weights)
    np.testing.assert_equal(other.weights, third.weights)


@pytest.mark.parametrize(("given", "error"), [(np.ones(0), ValueError), ("x", TypeError)])
def test_a_schedule_that_gives_no_rates_is_named(backend, monkeypatch, given, error):
    monkeypatch.setitem(OWN, "epoch", lambda n: given)
    X, y = rows()
    nets = [Network([3, 1], optimizer=SGD(Own(0.1)), backend=backend) for _ in range(2)]
    for train in (nets[0].fit, lambda X, y: fastnn.train_many(nets[1:], X, y)):
        with pytest.raises(error, match=r"what the schedule Own\(initial=0\.1\) gives must "):
            train(X, y)


def test_a_file_keeps_the_place(backend, tmp_path):
    X, y = rows()
    nets = [
        Network([3, 1], optimizer=Adam(Cosine(0.1, 6)), backend=backend, seed=0) for _ in range(2)
    ]
    nets[0].fit(X, y, epochs=4)
    nets[1].fit(X, y, epochs=2)
    nets[1].save(tmp_path / "net", include_optimizer=True)
    loaded = Network.load(tmp_path / "net", backend=backend)
    loaded.fit(X, y, epochs=2)
    np.testing.assert_array_equal(loaded.weights[0][0], nets[0].weights[0][0])


def test_train_step_goes_along_the_schedule(backend):
    X, y = rows()
    net = Network([3, 1], optimizer=SGD(StepDecay(0.1, 1, per="step")), backend=backend,
                  dtype="float64", seed=0)  # fmt: skip
    for rate in (0.1, 0.01, 0.001):
        before = net.weights[0][0]
        gradient = net.gradients(X, y)[1][0][0]
        net.train_step(X, y)
        np.testing.assert_allclose(net.weights[0][0], before - rate * gradient, rtol=1e-12)


def test_an_optimizer_alone_goes_along_the_schedule():
    w = np.zeros(1)
    optimizer = SGD(StepDecay(0.1, 1, per="step"))
    for expected in (-0.1, -0.11, -0.111):
        optimizer.update([w], [[1.0]])
        assert w[0] == pytest.approx(expected)
    with pytest.raises(ValueError, match="update knows of no epochs: give step_decay per='step'"):
        SGD(StepDecay(0.1, 1)).update([w], [[1.0]])


def test_learning_rate_can_be_set():
    net = Network([3, 1], optimizer=Adam(0.1, beta_1=0.5), backend="numpy")
    net.learning_rate = 0.2
    assert net.optimizer == Adam(0.2, beta_1=0.5)
    net.learning_rate = Cosine(0.1, 3)
    assert net.learning_rate == Cosine(0.1, 3)
    with pytest.raises(ValueError, match="learning_rate must be"):
        net.learning_rate = -1
    assert net.learning_rate == Cosine(0.1, 3)


# -- the range test


def test_find_learning_rate(backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 10))
    y = X @ rng.normal(size=10)
    net = Network([10, 1], optimizer=SGD(0.1), backend=backend, seed=0)
    before = net.weights[0][0]
    found = fastnn.find_learning_rate(net, X, y)
    np.testing.assert_array_equal(net.weights[0][0], before)
    assert net.epochs == 0
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 200
    # mse's curvature along a weight is 2 var(x) = 2: full steps at 0.5, divergence from 1 on, or
    # somewhat sooner, since in batches of 32 the largest eigenvalue is about (1 + sqrt(10/32))^2.
    assert 0.003 < found.suggestion < 0.5
    assert found.rates[-1] < 10
    again = fastnn.find_learning_rate(net, X, y)
    np.testing.assert_array_equal(found.losses, again.losses)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("loss", ["poisson", "gamma", "shifted"])
def test_find_learning_rate_for_a_loss_that_may_be_negative(loss, seed, optimizer):
    def shifted(y, out):
        return ((out - y) ** 2).mean(axis=1) - 1, 2 * (out - y) / out.shape[1]

    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4))
    y = {
        "poisson": rng.poisson(np.exp(3 + 0.3 * X[:, 0])),
        "gamma": np.exp(0.3 * X[:, 0] - 2) * rng.gamma(2, size=1000),
        "shifted": X[:, 0] + X[:, 1],
    }[loss]
    net = Network([4, 32, 1], loss=shifted if loss == "shifted" else loss, optimizer=optimizer,
                  backend="numpy", seed=seed)  # fmt: skip
    found = fastnn.find_learning_rate(net, X, y)
    assert found.losses.min() < 0
    assert len(found.rates) > 100
    assert 1e-4 < found.suggestion < 0.1


def test_find_learning_rate_needs_a_finite_loss():
    net = Network([2, 1], optimizer=SGD(), dtype="float32", backend="numpy", seed=0)
    options = {"lowest": 1e30, "highest": 1e35}
    with pytest.raises(ValueError, match=r"must be finite before and after .*1e\+30; got .* after"):
        fastnn.find_learning_rate(net, np.eye(2), [0, 1], **options)


def test_find_learning_rate_needs_a_rate_at_which_the_loss_does_not_run_away(backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 10))
    net = Network([10, 1], optimizer=SGD(), backend=backend, seed=0)
    with pytest.raises(ValueError, match=r"lowest must be .* got 2\.0, from which on it rose"):
        fastnn.find_learning_rate(net, X, X @ rng.normal(size=10), lowest=2)


def test_find_learning_rate_of_few_rows():
    net = Network([2, 1], backend="numpy", seed=0)
    found = fastnn.find_learning_rate(net, np.eye(2), [0, 1], steps=10, highest=1e-3)
    assert len(found.rates) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0}, "lowest must be"),
        ({"lowest": 1, "highest": 0.1}, "highest must be greater than lowest"),
        ({"steps": 5}, r"steps must be an integer in \[10, 1000000\]"),
        ({"steps": 2**63}, "steps must be an integer"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_find_learning_rate_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        fastnn.find_learning_rate(Network([2, 1], backend="numpy"), np.eye(2), [0, 1], **options)


def test_picture_of_learning_rates():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot

    net = Network([2, 1], backend="numpy", seed=0)
    found = fastnn.find_learning_rate(net, np.eye(2), [0, 1], steps=20)
    ax = plotting.learning_rates(found)
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), found.smoothed)
    assert ax.get_xscale() == "log"
    pyplot.close("all")

"""What goes through the layers: by hand, and in deep networks."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Dropout, GaussianNoise, Network
from fastnn.losses import Quantile


def deep(activation, backend="numpy", **options):
    return Network(
        [16, *[32] * 10, 1],
        activation=activation,
        loss="binary_cross_entropy",
        backend=backend,
        seed=0,
        **options,
    )


def rows(n=200):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 16)), rng.integers(2, size=n)


def test_by_hand(backend):
    """Two rows through two linear layers."""
    net = Network(
        [2, Dense(2, "identity"), Dense(1)], loss="mse", dtype="float64", backend=backend, seed=0
    )
    W0, W1 = np.array([[1.0, 2.0], [0.0, -1.0]]), np.array([[3.0], [1.0]])
    net.set_weights([(W0, [0, 1]), (W1, [0])])
    X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[8.0], [0.0]])
    # h = [[1, 3], [0, 0]], out = [[6], [0]]: only the first row is wrong, by -2
    first, last = net.diagnose(X, y)
    assert (first.layer, first.units, first.activation) == (0, 2, "identity")
    assert (first.mean, first.spread) == (1, pytest.approx(np.std([1, 3, 0, 0])))
    assert (last.mean, last.spread) == (3, 3)
    assert (first.dead, first.saturated) == (last.dead, last.saturated) == (None, None)
    assert last.weight_norm == pytest.approx(10**0.5)
    assert last.gradient_norm == pytest.approx(np.linalg.norm(-2 * np.array([1, 3])))
    assert first.gradient_norm == pytest.approx(np.linalg.norm(-2 * np.array([[3, 1], [0, 0]])))
    assert net.diagnose(X, y).loss == 2


def test_dead_units(backend):
    net = Network([3, Dense(4, "relu"), 2], backend=backend, seed=0)
    (_, _b), last = net.weights
    W = np.zeros((3, 4))
    W[0] = [1, -1, 1, 0]
    net.set_weights([(W, [0, 0, -5, 0]), last])
    X = np.array([[2.0, 0, 0], [-2.0, 0, 0]])
    # of the four, the third and the last put out 0 for both rows
    assert net.diagnose(X, np.zeros((2, 2)))[0].dead == 0.5


@pytest.mark.parametrize(("activation", "limit"), [("sigmoid", 3.663), ("tanh", 1.832)])
def test_saturated_units(activation, limit, backend):
    """Where the slope is less than a tenth of its largest, log(39) = 3.66 from the middle."""
    net = Network([1, Dense(1, activation), 1], backend=backend, seed=0)
    net.set_weights([([[1.0]], [0.0]), net.weights[1]])
    X = np.array([[0.0], [limit - 0.01], [limit + 0.01], [-limit - 0.01], [50.0]])
    assert net.diagnose(X, np.zeros((5, 1)))[0].saturated == 0.6


def test_gradients_are_those_of_the_network(backend, dtype):
    net = deep("tanh", backend, dtype=dtype)
    X, y = rows()
    weight = np.arange(200.0)
    _, gradients = net.gradients(X, y, weight)
    figures = net.diagnose(X, y, weight)
    for layer, (dW, _) in zip(figures, gradients, strict=True):
        expected = np.linalg.norm(dW.astype(np.float64))
        assert layer.gradient_norm == pytest.approx(expected, rel=1e4 * float(np.finfo(dtype).eps))
    assert figures.loss == pytest.approx(net.evaluate(X, y, weight)["loss"], rel=1e-5)


def test_without_dropout_noise_and_penalties(backend):
    layers = [16, GaussianNoise(0.5), Dense(8, "tanh", l2=0.5, l1=0.1), Dropout(0.5), 1]
    net = Network(layers, backend=backend, seed=0)
    plain = Network([16, Dense(8, "tanh"), 1], backend=backend, seed=0)
    plain.set_weights(net.weights)
    X, y = rows()
    assert net.diagnose(X, y) == plain.diagnose(X, y)


def test_any_loss(backend):
    X, y = rows()

    def squares(y, out):
        return ((out - y) ** 2)[:, 0], 2 * (out - y)

    function, table = (
        Network([16, 4, 1], loss=loss, backend=backend, seed=0) for loss in (squares, "mse")
    )
    assert function.diagnose(X, y) == table.diagnose(X, y)
    several = Network([16, 4, 3], loss=Quantile([0.1, 0.5, 0.9]), backend=backend, seed=0)
    assert len(several.diagnose(X, y)) == 2
    labels = Network([16, 4, 2], loss="cross_entropy", backend=backend, seed=0)
    assert labels.diagnose(X, y).loss == pytest.approx(labels.evaluate(X, y)["loss"], rel=1e-5)


class TestVanishingGradients:
    """The lesson: a sigmoid's slope is 1/4 at most, so a layer takes most of a gradient away."""

    def test_of_sigmoids(self):
        figures = deep("sigmoid").diagnose(*rows())
        norms = [layer.gradient_norm for layer in figures]
        assert norms[0] < 0.5**10 * norms[-1]
        assert all(before < after for before, after in itertools.pairwise(norms))

    def test_the_cure(self):
        """Relu, its weights drawn by He's rule, keeps the gradients within a factor of ten."""
        figures = deep("relu").diagnose(*rows())
        norms = [layer.gradient_norm for layer in figures]
        assert max(norms) < 10 * min(norms)

    def test_the_cure_is_the_rule_as_well(self):
        small = Network(
            [16, *[Dense(32, "relu", weight_init="normal")] * 10, 1], backend="numpy", seed=0
        )
        figures = small.diagnose(*rows())
        assert figures[-2].spread < 1e-6 * figures[0].spread

    def test_deep_sigmoids_do_not_learn(self, backend):
        """What the figures tell before the first step."""
        X, _ = rows()
        y = (X[:, 0] * X[:, 1] > 0).astype(int)
        last = {}
        for activation in ("sigmoid", "relu"):
            net = deep(activation, backend, optimizer=fastnn.SGD(0.05, 0.9))
            last[activation] = net.fit(X, y, epochs=60, batch_size=20)["loss"][-1]
        assert last["sigmoid"] > 0.65
        assert last["relu"] < 0.3


def test_text_and_frame():
    figures = deep("sigmoid").diagnose(*rows())
    assert len(str(figures).splitlines()) == len(figures) + 1 == 12
    assert figures[-2:] == tuple(figures)[-2:]
    pytest.importorskip("pandas", reason='the frame is of pandas: pip install "fastnn[pandas]"')
    frame = figures.to_dataframe()
    assert frame.index.tolist() == list(range(11))
    assert frame["gradient_norm"].tolist() == [layer.gradient_norm for layer in figures]
    assert frame["dead"].isna().all()
    assert frame["saturated"].notna().all()


def test_refuses_what_fit_refuses():
    net = deep("relu")
    X, y = rows()
    with pytest.raises(ValueError, match="X must have shape"):
        net.diagnose(X[:, :3], y)
    with pytest.raises(ValueError, match="same number of rows"):
        net.diagnose(X, y[:3])


class TestPicture:
    @pytest.fixture(autouse=True)
    def matplotlib(self):
        if importlib.util.find_spec("matplotlib") is None:
            pytest.skip('matplotlib is missing: pip install "fastnn[plot]"')
        import matplotlib
        from matplotlib import pyplot

        matplotlib.use("Agg")
        yield
        pyplot.close("all")

    def test_one_line_a_network(self, tmp_path):
        figures = {name: deep(name).diagnose(*rows()) for name in ("sigmoid", "relu")}
        ax = fastnn.plotting.gradient_norms(figures)
        assert [line.get_label() for line in ax.get_lines()] == ["sigmoid", "relu"]
        for line, diagnosis in zip(ax.get_lines(), figures.values(), strict=True):
            assert line.get_xdata().tolist() == list(range(1, 12))
            assert line.get_ydata().tolist() == [layer.gradient_norm for layer in diagnosis]
        assert ax.get_yscale() == "log"
        ax.figure.savefig(tmp_path / "norms.png")
        assert fastnn.plotting.gradient_norms(figures, ax=ax) is ax

    def test_nothing_to_draw(self):
        with pytest.raises(ValueError, match="diagnoses must have"):
            fastnn.plotting.gradient_norms({})

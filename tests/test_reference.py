"""The reference backend: against central differences, closed forms and itself."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn import backends
from fastnn._random import dropout_mask, gaussian
from fastnn.activations import ACTIVATIONS
from fastnn.backends import DenseSpec, Spec, reference
from fastnn.losses import LOSSES
from fastnn.optimizers import OPTIMIZERS, SGD, Adam

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EACH_LOSS = pytest.mark.parametrize("loss", LOSSES)
HIDDEN = [name for name, row in ACTIVATIONS.items() if row.derivative is not None]
SEED = 0xFEDCBA9876543210


def spec_of(
    sizes,
    activations,
    loss="mse",
    dtype=np.float64,
    *,
    use_bias=True,
    dropout=(),
    l1=0.0,
    l2=0.0,
    **options,
):
    rates = [*dropout, *[0.0] * len(activations)]
    layers = tuple(
        DenseSpec(n_in, n_out, name, ACTIVATIONS[name].parameter, use_bias, rate, l1, l2, **options)
        for (n_in, n_out), name, rate in zip(
            itertools.pairwise(sizes), activations, rates, strict=False
        )
    )
    assert len(layers) == len(activations) == len(sizes) - 1
    return Spec(layers, loss, LOSSES[loss].parameter, np.dtype(dtype), SEED)


def make(spec, weights=None, seed=0):
    rng = np.random.default_rng(seed)
    backend = backends.create("numpy", spec)
    if weights is None:
        weights = [
            (
                rng.normal(size=(layer.n_in, layer.n_out)) / math.sqrt(layer.n_in),
                rng.normal(size=layer.n_out) / 2 if layer.use_bias else None,
            )
            for layer in spec.layers
        ]
    backend.set_weights(weights)
    return backend


def predict(backend, X):
    X = np.asarray(X, dtype=backend.spec.dtype)
    out = np.full((len(X), backend.spec.layers[-1].n_out), np.nan, dtype=backend.spec.dtype)
    assert backend.predict(X, out) is None
    return out


def arrays(pairs):
    return [a for pair in pairs for a in pair if a is not None]


def assert_same(left, right):
    left, right = arrays(left), arrays(right)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def data(spec, rows, seed=1):
    """Rows, targets that suit the loss, and weights."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, spec.layers[0].n_in))
    n_out = spec.layers[-1].n_out
    t = rng.uniform(0.05, 0.95, (rows, n_out))
    if LOSSES[spec.loss].kind == "regression":
        t = 4 * t - 2
    return tuple(a.astype(spec.dtype) for a in (X, t, rng.uniform(0.2, 2, rows)))


class TestLesson:
    """What a newcomer calculates by hand."""

    INPUTS = ((0, 0), (0, 1), (1, 0), (1, 1))
    GATES = {  # noqa: RUF012
        "and": (0.5, 0.5, -0.7, [0, 0, 0, 1]),
        "or": (0.5, 0.5, -0.2, [0, 1, 1, 1]),
        "nand": (-0.5, -0.5, 0.7, [1, 1, 1, 0]),
    }

    @pytest.mark.parametrize("gate", GATES)
    def test_perceptron(self, gate):
        w1, w2, b, expected = self.GATES[gate]
        net = make(spec_of([2, 1], ["step"]), [([[w1], [w2]], [b])])
        assert predict(net, self.INPUTS).ravel().tolist() == expected

    def test_xor_takes_two_layers(self):
        nand, or_, and_ = (self.GATES[gate] for gate in ("nand", "or", "and"))
        first = (np.transpose([nand[:2], or_[:2]]), [nand[2], or_[2]])
        second = (np.transpose([and_[:2]]), [and_[2]])
        net = make(spec_of([2, 2, 1], ["step", "step"]), [first, second])
        assert predict(net, self.INPUTS).ravel().tolist() == [0, 1, 1, 0]

    @DTYPES
    def test_a_row_times_a_matrix(self, dtype):
        net = make(
            spec_of([2, 3], ["identity"], dtype=dtype), [([[1, 3, 5], [2, 4, 6]], [1, 1, 1])]
        )
        out = predict(net, [[1, 2]])
        assert out.dtype == dtype
        assert out.tolist() == [[6, 12, 18]]

    @pytest.mark.parametrize(
        ("x", "by_layer"),
        [
            ((1, -1), [(0.98, 0.12), (0.86, 0.11), (0.62, 0.83)]),
            ((0, 0), [(0.73, 0.50), (0.72, 0.12), (0.51, 0.85)]),
        ],
    )
    def test_sigmoid_network_by_hand(self, x, by_layer):
        weights = [
            (np.transpose([[1, -2], [-1, 1]]), [1, 0]),
            (np.transpose([[2, -1], [-2, -1]]), [0, 0]),
            (np.transpose([[3, -1], [-1, 4]]), [-2, 2]),
        ]
        for depth, expected in enumerate(by_layer, start=1):
            net = make(spec_of([2] * (depth + 1), ["sigmoid"] * depth), weights[:depth])
            np.testing.assert_allclose(predict(net, [x]), [expected], atol=0.0051)

    def test_softmax_with_cross_entropy(self):
        """From the logits of the lesson: -log y of the right class, and y - t behind the bias."""
        spec = spec_of([1, 3], ["softmax"], "cross_entropy")
        net = make(spec, [(np.zeros((1, 3)), [0.3, 2.9, 1.0])])
        e = np.exp([0.3, 2.9, 1.0])
        y = e / e.sum()
        X, label = np.ones((1, 1)), np.array([2], dtype=np.int32)
        assert net.loss(X, label, None) == (pytest.approx(-math.log(y[2]), rel=1e-14), 0)
        loss, [(dW, db)] = net.gradients(X, label, None, 0)
        assert loss == pytest.approx(-math.log(y[2]), rel=1e-14)
        np.testing.assert_allclose(db, y - [0, 0, 1], rtol=1e-14)
        np.testing.assert_allclose(dW, [y - [0, 0, 1]], rtol=1e-14)

    def test_linear_regression_in_closed_form(self):
        spec = spec_of([2, 1], ["identity"])
        net = make(spec)
        [(W, b)] = net.weights()
        X, t, _ = data(spec, 9)
        error = X @ W + b - t
        loss, [(dW, db)] = net.gradients(X, t, None, 0)
        assert loss == pytest.approx((error**2).mean(), rel=1e-14)
        np.testing.assert_allclose(dW, 2 / 9 * X.T @ error, rtol=1e-13)
        np.testing.assert_allclose(db, [2 * error.mean()], rtol=1e-13)


class TestCentralDifferences:
    """Every activation, hidden and last, with every loss; dropout and sample weights included."""

    ROWS = 5
    STEP = 1e-6

    @EACH_LOSS
    @pytest.mark.parametrize("activation", HIDDEN)
    def test_hidden(self, activation, loss):
        self.check(spec_of([3, 4, 4, 2], [activation] * 2 + [LOSSES[loss].activation], loss))

    @EACH_LOSS
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_last(self, activation, loss):
        self.check(spec_of([3, 4, 2], ["tanh", activation], loss, dropout=[0.2, 0.4]))

    @EACH_LOSS
    def test_one_output_without_bias(self, loss):
        self.check(spec_of([3, 4, 1], ["sigmoid", LOSSES[loss].activation], loss, use_bias=False))

    def test_noise(self):
        self.check(spec_of([3, 4, 4, 2], ["gelu", "tanh", "identity"], noise=0.3, dropout=[0.2]))

    def check(self, spec):
        net, X, t, w = self.away_from_kinks(spec)
        _, grads = net.gradients(X, t, w, 3)
        weights = net.weights()
        largest = 0.0
        for array, grad in zip(arrays(weights), arrays(grads), strict=True):
            numeric = np.empty_like(array)
            for i, value in np.ndenumerate(array):
                sides = []
                for side in (value + self.STEP, value - self.STEP):
                    array[i] = side
                    net.set_weights(weights)
                    sides.append(net.gradients(X, t, w, 3)[0])
                array[i] = value
                numeric[i] = (sides[0] - sides[1]) / (2 * self.STEP)
            # Roundings of the loss by eps, divided by the step, and curvature times step**2
            np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=2e-8)
            largest = max(largest, np.abs(numeric).max())
        last = spec.layers[-1]
        flat = last.activation == "step" or (
            last.n_out == 1 and LOSSES[spec.loss].kind == "categorical"
        )
        assert largest < 1e-8 if flat else largest > 1e-3

    def away_from_kinks(self, spec):
        """A network and a batch for which the loss is smooth within some steps."""
        middle = self.input_for_a_half(spec.layers[-1].activation)
        margin = 100 * self.STEP
        for seed in range(50):
            net = make(spec, seed=seed)
            X, t, w = data(spec, self.ROWS, seed)
            weights = net.weights()
            W, b = weights[-1]
            # Outputs near one half are within (0, 1), which some losses need.
            weights[-1] = (W / 8, None if b is None else b / 8 + middle)
            net.set_weights(weights)
            passes = net._forward(net.weights(), X, 3)
            smooth = all(np.abs(p.z).min() > margin for p in passes)
            o = passes[-1].h
            smooth &= bool(np.abs(o - t).min() > margin)
            smooth &= bool(np.abs(np.abs(o - t) - spec.loss_parameter).min() > margin)
            if LOSSES[spec.loss].name in ("cross_entropy", "binary_cross_entropy"):
                inside = ((o > 0.1) & (o < 0.9)) | (o == 0) | (o == 1)
                smooth &= bool(inside.all()) or spec.layers[-1].n_out == 1
            if smooth:
                return net, X, t, w
        pytest.fail("no seed gives a smooth loss")

    @staticmethod
    def input_for_a_half(activation):
        row = ACTIVATIONS[activation]
        if row.derivative is None:
            return 0.0
        z = np.linspace(-2.05, 1.95, 401)
        return z[np.abs(row.forward(z, row.parameter) - 0.5).argmin()]


class TestPenalties:
    @DTYPES
    @pytest.mark.parametrize("use_bias", [True, False])
    def test_added_to_loss_and_gradient(self, use_bias, dtype):
        options = {"dtype": dtype, "use_bias": use_bias}
        plain = make(spec_of([4, 5, 2], ["tanh", "identity"], **options))
        penalized = make(
            spec_of([4, 5, 2], ["tanh", "identity"], l1=0.03, l2=0.2, **options), plain.weights()
        )
        X, t, w = data(plain.spec, 6)
        tolerance = 10 * float(np.finfo(dtype).eps)
        penalty = sum(0.03 * np.abs(W).sum() + 0.2 * (W**2).sum() for W, _ in plain.weights())
        loss = plain.loss(X, t, w)[0]
        assert penalized.loss(X, t, w)[0] == pytest.approx(loss + penalty, rel=tolerance)
        before, after = plain.gradients(X, t, w, 0), penalized.gradients(X, t, w, 0)
        assert after[0] == pytest.approx(before[0] + penalty, rel=tolerance)
        for (W, _), (dW, db), (penalized_dW, penalized_db) in zip(
            plain.weights(), before[1], after[1], strict=True
        ):
            expected = dW + 0.03 * np.sign(W) + 0.4 * W
            np.testing.assert_allclose(penalized_dW, expected, rtol=tolerance, atol=tolerance)
            assert (penalized_db is None) == (db is None) == (not use_bias)
            if use_bias:
                np.testing.assert_array_equal(penalized_db, db)


@EACH_LOSS
class TestSampleWeights:
    def setup_for(self, loss):
        spec = spec_of([3, 4, 3], ["tanh", LOSSES[loss].activation], loss)
        return make(spec), *data(spec, 6)[:2]

    def test_weight_counts_like_repetition(self, loss):
        net, X, t = self.setup_for(loss)
        times = np.array([1, 0, 3, 2, 0, 1])
        weighted = net.gradients(X, t, times.astype(float), 0)
        repeated = net.gradients(X.repeat(times, axis=0), t.repeat(times, axis=0), None, 0)
        assert weighted[0] == pytest.approx(repeated[0], rel=1e-13)
        for a, b in zip(arrays(weighted[1]), arrays(repeated[1]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)

    def test_scale_does_not_matter(self, loss):
        net, X, t = self.setup_for(loss)
        plain, scaled = net.loss(X, t, None), net.loss(X, t, np.full(6, 7.5))
        assert scaled == (pytest.approx(plain[0], rel=1e-14), plain[1])

    def test_no_weight_at_all(self, loss):
        net, X, t = self.setup_for(loss)
        value, grads = net.gradients(X, t, np.zeros(6), 0)
        assert value == net.loss(X, t, np.zeros(6))[0] == 0
        assert not any(a.any() for a in arrays(grads))


@DTYPES
@pytest.mark.parametrize("loss", [n for n, row in LOSSES.items() if row.kind == "categorical"])
@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_labels_equal_one_hot(last, loss, dtype):
    spec = spec_of([4, 5, 3], ["relu", last], loss, dtype)
    net = make(spec)
    X, _, w = data(spec, 8)
    labels = np.array([0, 1, 2, 2, 1, 0, 0, 2], dtype=np.int32)
    one_hot = np.eye(3, dtype=dtype)[labels]
    assert net.loss(X, labels, w) == net.loss(X, one_hot, w)
    by_label, by_row = net.gradients(X, labels, w, 0), net.gradients(X, one_hot, w, 0)
    assert by_label[0] == by_row[0]
    assert_same(by_label[1], by_row[1])
    hits = int((predict(net, X).argmax(axis=1) == labels).sum())
    assert net.loss(X, labels, w)[1] == hits


class TestPredict:
    @DTYPES
    def test_rows_may_be_strided_or_none(self, dtype):
        net = make(spec_of([4, 6, 3], ["gelu", "softmax"], dtype=dtype))
        wide = np.random.default_rng(2).normal(size=(10, 9)).astype(dtype)
        X = wide[::3, 2:6]
        np.testing.assert_array_equal(predict(net, X), predict(net, X.copy()))
        assert predict(net, X[:0]).shape == (0, 3)
        rows = np.concatenate([predict(net, X[i : i + 1]) for i in range(len(X))])
        np.testing.assert_allclose(predict(net, X), rows, rtol=1e-5)

    def test_has_no_dropout(self):
        sizes, activations = [4, 6, 3], ["tanh", "identity"]
        with_dropout = make(spec_of(sizes, activations, dropout=[0.5, 0.5]))
        without = make(spec_of(sizes, activations), with_dropout.weights())
        X, t, w = data(without.spec, 7)
        np.testing.assert_array_equal(predict(with_dropout, X), predict(without, X))
        assert with_dropout.loss(X, t, w) == without.loss(X, t, w)
        assert with_dropout.gradients(X, t, w, 0)[0] != without.gradients(X, t, w, 0)[0]


class TestDropout:
    def test_masks_are_those_of_the_generator(self):
        """One layer's gradient in closed form, its input being dropped, layer 1's as well."""
        spec = spec_of([6, 5, 2], ["identity", "identity"], dropout=[0.3, 0.6])
        net = make(spec)
        (W0, b0), (W1, b1) = net.weights()
        X, t, _ = data(spec, 4)
        for step in (0, 9, 2**32 + 9):
            masks = [
                dropout_mask(SEED, step, i, shape, rate, spec.dtype)
                for i, (shape, rate) in enumerate([((4, 6), 0.3), ((4, 5), 0.6)])
            ]
            x0 = X * masks[0]
            x1 = (x0 @ W0 + b0) * masks[1]
            error = x1 @ W1 + b1 - t
            d1 = error / 4
            d0 = (d1 @ W1.T) * masks[1]
            loss, grads = net.gradients(X, t, None, step)
            assert loss == pytest.approx((error**2).mean(), rel=1e-13)
            expected = [(x0.T @ d0, d0.sum(axis=0)), (x1.T @ d1, d1.sum(axis=0))]
            for a, b in zip(arrays(grads), arrays(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)

    def test_keeps_the_mean(self):
        """Over many steps, the mean of a linear net's gradient is that without dropout."""
        sizes = [20, 1]
        dropped = make(spec_of(sizes, ["identity"], dropout=[0.5]))
        plain = make(spec_of(sizes, ["identity"]), dropped.weights())
        X = np.ones((50, 20))
        out = predict(plain, X)
        # With these targets, the gradient at b is the mean of the outputs' differences.
        shifts = [dropped.gradients(X, out, None, step)[1][0][1].item() / 2 for step in range(200)]
        [(W, _)] = dropped.weights()
        deviation = math.sqrt((W**2).sum() / (50 * 200))
        assert np.std(shifts) > 0
        assert np.mean(shifts) == pytest.approx(0, abs=5 * deviation)


class TestNoise:
    def test_in_training_only(self):
        noisy = make(spec_of([4, 6, 3], ["tanh", "identity"], noise=0.5))
        without = make(spec_of([4, 6, 3], ["tanh", "identity"]), noisy.weights())
        X, t, w = data(without.spec, 7)
        np.testing.assert_array_equal(predict(noisy, X), predict(without, X))
        assert noisy.loss(X, t, w) == without.loss(X, t, w)
        losses = [net.gradients(X, t, w, step)[0] for net in (noisy, without) for step in (0, 1)]
        assert len(set(losses)) == 3

    def test_is_that_of_the_generator(self):
        spec = spec_of([6, 5, 2], ["tanh", "identity"], noise=0.3)
        net = make(spec)
        (W0, b0), (W1, b1) = net.weights()
        X, t, _ = data(spec, 4)
        first, second = (
            gaussian(SEED, 9, i, shape, 0.3, spec.dtype) for i, shape in enumerate([(4, 6), (4, 5)])
        )
        out = (np.tanh((X + first) @ W0 + b0) + second) @ W1 + b1
        loss, _ = net.gradients(X, t, None, 9)
        assert loss == pytest.approx(((out - t) ** 2).mean(), rel=1e-13)


def test_max_norm_bounds_columns_after_the_step():
    spec = spec_of([3, 4], ["identity"], max_norm=0.7)
    plain, bounded = make(spec_of([3, 4], ["identity"])), make(spec)
    W, b = plain.weights()[0]
    W *= np.array([0.1, 0.1, 3, 3]) / np.linalg.norm(W, axis=0)
    for net in (plain, bounded):
        net.set_weights([(W, b)])
        X, t, _ = data(spec, 5)
        rest = (np.full(1, 0.01), np.zeros(1), np.zeros(1, dtype=np.int64), None)
        net.train(X, t, None, None, 5, SGD(0.01), *rest)
    [(expected, b)], [(got, c)] = plain.weights(), bounded.weights()
    np.testing.assert_array_equal(got[:, :2], expected[:, :2])
    scaled = 0.7 * expected[:, 2:] / np.linalg.norm(expected[:, 2:], axis=0)
    np.testing.assert_allclose(got[:, 2:], scaled, rtol=1e-14)
    np.testing.assert_array_equal(c, b)


class TestTrain:
    N, BATCH = 23, 5

    def setup_for(self, dtype=np.float64, loss="cross_entropy"):
        last = LOSSES[loss].activation
        spec = spec_of([4, 6, 3], ["tanh", last], loss, dtype, dropout=[0.1, 0.3], l1=1e-3, l2=1e-2)
        return make(spec), *data(spec, self.N)

    def train(self, net, X, t, w, optimizer, rates, order=None, tick=None):
        losses, hits = np.full(len(rates), np.nan), np.full(len(rates), -1, dtype=np.int64)
        net.train(X, t, w, order, self.BATCH, optimizer, np.array(rates), losses, hits, tick)
        return losses, hits

    @DTYPES
    @pytest.mark.parametrize(
        "optimizer",
        [*(cls(0.01) for cls in OPTIMIZERS.values()), SGD(0.01, 0.9), SGD(clip_norm=0.1)],
        ids=repr,
    )
    def test_is_gradients_and_updates(self, optimizer, dtype):
        """Each batch, its rows in the given order, the last one short; its own rate each."""
        net, X, t, w = self.setup_for(dtype)
        other = make(net.spec, net.weights())
        order = np.random.default_rng(3).permutation(self.N).astype(np.int32)
        rates = [0.1, 0.02, 0.03, 0.5, 0.01]
        losses, hits = self.train(net, X, t, w, optimizer, rates, order)

        weights = other.weights()
        params = arrays(weights)
        memories = [[np.zeros_like(p) for _ in range(optimizer.slots)] for p in params]
        for i, rate in enumerate(rates):
            rows = order[i * self.BATCH : (i + 1) * self.BATCH]
            assert len(rows) == (3 if i == 4 else 5)
            loss, grads = other.gradients(X[rows], t[rows], w[rows], step=i)
            assert losses[i] == loss
            clipped = optimizer.clipped(arrays(grads))
            for param, grad, memory in zip(params, clipped, memories, strict=True):
                optimizer.apply(param, grad, memory, i + 1, rate)
            other.set_weights(weights)
        assert_same(net.weights(), weights)
        steps, slots = net.state()
        assert steps == 5
        assert len(slots) == optimizer.slots
        for k, slot in enumerate(slots):
            assert_same(slot, [(memory[k], None) for memory in memories])
        assert ((hits >= 0) & (hits <= self.BATCH)).all()

    def test_without_order_rows_stay_in_place(self):
        in_place, X, t, w = self.setup_for()
        ordered = make(in_place.spec, in_place.weights())
        order = np.arange(self.N, dtype=np.int32)
        first = self.train(in_place, X, t, w, Adam(), [0.01] * 5)
        second = self.train(ordered, X, t, w, Adam(), [0.01] * 5, order)
        np.testing.assert_array_equal(first, second)
        assert_same(in_place.weights(), ordered.weights())

    def test_hits(self):
        """Without dropout, and at a rate too small to change anything, they are those of `loss`."""
        spec = spec_of([4, 3], ["softmax"], "cross_entropy")
        net = make(spec)
        X = data(spec, self.N)[0]
        labels = np.arange(self.N, dtype=np.int32) % 3
        losses, hits = self.train(net, X, labels, None, SGD(), [1e-300] * 5)
        for i in range(5):
            rows = slice(i * self.BATCH, (i + 1) * self.BATCH)
            assert (losses[i], hits[i]) == net.loss(X[rows], labels[rows], None)
        assert 0 < hits.sum() < self.N

    @pytest.mark.parametrize("cls", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
    def test_goes_on_where_it_stopped(self, cls):
        """In one go; in two calls; in another backend that was handed weights and state."""
        whole, X, t, w = self.setup_for()
        parts = make(whole.spec, whole.weights())
        self.train(whole, X, t, w, cls(), [0.01] * 3)
        self.train(whole, X, t, w, cls(), [0.01] * 4)
        self.train(parts, X, t, w, cls(), [0.01] * 3)
        heir = make(whole.spec, parts.weights())
        heir.set_state(*parts.state())
        assert heir.state()[0] == 3
        self.train(heir, X, t, w, cls(), [0.01] * 4)
        assert heir.state()[0] == whole.state()[0] == 7
        assert_same(heir.weights(), whole.weights())
        reset = make(whole.spec, parts.weights())
        self.train(reset, X, t, w, cls(), [0.01] * 4)
        assert any(
            (a != b).any()
            for a, b in zip(*map(arrays, (reset.weights(), whole.weights())), strict=True)
        )

    def test_state_of_another_optimizer(self):
        net, X, t, w = self.setup_for()
        self.train(net, X, t, w, Adam(), [0.01])
        before = net.weights()
        with pytest.raises(ValueError, match=r"SGD\(.*needs a state of 0 slots; got 2"):
            self.train(net, X, t, w, SGD(), [0.01])
        assert_same(net.weights(), before)
        net.set_state(1, [])
        self.train(net, X, t, w, SGD(), [0.01])
        assert net.state() == (2, [])

    def test_learns(self):
        spec = spec_of([2, 8, 2], ["tanh", "softmax"], "cross_entropy")
        net = make(spec)
        X = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0, 0.1]], dtype=float)
        xor = np.array([0, 1, 1, 0, 0], dtype=np.int32)
        losses, hits = self.train(
            net, np.tile(X, (200, 1)), np.tile(xor, 200), None, Adam(), [0.05] * 200
        )
        assert losses[-1] < 0.05 < losses[0]
        assert hits[-1] == 5
        assert net.loss(X, xor, None)[1] == 5

    def test_tick_tells_the_number_of_batches_done(self, monkeypatch):
        now = itertools.count(0, 0.03)  # seconds, at each look at the clock
        monkeypatch.setattr(reference, "time", SimpleNamespace(monotonic=lambda: next(now)))
        net, X, t, w = self.setup_for()
        done = []
        self.train(net, X, t, w, SGD(), [0.01] * 5, tick=done.append)
        # A look a batch, 0.03 apart, and one more at each tick: every other batch
        assert done == [2, 4]

    def test_an_exception_from_tick_leaves_the_last_finished_step(self, monkeypatch):
        monkeypatch.setattr(reference, "SECONDS_BETWEEN_TICKS", 0.0)
        net, X, t, w = self.setup_for()
        other = make(net.spec, net.weights())

        def stop(done):
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.train(net, X, t, w, Adam(), [0.01] * 5, tick=stop)
        self.train(other, X, t, w, Adam(), [0.01] * 3)
        assert net.state()[0] == 3
        assert_same(net.weights(), other.weights())

    def test_an_interrupt_amid_a_step_takes_it_back(self):
        class Interrupted(Adam):
            calls = itertools.count(1)

            def apply(self, *args):
                super().apply(*args)
                if next(self.calls) == 6:  # the second of four arrays, second step
                    raise KeyboardInterrupt

        net, X, t, w = self.setup_for()
        other = make(net.spec, net.weights())
        with pytest.raises(KeyboardInterrupt):
            self.train(net, X, t, w, Interrupted(), [0.01] * 5)
        self.train(other, X, t, w, Adam(), [0.01])
        assert_same(net.weights(), other.weights())
        (steps, slots), (other_steps, other_slots) = net.state(), other.state()
        assert steps == other_steps == 1
        for slot, other_slot in zip(slots, other_slots, strict=True):
            assert_same(slot, other_slot)


@EACH_LOSS
@pytest.mark.parametrize("activation", HIDDEN)
def test_float32_follows_float64(activation, loss):
    wide_spec, narrow_spec = (
        spec_of([7, 9, 4], [activation, LOSSES[loss].activation], loss, dtype, dropout=[0.2])
        for dtype in (np.float64, np.float32)
    )
    narrow = make(narrow_spec)
    wide = make(wide_spec, narrow.weights())
    X, t, w = data(narrow_spec, 11)
    wide_loss, wide_grads = wide.gradients(*(a.astype(np.float64) for a in (X, t, w)), 2)
    loss_, grads = narrow.gradients(X, t, w, 2)
    assert loss_ == pytest.approx(wide_loss, rel=1e-5)
    for a, b in zip(arrays(grads), arrays(wide_grads), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    out = predict(narrow, X)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, predict(wide, X), rtol=1e-5, atol=1e-6)


@DTYPES
@EACH_LOSS
def test_divergence_is_silent(loss, dtype):
    """Overflow shows in the numbers, not in warnings."""
    spec = spec_of([3, 4, 2], ["relu", "identity"], loss, dtype)
    top = float(np.finfo(dtype).max) / 2
    net = make(spec, [(np.full((3, 4), top), np.zeros(4)), (np.full((4, 2), top), np.zeros(2))])
    X, t, w = data(spec, 6)
    X = np.abs(X) + 1
    losses, hits = np.zeros(2), np.zeros(2, dtype=np.int64)
    assert np.isinf(predict(net, X)).all()
    net.loss(X, t, w)
    net.gradients(X, t, w, 0)
    net.train(X, t, w, None, 3, SGD(0.1), np.full(2, 0.1), losses, hits, None)
    regression = LOSSES[loss].kind == "regression"
    assert not regression or not np.isfinite(losses).any()


def test_what_goes_in_and_out_is_copied():
    net = make(spec_of([2, 3, 1], ["tanh", "identity"]))
    X, t, w = data(net.spec, 5)
    net.train(
        X, t, w, None, 5, Adam(), np.array([0.1]), np.zeros(1), np.zeros(1, dtype=np.int64), None
    )
    mine, (steps, slots) = net.weights(), net.state()
    before = [a.copy() for pairs in (mine, *slots) for a in arrays(pairs)]
    net.set_weights(mine)
    net.set_state(steps, slots)
    for pairs in (mine, *slots):
        for a in arrays(pairs):
            a += 1
    after = [a for pairs in (net.weights(), *net.state()[1]) for a in arrays(pairs)]
    np.testing.assert_equal(after, before)


@DTYPES
def test_weights_are_c_contiguous_and_of_the_dtype(dtype):
    net = make(spec_of([4, 3], ["relu"], dtype=dtype, use_bias=False))
    net.set_weights([(np.asfortranarray(np.ones((4, 3))), None)])
    [(W, b)] = net.weights()
    assert b is None
    assert W.dtype == dtype
    assert W.flags.c_contiguous


def test_create():
    spec = spec_of([2, 1], ["identity"])
    assert isinstance(backends.create("numpy", spec), reference.ReferenceBackend)
    with pytest.raises(ValueError, match=r"backend must be one of native, numpy; got 'nump'"):
        backends.create("nump", spec)

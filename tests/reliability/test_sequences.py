"""Any sequence of calls of the public API: the native backend agrees with the reference, or both
refuse for the same reason."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from processes import times

import fastnn
from fastnn import Dense, Dropout, Network
from fastnn.losses import LOSSES
from fastnn.optimizers import OPTIMIZERS

FEATURES, OUTPUTS = 5, 3
DTYPES = ["float64", "float32", "float16", "int8", ">f8", "bool"]


@st.composite
def matrices(draw, columns):
    """Rows in any dtype and layout, now and then not as they should be."""
    rows = draw(st.integers(0, 40))
    width = draw(st.sampled_from([columns] * 12 + [0, columns - 1, columns + 1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = rng.uniform(0, 1, size=(2 * rows, 2 * width)).astype(draw(st.sampled_from(DTYPES)))
    layout = draw(st.integers(0, 4))
    array = {
        0: array[:rows, :width],
        1: array[::2, ::2],
        2: np.asfortranarray(array[:rows, :width]),
        3: array[:rows, :width][::-1],
        4: np.ascontiguousarray(array[:rows, :width]),
    }[layout]
    if draw(st.integers(0, 15)) == 0 and array.size and array.dtype.kind == "f":
        array = array.copy()
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([np.nan, np.inf]))
    if draw(st.booleans()):
        array.flags.writeable = False
    return array


class Calls(RuleBasedStateMachine):
    """The same calls on a network of each backend."""

    @initialize(
        loss=st.sampled_from([name for name in LOSSES if name != "quantile"]),
        optimizer=st.sampled_from(sorted(OPTIMIZERS)),
        hidden=st.sampled_from(["tanh", "sigmoid", "softplus", "gelu", "identity"]),
        dropout=st.sampled_from([[], [Dropout(0.25)]]),
        clip=st.sampled_from([None, 0.5]),
        averaging=st.sampled_from([None, fastnn.EMA(0.9)]),
        seed=st.integers(0, 2**40),
    )
    def start(self, loss, optimizer, hidden, dropout, clip, averaging, seed):
        optimizer = dataclasses.replace(OPTIMIZERS[optimizer](), learning_rate=1e-3, clip_norm=clip)
        layers = [FEATURES, Dense(17, hidden, l2=1e-3), *dropout, Dense(9, "tanh"), OUTPUTS]
        options = {"loss": loss, "optimizer": optimizer, "averaging": averaging, "seed": seed}
        self.nets = [
            Network(layers, dtype="float64", backend=backend, **options)
            for backend in ("native", "numpy")
        ]

    def both(self, call):
        """Call it on both; the results, or None where both refused."""
        results, errors = [], []
        for net in self.nets:
            try:
                results.append(call(net))
            except (TypeError, ValueError, FloatingPointError) as error:
                errors.append(f"{type(error).__name__}: {error}")
        assert len(errors) in (0, 2), (errors, results)
        if errors:
            assert errors[0] == errors[1]
            return None
        return results

    def agree(self, one, other):
        # A few hundred roundings in float64, which steps divide by roots as small as 1e-4 of a
        # gradient; sign-like updates (Lion, the first of Adam) of a vanishing gradient may differ.
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)

    @rule(X=matrices(FEATURES))
    def predict(self, X):
        if (outputs := self.both(lambda net: net.predict(X))) is not None:
            assert outputs[0].shape == (len(X), OUTPUTS)
            self.agree(*outputs)

    @rule(X=matrices(FEATURES), y=matrices(OUTPUTS), cut=st.booleans())
    def evaluate(self, X, y, cut):
        rows = min(len(X), len(y)) if cut else len(X)
        if found := self.both(lambda net: net.evaluate(X[:rows], y[:rows])):
            self.agree(found[0]["loss"], found[1]["loss"])

    @rule(X=matrices(FEATURES), y=matrices(OUTPUTS), cut=st.booleans())
    def gradients(self, X, y, cut):
        rows = min(len(X), len(y)) if cut else len(X)
        if found := self.both(lambda net: net.gradients(X[:rows], y[:rows])):
            self.agree(found[0][0], found[1][0])
            for mine, its in zip(found[0][1], found[1][1], strict=True):
                self.agree(mine[0], its[0])
                self.agree(mine[1], its[1])

    @rule(X=matrices(FEATURES), y=matrices(OUTPUTS), weighted=st.booleans())
    def train_step(self, X, y, weighted):
        rows = min(len(X), len(y))
        weight = np.linspace(0, 2, rows) if weighted else None
        if found := self.both(lambda net: net.train_step(X[:rows], y[:rows], weight)):
            self.agree(*found)

    @rule(
        X=matrices(FEATURES),
        y=matrices(OUTPUTS),
        epochs=st.integers(-1, 3),
        batch_size=st.integers(0, 50),
        shuffle=st.booleans(),
        resume=st.booleans(),
    )
    def fit(self, X, y, epochs, batch_size, shuffle, resume):
        rows = min(len(X), len(y))
        call = {"shuffle": shuffle, "resume": resume}
        found = self.both(lambda net: net.fit(X[:rows], y[:rows], epochs, batch_size, **call))
        if found and found[0].history.get("loss"):
            self.agree(found[0].history["loss"], found[1].history["loss"])

    @rule(labels=st.lists(st.integers(-1, OUTPUTS), max_size=9))
    def fit_labels(self, labels):
        X = np.linspace(-1, 1, len(labels) * FEATURES).reshape(-1, FEATURES)
        self.both(lambda net: net.fit(X, labels))

    @rule(scale=st.sampled_from([0.0, 0.5, 1.0, np.nan]))
    def set_weights(self, scale):
        pairs = [(W * scale, b) for W, b in self.nets[0].weights]
        self.both(lambda net: net.set_weights(pairs))

    @rule(rate=st.sampled_from([1e-3, 1e-4, -1.0]))
    def set_learning_rate(self, rate):
        self.both(lambda net: setattr(net, "learning_rate", rate))

    @rule(how=st.sampled_from([copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]))
    def duplicate(self, how):
        self.nets = self.both(how)

    @rule(everything=st.booleans())
    def save_and_load(self, everything):
        with tempfile.TemporaryDirectory() as folder:
            for i, net in enumerate(self.nets):
                net.save(Path(folder, "net"), include_optimizer=everything)
                self.nets[i] = Network.load(Path(folder, "net"), net.backend)

    @rule()
    def averaged(self):
        if found := self.both(lambda net: net.averaged()):
            for mine, its in zip(*(net.weights for net in found), strict=True):
                self.agree(mine[0], its[0])

    @invariant()
    def weights_agree(self):
        if not hasattr(self, "nets"):
            return
        assert self.nets[0].steps == self.nets[1].steps
        assert self.nets[0].epochs == self.nets[1].epochs
        for (W, b), (V, c) in zip(*(net.weights for net in self.nets), strict=True):
            self.agree(W, V)
            self.agree(b, c)


def go_through(examples, steps, **options):
    machine = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    case = Calls.TestCase
    case.settings = machine
    case("runTest").runTest()


@pytest.mark.usefixtures("native")
def test_sequences_of_calls():
    go_through(15, 15, derandomize=True)


@pytest.mark.slow
@pytest.mark.usefixtures("native")
def test_many_sequences_of_calls():
    go_through(times(300), 30)

"""Layers as descriptions: checks, repr, round trips."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest

from fastnn import layers
from fastnn.layers import Dense, Dropout, GaussianNoise

LAYERS = [
    Dense(10),
    Dense(100, "relu"),
    Dense(3, "tanh", use_bias=False, weight_init="zeros", bias_init="normal", l1=1e-4, l2=1e-3),
    Dense(4, max_norm=3.0),
    Dropout(0.2),
    GaussianNoise(0.1),
]
EACH = pytest.mark.parametrize("layer", LAYERS, ids=repr)


@EACH
def test_round_trips(layer):
    assert eval(repr(layer)) == layer
    config = json.loads(json.dumps(layer.get_config()))
    assert layers.from_config(config) == layer
    assert pickle.loads(pickle.dumps(layer)) == copy.deepcopy(layer) == layer


def test_repr_shows_what_differs_from_the_default():
    assert repr(Dense(10)) == "Dense(units=10)"
    assert repr(Dense(10, "relu", l2=0.1)) == "Dense(units=10, activation='relu', l2=0.1)"
    assert repr(Dropout(0.2)) == "Dropout(rate=0.2)"


def test_values_become_plain():
    layer = Dense(np.int64(5), use_bias=np.True_, l1=np.float32(0.5), l2=1)
    assert [type(v) for v in (layer.units, layer.use_bias, layer.l1, layer.l2)] == [
        int,
        bool,
        float,
        float,
    ]


def test_equality_is_by_description():
    assert Dense(3) == Dense(3)
    assert len({Dense(3), Dense(3), Dense(4), Dropout(0.5)}) == 3
    assert Dense(3) != Dense(3, l1=0.1)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Dense(3).units = 4


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "units must be .*got 0", {"units": 0}),
        (ValueError, "units must be .*got -3", {"units": -3}),
        (ValueError, "units must be", {"units": 2**40}),
        (TypeError, "units must be .*2.5", {"units": 2.5}),
        (TypeError, "units must be .*True", {"units": True}),
        (TypeError, "units must be", {"units": "ten"}),
        (ValueError, "activation must be .*'rleu'.*'relu'", {"activation": "rleu"}),
        (ValueError, "activation must be", {"activation": 3}),
        (ValueError, "activation must be", {"activation": ["relu"]}),
        (TypeError, "use_bias must be True or False.*'no'", {"use_bias": "no"}),
        (ValueError, "weight_init must be .*'he_normal'", {"weight_init": "he_norm"}),
        (ValueError, "bias_init must be .*'ones'", {"bias_init": "ones"}),
        (ValueError, "bias_init must be", {"bias_init": None}),
        (ValueError, "l1 must be .*-0.1", {"l1": -0.1}),
        (ValueError, "l2 must be .*nan", {"l2": float("nan")}),
        (ValueError, "l2 must be .*inf", {"l2": float("inf")}),
        (TypeError, "l2 must be .*'much'", {"l2": "much"}),
        (TypeError, "l1 must be .*None", {"l1": None}),
        (ValueError, "max_norm must be .*0", {"max_norm": 0}),
        (ValueError, "max_norm must be .*inf", {"max_norm": float("inf")}),
        (TypeError, "max_norm must be .*'3'", {"max_norm": "3"}),
    ],
)
def test_dense_refuses(error, match, arguments):
    with pytest.raises(error, match=match):
        Dense(**{"units": 3, **arguments})


@pytest.mark.parametrize(
    ("error", "rate"),
    [(ValueError, 1), (ValueError, -0.1), (ValueError, float("nan")), (TypeError, "half")],
)
def test_dropout_refuses(error, rate):
    with pytest.raises(error, match="rate must be"):
        Dropout(rate)


@pytest.mark.parametrize(
    ("error", "stddev"),
    [(ValueError, 0), (ValueError, -0.1), (ValueError, float("nan")), (TypeError, None)],
)
def test_noise_refuses(error, stddev):
    with pytest.raises(error, match="stddev must be"):
        GaussianNoise(stddev)


@pytest.mark.parametrize(
    ("match", "config"),
    [
        ("mapping; got list", []),
        ("name of layer must be .*None", {"units": 3}),
        ("name of layer must be .*'dens'.*'dense'", {"name": "dens", "units": 3}),
        ("name of layer must be", {"name": ["dense"], "units": 3}),
        ("field of layer 'dense' must be .*'unit'.*'units'", {"name": "dense", "unit": 3}),
        ("layer 'dense' must have the field 'units'", {"name": "dense"}),
        ("units must be", {"name": "dense", "units": "3"}),
        ("units must be", {"name": "dense", "units": 0}),
        ("use_bias must be", {"name": "dense", "units": 3, "use_bias": None}),
        ("activation", {"name": "dense", "units": 3, "activation": {}}),
    ],
)
def test_damaged_config(match, config):
    with pytest.raises(ValueError, match=match):
        layers.from_config(config)

"""A feature that is off costs nothing: what is done is counted, not how long it takes."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from fastnn import EMA, Adam, Dropout, Network
from fastnn.callbacks import TerminateOnNaN

# Kernels that a step of a plain network has no use for
OPTIONAL = {"dropout", "add_noise", "penalty", "clip", "sum_of_squares", "average", "bound_norms"}
NEEDED = {
    "pack",
    "dense",
    "loss",
    "activate_backward",
    "weight_gradient",
    "bias_gradient",
    "update",
}
STEPS = 10
PLAIN = "Network([16, 32, 4], seed=0)"
TRAINED_WITH_ALL = """Network(
    [16, GaussianNoise(0.1), Dense(32, "relu", l2=0.1, max_norm=1.0), Dropout(0.1), 4],
    optimizer=Adam(clip_value=1.0, clip_norm=1.0), averaging=EMA(), seed=0)"""
SCRIPT = """
import numpy as np
import fastnn
from fastnn import *
fastnn.set_num_threads(1)
net = {net}
net.fit(np.ones(({rows}, 16)), np.zeros(({rows}, 4)), batch_size=32)
"""


def python_calls(function):
    """Count calls of Python functions, and from Python of others, but for garbage collections'."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


def test_python_does_nothing_a_step(native):
    """Whatever runs in the core: an epoch of many steps is as few calls as one of a few."""

    def calls(steps, callbacks=(), **options):
        net = Network([4, Dropout(0.1), 3], backend=native, seed=0, **options)
        X, y = np.ones((2 * steps, 4), np.float32), np.zeros((2 * steps, 3), np.float32)
        net.fit(X, y, batch_size=2)  # what is imported at first use
        return python_calls(lambda: net.fit(X, y, batch_size=2, callbacks=callbacks))

    for options in ({}, {"averaging": EMA()}, {"optimizer": Adam(clip_norm=1.0)}):
        assert calls(5, **options) == calls(50, **options)
    assert calls(50, [TerminateOnNaN()]) > calls(50) + 50
    assert calls(50, [TerminateOnNaN(25)]) < calls(50, [TerminateOnNaN()])


def kernel_calls(net, directory):
    """Count calls of the core's functions in a training, by their names without the dtype."""
    if shutil.which("valgrind") is None:
        pytest.skip("calls of kernels are counted by valgrind: apt install valgrind")
    out = directory / "calls"
    script = SCRIPT.format(net=net, rows=32 * STEPS)
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FASTNN_ISA": "avx2",  # which valgrind knows
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    counting = ["--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no"]
    counting += ["--collect-atstart=no", "--toggle-collect=*run_steps"]
    done = subprocess.run(
        ["valgrind", *counting, sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    calls = Counter()
    for name, number in re.findall(r"^cfn=(\w+)_f32\ncalls=(\d+)", out.read_text(), re.MULTILINE):
        calls[name] += int(number)
    if not calls:
        pytest.skip("the core has no symbols left: build it without stripping them")
    return calls


@pytest.mark.slow
def test_kernels_of_features_that_are_off_are_not_called(native, tmp_path):
    from fastnn import _native

    if "avx2" not in _native.available_isas():
        pytest.skip("valgrind knows the instructions of AVX2, which this processor lacks")
    plain = kernel_calls(PLAIN, tmp_path)
    assert not OPTIONAL & plain.keys()
    assert plain.keys() >= NEEDED
    # Features and targets; two products there and one back; each gradient has its update.
    assert plain["pack"] == 2 * STEPS
    assert plain["dense"] == 3 * STEPS
    assert plain["loss"] == STEPS
    assert plain["update"] == plain["weight_gradient"] + plain["bias_gradient"]
    everything = kernel_calls(TRAINED_WITH_ALL, tmp_path)
    assert everything.keys() >= OPTIONAL | NEEDED

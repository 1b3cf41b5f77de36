"""Files of models: any may be loaded, none is lost, and no network is silently broken."""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fuzz_models import fuzz
from processes import run, times

import fastnn
from fastnn import Network, serialization


def rewritten(path, change):
    """Save a network after a change of its tensors, its metadata and its description."""
    Network([3, 4, 2], loss="cross_entropy", backend="numpy", seed=0).save(path)
    tensors, metadata = serialization.read(path)
    config = json.loads(metadata["network"])
    change(tensors, metadata, config)
    serialization.write(path, tensors, {"network": json.dumps(config), **metadata})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["layers.0.weight", "layers.1.bias", "average.layers.1.weight"])
def test_weights_that_are_not_finite(tmp_path, name, value, backend):
    """Neither leave nor enter a network by a file."""
    options = {"averaging": fastnn.EMA(0.5), "backend": backend, "seed": 0}
    net = Network([3, 4, 2], **options)
    net.fit(np.ones((2, 3)), np.ones((2, 2)))
    path = tmp_path / "model"
    net.save(path, include_optimizer=True)
    good = path.read_bytes()
    tensors, metadata = serialization.read(path)
    tensors[name].flat[1] = value
    serialization.write(tmp_path / "bad", tensors, metadata)
    with pytest.raises(ValueError, match=f"finite; got an infinite or nan one in '{name}'"):
        Network.load(tmp_path / "bad", backend)

    part, layer, kind = name.rsplit(".", 2)
    pairs = net._backend.average() if part.startswith("average") else net.weights
    pairs[int(layer)][kind == "bias"].flat[1] = value
    (net._backend.set_average if part.startswith("average") else net._backend.set_weights)(pairs)
    with pytest.raises(ValueError, match=f"finite to be saved; got .*'{name}'"):
        net.save(path, include_optimizer=True)
    assert path.read_bytes() == good
    assert len(pickle.loads(pickle.dumps(net)).weights) == 2  # which is for looking into it


@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ([{"name": "dense", "units": 2**31 - 1}], "mse"),
        ([{"name": "dense", "units": 2**28}], {"name": "quantile", "quantiles": [0.1, 0.9]}),
        ([{"name": "dense", "units": 2**28}], {"name": "huber", "delta": 0.5}),
        ([{"name": "dense", "units": 1}] * 20_000, "mse"),
    ],
    ids=["wide", "parameters of each output", "one parameter", "deep"],
)
def test_a_description_takes_no_memory(tmp_path, layers, loss):
    """A small file that tells of a large network is refused before anything of that is made."""
    path = tmp_path / "model"
    rewritten(
        path,
        lambda tensors, metadata, config: (
            metadata.pop("network"),
            config.update(layers=layers, loss=loss, n_features=1),
        ),
    )
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"layers|tensor"):
            Network.load(path, "numpy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * path.stat().st_size + (1 << 20)


def test_hostile_files_within_a_limit_of_memory(tmp_path):
    """The system would refuse more than a few megabytes, and nobody asks for them."""
    for name, header in {
        "huge header": b"\xff" * 7 + b"\x7f",
        "header as long as the file": struct.pack("<Q", (1 << 22) - 8)
        + b"{"
        + b" " * ((1 << 22) - 9),
        "huge tensor": None,
    }.items():
        if header is None:
            text = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
            header = struct.pack("<Q", len(text)) + text.encode()
        (tmp_path / name).write_bytes(header)
    code = """
        import os, resource, sys
        import fastnn.serialization
        folder = sys.argv[1]
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20),) * 2)
        for name in os.listdir(folder):
            try:
                fastnn.Network.load(os.path.join(folder, name))
            except ValueError:
                continue
            raise AssertionError(name)
    """
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("reads /proc: run it on Linux")
    run(code, tmp_path)


@pytest.mark.parametrize("version", ["0", "2", "1.1", None])
def test_other_versions(tmp_path, version, backend):
    def change(tensors, metadata, config):
        if version is None:
            del metadata["format_version"]
        else:
            metadata["format_version"] = version

    rewritten(tmp_path / "model", change)
    with pytest.raises(ValueError, match=f"format version 1;.*version {version!r}"):
        Network.load(tmp_path / "model", backend)

    net = Network([3, 2], backend=backend, seed=0)
    state = net.__getstate__()
    assert state["fastnn_version"] == fastnn.__version__
    state["format_version"] = version
    with pytest.raises(ValueError, match=f"version 1; got one of version {version!r}"):
        net.__setstate__(state)


def test_joblib(tmp_path, backend):
    joblib = pytest.importorskip("joblib", reason="joblib is missing: pip install joblib")
    net = Network([3, 4, 2], loss="cross_entropy", backend=backend, seed=0)
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    net.fit(X, [0, 1, 0] * 3, 2)
    joblib.dump(net, tmp_path / "net")
    other = joblib.load(tmp_path / "net")
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    assert net.train_step(X, [0] * 9) == other.train_step(X, [0] * 9)


def test_nothing_in_the_package_unpickles():
    for name in ("serialization.py", "network.py", "_position.py", "_weights.py", "_described.py"):
        source = Path(fastnn.__file__).with_name(name).read_text()
        for word in ("pickle.load", "allow_pickle", "eval(", "exec(", "__import__"):
            assert word not in source, (name, word)


def test_mutated_files():
    happened, bad = fuzz(500)
    assert not bad, "\n\n".join(f"{name}\n{text}" for name, text in bad.items())
    assert happened["ValueError"] > 100
    assert happened["loaded"] > 50


@pytest.mark.slow
def test_mutated_files_for_a_minute():
    happened, bad = fuzz(10**9, seed=1, seconds=60 * times(1))
    assert not bad, "\n\n".join(f"{name}\n{text}" for name, text in bad.items())
    assert happened.total() > 1000


SAVE_FOREVER = """
import sys
import numpy as np
import fastnn
net = fastnn.Network([100, 300, 10], backend="numpy", seed=0)
weights = [(np.zeros_like(W), np.zeros_like(b)) for W, b in net.weights]
for count in range(10**9):
    for W, b in weights:
        W[:] = b[:] = count
    net.set_weights(weights)
    net.save(sys.argv[1])
    print(count, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_while_saving_again_and_again(tmp_path):
    """The file is the last one finished or the one after it, whole."""
    path = tmp_path / "model"
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    rng = np.random.default_rng()
    for _ in range(times(50)):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert process.stdout is not None
            seen = process.stdout.readline()
            try:
                process.wait(rng.uniform(0, 0.02))
            except subprocess.TimeoutExpired:
                process.kill()
            finished = int((seen + process.stdout.read()).splitlines()[-1])
        for pair in Network.load(path, "numpy").weights:
            for array in pair:
                assert (array == array.flat[0]).all()
                assert array.flat[0] in (finished, finished + 1)

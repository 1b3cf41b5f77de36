"""Mutations of model files: whatever a file holds, `Network.load` gives a network or a ValueError.

    python tests/reliability/fuzz_models.py --inputs 1000000

prints how many were tried, how many loaded, and the first of each other kind of error.
"""

from __future__ import annotations

import argparse
import collections
import copy
import json
import random
import struct
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastnn

_FAST = "/dev/shm"  # in memory, where there is that

# What is put in the place of something, or beside it.
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.0, 1e308, 1e-320),
    *("", "relu", "softmax", "adam", "\ud7ff", "x" * 300, [], [[]], {}, {"name": "adam"}, [1, 2]),
    *({"name": "dense", "units": 2**31 - 1}, {"name": "quantile", "quantiles": [0.2, 0.5, 0.7]}),
]


def seeds(folder: Path) -> list[bytes]:
    """Files as they should be, of several kinds of network."""
    rng = np.random.default_rng(0)
    nets = [
        fastnn.Network([3, 4, 2], loss="cross_entropy", seed=1),
        fastnn.Network(
            [3, fastnn.Dropout(0.1), fastnn.Dense(3, "tanh", l2=0.1, max_norm=2.0), 1],
            optimizer=fastnn.Adam(fastnn.schedules.Cosine(0.1, 5), clip_norm=1.0),
            dtype="float64",
            averaging=fastnn.EMA(0.9),
            seed=2,
        ),
        fastnn.Network([2, 4], loss=fastnn.losses.Quantile([0.2, 0.8]), optimizer="sgd", seed=3),
    ]
    found = []
    for net in nets:
        X = rng.normal(size=(8, net.n_features))
        columns = 2 if isinstance(net.loss, fastnn.losses.Quantile) else net.n_outputs
        y = rng.uniform(size=(8, columns)) if columns != 2 or net.n_outputs == 4 else [0, 1] * 4
        callbacks = [fastnn.callbacks.EarlyStopping("loss", 5, restore_best_weights=True)]
        net.fit(X, y, 2, 4, callbacks=callbacks)
        for everything in (False, True):
            net.save(folder / "seed", include_optimizer=everything)
            found.append((folder / "seed").read_bytes())
    return found


def odd(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(ODD))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is anything in a JSON value."""
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def mutated_json(value: Any, rng: random.Random) -> Any:
    """Something in it replaced, removed, added or taken from elsewhere."""
    value = json.loads(json.dumps(value))
    everywhere = list(places(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(everywhere)
        if not path:
            if rng.random() < 0.02:
                return odd(rng)
            continue
        inner = value
        try:
            for key in path[:-1]:
                inner = inner[key]
            action = rng.randrange(5)
            if action == 0:
                del inner[path[-1]]
            elif action == 1 and isinstance(inner, list):
                inner.insert(path[-1], odd(rng))
            elif action == 1:
                inner[rng.choice(("steps", "name", "extra", "training", "generator"))] = odd(rng)
            elif action == 2 and isinstance(inner[path[-1]], (int, float)):
                inner[path[-1]] += rng.choice((-1, 1, 7, 2**31, 0.5))
            else:
                inner[path[-1]] = odd(rng)
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    return value


def mutated(contents: bytes, rng: random.Random) -> bytes:
    """Another file, broken somewhere: in its bytes, its header, its description or its numbers."""
    kind = rng.randrange(4)
    if kind == 0:
        data = bytearray(contents)
        for _ in range(rng.choice((1, 1, 2, 8))):
            where = rng.randrange(len(data))
            action = rng.randrange(4)
            if action == 0:
                data[where] ^= 1 << rng.randrange(8)
            elif action == 1:
                data[where] = rng.randrange(256)
            elif action == 2:
                del data[where : where + rng.choice((1, 8, 100))]
            else:
                data[where:where] = rng.randbytes(rng.choice((1, 8, 100)))
            if not data:
                break
        return bytes(data)
    (length,) = struct.unpack("<Q", contents[:8])
    header, payload = json.loads(contents[8 : 8 + length]), contents[8 + length :]
    metadata = header["__metadata__"]
    metadata.pop("crc32")  # which would find all that follows
    if kind == 1:
        header = mutated_json(header, rng)
    elif kind == 2:
        metadata["network"] = json.dumps(mutated_json(json.loads(metadata["network"]), rng))
    else:
        data = bytearray(payload)
        for _ in range(rng.choice((1, 4))):
            where = rng.randrange(len(data) // 4) * 4
            data[where : where + 4] = struct.pack(
                "<I", rng.choice((0x7FC00000, 0x7F800000, 0, 1, 2**32 - 1))
            )
        payload = bytes(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def fuzz(
    inputs: int, seed: int = 0, seconds: float = float("inf"), memory_every: int = 200
) -> tuple[collections.Counter[str], dict[str, str]]:
    """Try mutations; return how often what happened, and a traceback of each undocumented error."""
    rng = random.Random(seed)
    happened: collections.Counter[str] = collections.Counter()
    bad: dict[str, str] = {}
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(dir=_FAST if Path(_FAST).is_dir() else None) as folder:
        originals = seeds(Path(folder))
        file = Path(folder, "model")
        for number in range(inputs):
            if time.monotonic() > deadline:
                break
            contents = mutated(rng.choice(originals), rng)
            file.write_bytes(contents)
            measured = number % memory_every == 0
            if measured:
                tracemalloc.start()
            try:
                try:
                    fastnn.Network.load(file, backend=rng.choice(("native", "numpy")))
                    happened["loaded"] += 1
                except ValueError:
                    happened["ValueError"] += 1
                except Exception as error:
                    happened[type(error).__name__] += 1
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    bad.setdefault(
                        f"{type(error).__name__} at {where.filename}:{where.lineno}",
                        traceback.format_exc(limit=-4),
                    )
                peak = tracemalloc.get_traced_memory()[1]  # 0 if not measured
                if peak > 100 * len(contents) + (1 << 20):
                    bad.setdefault(f"{peak} bytes for a file of {len(contents)}", repr(contents))
            finally:
                if measured:
                    tracemalloc.stop()
    return happened, bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then it ends anyway")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    happened, bad = fuzz(given.inputs, given.seed, given.seconds)
    print(f"{happened.total()} inputs in {time.monotonic() - began:.0f} s: {dict(happened)}")
    for name, text in bad.items():
        print(f"\n{name}\n{text}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()

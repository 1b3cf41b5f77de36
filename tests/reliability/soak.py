"""Fit, predict, save, load, copy, again and again: the memory of the process must not grow.

    python tests/reliability/soak.py --minutes 10

prints the resident memory as it goes, and fails if it grew by 1 MB or more after a warm-up.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np

import fastnn


def resident() -> int:
    """Bytes of this process in memory, by Linux: what is in use.

    That is, without files, which come and go as the system likes, and without what is only kept
    for later by Python or by glibc.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])


def use_everything(folder: Path, count: int) -> None:
    """What a long-lived process may do with networks; sizes differ from call to call."""
    rng = np.random.default_rng(count)
    rows, units = 200 + count % 7 * 50, 40 + count % 5 * 30
    X, y = rng.normal(size=(rows, 20)).astype(np.float32), rng.integers(3, size=rows)
    net = fastnn.Network(
        [20, fastnn.Dropout(0.1), units, units, 3],
        loss="cross_entropy",
        optimizer=fastnn.Adam(0.01, clip_norm=1.0 if count % 2 else None),
        averaging=fastnn.EMA(0.9) if count % 3 else None,
        dtype="float32" if count % 4 else "float64",
        seed=count,
    )
    net.fit(X, y, 2, 32, validation_data=(X[:50], y[:50]))
    for part in (X, X[:1], X[: 1 + count % 60]):
        net.predict(part)
    net.train_step(X, y)
    net.gradients(X, y)
    net.save(folder / "model", include_optimizer=True)
    loaded = fastnn.Network.load(folder / "model")
    twin = pickle.loads(pickle.dumps(copy.deepcopy(loaded)))
    twin.fit(X, y, 1, 64, resume=False)
    for call in (
        lambda: net.predict(X[:, :-1]),
        lambda: fastnn.Network.load(folder / "absent"),
        lambda: net.fit(X, y[:-1]),
    ):
        try:
            call()
        except (ValueError, OSError):
            continue
        raise AssertionError("an error was expected")


def soak(seconds: float, report: float = float("inf")) -> tuple[int, int, int]:
    """Return how often everything was used, and the memory after a warm-up and at the end."""
    began = told = time.monotonic()
    warm, count = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        while (now := time.monotonic()) - began < seconds or not warm:
            use_everything(Path(folder), count % 420)
            count += 1
            if not warm and now - began > seconds / 4 and count >= 50:
                warm = resident()
            if now - told > report:
                told = now
                print(
                    f"{now - began:6.0f} s, {count:7d} times, {resident() / 2**20:.2f} MB",
                    flush=True,
                )
    return count, warm, resident()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    seconds = 60 * parser.parse_args().minutes
    count, warm, end = soak(seconds, report=30)
    print(f"{count} times in {seconds:.0f} s: {(end - warm) / 2**20:+.2f} MB after the warm-up")
    raise SystemExit(end - warm >= 1 << 20)


if __name__ == "__main__":
    main()

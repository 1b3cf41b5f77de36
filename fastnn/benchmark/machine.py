"""The machine that figures come from: what it is, and the most that it can do."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fastnn

__all__ = ["Machine", "Others", "limited_threads", "look_around"]

_LOOKS = 5
_SECONDS = 0.1
_PATIENCE = 10.0
_BANDWIDTH_BYTES = 1 << 27  # more than the caches hold
_STAT = Path("/proc/stat")
# What may keep a library from all that the processor has.
_SETTINGS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "XLA_FLAGS",
)


@dataclass(frozen=True)
class Machine:
    """A machine, and how fastnn uses it.

    Parameters
    ----------
    processor, isa, platform, python, compiler : str
        `isa` is the instruction set that fastnn takes, `compiler` what compiled it.
    cores : int
        That this process may use.
    threads : int
    dtype : str
    peak : float
        Most floating-point operations a second, by fused multiply-adds of `dtype` in registers,
        of `threads` threads with that instruction set.
    bandwidth : float
        Bytes a second read and written by threads that copy memory.
    settings : str, default ""
        What the environment tells the libraries, as it is written there.
    """

    processor: str
    cores: int
    isa: str
    platform: str
    python: str
    compiler: str
    threads: int
    dtype: str
    peak: float
    bandwidth: float
    settings: str = ""

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.cores} cores, {self.isa}, {self.platform};"
            f" {self.dtype}, {self.threads} threads;"
            f" FMA peak {self.peak / 1e9:.0f} GFLOP/s, memory {self.bandwidth / 1e9:.0f} GB/s"
            + (f"; with {self.settings}" if self.settings else "")
        )


def look_around(dtype: str, threads: int) -> Machine:
    """Describe this machine and measure its limits."""
    config = fastnn.show_config(as_dict=True)
    return Machine(
        processor=_processor(),
        cores=_cores(),
        isa=config["isa"],
        platform=config["platform"],
        python=config["python"],
        compiler=config["compiler"],
        threads=threads,
        dtype=dtype,
        # Limits: what disturbs a measurement only lowers it.
        peak=_peak(np.dtype(dtype).itemsize, threads),
        bandwidth=_bandwidth(threads),
        settings=" ".join(f"{name}={os.environ[name]}" for name in _SETTINGS if name in os.environ),
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()


def _peak(itemsize: int, threads: int) -> float:
    from fastnn._native import fma_peak  # which the rest of fastnn can do without

    expected = 0.9 * threads * fma_peak(itemsize, 1, _SECONDS)
    end = time.perf_counter() + _PATIENCE
    peak = fma_peak(itemsize, threads, _LOOKS * _SECONDS)
    # For seconds, the processors of a virtual machine may be halves of one.
    while peak < expected and time.perf_counter() < end:
        peak = max(peak, fma_peak(itemsize, threads, _SECONDS))
    return peak


def _bandwidth(threads: int) -> float:
    source = np.ones((threads, _BANDWIDTH_BYTES // threads), np.uint8)
    target = np.zeros_like(source)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_LOOKS):
            start = time.perf_counter()
            list(pool.map(np.copyto, target, source))
            best = max(best, 2 * source.size / (time.perf_counter() - start))
    return best


class Others:
    """What other programs take of the processors, from when it is made."""

    def __init__(self) -> None:
        self._start = self._seconds()

    def cores(self) -> float | None:
        """Return how many cores they have kept busy; None where the system does not tell."""
        _end_workers()
        if self._start is None or (now := self._seconds()) is None:
            return None
        wall, others = (end - start for start, end in zip(self._start, now, strict=True))
        return max(0.0, others / wall)

    @staticmethod
    def _seconds() -> tuple[float, float] | None:
        """Return seconds by the clock, and those of all cores in other processes."""
        try:
            first = _STAT.read_text().splitlines()[0]
        except OSError:
            return None
        # See proc_stat(5); guests' time is part of the user's.
        user, nice, system, _idle, _iowait, *others = map(int, first.split()[1:9])
        busy = (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy - sum(os.times()[:4])


def _end_workers() -> None:
    """End the processes that joblib keeps: children's time is known when they have ended."""
    if loky := sys.modules.get("joblib.externals.loky"):
        loky.get_reusable_executor(reuse=True).shutdown(wait=True)


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let fastnn, and the BLAS of NumPy and SciPy if threadpoolctl is there, use so many."""
    before = fastnn.get_num_threads()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(threads, user_api="blas"))
        fastnn.set_num_threads(threads)
        stack.callback(fastnn.set_num_threads, before)
        yield

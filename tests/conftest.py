"""What all tests share: which backends there are, and how many threads they start with."""

from __future__ import annotations

import importlib.util
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fastnn


def require_native() -> None:
    """Skip where the compiled core was not built; if it was and does not load, tests fail."""
    if importlib.util.find_spec("fastnn._native") is None:
        pytest.skip("fastnn._native is not built: run 'pip install -e .', with a C compiler")


def import_torch() -> ModuleType:
    """Return PyTorch, which formulas are compared with, or skip where it is not installed."""
    torch: ModuleType = pytest.importorskip("torch", reason="needs pip install torch==2.13.0")
    return torch


@pytest.fixture(params=["native", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    if request.param == "native":
        require_native()
    return str(request.param)


@pytest.fixture
def native() -> str:
    """The name of the native backend."""
    require_native()
    return "native"


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Each dtype in turn."""
    return str(request.param)


@pytest.fixture
def interruptible() -> Iterator[Callable[..., list[float]]]:
    """Have Ctrl-C raise KeyboardInterrupt, which in a background process it does not.

    What it gives sends Ctrl-C so many seconds after a condition holds, unless the test has ended;
    it returns a list for when that was, in CPU seconds.
    """
    ended = threading.Event()
    senders = []

    def interrupt_when(condition: Callable[[], bool], after: float = 0.0) -> list[float]:
        sent: list[float] = []

        def send() -> None:
            while not condition():
                if ended.wait(0.01):
                    return
            if not ended.wait(after):
                sent.append(time.process_time())
                signal.raise_signal(signal.SIGINT)

        senders.append(threading.Thread(target=send))
        senders[-1].start()
        return sent

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield interrupt_when
    ended.set()
    for sender in senders:
        sender.join()
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def training_clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that callbacks' seconds go by: its ``now``, which the test alone changes."""
    mine = SimpleNamespace(now=0.0)
    mine.monotonic = lambda: mine.now
    monkeypatch.setattr("fastnn.training.time", mine)
    return mine


@pytest.fixture
def threads() -> Iterator[None]:
    """Give the number of threads back to the default, which follows OpenMP's."""
    yield
    fastnn.set_num_threads(None)


@pytest.fixture(autouse=True)
def calls_take_the_threads_they_are_given() -> Iterator[None]:
    """Whatever their own times tell: it is the work of several threads that tests are to see."""
    if importlib.util.find_spec("fastnn._native") is None:
        yield
        return
    from fastnn import _native

    _native.learn_from_calls(False)
    yield
    _native.learn_from_calls(True)


@pytest.fixture
def assert_same_with_threads(threads: None) -> Callable[..., None]:
    """``(compute, *numbers)``: with these numbers of threads it gives the same bits as with one."""

    def check(compute: Callable[[], object], *numbers: int) -> None:
        fastnn.set_num_threads(1)
        expected = compute()
        for number in numbers:
            fastnn.set_num_threads(number)
            np.testing.assert_equal(compute(), expected)

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how the estimators stand beside scikit-learn's, if they were tested."""
    compared = getattr(sys.modules.get("test_sklearn"), "COMPARED", {})
    for solver, differences in compared.items():
        losses, outputs = (max(figures) for figures in zip(*differences, strict=True))
        terminalreporter.write_line(
            f"{solver}: {len(differences)} fits beside scikit-learn's with the same seed;"
            f" loss curves differ by {losses:.1e} at most, relative, predictions by {outputs:.1e}"
        )
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
    theirs = [nodeid for nodeid in passed if "test_sklearn_own.py" in nodeid]
    if theirs:
        checks = sum("test_estimator_checks" in nodeid for nodeid in theirs)
        ours = sum("test_all_of_them_are_here" in nodeid for nodeid in theirs)
        terminalreporter.write_line(
            f"scikit-learn {version('scikit-learn')}: {len(theirs) - checks - ours} of"
            f" its own tests and {checks} of its estimators' checks passed over fastnn's"
        )

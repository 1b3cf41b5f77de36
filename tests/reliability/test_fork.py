"""Forked and started processes train and predict with the bits of their parent."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from processes import run, times

import fastnn
from fastnn import Network

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.usefixtures("native", "threads"),
]

ROWS = 300


def problem():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 64)).astype(np.float32), rng.integers(10, size=ROWS)


def network():
    """Large enough for two threads in each step and each prediction."""
    return Network([64, 128, 128, 10], loss="cross_entropy", seed=0)


def bits(net):
    X, y = problem()
    net.fit(X, y, 1, 100)
    return b"".join(array.tobytes() for pair in net.weights for array in pair) + bytes(
        net.predict(X).data
    )


def in_child(function, fork=os.fork):
    """Whether a function returns True in a forked child, within a minute."""
    pid = fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(60)
            code = 0 if function() else 1
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def forks(count, fork=os.fork):
    """Train, fork, and train and predict in both, again and again."""
    fastnn.set_num_threads(2)
    net, twin = network(), network()
    for _ in range(count):
        assert bits(net) == bits(twin)
        parents = [net, twin]
        X, y = problem()
        expected = network()
        expected.set_weights(net.weights)
        expected._backend.set_state(*net._backend.state())
        expected.train_step(X, y)
        after = expected.predict(X)

        def child(parents=parents, X=X, y=y, after=after):
            parents[1].train_step(X, y)
            return (
                np.array_equal(parents[1].predict(X), after)
                and fastnn.get_num_threads() == 1
                and bits(network()) == whole
            )

        assert in_child(child, fork)


whole = b""


@pytest.fixture(autouse=True)
def expected_bits():
    global whole
    whole = bits(network())


def test_os_fork():
    forks(20)


@pytest.mark.slow
def test_os_fork_again_and_again():
    forks(times(200))


def test_a_fork_that_python_knows_nothing_of():
    """As C libraries do it."""
    forks(5, ctypes.PyDLL(None).fork)


def test_a_grandchild():
    fastnn.set_num_threads(2)
    bits(network())
    assert in_child(lambda: in_child(lambda: bits(network()) == whole) and bits(network()) == whole)


def test_fork_while_others_predict_and_train():
    """What the others predict with can be trained in the child; what they train is refused."""
    fastnn.set_num_threads(1)
    done = threading.Event()
    predicted, trained = Network([64, 2048, 2048, 10], seed=0), Network([64, 512, 10], seed=0)
    X, _ = problem()
    target = np.zeros((ROWS, 10), np.float32)

    def predict():
        while not done.is_set():
            predicted.predict(X)

    def train():
        while not done.is_set():
            trained.fit(X, target, 20, 100)

    def child():
        predicted.train_step(X, target)
        try:
            trained.train_step(X, target)
        except RuntimeError as error:  # unless it was between two calls
            return "another thread" in str(error)
        return True

    others = [threading.Thread(target=predict), threading.Thread(target=train)]
    for thread in others:
        thread.start()
    try:
        assert all(in_child(child) for _ in range(20))
    finally:
        done.set()
        for thread in others:
            thread.join()


# -- multiprocessing and joblib


def train_here(_):
    fastnn.set_num_threads(2)
    return bits(network())


def train_given(net):
    return bits(net)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method):
    fastnn.set_num_threads(2)
    net = network()
    bits(net)
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["fastnn"])
    with context.Pool(2) as pool:
        assert pool.map_async(train_here, range(8)).get(120) == [whole] * 8
        further = pool.map_async(train_given, [net] * 4)
        assert further.get(120) == [bits(net)] * 4
    assert bits(network()) == whole


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing_again_and_again(method):
    """A new pair of workers each time."""
    for _ in range(times(100 if method == "fork" else 20)):
        test_multiprocessing(method)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(backend):
    joblib = pytest.importorskip("joblib", reason="joblib is missing: pip install joblib")
    fastnn.set_num_threads(2)
    bits(network())
    with joblib.parallel_config(backend, n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(train_here)(i) for i in range(8))
    if backend == "loky":  # whose workers keep what was set in them for whoever comes next
        joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    assert found == [whole] * 8
    assert bits(network()) == whole


# -- servers that fork their workers


def test_a_server_that_forks_its_workers(tmp_path):
    """The network was trained in the master; workers come and go."""
    fastnn.set_num_threads(2)
    net = network()
    bits(net)
    X, _ = problem()
    expected = net.predict(X)
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        signal.alarm(120)
        while True:
            connection, _ = server.accept()
            with connection:
                rows = np.frombuffer(connection.recv(64 * 4, socket.MSG_WAITALL), np.float32)
                connection.sendall(net.predict(rows.reshape(1, 64)).tobytes())

    def start():
        pid = os.fork()
        if pid == 0:
            try:
                serve()
            finally:
                os._exit(1)
        return pid

    workers = [start() for _ in range(4)]
    try:
        for row in range(100):
            if row % 10 == 9:
                worker = workers.pop(0)
                os.kill(worker, signal.SIGKILL)
                os.waitpid(worker, 0)
                net.predict(X)
                workers.append(start())
            with socket.create_connection(server.getsockname(), 60) as connection:
                connection.sendall(X[row].tobytes())
                answer = connection.recv(10 * 4, socket.MSG_WAITALL)
            if answer:  # else the worker that had accepted it was the one killed
                np.testing.assert_array_equal(np.frombuffer(answer, np.float32), expected[row])
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        server.close()


APP = """
import json, os
import numpy as np
import fastnn

fastnn.set_num_threads(2)
rng = np.random.default_rng(0)
net = fastnn.Network([64, 128, 128, 10], loss="cross_entropy", seed=0)
X = rng.normal(size=(300, 64)).astype(np.float32)
net.fit(X, rng.integers(10, size=300), 1, 100)  # in the master, by two threads
expected = net.predict(X).tolist()

def app(environ, start_response):
    answer = [os.getpid(), net.predict(X).tolist() == expected]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""


@pytest.mark.slow
def test_gunicorn(tmp_path):
    pytest.importorskip("gunicorn", reason="gunicorn is missing: pip install gunicorn")
    Path(tmp_path, "served.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    options = ["--preload", "-w", "4", "--max-requests", "20", "-b", address, "served:app"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), root, *sys.path])}
    server = subprocess.Popen([sys.executable, "-m", "gunicorn", *options], env=environment)
    try:
        workers = set()
        deadline = time.monotonic() + 60
        for request in range(times(200)):
            while True:
                try:
                    with urllib.request.urlopen(f"http://{address}/", timeout=30) as answer:
                        worker, same = json.load(answer)
                    break
                except OSError:  # not there yet, or a worker that had done its part
                    assert time.monotonic() < deadline + request, "the server does not answer"
                    time.sleep(0.05)
            assert same
            workers.add(worker)
        assert len(workers) > 4
    finally:
        server.terminate()
        server.wait(30)


def test_openmp_of_others_does_not_matter():
    """scikit-learn's and PyTorch's teams, made before a fork, are not used after it."""
    pytest.importorskip("sklearn", reason="scikit-learn is missing: pip install 'fastnn[sklearn]'")
    code = """
        import os, signal
        import numpy as np
        import fastnn
        from sklearn.ensemble import HistGradientBoostingRegressor
        rng = np.random.default_rng(0)
        X = rng.normal(size=(3000, 64)).astype(np.float32)
        y = X[:, :1].copy()
        HistGradientBoostingRegressor(max_iter=5).fit(X, y[:, 0])
        net = fastnn.Network([64, 256, 1], seed=0)
        pid = os.fork()
        net.fit(X, y, 1, 300)
        if pid == 0:
            signal.alarm(60)
            os._exit(int(not np.isfinite(net.predict(X)).all()))
        assert os.waitpid(pid, 0)[1] == 0
    """
    run(code, OMP_NUM_THREADS="2")

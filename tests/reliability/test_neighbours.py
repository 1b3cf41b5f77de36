"""Other libraries in the same process, and what they and the system say about processors."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys

import pytest
from processes import run

from fastnn import _config
from fastnn._core import own_openmp

OTHERS = ("torch", "sklearn", "lightgbm")
HERE = [name for name in OTHERS if importlib.util.find_spec(name)]
pytestmark = pytest.mark.usefixtures("native")

ALL_IN_TURN = """
    import sys, warnings
    warnings.simplefilter("ignore")
    order = sys.argv[1].split(",")
    for name in order:
        if name == "fastnn":
            import fastnn
        elif name == "torch":
            import torch
        elif name == "lightgbm":
            import lightgbm
        elif name == "sklearn":
            import sklearn.linear_model, sklearn.ensemble
    import numpy as np
    import fastnn

    fastnn.set_num_threads(2)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 64)).astype(np.float32)
    y = X[:, :4].copy()
    nets = [fastnn.Network([64, 256, 4], seed=0) for _ in range(2)]

    def others():
        a = rng.normal(size=(300, 300))
        a @ a
        if "torch" in order:
            net = torch.nn.Linear(64, 4)
            ((net(torch.from_numpy(X)) - torch.from_numpy(y)) ** 2).mean().backward()
        if "sklearn" in order:
            sklearn.linear_model.Ridge().fit(X, y)
            sklearn.ensemble.HistGradientBoostingRegressor(max_iter=3).fit(X, y[:, 0])
        if "lightgbm" in order:
            data = lightgbm.Dataset(X, y[:, 0])
            lightgbm.train({"verbose": -1, "num_threads": 2}, data, 3)

    for _ in range(3):
        for net in nets:
            net.fit(X, y, 1, 300)
            others()
    for (W, b), (V, c) in zip(*(net.weights for net in nets)):
        assert (W == V).all() and (b == c).all()
    alone = fastnn.Network([64, 256, 4], seed=0)
    fastnn.set_num_threads(1)
    alone.fit(X, y, 1, 300), alone.fit(X, y, 1, 300), alone.fit(X, y, 1, 300)
    assert (alone.predict(X) == nets[0].predict(X)).all()
"""


def orders():
    return list(itertools.permutations(["fastnn", *HERE]))


@pytest.mark.skipif(not HERE, reason=f"install any of {', '.join(OTHERS)}")
def test_loaded_before_and_after():
    """With the same bits as alone."""
    for order in (["fastnn", *HERE], [*HERE, "fastnn"]):
        run(ALL_IN_TURN, ",".join(order))


@pytest.mark.slow
@pytest.mark.parametrize("order", orders(), ids=",".join)
def test_any_order_of_imports(order):
    run(ALL_IN_TURN, ",".join(order))


# -- how many threads


COUNT = "import fastnn; print(fastnn.get_num_threads())"


@pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " + COUNT
    assert run(code, OMP_NUM_THREADS="").split() == ["1"]


@pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
@pytest.mark.parametrize(("wanted", "expected"), [("1", 1), ("3", 3), ("2,1", 2)])
def test_openmps_variable(wanted, expected):
    assert int(run(COUNT, OMP_NUM_THREADS=wanted)) == expected


@pytest.fixture
def system(tmp_path):
    """What is made of so many processors and of files as Linux has them."""
    from fastnn._native import usable_processors

    def usable(processors, files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return usable_processors(processors, str(tmp_path))

    return usable


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        ({"sys/fs/cgroup/cpu.max": "100000 0"}, 8),
        # the group of this process, as it is seen from outside a container, and those above it
        (
            {
                "proc/self/cgroup": "0::/system.slice/a.service\n",
                "sys/fs/cgroup/system.slice/a.service/cpu.max": "300000 100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "0::/system.slice/a.service\n",
                "sys/fs/cgroup/system.slice/a.service/cpu.max": "max 100000\n",
                "sys/fs/cgroup/system.slice/cpu.max": "100000 100000\n",
            },
            1,
        ),
        # version 1
        (
            {
                "proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/docker/ab\n",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
)
def test_quotas_of_control_groups(system, files, expected):
    assert system(8, files) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="looks at Linux's files")
def test_a_computation_leaves_openmp_as_it_was():
    pytest.importorskip("threadpoolctl", reason="install threadpoolctl")
    code = """
        import os
        import numpy as np
        import fastnn
        from threadpoolctl import threadpool_info, threadpool_limits
        before, environment = threadpool_info(), dict(os.environ)
        affinity = os.sched_getaffinity(0)
        X = np.ones((1000, 64), np.float32)
        net = fastnn.Network([64, 256, 1], seed=0)
        net.fit(X, X[:, :1])
        assert threadpool_info() == before and dict(os.environ) == environment
        assert os.sched_getaffinity(0) == affinity
        with threadpool_limits(1):
            assert fastnn.get_num_threads() == 1
    """
    run(code, OMP_NUM_THREADS="2")


# -- what idle threads do

IDLE = """
    import os, time
    before = dict(os.environ)
    import numpy as np
    import fastnn
    assert dict(os.environ) == before
    fastnn.set_num_threads(2)
    X = np.zeros((1024, 784), np.float32)
    net = fastnn.Network([784, 256, 256, 10], seed=0)
    net.predict(X)
    idle = slept = 0.0
    for _ in range(20):
        net.predict(X)
        processor, clock = time.process_time(), time.perf_counter()
        time.sleep(0.02)
        idle += time.process_time() - processor
        slept += time.perf_counter() - clock
    print(idle / slept)
"""


@pytest.mark.skipif(not own_openmp, reason="shares the system's OpenMP: install a wheel")
def test_idle_threads_sleep():
    """They burn no processor between calls, unless whoever runs them wants it so."""
    assert float(run(IDLE)) < 0.25
    assert float(run(IDLE, OMP_WAIT_POLICY="active")) > 0.25

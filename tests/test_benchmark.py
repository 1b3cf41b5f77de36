"""The benchmark suite: what it tells from figures, and that it runs; not the figures."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import require_native

import fastnn
from fastnn import _config
from fastnn.__main__ import main
from fastnn.benchmark import cli, machine, peers, timing
from fastnn.benchmark.cases import CASES, Case
from fastnn.benchmark.compare import Change, changes, check, comparison
from fastnn.benchmark.machine import Machine, Others
from fastnn.benchmark.peers import Peer
from fastnn.benchmark.report import Report, Result, number, side_by_side, table
from fastnn.benchmark.run import Run
from fastnn.benchmark.sections import (
    SECTIONS,
    estimators,
    memory,
    mnist,
    population,
    search,
    sweep,
)
from fastnn.benchmark.timing import Plan, Timing, interleaved

LONG = ("sweep", "mnist", "estimators", "search")
TINY = Case("tiny", (8, 16, 1), 32, 4)
MACHINE = Machine("a processor", 2, "isa", "an OS", "3", "a compiler", 2, "float32", 1e11, 1e10)


def report(*results: Result, **fields: object) -> Report:
    return Report(replace(MACHINE, **fields), {"fastnn": "1"}, {}, list(results))


class Clock:
    """Takes the place of the module `time`; goes on only when something sleeps or works."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def perf_counter(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu

    def sleep(self, seconds: float) -> None:
        self.wall += seconds

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += 2 * seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


class TestTiming:
    def test_median_and_spread(self):
        found = Timing((4.0, 1.0, 2.0, 3.0, 100.0), (8.0, 2.0, 4.0, 6.0, 200.0))
        assert found.median == 3.0
        assert found.median_cpu == 6.0
        assert found.spread == pytest.approx((4 - 2) / 3)

    def test_calls_take_turns(self, clock):
        order = []

        def call(name, seconds):
            order.append(name)
            clock.work(seconds)

        plan = Plan(seconds=1e9, fewest=2, most=4, shortest=0.5, pause=7.0)
        found = interleaved({"a": lambda: call("a", 1.0), "b": lambda: call("b", 3.0)}, plan)
        assert order[:4] == ["a", "a", "b", "b"]
        assert [sorted(order[i : i + 2]) for i in range(4, 12, 2)] == [["a", "b"]] * 4
        assert found["a"].wall == pytest.approx([1.0] * 4)
        assert found["b"].cpu == pytest.approx([6.0] * 4)

    def test_who_is_first_and_who_follows_whom_changes(self, clock):
        order = []

        def call(name):
            return lambda: order.append(name) or clock.work(1.0)

        plan = Plan(seconds=1e9, fewest=25, most=25, shortest=0.5, pause=0.0)
        interleaved({name: call(name) for name in "abc"}, plan)
        rounds = [order[i : i + 3] for i in range(6, 6 + 75, 3)]
        assert {first for first, *_ in rounds} == set("abc")
        followed = {pair for each in rounds for pair in itertools.pairwise(each)}
        assert followed == set(itertools.permutations("abc", 2))

    def test_short_calls_are_timed_in_numbers(self, clock):
        calls = itertools.count()

        def call():
            next(calls)
            clock.work(1e-6)

        found = interleaved({"a": call}, Plan(fewest=5, most=5, shortest=0.02, pause=0.0))
        assert next(calls) >= 5 * 0.02 / 1e-6
        assert found["a"].median == pytest.approx(1e-6)

    def test_waits_for_threads_to_fall_asleep(self, clock, monkeypatch):
        def spin_for_a_while(seconds):
            Clock.sleep(clock, seconds)
            clock.cpu += seconds if clock.wall < 0.1 else 0.0

        monkeypatch.setattr(clock, "sleep", spin_for_a_while)
        starts = []

        def call():
            starts.append(clock.wall)
            clock.work(1e-3)

        interleaved({"a": call}, Plan(fewest=1, most=1, shortest=1e-3, pause=0.02))
        assert 0.1 <= starts[-1] < 0.15

    def test_ends_in_time_but_not_before_the_fewest_rounds(self, clock):
        plan = Plan(seconds=10.0, fewest=3, most=100, shortest=0.01, pause=0.0)
        assert len(interleaved({"a": lambda: clock.work(1.0)}, plan)["a"].wall) in (10, 11)
        assert len(interleaved({"a": lambda: clock.work(50.0)}, plan)["a"].wall) == 3


class TestCase:
    def test_counts_what_a_step_computes(self):
        forward = 2 * 32 * (8 * 16 + 16 * 1)
        assert TINY.predict_flop(32) == forward
        assert TINY.step_flop == 2 * forward + 2 * 32 * 16 * 1  # no dX of the first layer
        assert TINY.parameters == 8 * 16 + 16 + 16 + 1
        assert TINY.step_bytes(4) == 4 * (32 * 8 + 6 * TINY.parameters)

    def test_is_the_same_for_everyone(self):
        one, two = (CASES["small"].task(np.dtype("float32"), 1) for _ in range(2))
        np.testing.assert_array_equal(one.X, two.X)
        np.testing.assert_array_equal(one.y, two.y)
        for ours, others in zip(one.weights(), two.weights(), strict=True):
            np.testing.assert_array_equal(ours[0], others[0])


class TestReport:
    results = (
        Result("train", "tiny", "fastnn", 2e-6, 0.01, 2e-6, 1e4),
        Result("train", "tiny", "slow", 3e-4, 0.02, 6e-4, 1e4),
        Result("train", "large", "fastnn", 0.5, 0.1, 1.0, 4e10),
    )

    def test_survives_json(self, tmp_path):
        written = report(*self.results)
        written.missing["JAX"] = "No module named 'jax'"
        written.save(tmp_path / "a.json")
        assert Report.load(tmp_path / "a.json") == written

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "a": 2}'])
    def test_refuses_other_files(self, tmp_path, text):
        path = tmp_path / "a.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"a\.json.* no result of fastnn bench"):
            Report.load(path)

    def test_table_has_times_ratios_and_share(self):
        times = side_by_side(report(*self.results), "train", "shape", 1e6).splitlines()
        assert times[0] == "| shape | fastnn | share of peak | slow |"
        assert times[2] == "| tiny | 2.00 | 0.05 | 300 (150×) |"
        assert times[3] == "| large | 500,000 | 0.80 | – |"
        assert "| tiny | 1%, 1.00 | 2%, 2.00 |" in times

    def test_head_names_who_is_missing(self):
        found = report()
        found.missing["JAX"] = "No module named 'jax'"
        assert "not there: JAX (No module named 'jax')" in found.head()
        assert "FMA peak 100 GFLOP/s" in found.head()

    def test_head_names_a_trial(self):
        assert "--quick" not in report().head()
        assert "--quick" in replace(report(), quick=True).head()

    @pytest.mark.parametrize("section", SECTIONS)
    def test_sections_without_figures_have_a_heading(self, section):
        assert SECTIONS[section].table(report()).startswith("## ")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (12345.6, "12,346"),
            (-1.234, "-1.23"),
        ],
    )
    def test_numbers_have_three_digits(self, value, text):
        assert number(value) == text

    def test_table(self):
        assert table(["a", "b"], [["c", "d"]]) == "| a | b |\n| --- | ---: |\n| c | d |"

    def test_roofline(self, tmp_path):
        pytest.importorskip("matplotlib").use("agg")
        from fastnn.benchmark.roofline import draw

        label = CASES["tiny"].label
        draw(report(*(replace(result, case=label) for result in self.results)), tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


class TestCompare:
    @pytest.mark.parametrize(
        ("old", "new", "spreads", "verdict"),
        [
            (100, 104, (0.0, 0.0), ""),
            (100, 106, (0.0, 0.0), "worse"),
            (100, 112, (0.2, 0.15), ""),
            (100, 116, (0.2, 0.15), "worse"),
            (100, 185, (0.43, 0.43), "worse"),
            (100, 96, (0.0, 0.0), ""),
            (100, 90, (0.0, 0.0), "better"),
        ],
    )
    def test_tells_changes_from_noise(self, old, new, spreads, verdict):
        one, two = (
            Result("train", "tiny", "fastnn", value, spread, rounds=25)
            for value, spread in zip((old, new), spreads, strict=True)
        )
        assert Change(one, two).verdict == verdict

    def test_noise_is_that_of_medians(self):
        """Of as many rounds as there were, when they spread as normally distributed ones do."""
        rounds, rng = 25, np.random.default_rng(0)
        samples = 1 + 0.1 * rng.standard_normal((4000, rounds))
        timings = [Timing(tuple(wall), tuple(wall)) for wall in samples]
        results = [Result.of("train", "tiny", "fastnn", timing, 0.0) for timing in timings]
        medians = [result.value for result in results]
        assert np.mean([result.error for result in results]) == pytest.approx(
            np.std(medians), rel=0.1
        )
        few = Result.of("train", "tiny", "fastnn", Timing((0.9, 1.0, 1.1), (1.0,) * 3), 0.0)
        assert few.rounds == 3
        assert few.error == pytest.approx(0.93 * 0.1 / 3**0.5)

    def test_compares_what_both_have_of_fastnn(self):
        def results(value):
            return [
                Result("train", "tiny", "fastnn", value),
                Result("train", "tiny", "PyTorch", value),
                Result("scaling", "tiny", "fastnn, 2 threads", value),
                Result("sweep", "100", "fastnn", value),
            ]

        new = [*results(2.0), Result("train", "mid", "fastnn", 1.0)]
        found = changes(report(*results(1.0)), report(*new))
        assert [change.new.key for change in found] == [
            ("train", "tiny", "fastnn"),
            ("scaling", "tiny", "fastnn, 2 threads"),
        ]
        assert comparison(found).count("| 2.00× | 5% | worse |") == 2

    def test_memory_is_in_megabytes(self):
        one = Result("memory", "tiny", "fastnn", 5e6)
        assert "| 5.00 | 5.00 | 1.00× |" in comparison([Change(one, one)])

    @pytest.mark.parametrize(
        "other", [{"processor": "x"}, {"isa": "x"}, {"threads": 1}, {"dtype": "float64"}]
    )
    def test_refuses_what_is_not_alike(self, other):
        with pytest.raises(ValueError, match=f"same {next(iter(other))}"):
            check(report(**other), report())
        check(report(), report())

    def test_refuses_trials_beside_full_runs(self):
        trial, full = replace(report(), quick=True), report()
        with pytest.raises(ValueError, match="must be one without --quick, too; it is one with"):
            check(trial, full)
        with pytest.raises(ValueError, match="must be one with --quick, too; it is one without"):
            check(full, trial)
        check(trial, trial)


class TestSections:
    @pytest.fixture(autouse=True)
    def core(self, native, threads):
        pass

    def test_fastnn_comes_first_and_who_only_predicts_does_not_train(self):
        class Fake:
            def __init__(self, task):
                pass

            def train(self):
                pass

            def predictor(self, X):
                return lambda: None

        run = Run(
            [TINY],
            [peers.load("native"), Peer("fake", "1", Fake), Peer("mute", "1", Fake, trains=False)],
            "float32",
            1,
            Plan(fewest=2, most=2, shortest=0.0, pause=0.0),
        )
        trained = list(SECTIONS["train"].measure(run))
        assert [result.subject for result in trained] == ["fastnn", "fake"]
        assert trained[0].value > 0
        predicted = list(SECTIONS["predict"].measure(run))
        assert [(result.case, result.subject) for result in predicted] == [
            (f"tiny 8-16-1; {rows}", subject)
            for rows in (1, 32)
            for subject in ("fastnn", "fake", "mute")
        ]

    def test_estimators_and_searches(self, monkeypatch):
        require_native()
        pytest.importorskip("sklearn", reason='needs scikit-learn: pip install "fastnn[sklearn]"')
        short = Plan(fewest=2, most=2, shortest=0.0, pause=0.0)
        run = Run([], [], "float32", 1, short, quick=True)
        fit = estimators._Fit("iris", (4, 10, 3), 150, 30, epochs=2, early_stopping=True)
        assert fit.steps(150) == 2 * 5
        monkeypatch.setattr(estimators, "_FITS", (fit,))
        monkeypatch.setattr(estimators, "_PREDICTIONS", (("predict", 3),))
        monkeypatch.delenv("FASTNN_DATA", raising=False)
        found = report(*estimators.measure(run))
        assert [(r.case, r.subject) for r in found.results] == [
            (f"{case}; {dtype}", subject)
            for dtype in ("float32", "float64")
            for case in ("fit iris 4-10-3; 30, early stopping", "predict seed 784-100-100-10; 3")
            for subject in estimators.KINDS
        ]
        assert "| predict seed 784-100-100-10; 3; float64 |" in estimators.table(found)
        images = np.zeros((1000, 784), np.float32), np.arange(1000) % 10
        monkeypatch.setattr(estimators, "first_images", lambda rows: images)
        cases = {result.case for result in estimators.measure(run)}
        assert cases - {result.case for result in found.results} == {
            f"{case}; {dtype}"
            for dtype in ("float32", "float64")
            for case in ("fit MNIST 784-100-100-10; 100", "predict MNIST 784-100-100-10; 3")
        }
        monkeypatch.setattr(search, "_BACKENDS", ("threading",))
        found = report(*search.measure(run))
        assert {r.case for r in found.results} == {f"threading, {n}" for n in (1, 2, -1)}
        assert "| threading, -1 |" in search.table(found)
        assert "two folds, 2,000 rows" in search.table(found)
        assert "two folds, 250 rows" in search.table(replace(found, quick=True))

    def test_cliffs_are_between_neighbours_above_32(self):
        costs = dict.fromkeys(range(30, 40), 1.0) | {31: 9.0, 36: 1.6, 50: 9.0}
        assert sweep.cliffs(costs) == [(35, 36, 1.6), (36, 37, 1.6)]

    def test_memory_is_measured_in_another_process(self):
        if not memory._STATUS.exists():
            pytest.skip("needs /proc/self/status")
        run = Run([CASES["mid"]], [], "float32", 1, Plan())
        (found,) = memory.measure(run)
        needed = memory.needed(CASES["mid"], 4)
        assert 0.5 * needed < found.value < needed + memory.packed(CASES["mid"], 4, 1) + 10e6

    def test_memory_is_told_apart(self):
        label = "tiny 8-16-1; 32"  # 161 parameters, 17 units; 16 weights of the second layer
        found = memory.table(report(Result("memory", label, "fastnn", 2e4), threads=2))
        these, copies = 4 * (4 * 161 + 32 * 17), 4 * (16 + 2 * 32 * 8)
        figures = [number(x / 1e6) for x in (these, copies, 2e4, 2e4 - these - copies)]
        assert found.endswith(f"| {label} | {' | '.join(figures)} |")

    def test_mnist_is_taken_where_it_is(self, tmp_path, monkeypatch):
        run = Run([], [], "float64", 1, Plan(), quick=True)
        monkeypatch.delenv("FASTNN_DATA", raising=False)
        assert "noise" in mnist._task(run)[1]
        assert mnist.first_images(3) is None
        images = np.full((7500, 28, 28), 255, np.uint8)
        labels = np.arange(7500) % 10
        np.savez(
            tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels
        )
        monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
        task, name = mnist._task(run)
        assert name == "7,500 rows of MNIST"
        assert task.X.dtype == np.float64
        assert task.X.min() == 1.0
        assert len(task.X) == task.case.rows
        X, y = estimators._data(estimators._MNIST, mnist.first_images(7500), "float64", 200)
        np.testing.assert_array_equal(X, task.X[:200])
        np.testing.assert_array_equal(y, labels[:200])

    def test_populations_learn_what_sklearn_learns(self):
        pytest.importorskip("sklearn", reason='needs pip install "fastnn[sklearn]"')
        search = population.Search(
            rows=400, epochs=15, folds=2, rates=(1e-9, 0.02), alphas=(0.0,), threads=1
        )
        # A rate that learns nothing, and one that learns it
        for idle, good in search.together(), search.by_sklearn():
            assert good > 0.65 > 0.6 > idle
        run = Run([], [peers.load("native"), peers.load("sklearn")], "float32", 1,
                  Plan(fewest=2, most=2, shortest=0.0, pause=0.0), quick=True)  # fmt: skip
        found = list(population.measure(run))
        subjects = [result.subject for result in found]
        assert subjects == ["fastnn", "fastnn, one by one", "scikit-learn"]
        assert len({(result.case, result.flop) for result in found}) == 1
        assert found[2].value > 5 * found[0].value
        assert "scikit-learn" in SECTIONS["population"].table(report(*found))

    @pytest.mark.skipif(not machine._STAT.exists(), reason="needs /proc/stat")
    def test_others_are_who_is_not_of_this_process(self, tmp_path, monkeypatch, clock):
        def write(seconds):
            ticks = seconds * os.sysconf("SC_CLK_TCK")
            stat.write_text(f"cpu {ticks} {ticks} {ticks} 9999 9999 {ticks} 0 0 0 0\n")

        stat = tmp_path / "stat"
        monkeypatch.setattr(machine, "_STAT", stat)
        assert Others().cores() is None
        times = iter([(1.0, 2.0, 3.0, 4.0, 0.0), (2.0, 4.0, 6.0, 8.0, 0.0)])  # 10 s later
        monkeypatch.setattr(machine.os, "times", lambda: next(times))
        monkeypatch.setattr(machine, "time", clock)
        write(5)
        others = Others()
        write(10)
        clock.sleep(4.0)
        assert others.cores() == (4 * 5 - 10) / 4

    @pytest.mark.skipif(not machine._STAT.exists(), reason="needs /proc/stat")
    def test_workers_of_joblib_are_of_this_process(self):
        joblib = pytest.importorskip("joblib", reason="needs pip install joblib")
        others = Others()
        joblib.Parallel(2, "loky")([joblib.delayed(sum)(range(10**7))] * 2)
        before = os.times()
        others.cores()
        assert os.times().children_user > before.children_user


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("seconds", "peak"), [(0, 2e9), (2, 2e9), (60, 1e9)])
def test_processors_that_are_halves_of_one(seconds, peak, monkeypatch, clock):
    """As a virtual machine's may be for seconds: the peak is looked at again, but not for ever."""

    def fma_peak(itemsize, threads, duration):
        clock.work(duration)
        return 1e9 if clock.wall < seconds else threads * 1e9

    monkeypatch.setattr("fastnn._native.fma_peak", fma_peak)
    monkeypatch.setattr(machine, "time", clock)
    assert machine._peak(4, 2) == peak
    assert clock.wall < machine._PATIENCE + 1


@pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
def test_peak_of_as_many_threads_as_may_be_asked_for():
    from fastnn._native import fma_peak

    assert fma_peak(4, _config.MOST_THREADS, 1e-3) > 0


@pytest.mark.parametrize("name", [name for name in peers.names() if name != "native"])
@pytest.mark.usefixtures("native")
def test_peers_do_the_same_as_fastnn(name):
    """They predict the same from the same weights, and learn as well from the same rows."""
    # In a process of its own, since libraries leave threads and warnings behind.
    code = f"""
import json, warnings
from fastnn.benchmark import peers
from fastnn.benchmark.cases import Case
import numpy as np
try:
    peer = peers.load({name!r})
except ImportError as error:
    raise SystemExit(print(json.dumps(str(error))))
if peer.on_request:
    raise SystemExit(print(json.dumps("only on request")))
found = []
for sizes in [(8, 16, 1), (5, 12, 7, 2), (6, 9, 4)]:
    for dtype in "float32", "float64":
        task = Case("test", sizes, 10, 20).task(np.dtype(dtype), 1)
        for each in peers.load("native"), peer:
            model = each.model(task)
            before = np.asarray(model.predictor(task.X)()).reshape(len(task.X), -1)
            if peer.trains:
                for _ in range(20):
                    model.train()
            after = np.asarray(model.predictor(task.X)()).reshape(len(task.X), -1)
            if task.case.regression:
                loss = np.mean((after - task.y) ** 2)
            else:
                loss = -np.mean(np.log(after[np.arange(len(after)), task.y]))
            found.append((before.tolist(), str(before.dtype), float(loss)))
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if isinstance(found, str):
        pytest.skip(found)
    for (own, own_dtype, own_loss), (other, dtype, loss) in zip(
        found[::2], found[1::2], strict=True
    ):
        assert dtype == own_dtype
        np.testing.assert_allclose(other, own, rtol=1e-4, atol=1e-5)
        assert loss == pytest.approx(own_loss, rel=0.1)


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def core(self, native, threads):
        pass

    def run(self, *arguments):
        return main(["bench", "--quick", "--shapes", "tiny", "--peers", "numpy", *arguments])

    def test_measures_prints_and_writes(self, tmp_path, capsys):
        files = {name: tmp_path / name for name in ("a.json", "a.md")}
        sections = ",".join(name for name in SECTIONS if name not in LONG)
        arguments = ["--sections", sections, "--seconds", "0.1"]
        arguments += ["--json", str(files["a.json"]), "--markdown", str(files["a.md"])]
        assert self.run(*arguments) == 0
        printed = capsys.readouterr().out
        assert printed.strip() == files["a.md"].read_text().strip()
        for heading in ("## Training", "## Prediction", "## Threads", "## Memory"):
            assert heading in printed
        found = Report.load(files["a.json"])
        assert found.quick
        assert set(found.peers) == {"fastnn", "NumPy"}
        assert {result.section for result in found.results} == set(sections.split(","))

    @pytest.mark.parametrize(("factor", "status"), [(0.01, 1), (100.0, 0)])
    def test_compares(self, tmp_path, factor, status, capsys):
        path = tmp_path / "old.json"
        arguments = ["--sections", "train", "--seconds", "0.1"]
        assert self.run(*arguments, "--json", str(path)) == 0
        old = Report.load(path)
        old.results = [replace(result, value=result.value * factor) for result in old.results]
        old.save(path)
        assert self.run(*arguments, "--compare", str(path)) == status
        assert ("worse" if status else "better") in capsys.readouterr().out

    def test_names_who_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.delitem(sys.modules, "fastnn.benchmark.peers.torch", raising=False)
        found, missing = cli._load(["torch", "numpy"])
        assert [peer.label for peer in found] == ["fastnn", "NumPy"]
        assert "torch" in missing["torch"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--shapes", "tiny,huge"], "must be one of tiny, small, seed, mid, large; got 'huge'"),
            (["--peers", "tensorflow"], "must be one of jax,"),
            (["--peers", "native"], "must be one of jax,"),
            (["--sections", "train,"], "must be one of train, predict, "),
            (["--dtype", "float16"], "invalid choice: 'float16'"),
            (["--threads", "0"], "the most of this build; got '0'"),
            (["--threads", "4097"], "the most of this build; got '4097'"),
            (["--threads", "9" * 30], "the most of this build; got '999"),
            (["--seconds", "nan"], "must be a number > 0; got 'nan'"),
            (["--json", "no/such/folder/a.json"], "must be in a folder that exists"),
            (["--compare", "no-such.json"], "No such file"),
            (["--sections", "predict", "--roofline", "a.png"], "needs the section train"),
        ],
    )
    def test_refuses(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["bench", *arguments])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err

    def test_tells_what_the_environment_tells_the_libraries(self, monkeypatch, capsys):
        monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
        assert self.run("--sections", "memory", "--seconds", "0.1") == 0
        assert "OPENBLAS_CORETYPE=Haswell" in capsys.readouterr().out

    def test_refuses_to_compare_with_another_machine(self, tmp_path, capsys):
        report().save(tmp_path / "old.json")
        with pytest.raises(SystemExit):
            self.run("--compare", str(tmp_path / "old.json"))
        assert "of the same processor" in capsys.readouterr().err

    def test_needs_the_core(self, monkeypatch, capsys):
        monkeypatch.setattr(_config, "why_missing", "it was not built")
        with pytest.raises(SystemExit):
            main(["bench"])
        assert "core is missing: it was not built" in capsys.readouterr().err

    def test_gives_the_number_of_threads_back(self):
        fastnn.set_num_threads(2)
        before = fastnn.get_num_threads()  # 1 without OpenMP
        assert self.run("--sections", "scaling", "--threads", "1", "--seconds", "0.1") == 0
        assert fastnn.get_num_threads() == before

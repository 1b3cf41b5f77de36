"""The package around the library: what it imports, reports, prints and draws."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import _config, plotting
from fastnn.__main__ import main

ROOT = Path(__file__).parent.parent


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestImport:
    def test_version_is_that_of_the_distribution(self):
        try:
            installed = importlib.metadata.version("fastnn")
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("fastnn is not installed")
        assert fastnn.__version__ == installed

    def test_version_is_that_to_be_cited(self):
        if not (ROOT / "CITATION.cff").is_file():
            pytest.skip("CITATION.cff is not here: run the tests in a checkout")
        assert f"\nversion: {fastnn.__version__}\n" in (ROOT / "CITATION.cff").read_text()

    def test_has_type_hints_for_others(self):
        assert (Path(fastnn.__file__).parent / "py.typed").is_file()
        assert (Path(fastnn.__file__).parent / "_native.pyi").is_file()

    def test_loads_numpy_and_nothing_else(self):
        code = """
import json, sys, numpy
before = set(sys.modules)
import fastnn
print(json.dumps(sorted(
    {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
)))
"""
        # Cython keeps what it shares between modules, such as NumPy's and ours, in modules as well.
        loaded = {name for name in json.loads(run_python(code)) if "cython_" not in name}
        assert loaded <= {"fastnn", "numpy"}

    def test_costs_less_than_numpy_does(self, tmp_path):
        """Less than 40 ms where NumPy takes 60; the least of some pairs, since others compute."""
        code = """
from time import perf_counter as now
start = now(); import numpy; half = now(); import fastnn; print((now() - half) / (half - start))
"""
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
        ratios = [float(run_python(code, **compiled)) for _ in range(8)]
        assert min(ratios[1:]) < 0.7, ratios

    def test_public_names_exist(self):
        for name in fastnn.__all__:
            assert hasattr(fastnn, name)

    def test_all_of_them_come_by_a_star_without_sklearn(self):
        code = "import sys; sys.modules['sklearn'] = None; from fastnn import *; print(dir())"
        assert {"Network", "bag", "cross_validate", "train_many"} <= set(eval(run_python(code)))


class TestConfig:
    def test_says_what_is_there(self):
        config = fastnn.show_config(as_dict=True)
        assert config["fastnn"] == fastnn.__version__
        assert config["numpy"] == np.__version__
        assert config["native"] is None
        assert config["isa"] in config["available_isas"]
        assert config["num_threads"] == fastnn.get_num_threads()
        assert (config["openmp"] is not None) == fastnn.openmp_enabled()
        json.dumps(config)

    def test_prints_it(self, capsys):
        assert fastnn.show_config() is None
        printed = capsys.readouterr().out
        config = fastnn.show_config(as_dict=True)
        for key in ("fastnn", "isa", "compiler", "numpy", "python", "platform"):
            assert config[key] in printed

    def test_command_line_prints_it(self, capsys):
        assert main(["info"]) == 0
        assert "instructions" in capsys.readouterr().out

    def test_command_line_needs_a_command(self, capsys):
        with pytest.raises(SystemExit) as stopped:
            main([])
        assert stopped.value.code == 2
        assert "COMMAND" in capsys.readouterr().err

    def test_says_which_instruction_set_was_forced(self):
        isa = fastnn.show_config(as_dict=True)["available_isas"][-1]
        printed = run_python("import fastnn; fastnn.show_config()", FASTNN_ISA=isa)
        assert f"{isa}, by FASTNN_ISA" in printed

    def test_instruction_sets_may_be_spelled_otherwise(self, native):
        names = fastnn.show_config(as_dict=True)["available_isas"]
        code = """
import os, fastnn
print(fastnn.show_config(as_dict=True)["isa"], os.environ["FASTNN_ISA"])
"""
        for name in names:
            asked = name.upper().replace("-", "_")
            assert run_python(code, FASTNN_ISA=asked).split() == [name, asked]
        assert run_python(code, FASTNN_ISA="baseline").split() == ["generic", "baseline"]

    def test_an_unknown_instruction_set_is_no_matter_of_the_compiler(self, native):
        code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastnn
(warning,) = caught
print(warning.message)
"""
        printed = run_python(code, FASTNN_ISA="mmx")
        names = ", ".join(fastnn.show_config(as_dict=True)["available_isas"])
        assert "FASTNN_ISA='mmx' is not among" in printed and names in printed
        assert "Set FASTNN_ISA to one of these, or not at all" in printed
        assert "compiler" not in printed

    def test_tells_the_backend_that_networks_have(self, native):
        assert fastnn.backend() == fastnn.Network([2, 1]).backend == native

    def test_works_without_the_core(self):
        code = """
import sys, warnings
sys.modules["fastnn._native"] = None
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastnn, fastnn.network, fastnn.backends
(warning,) = caught
assert warning.category is RuntimeWarning and warning.filename == "<string>", warning
assert "apt install gcc" in str(warning.message) and "pip install" in str(warning.message)
config = fastnn.show_config(as_dict=True)
assert config["isa"] is None and config["native"], config
fastnn.show_config()
fastnn.set_num_threads(2)
assert fastnn.get_num_threads() == 1
assert fastnn.backend() == "numpy" and fastnn.openmp_enabled() is False
net = fastnn.Network([2, 3, 1], seed=0)
assert net.backend == "numpy"
assert net.predict(np.zeros((4, 2))).shape == (4, 1)
try:
    fastnn.Network([2, 3, 1], backend="native")
except ImportError as error:
    assert "pip install" in str(error)
else:
    raise AssertionError
"""
        assert "NumPy only" in run_python(code)


class TestThreads:
    @pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
    @pytest.mark.usefixtures("threads")
    def test_number_can_be_set_and_taken_back(self):
        before = fastnn.get_num_threads()
        fastnn.set_num_threads(np.int64(3))
        assert fastnn.get_num_threads() == 3
        assert fastnn.show_config(as_dict=True)["num_threads_from"] == "set_num_threads"
        fastnn.set_num_threads(None)
        assert fastnn.get_num_threads() == before

    @pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
    def test_openmp_may_say_the_number(self):
        code = """
import fastnn
config = fastnn.show_config(as_dict=True)
print(config["num_threads"], config["num_threads_from"])
"""
        assert run_python(code, OMP_NUM_THREADS="3").split() == ["3", "OMP_NUM_THREADS"]

    @pytest.mark.skipif(not _config.openmp_enabled(), reason="built without OpenMP")
    @pytest.mark.parametrize(
        ("value", "names_it"),
        [
            *((value, True) for value in ("2", " 3 ", "+3", "4,2", "4 , 2")),
            *((value, False) for value in ("", " ", "abc", "0", "-1", "2,", "2,0", "1.5", "2x")),
        ],
    )
    def test_openmp_says_it_if_it_is_a_number(self, value, names_it, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        source = fastnn.show_config(as_dict=True)["num_threads_from"]
        assert source == ("OMP_NUM_THREADS" if names_it else "processors for this process")

    @pytest.mark.parametrize("n", [0, -1, 10**9])
    def test_refuses_numbers_out_of_range(self, n):
        before = fastnn.get_num_threads()
        with pytest.raises(ValueError, match=rf"\bn must be .*got {n}"):
            fastnn.set_num_threads(n)
        assert fastnn.get_num_threads() == before

    @pytest.mark.parametrize("n", [1.5, "2", True])
    def test_refuses_what_is_no_integer(self, n):
        with pytest.raises(TypeError, match=r"\bn must be an integer"):
            fastnn.set_num_threads(n)


class TestPlotting:
    @pytest.fixture(autouse=True)
    def pyplot(self, monkeypatch):
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("agg")
        from matplotlib import pyplot

        yield pyplot
        pyplot.close("all")

    def test_learning_curve_has_a_line_a_figure(self, tmp_path):
        figures = {
            "loss": [0.9, 0.4, 0.2],
            "accuracy": [0.5, 0.8, 0.9],
            "val_loss": [0.8, 0.5, 0.3],
            "val_accuracy": [0.6, 0.7, 0.8],
        }
        history = fastnn.History()
        for epoch in range(3):
            history.append(epoch, {name: values[epoch] for name, values in figures.items()})
        ax = plotting.learning_curve(history)
        drawn = [line for axes in ax.figure.axes for line in axes.get_lines()]
        assert sorted(tuple(line.get_ydata()) for line in drawn) == sorted(
            map(tuple, figures.values())
        )
        assert all(list(line.get_xdata()) == [1, 2, 3] for line in drawn)
        ax.figure.savefig(tmp_path / "curve.png")
        assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")

    def test_learning_curve_of_a_regression_has_one_scale(self):
        ax = plotting.learning_curve({"loss": [3.0, 1.0]})
        assert len(ax.figure.axes) == 1

    def test_learning_curve_takes_axes(self, pyplot):
        given = pyplot.subplots()[1]
        assert plotting.learning_curve({"loss": [1.0]}, ax=given) is given

    def test_learning_curve_refuses_an_empty_history(self):
        with pytest.raises(ValueError, match="history must have"):
            plotting.learning_curve(fastnn.History())

    def test_confusion_matrix_counts(self):
        ax = plotting.confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0])
        counts = np.array([int(text.get_text()) for text in ax.texts]).reshape(3, 3)
        np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 0], [1, 0, 2]])

    def test_confusion_matrix_has_the_names(self):
        ax = plotting.confusion_matrix([0, 1], [1, 1], labels=["cat", "dog", "cow"])
        assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog", "cow"]
        assert len(ax.texts) == 9

    @pytest.mark.parametrize(
        ("true", "predicted", "labels", "error", "message"),
        [
            ([0, 1], [0], None, ValueError, "y_pred must have the shape"),
            ([], [], None, ValueError, "y_true must be one class a row"),
            ([[0]], [[0]], None, ValueError, "y_true must be one class a row"),
            ([0.5], [0], None, TypeError, "y_true must be integers"),
            ([0], [-1], None, ValueError, "y_pred must be classes from 0"),
            ([0], [1], ["a"], ValueError, "labels must name all 2 classes"),
        ],
    )
    def test_confusion_matrix_refuses(self, true, predicted, labels, error, message):
        with pytest.raises(error, match=message):
            plotting.confusion_matrix(true, predicted, labels)

    def test_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"fastnn\[plot\]"):
            plotting.learning_curve({"loss": [1.0]})


def test_readme_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(example, names)
    net = fastnn.Network.load("xor.safetensors")
    assert net.evaluate(names["X"][4000:], names["y"][4000:])["accuracy"] > 0.95

"""setup.py: which flags it chooses for which compiler, and what it builds from the sdist."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent
if not (ROOT / "setup.py").is_file():
    pytest.skip("setup.py is not here: run the tests in a checkout", allow_module_level=True)
pytest.importorskip("setuptools", "77", reason="setuptools is missing: pip install setuptools")

from setuptools import Distribution, Extension  # noqa: E402
from setuptools.command.build_ext import build_ext  # noqa: E402
from setuptools.errors import CompileError, LinkError  # noqa: E402


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastnn_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Compiler:
    """A compiler that takes all flags but some, and has one vector header, of its processors."""

    compiler_so = ("cc",)

    def __init__(
        self, kind="unix", refuses=(), cannot_link=(), links_with=(), header="immintrin.h"
    ):
        self.compiler_type, self.refuses, self.header = kind, set(refuses), header
        self.cannot_link, self.links_with = set(cannot_link), set(links_with)
        self.cc = "cl.exe"
        self.compile_options = ["/nologo", "/O2", "/GL"]
        self.commands: dict[str, list[str]] = {}

    def initialize(self, platform):
        self.platform = platform

    def compile(self, sources, output_dir, extra_postargs=(), include_dirs=()):
        directly = " ".join(extra_postargs).replace("-Xpreprocessor -fopenmp", "").split()
        if self.refuses & set(directly):
            raise CompileError(f"unknown flags in {directly}")
        code = Path(sources[0]).read_text()
        if ("intrin.h" in code or "neon.h" in code) and self.header not in code:
            raise CompileError("a header of another processor")
        self.commands[Path(sources[0]).name] = list(extra_postargs)
        return self.object_filenames(sources, output_dir)

    def object_filenames(self, sources, output_dir):
        return [str(Path(output_dir, Path(source).stem + ".o")) for source in sources]

    def link_executable(self, objects, name, folder, extra_postargs=()):
        if self.cannot_link & set(extra_postargs) or not self.links_with <= set(extra_postargs):
            raise LinkError("no such library")


def built(setup, compiler, monkeypatch, tmp_path, platform="linux-x86_64"):
    """Return what `BuildNative` compiles (flags by file) and links, and what it warns of."""
    monkeypatch.chdir(ROOT)
    for variable in ("CFLAGS", "FASTNN_NO_OPENMP"):
        monkeypatch.delenv(variable, raising=False)
    extension = Extension("fastnn._native", ["src/_native.pyx"])
    command = setup.BuildNative(Distribution({"ext_modules": [extension]}))
    command.ensure_finalized()
    command.compiler, command.build_temp, command.plat_name = compiler, str(tmp_path), platform
    warnings = []
    translated = tmp_path / "_native.c"
    translated.touch()
    monkeypatch.setattr(command, "warn", warnings.append)
    monkeypatch.setattr(command, "cython", lambda ext: str(translated))
    monkeypatch.setattr(build_ext, "build_extension", lambda self, ext: None)
    command.build_extension(extension)
    kernels = {
        name[len("kernels_") : -2] for name in compiler.commands if name.startswith("kernels_")
    }
    return SimpleNamespace(
        flags=compiler.commands["_native.c"],
        kernels=kernels,
        link=extension.extra_link_args,
        libraries=extension.libraries,
        warnings=warnings,
    )


class TestFlags:
    """Compilers that are not here, played by `Compiler`."""

    def test_gcc(self, setup, monkeypatch, tmp_path):
        made = built(setup, Compiler(), monkeypatch, tmp_path)
        assert made.kernels == {"avx512", "avx2", "x86_64_v2", "generic"}
        assert made.flags[: len(setup.OPTIMISATION["unix"])] == setup.OPTIMISATION["unix"]
        assert {"-fopenmp", "-DFASTNN_HAVE_AVX512=1"} <= set(made.flags)
        assert (made.link, made.libraries, made.warnings) == (["-fopenmp"], ["m"], [])

    def test_openmp_is_linked_with_the_users_flags(self, setup, monkeypatch, tmp_path):
        """As a sanitizer, or a libomp that lies elsewhere, needs it."""
        monkeypatch.setenv("LDFLAGS", "-fsanitize=address -L/opt/libomp")
        compiler = Compiler(links_with=["-fsanitize=address", "-L/opt/libomp"])
        made = built(setup, compiler, monkeypatch, tmp_path)
        assert (made.link, made.warnings) == (["-fopenmp"], [])

    def test_names_no_processor(self, setup, monkeypatch, tmp_path):
        made = built(setup, Compiler(), monkeypatch, tmp_path)
        assert not [flag for flag in made.flags if flag.startswith(("-march", "-mtune", "-m"))]
        assert "-ffast-math" not in made.flags

    def test_arm(self, setup, monkeypatch, tmp_path):
        made = built(setup, Compiler(header="arm_neon.h"), monkeypatch, tmp_path)
        assert made.kernels == {"neon", "generic"}

    def test_flags_that_are_unknown_are_left_out(self, setup, monkeypatch, tmp_path):
        made = built(setup, Compiler(refuses=["-fno-trapping-math"]), monkeypatch, tmp_path)
        assert "-fno-trapping-math" not in made.flags
        assert "-fno-math-errno" in made.flags

    def test_apple_clang_with_libomp(self, setup, monkeypatch, tmp_path):
        apple = Compiler(refuses=["-fopenmp"], header="arm_neon.h")
        made = built(setup, apple, monkeypatch, tmp_path, "macosx-11.0-arm64")
        assert "-Xpreprocessor -fopenmp" in " ".join(made.flags)
        assert (made.link, made.warnings) == (["-lomp"], [])
        assert made.kernels == {"neon", "generic"}

    def test_apple_clang_without_libomp(self, setup, monkeypatch, tmp_path):
        apple = Compiler(cannot_link=["-fopenmp", "-lomp"], header="arm_neon.h")
        made = built(setup, apple, monkeypatch, tmp_path, "macosx-11.0-arm64")
        assert "-fopenmp" not in made.flags
        assert made.link == []
        assert "brew install libomp" in made.warnings[0]

    @pytest.mark.parametrize(
        ("platform", "header", "target", "kernels"),
        [
            ("win-amd64", "immintrin.h", "x86_64", {"avx512", "avx2", "x86_64_v2", "generic"}),
            ("win-arm64", "arm_neon.h", "aarch64", {"neon", "generic"}),
        ],
    )
    def test_windows_takes_clang_cl(
        self, setup, monkeypatch, tmp_path, platform, header, target, kernels
    ):
        monkeypatch.setattr(shutil, "which", lambda name: f"C:/{name}.exe")
        compiler = Compiler("msvc", header=header)
        made = built(setup, compiler, monkeypatch, tmp_path, platform)
        assert (compiler.platform, compiler.cc) == (platform, "C:/clang-cl.exe")
        assert "/GL" not in compiler.compile_options
        assert f"--target={target}-pc-windows-msvc" in compiler.compile_options
        assert made.kernels == kernels
        assert {"/O2", "/openmp", "/clang:-ffp-contract=fast"} <= set(made.flags)
        assert not [flag for flag in made.flags if not flag.startswith(("/", "-D"))]
        assert (made.link, made.libraries, made.warnings) == ([], [], [])

    def test_windows_needs_clang_cl(self, setup, monkeypatch, tmp_path):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(CompileError, match="needs clang-cl"):
            built(setup, Compiler("msvc"), monkeypatch, tmp_path, "win-amd64")

    @pytest.mark.parametrize(
        ("environment", "wanted"),
        [
            ({}, None),
            ({"CIBUILDWHEEL": "0"}, None),
            ({"CIBUILDWHEEL": "1"}, True),
            ({"FASTNN_BUILD_EXT": "1"}, True),
            ({"FASTNN_BUILD_EXT": "0"}, False),
            ({"FASTNN_BUILD_EXT": "0", "CIBUILDWHEEL": "1"}, False),
        ],
    )
    def test_whether_the_core_may_be_left_out(self, setup, monkeypatch, environment, wanted):
        for name in ("CIBUILDWHEEL", "FASTNN_BUILD_EXT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert setup.wants_core() is wanted
        assert [extension.optional for extension in setup.extensions()] == (
            [] if wanted is False else [wanted is None]
        )

    def test_refuses_what_it_does_not_know(self, setup, monkeypatch):
        monkeypatch.setenv("FASTNN_BUILD_EXT", "yes")
        with pytest.raises(SystemExit, match="FASTNN_BUILD_EXT must be 0 or 1, got 'yes'"):
            setup.wants_core()


def run(*command: str | Path, cwd: Path, succeeds: bool = True, **environment: str) -> str:
    """Run without a network's help and without the caller's flags; return all that it prints."""
    clean = {k: v for k, v in os.environ.items() if k not in ("CC", "CFLAGS", "CIBUILDWHEEL")}
    # Unoptimised: it is the way from the sources to the wheel that is under test here.
    settings = {"CFLAGS": "-O0", "PIP_NO_INDEX": "1", "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode == 0) is succeeds, done.stdout
    return done.stdout


def copy_of_the_tree(target: Path) -> Path:
    """Copy the sources alone, as a fresh clone has them."""
    target.mkdir()
    for path in ROOT.iterdir():
        if path.name in {"fastnn", "src", "tests", "examples", "docs", "benchmarks", "licenses"}:
            hidden = shutil.ignore_patterns("__pycache__", "*.so", ".*")
            shutil.copytree(path, target / path.name, ignore=hidden, copy_function=shutil.copyfile)
        elif path.is_file():
            shutil.copyfile(path, target / path.name)
    return target


def make_sdist(source: Path, target: Path) -> Path:
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", target, cwd=source)
    (sdist,) = target.glob("*.tar.gz")
    return sdist


def unpacked(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return source


WHEEL = (sys.executable, "-m", "pip", "wheel", "--verbose", "--no-build-isolation", "--no-deps")


def make_wheel(source: Path, target: Path, **environment: str) -> tuple[Path, str]:
    """Return the wheel and what was printed while it was built."""
    printed = run(*WHEEL, "-w", target, ".", cwd=source, **environment)
    (wheel,) = target.glob("*.whl")
    return wheel, printed


def unzipped(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


# An editable install would lend its core to a fastnn that has none.
ALONE = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in f.__module__]\n"
CONFIG = ALONE + "import json, fastnn; print(json.dumps(fastnn.show_config(as_dict=True)))"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    for name in ("build", "Cython", "pip"):
        pytest.importorskip(name, reason=f"{name} is missing: pip install -e . --group dev")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing: install it")
    folder = tmp_path_factory.mktemp("sdist")
    return make_sdist(copy_of_the_tree(folder / "tree"), folder / "dist")


@pytest.mark.slow
class TestSdist:
    def test_has_what_is_needed_to_build_and_test(self, sdist):
        with tarfile.open(sdist) as archive:
            members = archive.getmembers()
        names = {member.name.partition("/")[2] for member in members}
        assert {"setup.py", "src/_native.pyx", "src/kernels/gemm.h", "tests/conftest.py"} <= names
        assert {"LICENSE", "README.md", "licenses/libgomp.txt"} <= names
        assert not [name for name in names if name.endswith((".so", ".pyc", ".o"))]
        assert {(member.uname, member.uid, member.mtime) for member in members} == {
            ("", 0, 1700000000)
        }

    def test_pages_link_to_what_is_there(self, sdist, tmp_path):
        source = unpacked(sdist, tmp_path)
        for page in source.rglob("*.md"):
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
                assert (page.parent / link).exists(), f"{page.relative_to(source)}: {link}"

    def test_same_bytes_from_any_place(self, sdist, tmp_path):
        """Also where the path has spaces and letters beyond ASCII, without a network."""
        plain = unpacked(sdist, tmp_path / "plain")
        odd = unpacked(sdist, tmp_path / "Bücher und Œuvres 書")
        wheels = [
            make_wheel(source, tmp_path / f"wheel{i}")[0] for i, source in enumerate([plain, odd])
        ]
        assert wheels[0].read_bytes() == wheels[1].read_bytes()
        again = make_sdist(copy_of_the_tree(tmp_path / "tree"), tmp_path / "sdist")
        assert again.read_bytes() == sdist.read_bytes()
        place = unzipped(wheels[1], tmp_path / "ins tälled")
        config = json.loads(
            run(sys.executable, "-c", CONFIG, cwd=tmp_path, PYTHONPATH=str(place)).splitlines()[-1]
        )
        assert config["native"] is None

    def test_without_a_compiler_numpy_computes(self, sdist, tmp_path):
        source = unpacked(sdist, tmp_path / "source")
        wheel, printed = make_wheel(source, tmp_path / "wheel", CC="false")
        assert "built WITHOUT its compiled core" in printed
        assert "apt install gcc" in printed
        assert not [name for name in zipfile.ZipFile(wheel).namelist() if "_native.c" in name]
        code = f"{ALONE}import fastnn; net = fastnn.Network([2, 4, 1]); net.fit([[0, 1]], [1])"
        place = unzipped(wheel, tmp_path / "installed")
        told = run(
            sys.executable,
            "-c",
            f"{code}; print(net.backend)",
            cwd=tmp_path,
            PYTHONPATH=str(place),
        )
        assert told.count("RuntimeWarning: fastnn is without its compiled core") == 1
        assert "apt install gcc" in told
        assert told.splitlines()[-1] == "numpy"

    @pytest.mark.parametrize("variable", ["CIBUILDWHEEL", "FASTNN_BUILD_EXT"])
    def test_without_a_compiler_no_release(self, sdist, tmp_path, variable):
        source = unpacked(sdist, tmp_path / "source")
        environment = {"CC": "false", variable: "1"}
        printed = run(*WHEEL, ".", cwd=source, succeeds=False, **environment)
        assert "apt install gcc" in printed
        assert not list(source.glob("*.whl"))

    def test_a_compiler_like_apples(self, sdist, tmp_path):
        """One that knows -fopenmp for its preprocessor alone, and has the runtime as libomp."""
        clang = tmp_path / "clang"
        clang.write_text(
            """#!/bin/bash
args=()
while [ $# -gt 0 ]; do
  case $1 in
    -fopenmp) echo "clang: error: unsupported option '-fopenmp'" >&2; exit 1;;
    -Xpreprocessor) args+=("$2"); shift;;
    -lomp) args+=(-lgomp);;
    *) args+=("$1");;
  esac
  shift
done
exec gcc "${args[@]}"
"""
        )
        clang.chmod(0o755)
        source = unpacked(sdist, tmp_path / "source")
        wheel, printed = make_wheel(source, tmp_path / "wheel", CC=str(clang))
        assert "-Xpreprocessor -fopenmp" in printed
        place = unzipped(wheel, tmp_path / "installed")
        config = run(sys.executable, "-c", CONFIG, cwd=tmp_path, PYTHONPATH=str(place))
        assert json.loads(config.splitlines()[-1])["openmp"] is not None

    def test_clang(self, sdist, tmp_path):
        if shutil.which("clang") is None:
            pytest.skip("clang is missing: install it")
        source = unpacked(sdist, tmp_path / "source")
        wheel, _ = make_wheel(source, tmp_path / "wheel", CC="clang")
        place = unzipped(wheel, tmp_path / "installed")
        code = f"{CONFIG}; fastnn.Network([9, 40, 3], loss='cross_entropy').predict([[0.5] * 9])"
        config = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(place))
        assert "clang" in json.loads(config.splitlines()[-1])["compiler"]

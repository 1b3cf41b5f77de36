"""Build ``fastnn._native``: Cython over C11, one kernel file for each instruction set.

No flag names a processor: each kernel file raises its own target by a pragma, so what is built
runs on every processor of its architecture and picks its kernels at import. What the compiler
can do is found by letting it try tiny files.

``FASTNN_NO_OPENMP=1`` builds for one thread. Where the core cannot be compiled, fastnn is built
without it, which a warning tells; with ``FASTNN_BUILD_EXT=1`` or in cibuildwheel that is an error.
``FASTNN_BUILD_EXT=0`` leaves the core out. ``SOURCE_DATE_EPOCH`` makes builds repeatable.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import BaseError, CCompilerError, CompileError, LinkError
from setuptools.modified import newer_group

SOURCE = Path("src")

# By family of compilers. A flag that a compiler does not know is left out. On Windows clang-cl
# takes the place of cl, which has no vector extensions.
OPTIMISATION = {
    "unix": [
        "-O3",
        "-g0",
        "-std=gnu11",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-ffp-contract=fast",
        "-fvisibility=hidden",
    ],
    "msvc": [
        "/O2",
        "/clang:-O3",
        "/clang:-std=gnu11",
        "/clang:-fno-math-errno",
        "/clang:-ffp-contract=fast",
    ],
}
WARNINGS = {"unix": ["-Wall", "-Wextra"], "msvc": ["/W3"]}
# To compile and to link with, the first that works. Apple's clang takes the second, with libomp.
OPENMP: dict[str, list[tuple[list[str], list[str]]]] = {
    "unix": [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])],
    "msvc": [(["/openmp"], [])],
}
OPENMP_PROBE = """
#include <omp.h>
int main(void) { return omp_get_max_threads() < 1; }
"""

X86_PROBE = """
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("{target}"))), apply_to = function)
#else
#pragma GCC target("{target}")
#endif
void probe(float *x);
void probe(float *x) {{ {body}; }}
#if defined(__clang__)
#pragma clang attribute pop
#endif
"""
NEON_PROBE = """
#include <arm_neon.h>
void probe(float *x);
void probe(float *x) { float32x4_t v = vld1q_f32(x); vst1q_f32(x, vfmaq_f32(v, v, v)); }
"""
# src/kernels/kernels_<name>.c is built, and FASTNN_HAVE_<macro> defined, where the compiler takes
# the probe. The architecture is not asked: it would not compile the probe of another.
INSTRUCTION_SETS = {
    "avx512": (
        "AVX512",
        X86_PROBE.format(
            target="avx512f,avx512vl,avx512dq,avx512bw",
            body="__m512 v = _mm512_loadu_ps(x); _mm512_storeu_ps(x, _mm512_fmadd_ps(v, v, v))",
        ),
    ),
    "avx2": (
        "AVX2",
        X86_PROBE.format(
            target="avx2,fma",
            body="__m256 v = _mm256_loadu_ps(x); _mm256_storeu_ps(x, _mm256_fmadd_ps(v, v, v))",
        ),
    ),
    "x86_64_v2": (
        "SSE42",
        X86_PROBE.format(
            target="sse4.2", body="_mm_storeu_ps(x, _mm_round_ps(_mm_loadu_ps(x), 0))"
        ),
    ),
    "neon": ("NEON", NEON_PROBE),
    "generic": ("GENERIC", ""),
}
CLANG_CL_TARGET = {"win-amd64": "x86_64", "win-arm64": "aarch64"}

NO_CORE = """
================================================================================
fastnn is built WITHOUT its compiled core: it will compute by NumPy, many times
slower, on one thread.

{error}

Then install again: pip install --force-reinstall --no-deps --no-cache-dir fastnn
To have this be an error instead, set FASTNN_BUILD_EXT=1.
================================================================================
"""


class BuildNative(build_ext):
    """Ask the compiler what it can do, compile in parallel what has changed, and link."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.editable_mode:  # else in a temporary folder, where nothing is found again
            self.build_temp = str(Path("build", f"temp.{self.plat_name}"))

    def build_extension(self, ext: Extension) -> None:
        try:
            self.build_core(ext)
        except (BaseError, CCompilerError) as error:
            if ext.optional:
                self.warn(NO_CORE.format(error=error))
            raise

    def build_core(self, ext: Extension) -> None:
        family = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        if family == "msvc":
            use_clang_cl(self.compiler, self.plat_name)
        if not self.accepts("#include <Python.h>\n", []):
            raise CompileError(
                "fastnn needs a C compiler and Python's headers (Debian: apt install gcc "
                "python3-dev; Fedora: dnf install gcc python3-devel; macOS: xcode-select "
                "--install; Windows: Visual Studio's C++ tools with clang-cl). This one cannot "
                "compile #include <Python.h>: "
                + " ".join(getattr(self.compiler, "compiler_so", [self.compiler.compiler_type]))
            )
        flags = [flag for flag in OPTIMISATION[family] if self.accepts("", [flag])]
        warnings = [flag for flag in WARNINGS[family] if self.accepts("", [flag])]
        found = {
            f"kernels_{name}": f"-DFASTNN_HAVE_{macro}=1"
            for name, (macro, probe) in INSTRUCTION_SETS.items()
            if self.accepts(probe, flags)
        }
        openmp = self.openmp(family)
        # The user's flags again, since the last one counts.
        flags += [*openmp[0], *found.values(), *shlex.split(os.environ.get("CFLAGS", ""))]
        written = [
            path
            for path in files(".c")
            if not Path(path).stem.startswith("kernels_") or Path(path).stem in found
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = [pool.submit(self.compile, path, ext, flags + warnings) for path in written]
            jobs += [pool.submit(self.compile, self.cython(ext), ext, flags)]
            ext.extra_objects = [job.result() for job in jobs]
        ext.sources = []
        ext.libraries = [] if family == "msvc" else ["m"]
        ext.extra_link_args = openmp[1]
        # What is linked may be newer than objects that were made earlier with other flags.
        self.force = self.compiler.force = True
        super().build_extension(ext)

    def cython(self, ext: Extension) -> str:
        """Return the C file translated from the extension's source."""
        target = str(Path(self.build_temp, "_native.c"))
        if newer_group(files(".pyx", ".pxd", ".pxi"), target):
            self.mkpath(self.build_temp)
            command = [sys.executable, "-m", "cython", "-3", "--module-name", ext.name]
            self.spawn([*command, *ext.sources, "-o", target])
        return target

    def compile(self, source: str, ext: Extension, flags: list[str]) -> str:
        """Return the object of one file, from a folder that is named after the command."""
        command = repr((getattr(self.compiler, "compiler_so", None), flags, sys.version))
        folder = str(Path(self.build_temp, hashlib.sha256(command.encode()).hexdigest()[:12]))
        (target,) = self.compiler.object_filenames([source], output_dir=folder)
        if newer_group([source, *files(".h")], target):
            self.compiler.compile(
                [source], folder, include_dirs=ext.include_dirs, extra_postargs=flags
            )
        return target

    def openmp(self, family: str) -> tuple[list[str], list[str]]:
        """Return the flags to compile and to link with OpenMP, none where there is no OpenMP."""
        if os.environ.get("FASTNN_NO_OPENMP", "0") not in {"", "0"}:
            self.warn("FASTNN_NO_OPENMP is set: fastnn will use one thread")
            return [], []
        # distutils gives the user's flags to what links extensions, not to what links programs.
        user = shlex.split(os.environ.get("LDFLAGS", ""))
        for compiling, linking in OPENMP[family]:
            if self.accepts(OPENMP_PROBE, compiling, [*linking, *user]):
                return compiling, linking
        self.warn(
            "the C compiler has no OpenMP: fastnn will use one thread. GCC comes with it; clang "
            "needs libomp (Debian: apt install libomp-dev, macOS: brew install libomp)"
        )
        return [], []

    def accepts(self, code: str, flags: list[str], linking: list[str] | None = None) -> bool:
        """Whether the compiler takes this code with these flags, and links it if asked to."""
        # Clang only warns about flags that it does not know.
        strict = ["-Werror"] if flags and self.compiler.compiler_type != "msvc" else []
        with tempfile.TemporaryDirectory() as folder, silence():
            path = Path(folder, "probe.c")
            path.write_text(code or "int probe;\n")
            try:
                objects = self.compiler.compile(
                    [str(path)], folder, extra_postargs=[*flags, *strict]
                )
                if linking is not None:
                    self.compiler.link_executable(objects, "probe", folder, extra_postargs=linking)
            except (CompileError, LinkError):
                return False
        return True


class RepeatableSdist(sdist):
    """The same bytes from the same files: neither times nor names of users get in."""

    def make_archive(self, base_name: str, format: str, root_dir=None, base_dir=None, **kw) -> str:
        assert format == "gztar", f"sdist has the format gztar, not {format}"
        time = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))

        def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            member.mtime, member.uid, member.gid, member.uname, member.gname = time, 0, 0, "", ""
            return member

        target = Path(f"{base_name}.tar.gz")
        with (
            open(target, "wb") as file,
            gzip.GzipFile("", "wb", mtime=time, fileobj=file) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted(Path(base_dir).rglob("*")):
                if not path.is_dir():
                    archive.add(path, filter=anonymous)
        return str(target)


def use_clang_cl(compiler, platform: str) -> None:
    """Have Visual Studio's compiler replaced by the clang that takes its place."""
    compiler.initialize(platform)
    found = shutil.which("clang-cl")
    if found is None:
        raise CompileError(
            "fastnn needs clang-cl, as cl has no vector extensions: add 'C++ Clang Compiler for "
            "Windows' to Visual Studio, or install LLVM"
        )
    compiler.cc = found
    compiler.compile_options = [
        *(flag for flag in compiler.compile_options if flag != "/GL"),  # cl's own link-time code
        f"--target={CLANG_CL_TARGET[platform]}-pc-windows-msvc",
    ]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the complaints about a probe, which nobody needs to mend, from the reader."""
    saved = {number: os.dup(number) for number in (1, 2)}
    with open(os.devnull, "w") as nothing:
        for number in saved:
            os.dup2(nothing.fileno(), number)
    try:
        yield
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)


def files(*suffixes: str) -> list[str]:
    return sorted(str(path) for path in SOURCE.rglob("*") if path.suffix in suffixes)


def wants_core() -> bool | None:
    """Whether the core must be built, or must not; None if it may be left out."""
    asked = os.environ.get("FASTNN_BUILD_EXT", "")
    if asked not in {"", "0", "1"}:
        raise SystemExit(f"FASTNN_BUILD_EXT must be 0 or 1, got {asked!r}")
    if not asked:
        return True if os.environ.get("CIBUILDWHEEL", "0") not in {"", "0"} else None
    return asked == "1"


def extensions() -> list[Extension]:
    wanted = wants_core()
    if wanted is False:
        return []
    core = Extension(
        "fastnn._native",
        [str(SOURCE / "_native.pyx")],
        include_dirs=[str(SOURCE), str(SOURCE / "kernels")],
        optional=wanted is None,
    )
    return [core]


if __name__ == "__main__":
    setup(cmdclass={"build_ext": BuildNative, "sdist": RepeatableSdist}, ext_modules=extensions())

"""The kernels alone, compiled as C: here, and for 64-bit ARM on an emulator."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
SETS = {
    "x86_64": {"avx512": "AVX512", "avx2": "AVX2", "x86_64_v2": "SSE42", "generic": "GENERIC"},
    "aarch64": {"neon": "NEON", "generic": "GENERIC"},
}
FLAGS = "-O3 -std=gnu11 -fno-math-errno -fno-trapping-math -ffp-contract=fast -Wall -Wextra -Werror"


def build(compiler: str, machine: str, target: Path) -> Path:
    """Compile the kernels and their checks to one static program, which warnings would end."""
    if not SOURCE.is_dir():
        pytest.skip("the kernels' sources are not here: run the tests in a checkout")
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is missing: install it")
    static = [compiler, "-static", "-x", "c", "-", "-o", str(target)]
    if subprocess.run(static, input=b"#include <stdio.h>\nint main(void) {}\n").returncode:
        pytest.skip(f"{compiler} has no C library for {machine}: install one to develop with")
    sets = SETS[machine]
    files = [SOURCE / "isa.c", Path(__file__).with_name("kernels_check.c")]
    files += [SOURCE / "kernels" / f"kernels_{name}.c" for name in sets]
    command = [compiler, *FLAGS.split(), "-static", *[f"-DFASTNN_HAVE_{m}" for m in sets.values()]]
    command += [f"-I{SOURCE}", f"-I{SOURCE / 'kernels'}", *map(str, files), "-lm"]
    subprocess.run([*command, "-o", str(target)], check=True)
    return target


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_here(tmp_path):
    machine = platform.machine()
    if machine not in SETS:
        pytest.skip(f"no list of instruction sets for {machine}: add it to SETS")
    assert "generic, 8 bytes: 0 wrong" in run([str(build("gcc", machine, tmp_path / "check"))])


@pytest.fixture(scope="module")
def arm(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("arm") / "check"
    return build("aarch64-linux-gnu-gcc", "aarch64", target)


def test_on_an_emulated_arm(arm):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is missing: install qemu-user")
    assert "neon, 8 bytes: 0 wrong" in run(["qemu-aarch64", str(arm)])


def test_arm_tiles_stay_in_registers(arm):
    listing = run(["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(arm)])
    tiles = re.findall(r"<(?:row|column)_tile_8x2_f(?:32|64)>:\n(.*?)\n\n", listing, re.DOTALL)
    branch = r"\n.*\t(?:b|b\.\w+|cbn?z|tbn?z|ret)\b.*"
    inner = [[part for part in re.split(branch, tile) if "fmla" in part] for tile in tiles]
    neon = [loops for loops in inner if loops]
    assert len(neon) == 4
    assert all(loop.count("fmla") == 16 for loops in neon for loop in loops)
    assert not any("[sp" in loop for loops in neon for loop in loops)

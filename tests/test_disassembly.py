"""What the compiler has made: loops that stay in registers, instructions where they belong."""

from __future__ import annotations

import bisect
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from conftest import require_native

HOT = re.compile(r"(row|column|wide)_tile_\d+x\d_f(32|64)|update_f(32|64)")
FUNCTION = re.compile(r"^[0-9a-f]+ <([\w.]+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
FRAME = "%rsp,%rbp"  # where that is moved, %rbp points to the stack, too


def functions(listing: str) -> Iterator[tuple[str, list[tuple[int, str, str]]]]:
    """Yield name and instructions (address, mnemonic, operands) of each function."""
    name, body = "", []
    for line in listing.splitlines():
        if start := FUNCTION.match(line):
            if body:
                yield name, body
            name, body = start[1], []
        elif found := INSTRUCTION.match(line):
            body.append((int(found[1], 16), found[2], found[3]))
    if body:
        yield name, body


def innermost_loops(body: list[tuple[int, str, str]]) -> Iterator[list[tuple[int, str, str]]]:
    """Yield the loops that have no other within: from the target of a jump back to the jump."""
    spans = []
    for address, mnemonic, operands in body:
        target = re.match(r"([0-9a-f]+) <", operands)
        if mnemonic.startswith("j") and target and body[0][0] <= int(target[1], 16) <= address:
            spans.append((int(target[1], 16), address))
    for first, last in spans:
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in spans):
            yield [line for line in body if first <= line[0] <= last]


@pytest.fixture(scope="module")
def core() -> str:
    """The path of the core, with symbols, for x86-64."""
    require_native()
    from fastnn import _native

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("knows x86-64's registers only: run it on such a processor")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is missing: install binutils")
    if "row_tile" not in printed("objdump", "-t", _native.__file__):
        pytest.skip("the core has no symbols: build it without stripping, by 'pip install -e .'")
    return _native.__file__


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_no_register_is_spilled_in_a_hot_loop(core):
    listing = printed("objdump", "-d", "--no-show-raw-insn", core)
    loops, spills = 0, []
    for name, body in functions(listing):
        if not HOT.match(name):
            continue
        stack = re.compile(r"\(%r[sb]p" if any(line[2] == FRAME for line in body) else r"\(%rsp")
        for loop in innermost_loops(body):
            if not any("mul" in mnemonic or "fmadd" in mnemonic for _, mnemonic, _ in loop):
                continue
            loops += 1
            spills += [
                f"{name}: {mnemonic} {operands}"
                for _, mnemonic, operands in loop
                if stack.search(operands)
            ]
    assert loops > 100
    assert not spills, "\n".join(spills)


# A processor without AVX stops at the first instruction that AVX's or AVX-512's prefix begins.
ENCODED = re.compile(r"^\s*([0-9a-f]+):\t(?:67 |2e |3e )*(c4|c5|62) .*\t(.*)$", re.MULTILINE)
SYMBOL = re.compile(r"^([0-9a-f]+) (.{7}) (\S+)\s+[0-9a-f]+ +(?:\.hidden )?(.*)$", re.MULTILINE)


def test_each_instruction_is_in_the_kernels_of_its_set(core):
    sources, source = {}, ""
    for address, kind, section, name in SYMBOL.findall(printed("objdump", "-t", core)):
        if kind.endswith("df"):
            source = name
        elif section == ".text" and kind.startswith("l"):
            sources[int(address, 16)] = source
    starts = sorted(sources)
    found = {"avx": set(), "avx512": set()}
    for address, prefix, text in ENCODED.findall(printed("objdump", "-d", "-w", core)):
        before = bisect.bisect_right(starts, int(address, 16)) - 1
        is_avx512 = prefix == "62" or text.startswith("k")
        found["avx512" if is_avx512 else "avx"].add(sources[starts[before]])
    assert found["avx"] == {"kernels_avx2.c", "kernels_avx512.c"}
    assert found["avx512"] == {"kernels_avx512.c"}

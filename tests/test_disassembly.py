"""The hot loops, as the compiler has made them, keep everything in registers."""

from __future__ import annotations

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
STACK = re.compile(r"\(%r[sb]p")


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
def listing() -> str:
    require_native()
    from fastnn import _native

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("knows x86-64's registers only: run it on such a processor")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is missing: install binutils")
    command = ["objdump", "-d", "--no-show-raw-insn", _native.__file__]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "row_tile" not in text:
        pytest.skip("the core has no symbols: build it without stripping, by 'pip install -e .'")
    return text


def test_no_register_is_spilled_in_a_hot_loop(listing):
    loops, spills = 0, []
    for name, body in functions(listing):
        if not HOT.match(name):
            continue
        for loop in innermost_loops(body):
            if not any("mul" in mnemonic or "fmadd" in mnemonic for _, mnemonic, _ in loop):
                continue
            loops += 1
            spills += [
                f"{name}: {mnemonic} {operands}"
                for _, mnemonic, operands in loop
                if STACK.search(operands)
            ]
    assert loops > 100
    assert not spills, "\n".join(spills)

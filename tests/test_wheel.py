"""What is in the wheels that `make wheel` leaves in dist/, of which one is tested elsewhere."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

WHEELS = sorted((Path(__file__).parent.parent / "dist").glob("*.whl"))
pytestmark = pytest.mark.skipif(not WHEELS, reason="no wheel in dist/: run 'make wheel'")
MIB = 2**20


@pytest.fixture(params=WHEELS, ids=lambda wheel: wheel.name.split("-")[2])
def wheel(request: pytest.FixtureRequest) -> Path:
    return request.param


def named(wheel: Path) -> dict[str, bytes]:
    """Return the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


@pytest.fixture
def binaries(wheel, tmp_path) -> list[Path]:
    """The core and what it was repaired with, unpacked."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is missing: install binutils")
    paths = []
    for name, content in named(wheel).items():
        if ".so" in name:
            paths.append(tmp_path / Path(name).name)
            paths[-1].write_bytes(content)
    assert len(paths) == 2
    return paths


def test_is_small(wheel):
    assert wheel.stat().st_size < 3 * MIB


def test_has_what_runs_and_nothing_else(wheel):
    allowed = re.compile(
        r"fastnn/([a-z_]+/)*[a-z_]+\.py"
        r"|fastnn/(py\.typed|_native\.pyi|_native\.cpython-\d+-x86_64-linux-gnu\.so)"
        r"|fastnn\.libs/libgomp-[0-9a-f]+\.so[.\d]*"
        r"|fastnn-[^/]+\.dist-info/.*"
    )
    assert not [name for name in named(wheel) if not allowed.fullmatch(name)]


def test_has_the_licences_of_all_that_is_in_it(wheel):
    texts = {
        name.rpartition("/")[2]: text.decode()
        for name, text in named(wheel).items()
        if "/licenses/" in name
    }
    assert set(texts) == {"LICENSE", "libgomp.txt"}
    for needed in (
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "GCC RUNTIME LIBRARY EXCEPTION\n\nVersion 3.1",
        "GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007",
        "END OF TERMS AND CONDITIONS",
    ):
        assert needed in texts["libgomp.txt"]
    assert [name for name in named(wheel) if name.endswith("/sboms/auditwheel.cdx.json")]


def test_needs_numpy_alone(wheel):
    (metadata,) = (v for name, v in named(wheel).items() if name.endswith(".dist-info/METADATA"))
    needs = email.message_from_bytes(metadata).get_all("Requires-Dist")
    assert [need for need in needs if "extra ==" not in need] == ["numpy>=2.0"]


def test_has_no_symbols_for_debuggers(binaries):
    for path in binaries:
        sections = subprocess.run(["objdump", "-h", path], capture_output=True, text=True).stdout
        assert ".text" in sections
        assert ".debug" not in sections
        symbols = subprocess.run(["objdump", "-t", path], capture_output=True, text=True).stdout
        assert "no symbols" in symbols


def test_openmp_runs_on_any_processor(binaries):
    """`test_disassembly` shows it of the core, which has no names to tell its kernels by here."""
    (libgomp,) = (path for path in binaries if path.name.startswith("libgomp"))
    listing = subprocess.run(["objdump", "-dw", libgomp], capture_output=True, text=True).stdout
    assert re.search(r"^\s*[0-9a-f]+:\t", listing, re.MULTILINE)
    assert not re.search(r"^\s*[0-9a-f]+:\t(c4|c5|62) ", listing, re.MULTILINE)

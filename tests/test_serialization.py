"""Model files: the safetensors layout, written atomically and read with suspicion."""

import json
import os
import signal
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn import serialization

TENSORS = {
    "layers.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layers.0.bias": np.array([1.5, -2.5, np.nan], dtype=np.float32),
    "scale": np.array(0.1),
}
METADATA = {"format": "test", "description": '{"é": "\\n"}'}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def written(path):
    serialization.write(path, TENSORS, METADATA)
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        array = np.asarray(array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
        native = array.astype(array.dtype.newbyteorder("="))
        assert found[name].tobytes() == native.tobytes(), name


def build(header, data=b""):
    """A file made by hand: `header` as JSON text, bytes or an object to be dumped."""
    if not isinstance(header, bytes):
        header = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# What comes back


def test_round_trip(written):
    tensors, metadata = serialization.read(written)
    assert_same(tensors, TENSORS)
    assert metadata == METADATA
    for array in tensors.values():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.owndata


def test_nothing_to_write(path):
    serialization.write(path, {})
    assert serialization.read(path) == ({}, {})


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(written, monkeypatch, kind):
    monkeypatch.chdir(written.parent)
    serialization.write(kind("beside.safetensors"), TENSORS)
    assert_same(serialization.read(kind("beside.safetensors"))[0], TENSORS)


def test_same_contents_same_bytes(written, tmp_path):
    again = tmp_path / "again.safetensors"
    serialization.write(again, dict(reversed(TENSORS.items())), METADATA)
    assert again.read_bytes() == written.read_bytes()


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name not in ("__metadata__", "crc32")
)
ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(code) for code in ("<f4", ">f4", "<f8", ">f8")]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
LAYOUTS = st.sampled_from(
    [lambda a: a, np.asfortranarray, lambda a: a.T, lambda a: a[::-1] if a.ndim else a]
)


@settings(max_examples=100, deadline=None)
@given(
    tensors=st.dictionaries(NAMES, st.builds(lambda a, layout: layout(a), ARRAYS, LAYOUTS)),
    metadata=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_round_trip_of_anything(folder, tensors, metadata):
    serialization.write(folder / "any", tensors, metadata)
    found, found_metadata = serialization.read(folder / "any")
    assert_same(found, tensors)
    assert found_metadata == metadata


# The safetensors package as the judge of the format


def test_safetensors_reads_ours(written):
    safetensors = pytest.importorskip("safetensors")
    pytest.importorskip("safetensors.numpy")
    with safetensors.safe_open(written, framework="numpy") as file:
        assert_same({name: file.get_tensor(name) for name in file.keys()}, TENSORS)  # noqa: SIM118
        assert METADATA.items() <= file.metadata().items()


def test_ours_reads_safetensors(path):
    package = pytest.importorskip("safetensors.numpy")
    package.save_file(TENSORS, path, metadata=METADATA)
    tensors, metadata = serialization.read(path)
    assert_same(tensors, TENSORS)
    assert metadata == METADATA


def test_byte_for_byte_as_safetensors(path):
    package = pytest.importorskip("safetensors.numpy")
    tensors = {**TENSORS, "": np.zeros((0, 2)), 'été "\\\n\x01': np.ones(3)}
    serialization.write(path, tensors)
    ours = path.read_bytes()
    (length,) = struct.unpack("<Q", ours[:8])
    checksum = json.loads(ours[8 : 8 + length])["__metadata__"]
    assert package.save(tensors, metadata=checksum) == ours


# What is refused in writing


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({"w": np.arange(3)}, {}, TypeError, "'w'.*float32 or float64.*int64"),
        ({"w": np.ones(2, np.float16)}, {}, TypeError, "float16"),
        ({"w": np.ones(2, complex)}, {}, TypeError, "complex128"),
        ({"w": np.array(["a"])}, {}, TypeError, "<U1"),
        ({"w": np.array([None])}, {}, TypeError, "object"),
        ({3: np.ones(2)}, {}, TypeError, "names of type str.*3"),
        ({"__metadata__": np.ones(2)}, {}, ValueError, "__metadata__.*reserved"),
        ({"\ud800": np.ones(2)}, {}, ValueError, "Unicode.*ud800"),
        ({}, {"epoch": 3}, TypeError, "metadata.*'epoch': 3"),
        ({}, {3: "epoch"}, TypeError, "metadata.*3: 'epoch'"),
        ({}, {"name": "\udfff"}, ValueError, "Unicode.*udfff"),
        ({}, {"crc32": "0"}, ValueError, "crc32.*reserved"),
        ({}, ["format"], TypeError, "metadata.*mapping.*format"),
        ({}, {"long": "x" * (1 << 22)}, ValueError, "header of at most 4194304 bytes"),
    ],
)
def test_refused(written, tensors, metadata, error, message):
    before = written.read_bytes()
    with pytest.raises(error, match=message):
        serialization.write(written, tensors, metadata)
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


# All or nothing


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file(written, monkeypatch, broken, error):
    before = written.read_bytes()

    def fail(*_args):
        raise error

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)):
        serialization.write(written, {"w": np.zeros(1000)})
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


def test_directory_that_cannot_be_synced(written, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    serialization.write(written, {"w": np.zeros(3)})
    assert_same(serialization.read(written)[0], {"w": np.zeros(3)})


def test_no_such_directory(tmp_path):
    missing = tmp_path / "missing" / "model.safetensors"
    with pytest.raises(FileNotFoundError) as caught:
        serialization.write(missing, TENSORS)
    assert caught.value.filename == str(missing)
    with pytest.raises(FileNotFoundError):
        serialization.read(missing)


def test_a_directory_is_not_replaced(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    with pytest.raises(OSError, match="model"):
        serialization.write(target, TENSORS)
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(path, umask):
    before = os.umask(umask)
    try:
        serialization.write(path, TENSORS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege")
def test_symbolic_link_stays(written, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(written.name)
    serialization.write(link, {"w": np.ones(2)})
    assert link.is_symlink()
    assert_same(serialization.read(written)[0], {"w": np.ones(2)})


WRITE_FOREVER = """
import itertools, sys
import numpy as np
from fastnn import serialization
for count in itertools.count(1):
    serialization.write(sys.argv[1], {"w": np.full(50_000, float(count))}, {"count": str(count)})
    print(count, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.007, 0.02])
def test_killed_while_saving(path, delay):
    """A kill at any moment leaves the last finished file or the one after it."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(delay)
        process.kill()
        finished = int((first + process.stdout.read()).splitlines()[-1])
    tensors, metadata = serialization.read(path)
    assert int(metadata["count"]) in (finished, finished + 1)
    assert_same(tensors, {"w": np.full(50_000, float(metadata["count"]))})


WRITE_AND_HANG = """
import os, signal, sys
import numpy as np
from fastnn import serialization
os.fsync = lambda _: (print("writing", flush=True), signal.pause())
serialization.write(sys.argv[1], {"w": np.zeros(50_000)})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_what_a_killed_process_leaves_behind_is_removed_by_the_next_save(path):
    """But not what another process is writing."""
    arguments = [sys.executable, "-c", WRITE_AND_HANG, str(path)]
    writing = []
    try:
        for _ in range(3):  # one after another, so that each has the next name
            writing.append(subprocess.Popen(arguments, stdout=subprocess.PIPE))
            writing[-1].stdout.readline()
        temporary = [path.with_name(f".fastnn-{i}.tmp") for i in range(3)]
        assert sorted(path.parent.iterdir()) == temporary
        serialization.write(path, TENSORS)
        assert sorted(path.parent.iterdir()) == [*temporary, path]
        writing[0].kill()
        writing[1].kill()
        for process in writing[:2]:
            process.wait()
        for _ in range(2):
            serialization.write(path, TENSORS)
        assert sorted(path.parent.iterdir()) == [*temporary[1:], path]
    finally:
        for process in writing:
            process.kill()
            process.wait()
            process.stdout.close()


def test_several_threads_write_at_once(path):
    """Each file is whole, and nothing else is left."""

    def write(number):
        target = path.with_name(str(number % 3))
        for _ in range(20):
            serialization.write(target, {"w": np.full(1000, float(number))})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert sorted(os.listdir(path.parent)) == ["0", "1", "2"]
    for number in range(3):
        w = serialization.read(path.with_name(str(number)))[0]["w"]
        assert w[0] in (number, number + 3)
        assert (w == w[0]).all()


# Damaged and hostile files


def refused(path, contents, message=None):
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message) as caught:
        serialization.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_truncated_anywhere(written, path):
    contents = written.read_bytes()
    for length in range(len(contents)):
        refused(path, contents[:length])


@pytest.mark.parametrize("extra", [b"\0", b" ", b"\0" * 8, b"{}"])
def test_trailing_bytes(written, extra):
    refused(written, written.read_bytes() + extra, "bytes, but")


def test_every_flipped_bit_is_found(written):
    """But for those in the checksum's own name, which leave all else as it was."""
    contents = written.read_bytes()
    spared = range(contents.index(b'"crc32"') + 1, contents.index(b'"crc32"') + 6)
    for position in range(len(contents)):
        for bit in range(8):
            flipped = bytearray(contents)
            flipped[position] ^= 1 << bit
            written.write_bytes(flipped)
            try:
                tensors, metadata = serialization.read(written)
            except ValueError as error:
                assert str(written) in str(error)
            else:
                assert position in spared
                assert_same(tensors, TENSORS)
                assert METADATA.items() <= metadata.items()


HOSTILE = {
    "empty": (b"", "at least 8 bytes, got 0"),
    "no header": (struct.pack("<Q", 0), "starting with"),
    "length 2^63": (struct.pack("<Q", 1 << 63) + b"{}", "9223372036854775808 bytes, but 2"),
    "length 2^64-1": (b"\xff" * 8 + b"{}", "18446744073709551615 bytes"),
    "header too long": (build(b"{" + b" " * (1 << 22) + b"}"), "at most 4194304"),
    "a pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0" + b"x" * 40, "header"),
    "not an object": (build("[]"), "starting with"),
    "leading space": (build(" {}"), "starting with"),
    "not UTF-8": (build(b'{"\xff": 1}'), "not valid JSON"),
    "UTF-16": (build("{}".encode("utf-16-le")), "not valid JSON"),
    "not JSON": (build("{'a': 1}"), "not valid JSON"),
    "two objects": (build("{}{}"), "not valid JSON"),
    "deep": (build('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "nested too deeply"),
    "lone surrogate": (build('{"\\ud800": 1}'), "Unicode"),
    "long number": (build('{"a":' + "9" * 5000 + "}"), "digit"),
    "NaN": (build('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,0]}}'), "NaN"),
    "Infinity": (build('{"a":{"dtype":"F32","shape":[0],"data_offsets":[-Infinity,0]}}'), "Inf"),
    "name twice": (
        build(
            f'{{"a":{json.dumps(entry([0], 0, 0))},"a":{json.dumps(entry([1], 0, 4))}}}', b"1234"
        ),
        "'a' more than once",
    ),
    "field twice": (
        build('{"a":{"dtype":"F32","dtype":"F64","shape":[0],"data_offsets":[0,0]}}'),
        "'dtype' more than once",
    ),
    "metadata twice": (build('{"__metadata__":{},"__metadata__":{}}'), "more than once"),
    "metadata not strings": (build({"__metadata__": {"epoch": 3}}), "'epoch': 3"),
    "metadata nested": (build({"__metadata__": {"a": {"b": "c"}}}), "expected str"),
    "metadata a list": (build({"__metadata__": ["a"]}), "mapping"),
    "metadata null": (build({"__metadata__": None}), "mapping"),
    "wrong checksum": (build({"__metadata__": {"crc32": "00000000"}}), "CRC-32"),
    "tensor a number": (build({"a": 3}), "dtype, shape and data_offsets, got 3"),
    "no dtype": (build({"a": {"shape": [0], "data_offsets": [0, 0]}}), "dtype, shape"),
    "extra field": (build({"a": {**entry([0], 0, 0), "code": "x"}}), "dtype, shape"),
    "unknown dtype": (build({"a": entry([4], 0, 4, "F8_E4M3")}, b"1234"), "F64, F32, got 'F8_E4"),
    "dtype a list": (build({"a": entry([1], 0, 4, ["F32"])}, b"1234"), "F64, F32, got \\["),
    "shape a number": (build({"a": entry(1, 0, 4)}, b"1234"), "shape"),
    "shape negative": (build({"a": entry([-1], 0, 4)}, b"1234"), "shape"),
    "shapes negative": (build({"a": entry([-1, -1], 0, 4)}, b"1234"), "shape"),
    "shape a float": (build({"a": entry([1.0], 0, 4)}, b"1234"), "shape"),
    "shape a bool": (build({"a": entry([True], 0, 4)}, b"1234"), "shape"),
    "shape a string": (build({"a": entry("1", 0, 4)}, b"1234"), "shape"),
    "shape overflows 64 bits to 4 bytes": (
        build({"a": entry([1 << 62, 4, 1 << 62, 4], 0, 4)}, b"1234"),
        "overflows",
    ),
    "shape overflows to nothing": (build({"a": entry([1 << 62, 4, 0], 0, 0)}), "overflows"),
    "size beyond 64 bits": (build({"a": entry([1 << 64, 0], 0, 0)}), "shape"),
    "too many dimensions": (build({"a": entry([1] * 33, 0, 4)}, b"1234"), "at most 32"),
    "larger than the file": (build({"a": entry([1 << 40], 0, 1 << 42)}), "4398046511104 bytes"),
    "one offset": (build({"a": {**entry([1], 0, 4), "data_offsets": [0]}}, b"1234"), "two data"),
    "offsets negative": (build({"a": entry([1], -4, 0)}, b"1234"), "two data_offsets"),
    "offsets backwards": (build({"a": entry([1], 4, 0)}, b"1234"), "has 4 bytes, but"),
    "offsets for another shape": (build({"a": entry([2], 0, 4)}, b"1234"), "has 8 bytes, but"),
    "offset beyond 64 bits": (build({"a": entry([1], 1 << 64, (1 << 64) + 4)}, b"1234"), "offsets"),
    "overlap": (
        build({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"123456789012"),
        "'b' overlaps another",
    ),
    "same place": (build({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234"), "overlaps"),
    "gap": (build({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"1" * 12), "'b' has a gap"),
    "gap at the start": (build({"a": entry([1], 4, 8)}, b"12345678"), "'a' has a gap"),
    "data of nobody": (build({}, b"1234"), "0 bytes, but 4 are left"),
    "too little data": (build({"a": entry([2], 0, 8)}, b"1234"), "8 bytes, but 4 are left"),
    "a long name": (build({"a" * 100_000: 3}), "aaa\\.\\.\\."),
}


@pytest.mark.parametrize(("contents", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile(path, contents, message):
    refused(path, contents, message)


@pytest.mark.parametrize(
    "name", ["length 2^63", "larger than the file", "shape overflows to nothing"]
)
def test_no_memory_for_what_is_not_there(path, name):
    path.write_bytes(HOSTILE[name][0])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bytes|overflows"):
            serialization.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_file_shrinks_while_it_is_read(written, monkeypatch):
    size = written.stat().st_size
    written.write_bytes(written.read_bytes()[:-4])
    real = os.fstat

    def as_before(descriptor):
        result = list(real(descriptor))
        result[6] = size
        return os.stat_result(result)

    monkeypatch.setattr(serialization.os, "fstat", as_before)
    with pytest.raises(ValueError, match="ended within tensor"):
        serialization.read(written)


SIZES = st.integers(-2, 6) | st.integers(0, 1 << 70)
VALUES = st.none() | st.booleans() | SIZES | st.floats(allow_nan=False) | st.text(max_size=3)
LIKE_AN_ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I64"]) | VALUES,
        "shape": st.lists(SIZES, max_size=3) | VALUES,
        "data_offsets": st.lists(st.integers(0, 6).map(lambda n: 4 * n) | SIZES, max_size=3),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    header=st.dictionaries(
        st.text(max_size=3) | st.just("__metadata__"),
        LIKE_AN_ENTRY | st.dictionaries(st.text(max_size=3), VALUES) | VALUES,
        max_size=3,
    ),
    data=st.binary(max_size=24),
)
def test_any_header(folder, header, data):
    file = folder / "any"
    file.write_bytes(build(header, data))
    try:
        tensors, metadata = serialization.read(file)
    except ValueError as error:
        assert str(file) in str(error)
    else:
        assert sum(array.nbytes for array in tensors.values()) == len(data)
        assert all(isinstance(text, str) for pair in metadata.items() for text in pair)


@settings(max_examples=300, deadline=None)
@given(contents=st.binary(max_size=64) | st.binary(max_size=64).map(build))
def test_any_bytes(folder, contents):
    file = folder / "any"
    file.write_bytes(contents)
    try:
        serialization.read(file)
    except ValueError as error:
        assert str(file) in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are named pipes on Unix only")
def test_what_is_no_regular_file_stays(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file must not be replaced"):
        serialization.write(path, {"a": np.zeros(3)}, {})
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]

"""MNIST and Fashion-MNIST: where they are looked for, how strictly read, how downloaded."""

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import re
import struct
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastnn import datasets

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
FIELDS = ("x_train", "y_train", "x_test", "y_test")


def idx(array):
    """The array as an IDX file, written from the format's description."""
    array = np.asarray(array, dtype=np.uint8)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.tobytes()


def make_images(seed, n_train=60, n_test=20):
    rng = np.random.default_rng(seed)

    def part(n):
        return rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n, np.uint8)

    return datasets.Images(*part(n_train), *part(n_test))


IMAGES = make_images(0)
CONTENTS = {
    name: gzip.compress(idx(array), mtime=0) for name, array in zip(FILES, IMAGES, strict=True)
}


def put_idx(folder, images=IMAGES, *, zipped=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, images, strict=True):
        contents = idx(array)
        if zipped:
            (folder / name).write_bytes(gzip.compress(contents))
        else:
            (folder / name.removesuffix(".gz")).write_bytes(contents)


def assert_same(found, expected=IMAGES):
    assert isinstance(found, datasets.Images)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path, monkeypatch):
    """No data on this machine, no way out of it."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setattr(datasets, "_DEBIAN", tmp_path / "no-debian")
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("_MNIST", "_FASHION_MNIST"):
        there = getattr(datasets, name)
        monkeypatch.setattr(
            datasets, name, dataclasses.replace(there, mirrors=("http://127.0.0.1:9",))
        )


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("FASTNN_DATA", str(folder))
    return folder


# What comes back


def test_as_stored(data):
    put_idx(data)
    images = datasets.load_mnist()
    assert_same(images)
    (x_train, y_train), (x_test, y_test) = images[:2], images[2:]
    assert x_train.shape == (60, 28, 28)
    assert x_test.shape == (20, 28, 28)
    for array in (x_train, y_train, x_test, y_test):
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_flat_and_normalized(data):
    put_idx(data)
    images = datasets.load_mnist(flatten=True, normalize=True)
    for field in ("x_train", "x_test"):
        stored = getattr(IMAGES, field)
        found = getattr(images, field)
        assert found.dtype == np.float32
        assert found.shape == (len(stored), 784)
        expected = (stored.reshape(-1, 784) / 255).astype(np.float32)
        np.testing.assert_array_equal(found, expected)
        assert found.min() == 0
        assert found.max() == 1
    assert images.y_train.dtype == np.uint8
    assert datasets.load_mnist(flatten=True).x_test.shape == (20, 784)
    assert datasets.load_mnist(normalize=True).x_test.shape == (20, 28, 28)


# Where it is looked for


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", [".", "fashion-mnist"])
def test_idx_files_in_the_directory(data, zipped, inside):
    put_idx(data / inside, zipped=zipped)
    assert_same(datasets.load_fashion_mnist())


@pytest.mark.parametrize("place", ["fashion-mnist.npz", "fashion-mnist/fashion-mnist.npz"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_in_the_directory(data, place, save):
    (data / place).parent.mkdir(exist_ok=True)
    save(data / place, **IMAGES._asdict())
    assert_same(datasets.load_fashion_mnist())


def test_npz_of_rows_and_wide_labels(data):
    flat = {field: array.reshape(len(array), -1) for field, array in IMAGES._asdict().items()}
    flat["y_train"], flat["y_test"] = IMAGES.y_train.astype(np.int64), IMAGES.y_test.astype(">i4")
    flat["x_test"] = np.asfortranarray(flat["x_test"])
    np.savez(data / "mnist.npz", **flat)
    images = datasets.load_mnist()
    assert_same(images)
    assert images.y_train.dtype == images.y_test.dtype == np.uint8
    assert images.x_test.flags.c_contiguous


def test_own_folder_comes_first(data):
    put_idx(data, make_images(1))
    put_idx(data / "mnist")
    assert_same(datasets.load_mnist())
    assert_same(datasets.load_fashion_mnist(), make_images(1))


def test_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FASTNN_DATA", "~/digits")
    put_idx(tmp_path / "digits")
    assert_same(datasets.load_mnist())


def test_debian_package(data):
    put_idx(datasets._DEBIAN / "fashion-mnist")
    assert_same(datasets.load_fashion_mnist())
    put_idx(data, make_images(1))
    assert_same(datasets.load_fashion_mnist(), make_images(1))


def test_digits_are_not_clothes(data, monkeypatch):
    """IDX files of both data sets have the same names; the labels tell them apart."""
    labels = datasets.zlib.crc32(IMAGES.y_test.tobytes())
    digits = dataclasses.replace(datasets._MNIST, labels=labels)
    monkeypatch.setattr(datasets, "_DATASETS", (digits, datasets._FASHION_MNIST))
    put_idx(data)
    assert_same(datasets.load_mnist())
    put_idx(datasets._DEBIAN / "fashion-mnist", make_images(1))
    assert_same(datasets.load_fashion_mnist(), make_images(1))


def test_incomplete_directory_is_passed_over(data):
    put_idx(data)
    (data / FILES[3]).unlink()
    put_idx(datasets._DEBIAN / "fashion-mnist", make_images(1))
    assert_same(datasets.load_fashion_mnist(), make_images(1))


# How strictly it is read

GOOD = idx(IMAGES.x_test)
LABELS = idx(IMAGES.y_test)
DAMAGED_IDX = {
    "empty": (b"", "got nothing"),
    "short magic": (GOOD[:3], "got 00 00 08"),
    "wrong magic": (b"\1" + GOOD[1:], "starting 00 00 08, got 01 00 08 03"),
    "floats": (b"\0\0\x0d" + GOOD[3:], "got 00 00 0d 03"),
    "an HTML page": (b"<!DOCTYPE html><html>", "got 3c 21 44 4f"),
    "short sizes": (GOOD[:14], "3 dimensions"),
    "truncated": (GOOD[:-1], "expected 15680 bytes for the shape \\(20, 28, 28\\), got 15679"),
    "header only": (GOOD[:16], "got 0"),
    "trailing byte": (GOOD + b"\0", "got more"),
    "promises terabytes": (b"\0\0\x08\3" + b"\xff" * 12 + b"x" * 99, "got 99"),
    "promises everything": (b"\0\0\x08\xff" + b"\xff" * 1020 + b"x" * 99, "got 99"),
    "too many empty dimensions": (b"\0\0\x08\xff" + bytes(1020), "dimension"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("contents", "message"), DAMAGED_IDX.values(), ids=DAMAGED_IDX.keys())
def test_damaged_idx(tmp_path, contents, message, zipped):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(contents) if zipped else contents)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("shape", [(), (3,), (0,), (0, 28, 28), (2, 3, 4, 5)])
@pytest.mark.parametrize("kind", [str, Path])
def test_idx_of_any_shape(tmp_path, shape, kind):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    (tmp_path / "file").write_bytes(idx(array))
    found = datasets.read_idx(kind(tmp_path / "file"))
    assert found.shape == shape
    np.testing.assert_array_equal(found, array)


def test_gzip_damaged_anywhere(tmp_path):
    path = tmp_path / "labels.gz"
    contents = gzip.compress(LABELS, mtime=0)
    for length in range(len(contents)):
        path.write_bytes(contents[:length])
        with pytest.raises(ValueError, match=r"labels\.gz"):
            datasets.read_idx(path)
    for position in range(len(contents)):
        flipped = bytearray(contents)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        try:
            found = datasets.read_idx(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:  # some bits, as the time in the header, say nothing of the contents
            np.testing.assert_array_equal(found, IMAGES.y_test)
    path.write_bytes(contents + b"more")
    with pytest.raises(ValueError, match=r"labels\.gz"):
        datasets.read_idx(path)


def test_no_such_idx_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        datasets.read_idx(tmp_path / "none")


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def replaced(**arrays):
    return npz_bytes(**{**IMAGES._asdict(), **arrays})


NPZ = npz_bytes(**IMAGES._asdict())
DAMAGED_NPZ = {
    "empty": (b"", "npz file with arrays x_train, y_train, x_test, y_test"),
    "not a zip": (b"x" * 100, "npz file"),
    "an array": (b"\x93NUMPY" + b"\1\0\0\0", "npz file"),
    "truncated": (NPZ[:-1], "npz file"),
    "truncated early": (NPZ[:1000], "npz file"),
    "bit flipped": (NPZ[:3000] + bytes([NPZ[3000] ^ 1]) + NPZ[3001:], "CRC-32"),
    "key missing": (npz_bytes(x_train=IMAGES.x_train), "y_train is not a file"),
    "pickled": (replaced(y_test=np.array([print] * 20)), "allow_pickle=False"),
    "pickle alone": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "it starts 80 04 63 6f$"),
    "floats": (replaced(x_test=IMAGES.x_test / 255), "x_test.*dtype uint8.*got.*float64"),
    "wrong side": (replaced(x_test=np.zeros((20, 32, 32), np.uint8)), "\\(20, 32, 32\\)"),
    "wrong width": (replaced(x_test=np.zeros((20, 783), np.uint8)), "\\(20, 783\\)"),
    "a number": (replaced(x_test=np.uint8(3)), "shape \\(\\)"),
    "no images": (replaced(x_test=IMAGES.x_test[:0], y_test=IMAGES.y_test[:0]), "got none"),
    "one-hot labels": (replaced(y_test=np.eye(10, dtype=np.uint8)), "\\(10, 10\\)"),
    "float labels": (replaced(y_test=np.zeros(20)), "y_test: expected integer labels.*float64"),
    "label 10": (replaced(y_test=np.full(20, 10)), "y_test: expected labels from 0 to 9, got 10"),
    "label -1": (replaced(y_test=np.full(20, -1)), "labels from 0 to 9, got -1"),
    "label 256": (replaced(y_test=np.full(20, 256)), "labels from 0 to 9, got 256"),
    "too few labels": (replaced(y_train=IMAGES.y_train[1:]), "y_train.*60 images.*got 59"),
}


@pytest.mark.parametrize(("contents", "message"), DAMAGED_NPZ.values(), ids=DAMAGED_NPZ.keys())
def test_damaged_npz(data, contents, message):
    path = data / "mnist.npz"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load_mnist()
    assert str(path) in str(caught.value)


def test_npz_that_promises_terabytes(data):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 28, 28)}
    )
    with zipfile.ZipFile(data / "mnist.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue() + b"123")
    with pytest.raises(ValueError, match=r"mnist\.npz"):
        datasets.load_mnist()


@pytest.mark.parametrize("field", FIELDS)
def test_damaged_files_are_named(data, field):
    put_idx(data / "mnist", zipped=False)
    path = data / "mnist" / FILES[FIELDS.index(field)].removesuffix(".gz")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        datasets.load_mnist()


def test_files_exchanged(data):
    put_idx(data, zipped=False)
    images, labels = (data / name.removesuffix(".gz") for name in FILES[:2])
    contents = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(contents)
    with pytest.raises(ValueError, match=r"train-images.*expected images"):
        datasets.load_mnist()


# How it is downloaded: two mirrors on this machine, which can be told to misbehave


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mirror, name = self.path.strip("/").split("/")
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.server.requests.append((mirror, name, start))
        faults = self.server.faults.get((mirror, name), [])
        fault = faults.pop(0) if faults else self.server.always.get(mirror)
        contents = CONTENTS[name]
        if fault == "missing":
            self.send_error(404)
            return
        if fault == "no ranges":
            start = 0
        if start >= len(contents):
            self.send_error(416)
            return
        body = contents[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "damaged":
            body = body[:-5] + b"wrong"
        elif fault == "cut":
            body = body[: len(body) // 2]
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Mirrors "one" and "two" of the small images, in the place of MNIST's."""
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(datasets, "_CHUNK", 64)
    pooch.get_logger().setLevel("WARNING")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.requests, server.faults, server.always = [], {}, {}
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(
            datasets,
            "_MNIST",
            dataclasses.replace(
                datasets._MNIST,
                mirrors=(f"{address}/one", f"{address}/two"),
                hashes=tuple(hashlib.sha256(CONTENTS[name]).hexdigest() for name in FILES),
            ),
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "fastnn" / "mnist"


def test_downloaded_once(server, cache):
    assert_same(datasets.load_mnist())
    assert server.requests == [("one", name, 0) for name in FILES]
    assert sorted(os.listdir(cache)) == sorted(FILES)
    assert_same(datasets.load_mnist())
    assert len(server.requests) == 4


def test_not_downloaded_when_it_is_there(server, data):
    put_idx(data)
    assert_same(datasets.load_mnist())
    assert server.requests == []


@pytest.mark.parametrize("fault", ["missing", "damaged", "cut"])
def test_second_mirror(server, cache, fault):
    server.always["one"] = fault
    assert_same(datasets.load_mnist())
    assert {mirror for mirror, _, _ in server.requests} == {"one", "two"}
    assert sorted(os.listdir(cache)) == sorted(FILES)


def test_goes_on_where_it_stopped(server, cache):
    name = FILES[0]
    server.faults["one", name] = ["cut"]
    server.faults["two", name] = ["cut", "cut"]
    with pytest.raises(ConnectionError, match=name):
        datasets.load_mnist()
    left = (cache / f"{name}.part").read_bytes()
    assert len(left) > len(CONTENTS[name]) * 0.7
    assert CONTENTS[name].startswith(left)
    assert os.listdir(cache) == [f"{name}.part"]
    server.requests.clear()
    assert_same(datasets.load_mnist())
    assert server.requests[0] == ("one", name, len(left))
    assert sorted(os.listdir(cache)) == sorted(FILES)


def test_goes_on_at_the_other_mirror(server):
    name = FILES[0]
    server.faults["one", name] = ["cut"]
    assert_same(datasets.load_mnist())
    (_, _, first), (mirror, _, second) = server.requests[:2]
    assert first == 0
    assert mirror == "two"
    assert 0 < second < len(CONTENTS[name])


def test_ctrl_c_and_again(server, cache, monkeypatch):
    requests = pytest.importorskip("requests")
    real = requests.Response.iter_content

    def interrupted(self, size):
        yield next(real(self, size))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(requests.Response, "iter_content", interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.load_mnist()
    assert os.listdir(cache) == [f"{FILES[0]}.part"]
    assert_same(datasets.load_mnist())
    assert server.requests[1] == ("one", FILES[0], 64)


def test_server_without_ranges(server, cache):
    cache.mkdir(parents=True)
    (cache / f"{FILES[0]}.part").write_bytes(CONTENTS[FILES[0]][:100])
    server.always["one"] = "no ranges"
    assert_same(datasets.load_mnist())
    assert server.requests == [("one", FILES[0], 100), *(("one", name, 0) for name in FILES[1:])]


@pytest.mark.parametrize(
    "left", [b"not what was there", b"x" * (len(CONTENTS[FILES[0]]) + 1), CONTENTS[FILES[0]]]
)
def test_part_of_something_else(server, cache, left):
    """It starts again, at the same mirror, since the other may be out of reach."""
    cache.mkdir(parents=True)
    (cache / f"{FILES[0]}.part").write_bytes(left)
    server.always["two"] = "missing"
    assert_same(datasets.load_mnist())
    assert server.requests[:2] == [("one", FILES[0], len(left)), ("one", FILES[0], 0)]
    assert sorted(os.listdir(cache)) == sorted(FILES)


def test_damaged_cache_is_repaired(server, cache):
    datasets.load_mnist()
    (cache / FILES[2]).write_bytes(CONTENTS[FILES[2]][:-3])
    server.requests.clear()
    assert_same(datasets.load_mnist())
    assert server.requests == [("one", FILES[2], 0)]


def test_wrong_everywhere(server, cache):
    server.always = {"one": "damaged", "two": "missing"}
    with pytest.raises(ConnectionError) as caught:
        datasets.load_mnist()
    message = str(caught.value)
    assert f"one/{FILES[0]}: SHA256" in message
    assert f"two/{FILES[0]}: 404" in message
    assert os.listdir(cache) == []


def test_several_at_once(server, cache):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(datasets.load_mnist())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for images in found:
        assert_same(images)
    assert sorted(os.listdir(cache)) == sorted(FILES)


@pytest.mark.parametrize("given", [True, False])
def test_offline(tmp_path, monkeypatch, given):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    if given:
        monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "mine"))
    with pytest.raises(OSError, match=r"Fashion-MNIST could not be downloaded") as caught:
        datasets.load_fashion_mnist()
    assert isinstance(caught.value, ConnectionError)
    message = str(caught.value)
    for text in (*FILES, *FIELDS, "fashion-mnist.npz", "http://127.0.0.1:9"):
        assert text in message
    assert (str(tmp_path / "mine" / "fashion-mnist") if given else "FASTNN_DATA") in message


def test_without_pooch(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"fastnn\[data\]") as caught:
        datasets.load_mnist()
    assert str(data) in str(caught.value)
    put_idx(data)
    assert_same(datasets.load_mnist())


# The real ones, where this machine has them


def assert_real(images, per_class):
    assert images.x_train.shape == (60_000, 28, 28)
    assert images.x_test.shape == (10_000, 28, 28)
    np.testing.assert_array_equal(np.bincount(images.y_train), per_class[0])
    np.testing.assert_array_equal(np.bincount(images.y_test), per_class[1])


DIRECTORY = os.environ.get("FASTNN_DATA")


@pytest.mark.skipif(not DIRECTORY, reason="FASTNN_DATA is not set")
def test_real_mnist(monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(DIRECTORY))
    try:
        images = datasets.load_mnist()
    except OSError:
        pytest.skip("no MNIST in FASTNN_DATA")
    assert_real(
        images,
        (
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        ),
    )
    assert datasets.zlib.crc32(images.y_test) == datasets._MNIST.labels
    # SHA-256 of the four files unzipped.
    assert [hashlib.sha256(idx(array)).hexdigest() for array in images] == [
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ]


DEBIAN = Path("/usr/share/datasets")


@pytest.mark.skipif(
    not (DEBIAN / "fashion-mnist").is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_real_fashion_mnist(monkeypatch):
    monkeypatch.setattr(datasets, "_DEBIAN", DEBIAN)
    images = datasets.load_fashion_mnist()
    assert_real(images, ([6000] * 10, [1000] * 10))
    assert datasets.zlib.crc32(images.y_test) == datasets._FASHION_MNIST.labels

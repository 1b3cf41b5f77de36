"""MNIST and Fashion-MNIST: found on this machine, or downloaded once.

A data set is looked for in this order, and the first place that has it is read:

1. the directory named by the environment variable ``FASTNN_DATA``, or a folder of the data set's
   name (``mnist``, ``fashion-mnist``) in it, as ``mnist.npz`` or ``fashion-mnist.npz`` with
   arrays ``x_train y_train x_test y_test``, or as the four IDX files, plain or gzipped;
2. where Debian's package ``dataset-fashion-mnist`` puts it;
3. the cache of earlier downloads;
4. the internet. Downloads need ``pip install "fastnn[data]"``.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import math
import os
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Images", "load_fashion_mnist", "load_mnist", "read_idx"]

_FILES = (  # in the order of Images
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_DEBIAN = Path("/usr/share/datasets")
_CHUNK = 1 << 14
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and without a byte coming


class Images(NamedTuple):
    """Labelled images, in a part to train on and a part to test on.

    Attributes
    ----------
    x_train, x_test : ndarray of shape (n, 28, 28) or (n, 784), uint8 or float32
        Grey values, 0 the background.
    y_train, y_test : ndarray of shape (n,), uint8
        Classes, 0 to 9.
    """

    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[np.uint8]
    x_test: npt.NDArray[Any]
    y_test: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Dataset:
    title: str
    name: str
    mirrors: tuple[str, ...]
    hashes: tuple[str, ...]  # SHA-256 of each of _FILES
    # CRC-32 of the test labels: the IDX files of all such data sets have the same names, and
    # this tells in a directory of several which one they are.
    labels: int


_MNIST = _Dataset(
    "MNIST",
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    0xEE8604D9,
)
_FASHION_MNIST = _Dataset(
    "Fashion-MNIST",
    "fashion-mnist",
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
    (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    0x242BC73F,
)
_DATASETS = (_MNIST, _FASHION_MNIST)


def load_mnist(*, flatten: bool = False, normalize: bool = False) -> Images:
    """Handwritten digits: 60,000 images to train on, 10,000 to test on [1]_.

    Parameters
    ----------
    flatten : bool, default False
        Give each image as a row of 784 values instead of 28 rows of 28.
    normalize : bool, default False
        Give grey values as float32 from 0 to 1 instead of uint8 from 0 to 255.

    Returns
    -------
    Images
        The arrays ``x_train, y_train, x_test, y_test``.

    Raises
    ------
    ValueError
        A file that was found is damaged. The message names it.
    ConnectionError
        The data are not on this machine and cannot be downloaded. The message says which file
        to put where.
    ImportError
        They would have to be downloaded, and pooch is not installed.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
    """
    return _load(_MNIST, flatten, normalize)


def load_fashion_mnist(*, flatten: bool = False, normalize: bool = False) -> Images:
    """Articles of clothing, in the shape of MNIST but harder to tell apart [1]_.

    The classes are T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag and
    ankle boot, in the order of their labels.

    Parameters
    ----------
    flatten : bool, default False
        Give each image as a row of 784 values instead of 28 rows of 28.
    normalize : bool, default False
        Give grey values as float32 from 0 to 1 instead of uint8 from 0 to 255.

    Returns
    -------
    Images
        The arrays ``x_train, y_train, x_test, y_test``.

    Raises
    ------
    ValueError
        A file that was found is damaged. The message names it.
    ConnectionError
        The data are not on this machine and cannot be downloaded. The message says which file
        to put where.
    ImportError
        They would have to be downloaded, and pooch is not installed.

    References
    ----------
    .. [1] H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
       machine learning algorithms", arXiv:1708.07747.
    """
    return _load(_FASHION_MNIST, flatten, normalize)


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an IDX file of bytes, the format of MNIST and of the data sets made after it.

    The format is two zero bytes, the code of the element type (8 is uint8), the number of
    dimensions, each dimension as a big-endian 32-bit integer, and the elements in C order.

    Parameters
    ----------
    path : str or os.PathLike
        The file, plain or gzipped, whatever it is called.

    Returns
    -------
    ndarray, uint8
        A new array.

    Raises
    ------
    ValueError
        The file is damaged or not of this format. The message names it.
    OSError
        The file cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) if zipped else contextlib.nullcontext(raw) as file:
            try:
                return _parse_idx(file)
            except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{path}: {error}") from error


def _parse_idx(file: Any) -> npt.NDArray[np.uint8]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08":
        got = magic.hex(" ") or "nothing"
        raise ValueError(f"expected an IDX file of bytes, starting 00 00 08, got {got}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"expected {magic[3]} dimensions, but the file ends within them")
    shape = np.frombuffer(sizes, dtype=">u4").tolist()
    expected = math.prod(shape)
    # Grows as bytes come, since the header may promise any number of them, and asks for one more
    # than promised, which also makes gzip compare its checksum.
    data = bytearray()
    while chunk := file.read(min(_CHUNK, expected + 1 - len(data))):
        data += chunk
    if len(data) != expected:
        got = "more" if len(data) > expected else len(data)
        raise ValueError(f"expected {expected} bytes for the shape {tuple(shape)}, got {got}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _load(dataset: _Dataset, flatten: bool, normalize: bool) -> Images:
    images = _find(dataset) or _download(dataset)
    return images._replace(
        x_train=_prepare(images.x_train, flatten, normalize),
        x_test=_prepare(images.x_test, flatten, normalize),
    )


def _prepare(x: npt.NDArray[Any], flatten: bool, normalize: bool) -> npt.NDArray[Any]:
    x = x.reshape(len(x), -1) if flatten else x
    return np.divide(x, 255, dtype=np.float32) if normalize else x


def _find(dataset: _Dataset) -> Images | None:
    places = [_DEBIAN / dataset.name]
    if directory := os.environ.get("FASTNN_DATA"):
        given = Path(directory).expanduser()
        places = [given / dataset.name, given, *places]
    others = [other.labels for other in _DATASETS if other.name != dataset.name]
    for place in places:
        images = _read_directory(place, dataset)
        if images is not None and zlib.crc32(images.y_test.tobytes()) not in others:
            return images
    return None


def _read_directory(place: Path, dataset: _Dataset) -> Images | None:
    npz = place / f"{dataset.name}.npz"
    if npz.is_file():
        return _read_npz(npz)
    files = []
    for name in _FILES:
        choices = (place / name.removesuffix(".gz"), place / name)
        files.append(next((file for file in choices if file.is_file()), None))
    found = [file for file in files if file is not None]
    return _read_files(found) if len(found) == len(files) else None


def _read_files(files: list[Path]) -> Images:
    return _check(
        {
            field: (str(file), read_idx(file))
            for field, file in zip(Images._fields, files, strict=True)
        }
    )


def _read_npz(path: Path) -> Images:
    contents = path.read_bytes()
    try:
        if not contents.startswith(b"PK"):  # else NumPy would advise to unpickle it
            raise ValueError(f"it starts {contents[:4].hex(' ') or 'with nothing'}")
        with np.load(io.BytesIO(contents), allow_pickle=False) as archive:
            found = {field: (f"{path}: {field}", archive[field]) for field in Images._fields}
    except Exception as error:  # a damaged archive shows itself by a dozen types
        raise ValueError(
            f"{path}: expected an npz file with arrays {', '.join(Images._fields)}: {error}"
        ) from error
    return _check(found)


def _check(found: dict[str, tuple[str, npt.NDArray[Any]]]) -> Images:
    """Images from an array per field, each with the place it came from for the errors."""
    arrays = {}
    for field, (place, array) in found.items():
        if field.startswith("x"):
            if array.dtype != np.uint8 or array.shape[1:] not in ((28, 28), (784,)):
                raise ValueError(
                    f"{place}: expected images of shape (n, 28, 28) or (n, 784) and dtype uint8, "
                    f"got shape {array.shape} and dtype {array.dtype}"
                )
            arrays[field] = np.ascontiguousarray(array).reshape(-1, 28, 28)
        else:
            if array.dtype.kind not in "iu" or array.ndim != 1:
                raise ValueError(
                    f"{place}: expected integer labels of shape (n,), "
                    f"got shape {array.shape} and dtype {array.dtype}"
                )
            if len(array) == 0 or array.min() < 0 or array.max() > 9:
                what = f"{array.min()} to {array.max()}" if len(array) else "none"
                raise ValueError(f"{place}: expected labels from 0 to 9, got {what}")
            arrays[field] = array.astype(np.uint8, copy=False)
    for part in ("train", "test"):
        n_images, n_labels = len(arrays[f"x_{part}"]), len(arrays[f"y_{part}"])
        if n_images != n_labels:
            raise ValueError(
                f"{found[f'y_{part}'][0]}: expected a label for each of the {n_images} images "
                f"in {found[f'x_{part}'][0]}, got {n_labels}"
            )
    return Images(**arrays)


def _download(dataset: _Dataset) -> Images:
    try:
        pooch = importlib.import_module("pooch")
    except ImportError as error:
        raise ImportError(
            f"{dataset.title} is not on this machine, and pooch is needed to download it: "
            f'pip install "fastnn[data]". {_advice(dataset)}'
        ) from error
    return _read_files(
        [
            _fetch(pooch, dataset, name, sha256)
            for name, sha256 in zip(_FILES, dataset.hashes, strict=True)
        ]
    )


def _fetch(pooch: Any, dataset: _Dataset, name: str, sha256: str) -> Path:
    """One file from the cache, or from the first mirror that has it undamaged."""
    cache = Path(pooch.os_cache("fastnn")) / dataset.name
    part = cache / f"{name}.part"
    failures = []
    for mirror in dataset.mirrors:
        url = f"{mirror}/{name}"
        for _attempt in range(1 + part.exists()):  # a part that is no good is gone by the second
            try:
                path: str = pooch.retrieve(
                    url,
                    known_hash=f"sha256:{sha256}",
                    fname=name,
                    path=cache,
                    downloader=partial(_resume, part),
                )
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {error}")
            else:
                return Path(path)
    raise ConnectionError(
        "\n  ".join([f"{name} of {dataset.title} could not be downloaded:", *failures])
        + f"\n{_advice(dataset)}"
    )


def _resume(part: Path, url: str, output: str, _pooch: object) -> None:
    """Download `url` to `output`, as pooch asks for it, from where an interrupted one stopped.

    What an interrupted download leaves in `part` is moved, not shared: of several processes one
    goes on with it. Nothing else is checked here; the hash tells pooch if the pieces fit.
    """
    requests = importlib.import_module("requests")  # comes with pooch
    with contextlib.suppress(FileNotFoundError):
        os.replace(part, output)
    try:
        done = os.path.getsize(output)
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:  # past the end: what was left is not of this file
                os.truncate(output, 0)
            response.raise_for_status()
            with open(output, "ab" if response.status_code == 206 else "wb") as file:
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
    except BaseException:
        if os.path.getsize(output):
            os.replace(output, part)
        raise


def _advice(dataset: _Dataset) -> str:
    if directory := os.environ.get("FASTNN_DATA"):
        place = f"into {Path(directory) / dataset.name}"
    else:
        place = "into a directory, and set the environment variable FASTNN_DATA to it"
    return (
        f"To do without a download, put {', '.join(_FILES)} (from {dataset.mirrors[0]}) or "
        f"{dataset.name}.npz (arrays {', '.join(Images._fields)}) {place}."
    )

"""Named arrays and a few strings in one file, in the safetensors format.

A file is an 8-byte little-endian header length, a JSON header (dtype, shape and place of each
tensor, and strings under ``__metadata__``), and the tensors' bytes one after another: nothing in
it can be executed. Format: https://github.com/huggingface/safetensors#format.

The format itself has no checksum, so a damaged weight would look like any other weight. `write`
therefore adds the CRC-32 of everything else to the metadata, and `read` checks it where it is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None

__all__ = ["read", "write"]

# Widest first, as in the safetensors package: then every tensor is aligned in the file.
_DTYPES: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4")}
_METADATA = "__metadata__"
_CHECKSUM = "crc32"
_MAX_HEADER = 1 << 22  # some forty thousand tensors; JSON can take twenty times its own length
_MAX_DIMENSIONS = 32
_WRITE = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class _Place(NamedTuple):
    """Where a tensor is, counted from the end of the header."""

    begin: int
    end: int
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, npt.ArrayLike],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to a safetensors file, all or nothing.

    The bytes go to a temporary file beside `path`, which takes its place only once it is on the
    disk: whatever happens, `path` is the old file or the new one, never a part of one. What a
    killed process left of the other, ``.fastnn-0.tmp``, the next `write` in that directory removes.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write or replace. Where it is a symbolic link, what the link points to.
    tensors : mapping of str to array_like
        float32 or float64 arrays of any shape and memory order.
    metadata : mapping of str to str, optional
        Strings to keep with them. The key ``"crc32"`` is taken.

    Raises
    ------
    TypeError
        A name or a metadata entry is not a string, or an array is not float32 or float64.
    ValueError
        A name is reserved or not valid Unicode, or the header would exceed 4 MiB.
    OSError
        The file could not be written; the old one is left as it was.
    """
    metadata = {} if metadata is None else metadata
    _check_metadata(metadata)
    if _CHECKSUM in metadata:
        raise ValueError(f"metadata: the key {_CHECKSUM!r} is reserved for the checksum")
    arrays = {name: _as_stored(name, tensor) for name, tensor in tensors.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": _dtype_name(arrays[name]),
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
    payload = [_bytes_of(arrays[name]) for name in order]
    header[_METADATA][_CHECKSUM] = _checksum(header, payload)
    text = _dumps(header)
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(
            f"tensors and metadata: expected a header of at most {_MAX_HEADER} bytes, "
            f"got {len(text)} bytes"
        )
    _replace(Path(os.path.realpath(Path(path))), [struct.pack("<Q", len(text)), text, *payload])


def read(path: str | os.PathLike[str]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read what `write`, or any other program, wrote to a safetensors file.

    The header is believed only as far as the file's size bears it out, so that a hostile file
    takes no more memory than it is long.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    tensors : dict of str to ndarray
        New C-contiguous float32 or float64 arrays, in the order of the file.
    metadata : dict of str to str
        The strings kept with them, the checksum left out.

    Raises
    ------
    ValueError
        The file is damaged, or is not a safetensors file of float32 and float64 tensors. The
        message names the file and what is wrong with it.
    OSError
        The file cannot be read.
    """
    with open(Path(path), "rb") as file:
        try:
            return _parse(file, os.fstat(file.fileno()).st_size)
        except RecursionError:
            raise ValueError(f"{os.fspath(path)}: the header is nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _as_stored(name: object, tensor: npt.ArrayLike) -> npt.NDArray[Any]:
    if not isinstance(name, str):
        raise TypeError(f"tensors: expected names of type str, got {name!r}")
    if name == _METADATA:
        raise ValueError(f"tensors: the name {name!r} is reserved for the metadata")
    array = np.asarray(tensor)
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _DTYPES.values():
        raise TypeError(f"tensors: expected {name!r} as float32 or float64, got {array.dtype}")
    return np.asarray(array, dtype=dtype, order="C")


def _dtype_name(array: npt.NDArray[Any]) -> str:
    return next(name for name, dtype in _DTYPES.items() if dtype == array.dtype)


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata: expected a mapping of str to str, got {_brief(metadata)}")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(
                f"metadata: expected str for keys and values, got {_brief(key)}: {_brief(value)}"
            )


def _dumps(header: dict[str, Any], *, sort_keys: bool = False) -> bytes:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected names and metadata in valid Unicode, got {text[error.start]!r}"
        ) from error


def _checksum(header: dict[str, Any], payload: list[memoryview]) -> str:
    crc = zlib.crc32(_dumps(header, sort_keys=True))
    for part in payload:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def _replace(path: Path, parts: list[Any]) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "what is no regular file must not be replaced", str(path))
    try:
        temporary, descriptor = _temporary(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with open(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # else it cannot be moved while it is open
                os.replace(temporary, path)
        if fcntl is None:
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # Makes the new name durable; where a directory cannot be synced, the file is whole anyway.
    with contextlib.suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _temporary(directory: Path) -> tuple[Path, int]:
    """Make a file under the first free one of a row of names, and return its descriptor, too.

    A lock, which ends with its process, tells names in use from those that a killed process left
    behind: these are removed.
    """
    number = 0
    while True:
        path = directory / f".fastnn-{number}.tmp"
        # Not tempfile: its files are closed to all but their owner, these follow the umask.
        try:
            descriptor, made = os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                descriptor, made = os.open(path, _WRITE), False
            except FileNotFoundError:
                continue
            except OSError:
                number += 1
                continue
        locked = _locked(descriptor, made)
        # Until the lock was there, another may have removed it as left behind, or moved it in place
        with contextlib.suppress(FileNotFoundError):
            if locked and os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                if made:
                    return path, descriptor
                path.unlink()
        os.close(descriptor)
        number += not locked and not made


def _locked(descriptor: int, unknown: bool) -> bool:
    """Lock a file unless it is locked; where there are no locks, return `unknown`."""
    if fcntl is None:
        return unknown
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return True


def _parse(file: BufferedReader, size: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    prefix = file.read(8)
    if len(prefix) < 8:
        raise ValueError(f"expected at least 8 bytes, got {len(prefix)}")
    (length,) = struct.unpack("<Q", prefix)
    if length > size - 8:
        raise ValueError(f"the header should have {length} bytes, but {size - 8} are left")
    if length > _MAX_HEADER:
        raise ValueError(f"expected a header of at most {_MAX_HEADER} bytes, got {length} bytes")
    header = _parse_header(file.read(length))
    metadata = header.get(_METADATA, {})
    try:
        _check_metadata(metadata)
    except TypeError as error:
        raise ValueError(str(error)) from error
    checksum = metadata.pop(_CHECKSUM, None)

    tensors = {}
    for place in _places(header, size - 8 - length):
        array = np.empty(place.shape, dtype=place.dtype)
        if file.readinto(_bytes_of(array)) != array.nbytes:
            raise ValueError(f"the file ended within tensor {_brief(place.name)}")
        tensors[place.name] = array
    if checksum is not None:
        found = _checksum(header, [_bytes_of(array) for array in tensors.values()])
        if found != checksum:
            raise ValueError(
                f"the contents are damaged: their CRC-32 is {found}, expected {_brief(checksum)} "
                f"(a program that changes them on purpose leaves the metadata {_CHECKSUM!r} out)"
            )
    native = {
        name: array.astype(array.dtype.newbyteorder("="), copy=False)
        for name, array in tensors.items()
    }
    return native, metadata


def _parse_header(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise ValueError(f"expected a header starting with '{{', got {text[:8]!r}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise ValueError(f"the header has {_brief(key)} more than once")
        return result

    def refuse(constant: str) -> None:
        raise ValueError(f"the header has {constant}, which is not JSON")

    try:
        header: dict[str, Any] = json.loads(
            text.decode(), object_pairs_hook=unique, parse_constant=refuse
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the header is not valid JSON: {error}") from error
    _dumps(header)  # refuses the lone surrogates that JSON can spell and UTF-8 cannot
    return header


def _places(header: dict[str, Any], size: int) -> list[_Place]:
    """Where the tensors are, in the order of the file, which they must fill exactly."""
    places = sorted(
        (_place(name, entry) for name, entry in header.items() if name != _METADATA),
        key=lambda place: (place.begin, place.end),
    )
    reached = 0
    for place in places:
        if place.begin != reached:
            what = "overlaps another" if place.begin < reached else "has a gap before it"
            raise ValueError(
                f"tensor {_brief(place.name)} {what}: expected it at {reached}, got {place.begin}"
            )
        reached = place.end
    if reached != size:
        raise ValueError(f"the tensors should have {reached} bytes, but {size} are left")
    return places


def _place(name: str, entry: object) -> _Place:
    tensor = f"tensor {_brief(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(
            f"{tensor}: expected an object of dtype, shape and data_offsets, got {_brief(entry)}"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{tensor}: expected a dtype of {', '.join(_DTYPES)}, got {_brief(dtype)}")
    if not _is_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(
            f"{tensor}: expected a shape of at most {_MAX_DIMENSIONS} sizes, got {_brief(shape)}"
        )
    # Zero times too much is still too much for NumPy.
    if math.prod(extent or 1 for extent in shape) * _DTYPES[dtype].itemsize > sys.maxsize:
        raise ValueError(f"{tensor}: the shape {_brief(shape)} overflows")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{tensor}: expected two data_offsets, got {_brief(offsets)}")
    begin, end = offsets
    expected = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != expected:
        raise ValueError(
            f"{tensor}: {dtype} of shape {_brief(shape)} has {expected} bytes, "
            f"but its data_offsets are {_brief(offsets)}"
        )
    return _Place(begin, end, name, _DTYPES[dtype], tuple(shape))


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        type(size) is int and 0 <= size <= sys.maxsize for size in value
    )


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

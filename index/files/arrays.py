"""NumPy's files, read back: a damaged one is one error, where NumPy and ``zipfile`` know many."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from maxsight import plain_files
from maxsight.errors import LibraryError

# What flipped bytes, tried one by one, were seen to raise.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_array(file: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """The array of a ``.npy`` file.

    Args:
        mapped: leave it in the file, of which the system keeps in memory what is used.

    Raises:
        LibraryError: it is missing or damaged.
    """
    with _one_error(file), plain_files.open_to_read(file) as stream:
        _check_header(stream, os.fstat(stream.fileno()).st_size)
        array: npt.NDArray[Any] = np.load(file if mapped else stream, "r" if mapped else None)
    return array


def read_arrays(file: Path, *names: str) -> tuple[npt.NDArray[Any], ...]:
    """Some arrays of a ``.npz`` file.

    Raises:
        LibraryError: it is missing or damaged, or lacks one of them.
    """
    with (
        _one_error(file),
        plain_files.open_to_read(file) as stream,
        zipfile.ZipFile(stream) as held,
    ):
        return tuple(_member(held, f"{name}.npy") for name in names)


def _member(held: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """One array of a ``.npz`` file."""
    if name not in held.namelist():
        raise ValueError(f"it lacks {name}")
    entry = held.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:  # we compress nothing: a few bytes stay a few
        raise ValueError(f"{name} is compressed")
    with held.open(entry) as stream:
        _check_header(stream, entry.file_size)
        array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # the end of the file, where its CRC-32 is compared
            raise ValueError(f"{name} has more bytes than its numbers take")
    return array


def _check_header(stream: IO[bytes], size: int) -> None:
    """Refuse an array that is not as long as the file says, before memory is taken for it.

    Args:
        stream: at the beginning of the array, and left there.
        size: bytes that it has.
    """
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"its version is {version}")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, is_by_columns, kind = read(stream)
    if is_by_columns and len(shape) > 1:
        raise ValueError("it is stored by columns")
    # NumPy counts in 64 bits, also where one of the lengths is 0.
    most = math.prod(max(1, length) for length in shape) * max(1, kind.itemsize)
    if kind.hasobject or any(length < 0 for length in shape) or most >= 1 << 63:
        raise ValueError(f"it holds {shape} {kind}")
    expected = stream.tell() + math.prod(shape) * kind.itemsize
    if size != expected:
        raise ValueError(f"it has {size} bytes, and {shape} {kind} take {expected}")
    stream.seek(0)


@contextmanager
def _one_error(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
        raise LibraryError(f"{file} cannot be read ({reason}): make the index again") from None

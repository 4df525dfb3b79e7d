"""NumPy's files, read back: a damaged one is one error, where NumPy and ``zipfile`` know many."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
    with _one_error(file):
        array: npt.NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None)
    return array


def read_arrays(file: Path, *names: str) -> tuple[npt.NDArray[Any], ...]:
    """Some arrays of a ``.npz`` file.

    Raises:
        LibraryError: it is missing or damaged, or lacks one of them.
    """
    with _one_error(file), file.open("rb") as stream, np.load(stream) as held:
        if lacking := set(names) - set(held):
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        return tuple(held[name] for name in names)


@contextmanager
def _one_error(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
        raise LibraryError(f"{file} cannot be read ({reason}): make the index again") from None

"""Reading a file's bytes without being fooled by what stands at its path."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from maxsight import shortage
from maxsight.errors import MediaError
from maxsight.index.records import FileState
from maxsight.pipelines.media.limits import Limit

_BLOCK = 1 << 22

CHANGED_MEANWHILE = "changed while it was read; run again when it is completely written"

# SHA-256 because anyone can check it with sha256sum, and because on processors with SHA
# instructions it is the fastest of the collision-resistant ones (1.8 GB/s against 0.8 for
# BLAKE2b on the development machine). Moves are recognised by it, so collisions must not exist.
_Hash = hashlib.sha256


class NotNow(MediaError):
    """The file cannot be read on this machine at this moment, for a reason outside its bytes.

    A plain ``MediaError`` is a verdict on the content and stands until the file changes; this one
    is tried again at every run, since rights, settings and codecs change without the file.
    """


class AboveLimit(NotNow):
    """The file is above a limit that can be raised; it is tried again when that is done.

    Attributes:
        limit: which.
    """

    def __init__(self, reason: str, limit: Limit) -> None:
        super().__init__(reason)
        self.limit = limit


class TooHungry(AboveLimit):
    """It takes more memory to decode than is allowed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "memory")


def obstacle(error: OSError) -> MediaError:
    """The reason a person understands for a path that cannot be opened, read or listed.

    Raises:
        BackendError: it is not the path's: this process or machine has too many files open.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE) and (lacking := shortage.named(error)):
        raise lacking
    match error:
        case FileNotFoundError():
            return NotNow("vanished after the folder was listed; run again if it was only moved")
        case PermissionError():
            return NotNow("no permission to read it; grant it with chmod or chown and run again")
        case IsADirectoryError():
            return NotNow("a folder now, no longer a file; run again")
    reason = os.strerror(error.errno).lower() if error.errno else "unknown cause"
    return NotNow(f"an error of the disk or file system ({reason}); check it and run again")


def not_a_file(mode: int) -> str | None:
    """Why a path with that ``st_mode`` is never opened, None if it is a regular file."""
    if stat.S_ISREG(mode):
        return None
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return f"{name}, not a file; rename or remove it"
    return "not a regular file; rename or remove it"


@contextmanager
def open_regular(path: str) -> Iterator[int]:
    """Open a regular file for reading, and nothing else.

    Yields:
        A file descriptor.

    Raises:
        NotNow: it cannot be opened, or is a pipe, a device or a folder (never waited for).
    """
    try:
        # O_NONBLOCK: a pipe put in the file's place since the scan must not hang the open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise obstacle(error) from None
    try:
        if reason := not_a_file(os.fstat(descriptor).st_mode):
            raise NotNow(reason)
        yield descriptor
    except OSError as error:
        raise obstacle(error) from None
    finally:
        os.close(descriptor)


def state_of(path: str, status: os.stat_result) -> FileState:
    """What the library remembers of a file's ``stat``."""
    return FileState(path=path, bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def most_bytes(max_pixels: int) -> int:
    """How large a picture file may be where pictures may have ``max_pixels``.

    Eight bytes a pixel are the most an uncompressed picture takes (16 bits, with transparency);
    a file up to 128 MiB is read in any case, since its pixels may be few and its notes many.
    """
    return max(8 * max_pixels, 1 << 27)


def read_whole(path: str, *, max_bytes: int) -> tuple[bytes, FileState]:
    """Read a file in one piece.

    Raises:
        MediaError: it is empty or larger than ``max_bytes``.
        NotNow: it cannot be read, or changes while it is read.
    """
    with open_regular(path) as descriptor:
        before = state_of(path, os.fstat(descriptor))
        if before.bytes > max_bytes:
            raise AboveLimit(
                f"{before.bytes / 1e9:.1f} GB, more than a picture may take "
                f"({max_bytes / 1e9:.1f} GB); raise MAXSIGHT_MAX_PIXELS if memory allows",
                "pixels",
            )
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(before.bytes + 1)  # no further: it may grow for ever
        after = state_of(path, os.fstat(descriptor))
        if before != after or len(data) != before.bytes:
            raise NotNow(CHANGED_MEANWHILE)
    if not data:
        raise MediaError("empty (0 bytes)")
    return data, before


def digest(data: bytes) -> str:
    """Content hash of a whole file (hex)."""
    return _Hash(data).hexdigest()


def hash_file(path: str, on_block: Callable[[], None] = lambda: None) -> tuple[str, FileState]:
    """Content hash of a file of any size, read in blocks of 4 MiB.

    Args:
        on_block: called after each block, as a sign of life.

    Raises:
        NotNow: it cannot be read, or changes while it is read.
    """
    hasher = _Hash()
    with open_regular(path) as descriptor:
        before = state_of(path, os.fstat(descriptor))
        left = before.bytes
        while left > 0 and (block := os.read(descriptor, min(left, _BLOCK))):
            hasher.update(block)
            left -= len(block)
            on_block()
        if before != state_of(path, os.fstat(descriptor)):
            raise NotNow(CHANGED_MEANWHILE)
    return hasher.hexdigest(), before

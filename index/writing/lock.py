"""One writer at a time, across processes and within one."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from maxsight import plain_files
from maxsight.errors import LibraryError, LibraryLocked

FILE_NAME = "write.lock"

# A POSIX lock belongs to the process, so two writers in one process need a register of their own.
_held: set[tuple[int, int]] = set()
_register = threading.Lock()


class WriteLock:
    """Held from construction to ``release``, or until the process ends, however it ends.

    It is a POSIX record lock: the system drops it with the process that took it, and a forked
    child (a decoder) that outlives that process does not keep it.

    Raises:
        LibraryLocked: someone else holds it; the message names their process id.
        LibraryError: the lock file cannot be written.
    """

    def __init__(self, library: Path) -> None:
        file = library / FILE_NAME
        with _register:
            try:
                # Closing any descriptor of the file would drop the lock this process may hold.
                status = file.lstat() if os.path.lexists(file) else None
                if status is not None and (status.st_dev, status.st_ino) in _held:
                    raise LibraryLocked(
                        f"{library} is already open for writing in this process "
                        f"(process {os.getpid()}): close it first"
                    )
                descriptor = plain_files.open_to_write(file, os.O_RDWR | os.O_CREAT)
            except OSError as error:
                raise LibraryError(
                    f"cannot lock {file}: {error.strerror or error}; to change a library, its "
                    f"folder must be writable, and {file.name} a file of its own or not there"
                ) from error
            self._stream = os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")
            try:
                fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._stream.seek(0)
                holder = self._stream.read().strip()
                self._stream.close()
                if not isinstance(error, BlockingIOError | PermissionError):
                    raise LibraryError(f"cannot lock {file}: {error.strerror or error}") from error
                raise LibraryLocked(
                    f"{library} is being written by process {holder or 'unknown'}: "
                    "wait for it to finish, or open the library for reading"
                ) from None
            self._stream.seek(0)
            self._stream.truncate()
            self._stream.write(f"{os.getpid()}\n")
            self._stream.flush()
            identity = os.fstat(self._stream.fileno())
            self._key = (identity.st_dev, identity.st_ino)
            _held.add(self._key)

    def release(self) -> None:
        """Let the next writer in. Doing it twice is fine."""
        with _register:
            if not self._stream.closed:
                self._stream.close()
                _held.discard(self._key)

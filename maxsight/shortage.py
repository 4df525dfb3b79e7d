"""What a process lacks when the system refuses it files, memory or threads."""

from __future__ import annotations

import errno
import resource

from maxsight.errors import BackendError

# Standard streams, a library's tables, the cache of texts and one decoder.
LEAST_FILES = 32

_ADVICE = {
    errno.EMFILE: "too many open files: this process may open {files}; allow more with ulimit -n",
    errno.ENFILE: "too many open files on this machine: close other programs",
    errno.ENOMEM: "not enough memory: close other programs, or allow more with ulimit -v",
    errno.EAGAIN: "no more processes or threads may be started: close other programs, or allow "
    "more with ulimit -u",
}


def require_files() -> None:
    """Refuse to begin with a limit on open files that nothing could be done with.

    Raises:
        BackendError: fewer than ``LEAST_FILES`` may be open.
    """
    if _most_files() < LEAST_FILES:
        raise BackendError(
            f"this process may open {_most_files()} files, and needs {LEAST_FILES}; decoders need "
            "some more: allow them with ulimit -n 1024"
        )


def named(error: BaseException) -> BackendError | None:
    """The error in a person's words if it says that the system is short of something."""
    number = error.errno if isinstance(error, OSError) else None
    words = str(error).lower()  # as a loader of shared objects says it, without a number
    if isinstance(error, MemoryError) or "allocate memory" in words or "failed to map" in words:
        number = errno.ENOMEM
    if isinstance(error, RuntimeError) and "can't start new thread" in words:
        number = errno.EAGAIN
    if number not in _ADVICE:
        return None
    return BackendError(_ADVICE[number].format(files=_most_files()))


def _most_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft

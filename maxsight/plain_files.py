"""Files opened for what they ought to be: a name from a stranger may be a pipe, a device, a link.

Opening a pipe waits for its other end, a device may act on being opened, and writing through a
link changes a file that stands elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


def open_to_read(file: Path) -> BufferedReader:
    """The file, opened for reading. Links are followed.

    Raises:
        OSError: it cannot be opened, or is not a regular file. It does not wait.
    """
    _require_regular(file, os.stat(file))  # before: a device may act on being opened
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _require_regular(file, os.fstat(descriptor))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(file: Path, *, most: int) -> bytes:
    """All of a file that holds at most ``most`` bytes. Links are followed.

    Raises:
        OSError: it cannot be opened or read, is not a regular file, or is larger.
    """
    with open_to_read(file) as stream:
        # Asked for a number of bytes, Python takes memory for all of them first.
        is_larger = os.fstat(stream.fileno()).st_size > most
        content = b"" if is_larger else stream.read()
    if is_larger or len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(file))
    return content


def open_to_write(file: Path, flags: int = os.O_WRONLY | os.O_CREAT) -> int:
    """A descriptor of the file itself, opened for writing in its place.

    Args:
        flags: of ``os.open``. What the file holds is left as it is: truncate it after this call.

    Raises:
        OSError: it cannot be opened; or it is a link, has a second name (a hard link), or is not a
            regular file. Nothing was changed.
    """
    require_own(file)
    safe = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(file, flags & ~os.O_TRUNC | safe, 0o666)
    try:
        _refuse_links(file, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_own(file: Path) -> None:
    """Raises OSError if something stands at ``file`` that :func:`open_to_write` refuses."""
    with contextlib.suppress(FileNotFoundError):
        _refuse_links(file, os.lstat(file))


def require_folder(folder: Path) -> None:
    """Raises OSError if something stands at ``folder`` that is not a folder itself.

    A link to a folder is refused: what is written or deleted in it would be so elsewhere.
    """
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, f"it is {_kind(status)}, not a folder", str(folder))


def makes_links(folder: Path) -> bool:
    """Whether hard links can be made in a folder: not on exFAT, FAT and many mounts.

    Raises:
        OSError: it cannot be written to.
    """
    import tempfile  # and with it much that a decoder would wait for when it starts

    descriptor, name = tempfile.mkstemp(prefix=".link-", suffix=".partial", dir=folder)
    os.close(descriptor)
    link = f"{name}.partial"
    try:
        os.link(name, link)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        return False
    else:
        os.unlink(link)
        return True
    finally:
        os.unlink(name)


def _require_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"it is {_kind(status)}, not a file", str(file))


def _refuse_links(file: Path, status: os.stat_result) -> None:
    _require_regular(file, status)
    if status.st_nlink > 1:
        raise OSError(
            errno.EMLINK,
            "it has a second name (a hard link), which a change here would change, too: put a copy "
            "in its place",
            str(file),
        )


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "a file")

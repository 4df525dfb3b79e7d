"""``checksums.txt``: what every file of the tables must hold, and the moment it became durable.

Lance writes a file once, under a name of its own, and never changes it. After each commit the
writer forces the new files to the disk and appends a line for each::

    BLAKE2B-128 (hex) SPACE BYTES SPACE CRC-32 OF THE LINE (hex) SPACE PATH NEWLINE

The line's own checksum tells a damaged ledger from a damaged file. What follows the last newline
is a line that a killed writer did not finish. Of two lines for one path the later holds.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from maxsight.index import tables
from maxsight.index.durable_files import force, replace

FILE_NAME = "checksums.txt"
_BLOCK = 1 << 20

_log = logging.getLogger("maxsight.index")


@dataclass(frozen=True)
class Checksum:
    """What a file must hold: its size and the BLAKE2b hash of 128 bits (hex) of its bytes."""

    bytes: int
    blake2b: str


@dataclass(frozen=True)
class Recorded:
    """What ``checksums.txt`` says.

    Attributes:
        files: path relative to the library, with ``/`` -> checksum.
        damaged_lines: numbers, from 1, of lines that are not what was written.
        whole_bytes: size of the file up to its last newline.
    """

    files: dict[str, Checksum]
    damaged_lines: tuple[int, ...]
    whole_bytes: int


def read(library: Path) -> Recorded:
    """The ledger of the library at ``library``; empty if there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        content = (library / FILE_NAME).read_bytes()
    except FileNotFoundError:
        content = b""
    whole = content.rfind(b"\n") + 1
    files: dict[str, Checksum] = {}
    damaged = []
    for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
        match line.split(b" ", 3):
            case [digest, size, check, path] if check == _check(digest, size, path):
                files[path.decode()] = Checksum(int(size), digest.decode())
            case _:
                damaged.append(number)
    return Recorded(files, tuple(damaged), whole)


def checksum(file: Path, on_block: Callable[[int], None] = lambda count: None) -> Checksum:
    """Read a file and hash it.

    Args:
        on_block: called with the number of bytes of each block of 1 MiB.
    """
    hasher = hashlib.blake2b(digest_size=16)
    total = 0
    with file.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            hasher.update(block)
            total += len(block)
            on_block(len(block))
    return Checksum(total, hasher.hexdigest())


def table_files(library: Path) -> set[str]:
    """Every file of both tables that is never changed, relative to the library."""
    found = set()
    for table in (tables.ITEMS, tables.UNITS):
        for folder, _, names in os.walk(library / table):
            place = f"{table}{folder.removeprefix(str(library / table))}/"
            found |= {place + name for name in names if not _is_passing(name)}
    return found


class Recorder:
    """The writer's side: knows which files have a line, and gives the others one."""

    def __init__(self, library: Path) -> None:
        self._library = library
        recorded = read(library)
        self._whole_bytes = recorded.whole_bytes
        self._sums = recorded.files
        self._pending: dict[str, Checksum] = {}
        # Folders whose own name is on the disk for certain.
        self._folders: set[Path] = set()

    def missing(self) -> set[str]:
        """Files that have no line, as a killed writer leaves them."""
        return table_files(self._library) - self._sums.keys() - self._pending.keys()

    def take(self) -> None:
        """Force the files without a line to the disk, and hash them. Lines follow by ``commit``.

        Raises:
            OSError: the disk refused; what these files hold may not survive a power cut.
        """
        taken = {}
        for name in sorted(self.missing()):
            taken[name] = checksum(self._library / name)
            force(self._library / name)
        folders = {folder for name in taken for folder in Path(name).parents[:-1]}
        holding = {Path(name).parent for name in taken}
        for folder in sorted((folders - self._folders) | holding):
            force(self._library / folder)
        self._folders |= folders
        self._pending |= taken

    def commit(self) -> None:
        """Append a line for each file taken.

        A disk that is too full for them is no failure of the step they belong to, which is done:
        the lines follow with the next step, or when the library is next opened for writing.
        """
        if not self._pending:
            return
        lines = b"".join(_line(name, found) for name, found in sorted(self._pending.items()))
        try:
            self._append(lines)
        except OSError as error:
            _log.warning("%s lags behind: %s", self._library / FILE_NAME, error.strerror or error)
            return
        self._sums |= self._pending
        self._pending = {}

    def rewrite(self, *, without: Iterable[str] = ()) -> None:
        """Write the ledger anew, whole or not at all, with the lines of files that are there.

        Args:
            without: files whose line no longer holds; they are hashed again.

        Raises:
            OSError: the disk refused; the old ledger stands.
        """
        there = table_files(self._library)
        self._sums = {
            name: found for name, found in self._sums.items() if name in there - set(without)
        }
        self._pending = {}
        self.take()
        self._sums |= self._pending
        self._pending = {}
        content = b"".join(_line(name, found) for name, found in sorted(self._sums.items()))
        replace(self._library / FILE_NAME, content)
        self._whole_bytes = len(content)

    def _append(self, lines: bytes) -> None:
        file = self._library / FILE_NAME
        created = not file.exists()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # What follows is a line that was cut short, by a death or a full disk.
            os.ftruncate(descriptor, self._whole_bytes)
            done = 0
            while done < len(lines):
                done += os.pwrite(descriptor, lines[done:], self._whole_bytes + done)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if created:
            force(self._library)
        self._whole_bytes += len(lines)


def _line(path: str, found: Checksum) -> bytes:
    digest, size, name = found.blake2b.encode(), str(found.bytes).encode(), path.encode()
    return b" ".join([digest, size, _check(digest, size, name), name]) + b"\n"


def _check(digest: bytes, size: bytes, path: bytes) -> bytes:
    return f"{zlib.crc32(b' '.join([digest, size, path])):08x}".encode()


def _is_passing(name: str) -> bool:
    """Whether a file is on its way to another name, or a hint that Lance rewrites."""
    return name.startswith(".") or "#" in name or name == "latest_version_hint.json"

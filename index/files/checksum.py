"""``checksums.txt``: what every file of the tables must hold, and the moment it became durable.

A line for each file, that is appended when the file has reached the disk::

    BLAKE2B-128 (hex) SPACE BYTES SPACE CRC-32 OF THE LINE (hex) SPACE PATH NEWLINE

The line's own checksum tells a damaged ledger from a damaged file. What follows the last newline
is a line that a killed writer did not finish. Of two lines for one path the later holds.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from maxsight import plain_files

FILE_NAME = "checksums.txt"
# 100 bytes a file: far more files than a library ever has.
_MOST_SUMS_BYTES = 1 << 30
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checksum:
    """What a file must hold: its size and the BLAKE2b hash of 128 bits (hex) of its bytes."""

    bytes: int
    blake2b: str


@dataclass(frozen=True)
class Ledger:
    """What ``checksums.txt`` says.

    Attributes:
        files: path relative to the library, with ``/`` -> checksum.
        damaged_lines: numbers, from 1, of lines that are not what was written.
        whole_bytes: size of the file up to its last newline.
    """

    files: dict[str, Checksum]
    damaged_lines: tuple[int, ...]
    whole_bytes: int


def read(library: Path) -> Ledger:
    """The ledger of the library at ``library``; empty if there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    content = _content(library)
    whole = content.rfind(b"\n") + 1
    files: dict[str, Checksum] = {}
    damaged = []
    for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
        if (entry := _entry(line)) is None:
            damaged.append(number)
        else:
            files[entry[0]] = entry[1]
    return Ledger(files, tuple(damaged), whole)


def lines_of(library: Path, names: Iterable[str]) -> dict[str, Checksum]:
    """What the ledger says of some files, those left out of which it has no line.

    Raises:
        OSError: it is there and cannot be read.
    """
    content = _content(library)
    found = {}
    for name in names:
        end = b" " + os.fsencode(name) + b"\n"
        last = content.rfind(end)
        if last >= 0:
            begin = content.rfind(b"\n", 0, last) + 1
            entry = _entry(content[begin : last + len(end) - 1])
            if entry is not None:
                found[name] = entry[1]
    return found


def checksum(file: Path, on_block: Callable[[int], None] = lambda count: None) -> Checksum:
    """Read a file and hash it.

    Args:
        on_block: called with the number of bytes of each block of 1 MiB.
    """
    hasher = hashlib.blake2b(digest_size=16)
    total = 0
    with plain_files.open_to_read(file) as stream:
        while block := stream.read(_BLOCK):
            hasher.update(block)
            total += len(block)
            on_block(len(block))
    return Checksum(total, hasher.hexdigest())


def line(path: str, found: Checksum) -> bytes:
    """The line of one file, relative to the library."""
    digest, size, name = found.blake2b.encode(), str(found.bytes).encode(), os.fsencode(path)
    return b" ".join([digest, size, _check(digest, size, name), name]) + b"\n"


def _content(library: Path) -> bytes:
    try:
        return plain_files.read_bytes(library / FILE_NAME, most=_MOST_SUMS_BYTES)
    except FileNotFoundError:
        return b""


def _entry(line: bytes) -> tuple[str, Checksum] | None:
    """What a line says; None if it is damaged, or names what no line names."""
    match line.split(b" ", 3):
        case [digest, size, check, path] if check == _check(digest, size, path):
            parts = path.split(b"/")
            is_inside = parts[0].endswith(b".lance") and not {b"", b".", b".."} & set(parts)
            if is_inside and size.isdigit() and digest.isalnum():
                return os.fsdecode(path), Checksum(int(size), digest.decode())
    return None


def _check(digest: bytes, size: bytes, path: bytes) -> bytes:
    return f"{zlib.crc32(b' '.join([digest, size, path])):08x}".encode()

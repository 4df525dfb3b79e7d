"""A first look at a version of a table, before Lance opens it.

Lance trusts the list of a version (``_versions/*.manifest``) and the files of deleted rows: a
flipped byte in one may end the process, and a list may name other folders and stores, which Lance
would then ask, on the network with the user's credentials. They are small: each is compared with
the ledger once in a process.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from maxsight import plain_files
from maxsight.errors import LibraryError
from maxsight.index.files import checksum
from maxsight.index.files.checksum import Checksum

# Lance looks there first, and takes memory by its size: it holds one number.
HINT = "latest_version_hint.json"
_MOST_HINT_BYTES = 4096
# Of a list: 200 bytes a fragment. Of the numbers of deleted rows: more than there are.
_MOST_LIST_BYTES = 1 << 28
# The file's last 16 bytes: where the list begins, the format's version, a mark.
_FOOTER = struct.Struct("<QHH4s")
_MARK = b"LANC"
# Fields of Lance's message ``Manifest`` (protos/table.proto).
_BASE_PATHS = 18
# Identity of files that are what was written; they are never changed in place.
_sound: set[tuple[str, int, int, int]] = set()


def look(library: Path, name: str, version: Path) -> None:
    """Look at one version's list, and at what lies in the table's folders.

    Args:
        name: of the table.
        version: its list.

    Raises:
        LibraryError: the list is not what was written; it names a path outside the table; or what
            lies beside it is a pipe, a device or the like.
    """
    try:
        _require_small(version.with_name(HINT))
        # Each time: what is sound today may be a pipe tomorrow, which Lance would wait for.
        for folder in ("_versions", "data", "_deletions", "_transactions"):
            _require_files(library / name / folder)
        found = _read(library, f"{name}/_versions/{version.name}")
        if found is None:
            return
    except OSError as error:
        raise _unreadable(error) from error
    try:
        outside = list(_outside(found.content))
    except (ValueError, IndexError, struct.error) as error:
        raise _damaged(library, version, f"{error}") from None
    if outside:
        shown = ", ".join(repr(path)[:200] for path in outside[:3])
        raise LibraryError(
            f"{library / name} takes rows from elsewhere ({shown}), which its list {version.name} "
            "names: maxsight opens nothing that a library names. Whoever made it can copy "
            "everything into one folder"
        )
    found.remember()


def compare(library: Path, names: Iterable[str]) -> None:
    """Compare small files with the ledger; those without a line there are passed over.

    Args:
        names: relative to the library.

    Raises:
        LibraryError: one is not what was written, or cannot be read.
    """
    try:
        for name in names:
            if (found := _read(library, name)) is not None:
                found.remember()
    except OSError as error:
        raise _unreadable(error) from error


@dataclass(frozen=True)
class _Found:
    """A file that was read.

    Attributes:
        key: its identity.
        is_recorded: whether the ledger has a line of it, which it fits.
    """

    content: bytes
    key: tuple[str, int, int, int]
    is_recorded: bool

    def remember(self) -> None:
        """It need not be looked at again; unless it may yet get a line."""
        if self.is_recorded:
            _sound.add(self.key)


def _read(library: Path, name: str) -> _Found | None:
    """What a file holds; None if it is known to be sound."""
    file = library / name
    status = os.stat(file)
    key = (str(file), status.st_ino, status.st_size, status.st_mtime_ns)
    if key in _sound:
        return None
    content = plain_files.read_bytes(file, most=_MOST_LIST_BYTES)
    expected = checksum.lines_of(library, [name]).get(name)
    if expected is not None:
        found = hashlib.blake2b(content, digest_size=16).hexdigest()
        if Checksum(len(content), found) != expected:
            raise _damaged(library, file, "it is not what was written")
    return _Found(content, key, expected is not None)


def _require_files(folder: Path) -> None:
    try:
        with os.scandir(folder) as entries:
            odd = [entry.path for entry in entries if not (entry.is_file() or entry.is_dir())]
    except FileNotFoundError:  # made when it is first needed
        return
    for path in odd:
        plain_files.open_to_read(Path(path)).close()


def _require_small(hint: Path) -> None:
    try:
        size = os.stat(hint).st_size
    except FileNotFoundError:
        return
    if size > _MOST_HINT_BYTES:
        raise LibraryError(f"{hint} has {size:,} bytes, and holds one number: delete the file")


def _outside(content: bytes) -> Iterator[str]:
    """The paths that the list of a version names.

    Raises:
        ValueError, IndexError, struct.error: it is no such list.
    """
    begin, _, _, mark = _FOOTER.unpack(content[-_FOOTER.size :])
    end = len(content) - _FOOTER.size
    if mark != _MARK or not 0 <= begin <= end - 4:
        raise ValueError("it does not end as a list of Lance does")
    length = int.from_bytes(content[begin : begin + 4], "little")
    if begin + 4 + length > end:
        raise ValueError("it breaks off")
    for field, held in _fields(content, begin + 4, begin + 4 + length):
        if field == _BASE_PATHS:
            inner = dict(_fields(held, 0, len(held)))
            yield inner.get(4, b"").decode("utf-8", "backslashreplace")


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message by number; of numbers only that they are there."""
    while at < end:
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                length = 0
                _, at = _varint(message, at)
            case 1:
                length = 8
            case 2:
                length, at = _varint(message, at)
            case 5:
                length = 4
            case kind:
                raise ValueError(f"it has a field of kind {kind}")
        if at + length > end:
            raise ValueError("it breaks off")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("it has a number of more than 64 bits")


def _damaged(library: Path, file: Path, why: str) -> LibraryError:
    return LibraryError(
        f"{file} is damaged ({why}): `maxsight verify {library}` tells what of the library is "
        "sound, and with --repair goes on with that"
    )


def _unreadable(error: OSError) -> LibraryError:
    if isinstance(error, FileNotFoundError):
        return LibraryError(
            f"{error.filename} is gone: a compaction deleted what this process had open, take a "
            "new snapshot; if that does not help, `maxsight verify` tells what is missing"
        )
    return LibraryError(f"{error.filename} cannot be read: {error.strerror or error}")

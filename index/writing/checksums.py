"""The writer's side of the ledger of checksums (:mod:`maxsight.index.files.checksum`).

Lance writes a file once, under a name of its own, and never changes it. After each commit the
writer forces the new files to the disk and appends a line for each.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from maxsight import plain_files
from maxsight.index.files.checksum import FILE_NAME, Checksum, checksum, line, read
from maxsight.index.files.durable import force, replace
from maxsight.index.tables import schema
from maxsight.index.tables.version_lists import HINT

_log = logging.getLogger("maxsight.index")


def table_files(library: Path) -> set[str]:
    """Every file of both tables that is never changed, relative to the library."""
    found = set()
    for table in (schema.ITEMS, schema.UNITS):
        for folder, _, names in os.walk(library / table):
            prefix = f"{table}{folder.removeprefix(str(library / table))}/"
            found |= {prefix + name for name in names if not _is_passing(name)}
    return found


class LedgerWriter:
    """The writer's side: knows which files have a line, and gives the others one."""

    def __init__(self, library: Path) -> None:
        self._library = library
        ledger = read(library)
        self._whole_bytes = ledger.whole_bytes
        self._sums = ledger.files
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
        lines = b"".join(line(name, found) for name, found in sorted(self._pending.items()))
        try:
            self._append(lines)
        except OSError as error:
            _log.warning("%s lags behind: %s", self._library / FILE_NAME, error.strerror or error)
            return
        self._sums |= self._pending
        self._pending = {}

    def rewrite(self) -> None:
        """Write the ledger anew, whole or not at all, with the lines of files that are there.

        Raises:
            OSError: the disk refused; the old ledger stands.
        """
        there = table_files(self._library)
        self._sums = {name: found for name, found in self._sums.items() if name in there}
        self._pending = {}
        self.take()
        self._sums |= self._pending
        self._pending = {}
        content = b"".join(line(name, found) for name, found in sorted(self._sums.items()))
        replace(self._library / FILE_NAME, content)
        self._whole_bytes = len(content)

    def _append(self, lines: bytes) -> None:
        file = self._library / FILE_NAME
        created = not file.exists()
        descriptor = plain_files.open_to_write(file)
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


def _is_passing(name: str) -> bool:
    """Whether a file is on its way to another name, or a hint that Lance rewrites."""
    return name.startswith(".") or "#" in name or "\n" in name or name == HINT

"""``maxsight verify``: is the library what was written, and if not, what can be done."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from maxsight.index.derived.generations import FOLDER
from maxsight.index.store import Store
from maxsight.index.tables import lance_tables, schema, versions
from maxsight.index.verify import obstacles
from maxsight.index.verify import repair as repairs
from maxsight.index.verify.examine import Examination, Hashes, Problem, Progress, examine
from maxsight.index.writing import recovery
from maxsight.index.writing.lock import WriteLock
from maxsight.index.writing.writable import require_writable


@dataclass(frozen=True)
class Verification:
    """What a look through a library found, and what was done about it.

    Attributes:
        problems: that are there now.
        repaired: what was done, in words; empty without a repair.
        files, bytes: that were read and compared with their checksum.
        items, units: that can be found.
        unrecorded: files without a checksum: a killed writer left them. The next one to write
            gives them theirs.
        orphans: units of no file, as a killed writer leaves them; compaction takes them out.
        leftovers: files that a killed writer left half made, relative to the library. The next one
            to write deletes them.
    """

    problems: tuple[Problem, ...]
    repaired: tuple[str, ...]
    files: int
    bytes: int
    items: int
    units: int
    unrecorded: int
    orphans: int
    leftovers: tuple[str, ...] = ()


def verify(
    path: str | os.PathLike[str], *, repair: bool = False, progress: Progress | None = None
) -> Verification:
    """Compare every file of a library with its checksum, and its rows with each other.

    Args:
        repair: delete what is derived and damaged, and take out the files whose vectors are lost,
            so that ``maxsight index`` makes them again.
        progress: called with ``checksums`` or ``rows``, how far it is, and how far it goes.

    Raises:
        LibraryNotFound, SchemaTooNew: there is nothing to verify.
        LibraryLocked: ``repair`` and another process is writing.
        LibraryError: it cannot be read, or not be repaired.
    """
    library = Path(path).absolute()
    report = progress or (lambda stage, done, total: None)
    if not repair:
        return _verification(_settled(library, report))
    hashes = Hashes(library)
    lock = WriteLock(library)
    done: list[str] = []
    try:
        with lance_tables.storage_errors(library):
            obstacles.set_aside(library, done)
            require_writable(library)
            recovery.clear_leftovers(library)
            lance_tables.learn_links(library)
        done += repairs.repair(library, hashes, report)
    finally:
        lock.release()
    with Store.open(library, write=True) as store:
        store.compact()
    return _verification(_settled(library, report), done)


def _settled(library: Path, progress: Progress) -> Examination:
    """Look until nobody wrote meanwhile, or all is well: half of two states looks damaged."""
    hashes = Hashes(library)
    for _ in range(4):
        before = _state(library)
        found = examine(library, hashes, progress)
        if not found.problems or _state(library) == before:
            break
    return found


def _state(library: Path) -> list[object]:
    """Something that differs when anything was committed."""
    names = (schema.ITEMS, schema.UNITS)
    newest = [max(versions.manifests(library / name), default=0) for name in names]
    return [*newest, sorted(library.glob(f"{FOLDER}/*"))]


def _verification(found: Examination, done: list[str] | None = None) -> Verification:
    return Verification(
        problems=found.problems,
        repaired=tuple(done or ()),
        files=found.files,
        bytes=found.bytes,
        items=found.items,
        units=found.units,
        unrecorded=found.unrecorded,
        orphans=found.orphans,
        leftovers=found.leftovers,
    )

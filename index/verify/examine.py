"""Looking through a library: every file against its checksum, every row against the others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from maxsight.errors import LibraryError, LibraryNotFound, SchemaTooNew
from maxsight.index.derived import generations
from maxsight.index.files import checksum
from maxsight.index.files.checksum import Checksum
from maxsight.index.tables import lance_tables, schema, versions
from maxsight.index.tables.manifest import FILE_NAME, Manifest
from maxsight.index.tables.versions import TableState
from maxsight.index.verify import index_checks, obstacles, row_checks
from maxsight.index.writing import checksums, partial
from maxsight.index.writing.recovery import leftovers

# Of a ledger's damaged lines. All of them in a ledger of other bytes would be a book.
_LINES_SHOWN = 20

Stage = Literal["checksums", "rows"]
Progress = Callable[[Stage, int, int], None]


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was written.

    Attributes:
        kind: ``damaged``: other bytes than were written; ``missing``: a file is gone; ``rows``:
            what the rows say contradicts itself; ``index``: a derived index does not fit;
            ``partial``: what is kept of a film that is not done is damaged;
            ``ledger``: a line of ``checksums.txt`` is damaged.
        place: relative to the library's folder.
        text: what is wrong, for people.
    """

    kind: Literal["damaged", "missing", "rows", "index", "partial", "ledger"]
    place: str
    text: str


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        manifest: None if ``library.json`` is damaged.
        problems: in the order of the folder.
        states: table -> its newest version.
        damaged_remains: damaged files that only older versions need, relative to the library.
        broken_items: ids of live files whose units cannot be trusted.
        damaged_indexes: folders of indexes that do not fit.
        damaged_films: files of films that are not done.
        orphans: units no file owns.
        unrecorded: files of the tables without a checksum, as a killed writer leaves them.
        leftovers: files that a killed writer left half made, relative to the library, beside
            which a draft of it may lie.
        files, bytes: that were read and compared with their checksum.
        items, units: live.
    """

    manifest: Manifest | None
    problems: tuple[Problem, ...]
    states: dict[str, TableState]
    damaged_remains: tuple[str, ...]
    broken_items: tuple[int, ...]
    damaged_indexes: tuple[Path, ...]
    damaged_films: tuple[Path, ...]
    orphans: int
    unrecorded: int
    leftovers: tuple[str, ...]
    files: int
    bytes: int
    items: int
    units: int


@dataclass
class Hashes:
    """Checksums of files as they are now, each computed once.

    Lance never changes a file, so that looking again after a repair need not read them again.
    """

    library: Path
    found: dict[str, Checksum] = field(default_factory=dict)

    def compare(
        self, expected: dict[str, Checksum], progress: Progress
    ) -> tuple[set[str], set[str]]:
        """``(same, different)`` of the files that are there."""
        new = {name: sums for name, sums in expected.items() if name not in self.found}
        total = sum(sums.bytes for sums in new.values())
        done = 0

        def count(block: int) -> None:
            nonlocal done
            done += block
            progress("checksums", done, max(done, total))

        for name in sorted(new):
            try:
                size = (self.library / name).stat().st_size
                if size > new[name].bytes:  # of holes, say, that would be read for days
                    self.found[name] = Checksum(size, "longer")
                    continue
                self.found[name] = checksum.checksum(self.library / name, count)
            except FileNotFoundError:  # a compaction may have deleted it
                continue
        there = {name for name in expected if (self.library / name).exists()} & self.found.keys()
        same = {name for name in there if self.found[name] == expected[name]}
        return same, there - same


def examine(library: Path, hashes: Hashes, progress: Progress) -> Examination:
    """Look through the library at ``library``. Reads only.

    Raises:
        LibraryNotFound, SchemaTooNew: there is nothing to look through.
        LibraryError: the disk refuses to be read; or what cannot be read is what was written.
    """
    problems: list[Problem] = []
    manifest = _manifest(library, problems)
    with lance_tables.storage_errors(library):
        ledger = checksum.read(library)
        present = checksums.table_files(library)
        same, different = hashes.compare(ledger.files, progress)
    problems += [
        Problem("ledger", checksum.FILE_NAME, f"line {number} is damaged")
        for number in ledger.damaged_lines[:_LINES_SHOWN]
    ]
    if (more := len(ledger.damaged_lines) - _LINES_SHOWN) > 0:
        problems.append(Problem("ledger", checksum.FILE_NAME, f"and {more:,} lines more"))
    states = {}
    needed: set[str] = set()
    # Items first: the units read after them hold every unit that these items claim.
    for name in (schema.ITEMS, schema.UNITS):
        states[name] = _table(library, name, ledger.files, different, problems, needed)
    if manifest is not None:
        problems += _columns(library, manifest, states)
    remains = sorted(different - needed)
    problems += [
        Problem("damaged", file, "is not what was written; only older versions need it")
        for file in remains
    ]
    rows = row_checks.check(library, states, lambda done, total: progress("rows", done, total))
    problems += [Problem("rows", place, text) for place, text in rows.problems]
    for name, unreadable in rows.unreadable.items():
        for part in unreadable:
            sums = {f"{name}/{file}" for file in states[name].files[part]}
            if sums <= same:
                raise LibraryError(
                    f"{library / name} cannot be read, though what it holds is what was written "
                    f"({', '.join(sorted(sums))}): free memory, move the library to another disk, "
                    "or update maxsight (pip install -U maxsight). Nothing was changed"
                )
        damaged = states[name].damaged_fragments | unreadable
        states[name] = dataclasses.replace(states[name], damaged_fragments=damaged)
    misplaced = obstacles.problems(library)
    problems += [Problem(kind, name, text) for kind, name, text in misplaced]
    has_indexes = all(name != generations.FOLDER for _, name, _ in misplaced)
    if has_indexes and (text := generations.wanted_problem(library)):
        problems.append(Problem("index", f"{generations.FOLDER}/{generations.WANTED}", text))
    damaged_indexes = []
    for folder in index_checks.folders(library) if has_indexes else []:
        if manifest is not None and (
            text := index_checks.problem(folder, manifest, rows.last_unit)
        ):
            damaged_indexes.append(folder)
            place = folder.relative_to(library).as_posix()
            problems.append(Problem("index", place, text))
    damaged_films = []
    for file, text in partial.problems(library):
        damaged_films.append(file)
        problems.append(Problem("partial", file.relative_to(library).as_posix(), text))
    return Examination(
        manifest=manifest,
        problems=tuple(problems),
        states=states,
        damaged_remains=tuple(remains),
        broken_items=rows.broken_items,
        damaged_indexes=tuple(damaged_indexes),
        damaged_films=tuple(damaged_films),
        orphans=rows.orphans,
        leftovers=tuple(os.path.relpath(path, library) for path in leftovers(library)),
        unrecorded=len(present - ledger.files.keys()),
        files=len(same | different),
        bytes=sum(hashes.found[name].bytes for name in same | different),
        items=rows.items,
        units=rows.units,
    )


def _manifest(library: Path, problems: list[Problem]) -> Manifest | None:
    try:
        return Manifest.read(library)
    except (LibraryNotFound, SchemaTooNew):
        raise
    except LibraryError as error:
        problems.append(Problem("damaged", FILE_NAME, str(error)))
        return None


def _columns(library: Path, manifest: Manifest, states: dict[str, TableState]) -> Iterator[Problem]:
    """Tables whose columns are not those that ``library.json`` asks for: readers refuse them."""
    for name, columns in (
        (schema.ITEMS, schema.ITEM_SCHEMA),
        (schema.UNITS, schema.unit_schema(manifest)),
    ):
        opened = states[name].opened
        if opened is None:
            continue
        if name == schema.ITEMS:  # an older library lacks what the next writer adds
            columns = pa.schema([field for field in columns if field.name in opened.schema.names])
        try:
            schema.require_columns(opened, columns, library / name)
        except LibraryError as error:
            yield Problem("damaged", FILE_NAME, f"does not fit {name}, or that is damaged: {error}")


def _table(
    library: Path,
    name: str,
    recorded: dict[str, Checksum],
    different: set[str],
    problems: list[Problem],
    needed: set[str],
) -> TableState:
    """The newest version of a table; adds to ``problems``, and its files to ``needed``."""
    manifests = versions.manifests(library / name)
    if not manifests:
        problems.append(Problem("missing", name, "has no version that could be opened"))
        return TableState(None, False, None, frozenset())
    newest = max(manifests)
    place = f"{name}/_versions/{manifests[newest].name}"
    needed.add(place)
    written = [versions.number(Path(file)) for file in recorded if f"{name}/_versions/" in file]
    lost = max((number for number in written if number is not None), default=newest)
    if lost > newest:
        text = f"version {lost} was written and is gone; {newest} is the newest there is"
        problems.append(Problem("missing", f"{name}/_versions", text))
    if place in different:
        problems.append(Problem("damaged", place, f"the list of version {newest} is damaged"))
        return TableState(None, lost > newest, place, frozenset())
    try:
        # Its files have been compared, and which of them are damaged decides what can be kept.
        opened = lance_tables.open_listed(library, name)
        files = {part.fragment_id: versions.files_of(part) for part in opened.get_fragments()}
    except LibraryError as error:
        if place in recorded:  # and compared: what is to blame is not the file
            raise LibraryError(
                f"{library} cannot be read, though what it holds is what was written ({error}): "
                "move it to another folder or disk, or update maxsight (pip install -U maxsight). "
                "Nothing was changed"
            ) from error
        problems.append(Problem("damaged", place, str(error)))
        return TableState(None, lost > newest, place, frozenset())
    damaged = set()
    for fragment, parts in files.items():
        for part in sorted(f"{name}/{file}" for file in parts):
            needed.add(part)
            if not (library / part).exists():
                problems.append(Problem("missing", part, "is gone"))
                damaged.add(fragment)
            elif part in different:
                problems.append(Problem("damaged", part, "is not what was written"))
                damaged.add(fragment)
    return TableState(opened, lost > newest, None, frozenset(damaged), files)

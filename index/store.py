"""A library on disk: one writer, any number of readers. docs/storage.md describes the folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maxsight.errors import LibraryError, LibraryLocked
from maxsight.index import filters, tables
from maxsight.index import snapshot as snapshots
from maxsight.index.ledger import Ledger, Step
from maxsight.index.lock import WriteLock
from maxsight.index.manifest import FILE_NAME, Manifest
from maxsight.index.records import Changes, Compaction, Failure, FileState, KnownItem
from maxsight.index.snapshot import Snapshot
from maxsight.index.unit_reader import owners

# How long a compaction leaves old versions to readers that have them open.
GRACE_SECONDS = 600.0


class Store:
    """Made by ``create`` or ``open``; a context manager.

    Attributes:
        path: the library's folder.
        manifest: what was fixed when it was created.
    """

    manifest: Manifest

    def __init__(self, path: Path, manifest: Manifest, lock: WriteLock | None) -> None:
        self.path = path
        self.manifest = manifest
        self._lock = lock
        self._ledger: Ledger | None = None
        self._snapshot: Snapshot | None = None
        self._snapshot_stamp: int | None = None
        self._guard = threading.RLock()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder_uri: str,
        fingerprint: str,
        dim: int,
        token_dim: int | None = None,
        token_limit: int | None = None,
        mix: Mapping[str, float] | None = None,
    ) -> Store:
        """Make an empty library at ``path``, open for writing.

        It appears complete or not at all: it is built beside its place and renamed. The other
        arguments are those of ``Manifest``.

        Raises:
            LibraryError: something stands there already, or the disk refuses.
        """
        path = Path(path).absolute()
        manifest = Manifest.new(
            encoder_uri=encoder_uri,
            fingerprint=fingerprint,
            dim=dim,
            token_dim=token_dim,
            token_limit=token_limit,
            mix=mix,
        )
        if (path / FILE_NAME).exists():
            raise LibraryError(f"{path} is a library already: open it instead of creating it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        except OSError as error:
            raise LibraryError(f"cannot create {path}: {error.strerror or error}") from error
        lock = None
        try:
            tables.create(draft, manifest)
            lock = WriteLock(draft)
            manifest.write(draft)
            draft.chmod(0o777 & ~_umask())
            draft.rename(path)
        except BaseException as error:
            if lock is not None:
                lock.release()
            shutil.rmtree(draft, ignore_errors=True)
            if isinstance(error, OSError):
                raise LibraryError(
                    f"cannot create {path}: {error.strerror or error}; it must be a new or an "
                    "empty folder on a disk with space"
                ) from error
            raise
        return cls(path, manifest, lock)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, write: bool = False) -> Store:
        """Open the library at ``path``.

        Raises:
            LibraryNotFound: there is none.
            LibraryLocked: ``write`` and another writer has it.
            SchemaTooNew: a newer maxsight wrote it.
            LibraryError: a part of it is missing or damaged.
        """
        path = Path(path).absolute()
        manifest = Manifest.read(path)
        lock = WriteLock(path) if write else None
        try:
            for name in (tables.ITEMS, tables.UNITS):
                tables.open_table(path, name)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return cls(path, manifest, lock)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another writer in. Snapshots stay usable."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._ledger = None
        self._snapshot = None

    def known(self) -> dict[str, KnownItem]:
        """The files the library holds, by path as ``os.fsdecode`` gives it."""
        columns = ["item_id", "path", "path_bytes", "bytes", "mtime_ns", "kind", "content_hash"]
        rows = self._rows(tables.LIVE, columns)
        return {
            state.path: KnownItem(item_id, state, kind, content_hash)
            for item_id, state, kind, content_hash in zip(
                rows["item_id"].to_pylist(),
                _states(rows),
                rows["kind"].to_pylist(),
                rows["content_hash"].to_pylist(),
                strict=True,
            )
        }

    def failures(self) -> dict[str, Failure]:
        """The files that could not be read, by path."""
        rows = self._rows(tables.FAILED, ["path", "path_bytes", "bytes", "mtime_ns", "error"])
        reasons = rows["error"].to_pylist()
        pairs = zip(_states(rows), reasons, strict=True)
        return {state.path: Failure(state, reason) for state, reason in pairs}

    def items(self, *, where: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The files the library holds, as a table.

        Args:
            where: SQL over the columns; None means all.
            columns: by default every one docs/storage.md lists for users.

        Raises:
            FilterError: ``where`` cannot be evaluated.
        """
        chosen = list(columns or tables.PUBLIC_COLUMNS)
        if unknown := sorted(set(chosen) - set(tables.ITEM_SCHEMA.names)):
            raise ValueError(
                f"no item columns {', '.join(unknown)}; there are "
                f"{', '.join(tables.ITEM_SCHEMA.names)}"
            )
        if where is None:
            return self._rows(tables.LIVE, chosen)
        items = tables.open_table(self.path, tables.ITEMS)
        return filters.matching_items(items, where, chosen, self.path)

    def snapshot(self) -> Snapshot:
        """The newest state, for searching; the same object while nothing was committed."""
        with self._guard:
            stamp = tables.stamp(self.path / tables.ITEMS)
            if self._snapshot is None or stamp is None or stamp != self._snapshot_stamp:
                self._snapshot = snapshots.load(self.path, self.manifest, self._snapshot)
                self._snapshot_stamp = stamp
            return self._snapshot

    def apply(self, changes: Changes) -> list[int]:
        """Make all of ``changes`` true in one atomic step.

        A reader sees all of it or none, and so does the next process if this one is killed.

        Returns:
            Ids of the added files, in order.

        Raises:
            ValueError: the changes contradict each other or the library, or an item does not fit
                it. Nothing was stored.
            LibraryError: the disk refused. Nothing of this step is visible; what was stored
                before is safe.
        """
        self._check_writable()
        for item in [*changes.added, *(item for _, item in changes.replaced)]:
            tables.check_item(item, self.manifest)
        with self._guard:
            ledger = self._ledger or Ledger.read(self.path)
            # Whatever happens on the way, what is on disk is the truth to start from again.
            self._ledger = None
            step = ledger.plan(changes)
            added = list(range(ledger.next_item, ledger.next_item + len(changes.added)))
            encoded = [*changes.added, *(item for _, item in changes.replaced)]
            owners = [*added, *(item_id for item_id, _ in changes.replaced)]
            if encoded:
                rows = tables.unit_rows(encoded, owners, ledger.next_unit, self.manifest)
                self._append(tables.UNITS, rows)
            new, old = self._item_rows(changes, step, ledger)
            if len(old):
                rows = pa.concat_tables([old, new])
                with tables.storage_errors(self.path):
                    merge = tables.open_table(self.path, tables.ITEMS).merge_insert("item_id")
                    merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            elif len(new):
                self._append(tables.ITEMS, new)
            ledger.advance(changes, step)
            self._ledger = ledger
        return added

    def compact(self, *, grace_seconds: float = GRACE_SECONDS) -> Compaction:
        """Merge small files, drop what is dead, delete versions older than the grace period.

        Cheap when there is nothing to do. Readers are not disturbed: a snapshot older than the
        grace period can still be searched, but no longer filtered by SQL nor asked for tokens.

        Raises:
            LibraryError: the disk refused; the library is as it was.
        """
        self._check_writable()
        with self._guard, tables.storage_errors(self.path):
            self._ledger = None
            items = tables.open_table(self.path, tables.ITEMS)
            units = tables.open_table(self.path, tables.UNITS)
            dropped_items = _drop_removed(items)
            dropped_units = _drop_unclaimed(items, units)
            freed = 0
            for table in (items, units):
                table.optimize.compact_files()
                stats = table.cleanup_old_versions(
                    older_than=timedelta(seconds=grace_seconds),
                    # Files no version knows were left by a killed writer: nobody else writes now.
                    delete_unverified=True,
                )
                freed += stats.bytes_removed
        return Compaction(dropped_items, dropped_units, freed)

    def _rows(self, status: str, columns: list[str]) -> pa.Table:
        items = tables.open_table(self.path, tables.ITEMS)
        with tables.storage_errors(self.path):
            return items.to_table(columns=columns, filter=f"status = '{status}'")

    def _append(self, name: str, rows: pa.Table) -> None:
        table = tables.open_table(self.path, name)
        with tables.storage_errors(self.path):
            table.insert(rows)

    def _item_rows(self, changes: Changes, step: Step, ledger: Ledger) -> tuple[pa.Table, pa.Table]:
        """``(new, changed)`` rows of the items table for this step."""
        ends = np.cumsum([0, *(len(item.vectors) for item in changes.added)])
        starts = ledger.next_unit + ends
        added = range(ledger.next_item, ledger.next_item + len(changes.added))
        new = [
            tables.item_rows(
                list(added), tables.LIVE, tables.content_columns(changes.added, starts[:-1])
            )
        ]
        failed = range(added.stop, added.stop + len(step.new_failures))
        columns = tables.failure_columns(step.new_failures)
        new.append(tables.item_rows(list(failed), tables.FAILED, columns))

        replaced_ends = np.cumsum([0, *(len(item.vectors) for _, item in changes.replaced)])
        first_units = starts[-1] + replaced_ends[:-1]
        content = tables.content_columns([item for _, item in changes.replaced], first_units)
        states = tables.state_columns([state for _, state in changes.restated])
        again = tables.failure_columns([failure for _, failure in step.old_failures])
        removed = [*changes.removed, *step.settled_failures]
        status = pa.array([tables.REMOVED] * len(removed), pa.string())
        groups = [
            ([item_id for item_id, _ in changes.replaced], content),
            ([item_id for item_id, _ in changes.restated], states),
            ([item_id for item_id, _ in step.old_failures], again),
            (removed, {"status": status}),
        ]
        wanted = [item_id for ids, _ in groups for item_id in ids]
        if not wanted:
            return pa.concat_tables(new), tables.ITEM_SCHEMA.empty_table()
        current = self._rows_by_id(wanted)
        changed = []
        for ids, columns in groups:
            rows = current.slice(0, len(ids))
            current = current.slice(len(ids))
            changed.append(tables.changed_rows(rows, columns))
        return pa.concat_tables(new), pa.concat_tables(changed)

    def _rows_by_id(self, ids: list[int]) -> pa.Table:
        """Item rows in the order of ``ids``."""
        items = tables.open_table(self.path, tables.ITEMS)
        few = f"item_id IN ({', '.join(map(str, ids))})" if len(ids) <= 1000 else None
        with tables.storage_errors(self.path):
            rows = items.to_table(filter=few)
        places = pc.index_in(pa.array(ids, pa.int64()), rows["item_id"].combine_chunks())
        return rows.take(places)

    def _check_writable(self) -> None:
        if self._lock is None:
            _refuse_writing(self.path)


def _drop_removed(items: Any) -> int:
    """Delete the rows of removed files, but for the two that hold the highest ids ever given."""
    rows = items.to_table(columns=["item_id", "status", "first_unit", "unit_count"])
    if not len(rows):
        return 0
    ids = rows["item_id"].to_numpy()
    last_unit = rows["first_unit"].to_numpy() + rows["unit_count"].to_numpy()
    keep = {int(ids.max()), int(ids[last_unit.argmax()])}
    dead = f"status = '{tables.REMOVED}' AND item_id NOT IN ({', '.join(map(str, sorted(keep)))})"
    count = int(items.count_rows(filter=dead))
    if count:
        items.delete(dead)
    return count


def _drop_unclaimed(items: Any, units: Any) -> int:
    """Delete the units that no live file claims."""
    claims = items.to_table(
        columns=["first_unit", "unit_count"], filter=f"status = '{tables.LIVE}'"
    ).sort_by("first_unit")
    first, count = claims["first_unit"].to_numpy(), claims["unit_count"].to_numpy()
    ids = units.to_table(columns=["unit_id"])["unit_id"].to_numpy()
    dead = ids[owners(ids, first, count) < 0]
    for start in range(0, len(dead), 50_000):
        chunk = ", ".join(map(str, dead[start : start + 50_000].tolist()))
        units.delete(f"unit_id IN ({chunk})")
    return len(dead)


def _states(rows: pa.Table) -> list[FileState]:
    times = rows["mtime_ns"].to_pylist()
    sizes = rows["bytes"].to_pylist()
    return list(map(FileState, tables.decode_paths(rows), sizes, times))


def _refuse_writing(path: Path) -> NoReturn:
    raise LibraryLocked(f"{path} is open for reading: open it with write=True to change it")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

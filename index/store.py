"""A library on disk: one writer, any number of readers. docs/storage.md describes the folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maxsight.errors import LibraryError, LibraryLocked
from maxsight.index import loading
from maxsight.index.derived import generations
from maxsight.index.derived.generations import Stamp
from maxsight.index.files.durable import force
from maxsight.index.records import Changes, Compaction, EncodedItem, Failure, FileState, KnownItem
from maxsight.index.snapshot import Snapshot
from maxsight.index.tables import filters, lance_tables, schema, table_rows
from maxsight.index.tables.annotations import Annotation, annotate, drop_columns
from maxsight.index.tables.manifest import FILE_NAME, Manifest
from maxsight.index.writing import checksums, compaction, creation, migrate, partial, recovery
from maxsight.index.writing.copies import copies
from maxsight.index.writing.ids import Ids, Step
from maxsight.index.writing.lock import WriteLock
from maxsight.index.writing.writable import require_writable
from maxsight.mix import Mix

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
        self._checksums = None if lock is None else checksums.LedgerWriter(path)
        self._ids: Ids | None = None
        self._snapshot: Snapshot | None = None
        self._snapshot_stamp: tuple[int | None, list[Stamp | None]] | None = None
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
        mix: Mix | None = None,
    ) -> Store:
        """Make an empty library at ``path``, open for writing.

        It appears complete or not at all: it is built beside its place and renamed. The other
        arguments are those of ``Manifest``.

        Raises:
            LibraryLocked: another process is making it.
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
            draft, lock = creation.claim(path)
        except OSError as error:
            raise LibraryError(
                f"cannot create {path}: {error.strerror or error}; it needs a folder that may be "
                "written, on a disk with space"
            ) from error
        try:
            lance_tables.learn_links(draft)
            schema.create(draft, manifest)
            manifest.write(draft)
            checksums.LedgerWriter(draft).rewrite()
            with contextlib.suppress(PermissionError):  # where files have no modes of their own
                draft.chmod(0o777 & ~_umask())
            draft.rename(path)
            force(path.parent)
        except BaseException as error:
            shutil.rmtree(draft, ignore_errors=True)
            lock.release()
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
        if write:
            require_writable(path)
        lock = WriteLock(path) if write else None
        try:
            with lance_tables.storage_errors(path):
                if write:
                    recovery.clear_leftovers(path)
                    lance_tables.learn_links(path)
                    if manifest.schema > 1:  # which had no checksums to tell by
                        recovery.drop_torn_steps(path, checksums.LedgerWriter(path).missing())
                    manifest = migrate.upgrade(path, manifest)
                for name in (schema.ITEMS, schema.UNITS):
                    lance_tables.open_table(path, name)
                store = cls(path, manifest, lock)
                if store._checksums is not None:  # what a killed writer left
                    store._checksums.take()
                    store._checksums.commit()
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another writer in. Snapshots stay usable."""
        with self._guard:
            if self._lock is not None:
                self._lock.release()
                self._lock = None
            self._checksums = None
            self._ids = None
            self._snapshot = None

    def known(self) -> dict[str, KnownItem]:
        """The files the library holds, by path as ``os.fsdecode`` gives it."""
        return {item.state.path: item for item in self._known(schema.LIVE)}

    def removed(self) -> list[KnownItem]:
        """Files that were removed, of which something may be left until the next compaction."""
        return self._known(schema.REMOVED)

    def copies(self, wanted: Sequence[tuple[int, FileState]]) -> list[EncodedItem | None]:
        """What to store for files that hold what another item holds, or held.

        Args:
            wanted: the item's id, and the file.

        Returns:
            In the order given; None where nothing is left of the item.
        """
        return copies(self.path, self.manifest, wanted)

    def failures(self) -> dict[str, Failure]:
        """The files that could not be read, by path."""
        return self._failures(lance_tables.open_table(self.path, schema.ITEMS))

    def reasons(self) -> dict[str, str]:
        """Why each file could not be read, by path, as a person is told; all from one state."""
        items = lance_tables.open_table(self.path, schema.ITEMS)
        failures = self._failures(items)
        held: set[str] = set()
        if failures:
            paths = self._rows(schema.LIVE, ["path", "path_bytes"], items=items)
            held.update(table_rows.decode_paths(paths))
        return {path: failure.told(is_kept=path in held) for path, failure in failures.items()}

    def _failures(self, items: Any) -> dict[str, Failure]:
        columns = ["path", "path_bytes", "bytes", "mtime_ns", "error"]
        rows = self._rows(schema.FAILED, [*columns, *self._settings], items=items)
        reasons = rows["error"].to_pylist()
        found = zip(_states(rows), reasons, self._settings_of(rows), strict=True)
        return {state.path: Failure(state, *rest) for state, *rest in found}

    def frame_rates(self) -> dict[int, float]:
        """Units a second of films whose settings are not known, by item id."""
        where = "kind = 'video' AND duration_s > 0" + (
            " AND settings IS NULL" * bool(self._settings)
        )
        rows = self._rows(schema.LIVE, ["item_id", "unit_count", "duration_s"], where=where)
        lists = (rows[name].to_pylist() for name in ("item_id", "unit_count", "duration_s"))
        return {item_id: units / seconds for item_id, units, seconds in zip(*lists, strict=True)}

    def remarks(self) -> dict[str, str]:
        """What a person should know about files the library holds, by path."""
        if not self._settings:
            return {}
        columns = ["path", "path_bytes", "remark"]
        rows = self._rows(schema.LIVE, columns, where="remark IS NOT NULL")
        return dict(zip(table_rows.decode_paths(rows), rows["remark"].to_pylist(), strict=True))

    def annotated(self) -> set[int]:
        """Ids of the items that have a value in a column of the user's own."""
        own = filters.own_columns_of(lance_tables.open_table(self.path, schema.ITEMS))
        rows = self._rows(schema.LIVE, ["item_id", *own])
        ids = lance_tables.numbers(rows, "item_id")
        return {int(row) for name in own for row in ids[rows[name].is_valid().to_numpy()]}

    def items(self, *, where: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The files the library holds, as a table.

        Args:
            where: SQL over the columns; None means all.
            columns: by default every one docs/storage.md lists for users, and the users' own.

        Raises:
            FilterError: ``where`` cannot be evaluated.
        """
        items = lance_tables.open_table(self.path, schema.ITEMS)
        chosen = list(columns or filters.columns_of(items))
        if unknown := sorted(set(chosen) - set(items.schema.names)):
            raise ValueError(
                f"no item columns {', '.join(unknown)}; there are {', '.join(items.schema.names)}"
            )
        if where is None:
            return self._rows(schema.LIVE, chosen)
        return filters.matching_items(items, where, chosen, self.path)

    def snapshot(self) -> Snapshot:
        """The newest state, for searching; the same object while nothing was committed."""
        with self._guard:
            names = (generations.VECTORS, generations.TOKENS)
            derived = [generations.stamp(self.path, name) for name in names]
            stamp = lance_tables.stamp(self.path / schema.ITEMS), derived
            if self._snapshot is None or stamp[0] is None or stamp != self._snapshot_stamp:
                self._snapshot = loading.load(self.path, self.manifest, self._snapshot)
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
        ledger = self._writing()
        for item in [*changes.added, *(item for _, item in changes.replaced)]:
            table_rows.check_item(item, self.manifest)
        with self._guard:
            ids = self._ids or Ids.read(self.path)
            # Whatever happens on the way, what is on disk is the truth to start from again.
            self._ids = None
            step = ids.plan(changes)
            added = list(range(ids.next_item, ids.next_item + len(changes.added)))
            encoded = [*changes.added, *(item for _, item in changes.replaced)]
            owners = [*added, *(item_id for item_id, _ in changes.replaced)]
            if encoded:
                rows = table_rows.unit_rows(encoded, owners, ids.next_unit, self.manifest)
                self._append(schema.UNITS, rows)
                self._force(ledger)  # after a power cut, too, what items claim is there
            new, old = self._item_rows(changes, step, ids)
            if len(old):
                rows = pa.concat_tables([old, new], promote_options="default")
                with lance_tables.storage_errors(self.path):
                    merge = lance_tables.open_table(self.path, schema.ITEMS).merge_insert("item_id")
                    merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            elif len(new):
                self._append(schema.ITEMS, new)
            self._force(ledger)
            ledger.commit()
            ids.advance(changes, step)
            self._ids = ids
        return added

    def annotate(self, given: pa.Table) -> Annotation:
        """Fill columns of the user's own, in one atomic step; new ones are added first.

        Args:
            given: the column ``path`` and others, as ``maxsight.index.tables.annotations`` takes
                them.

        Raises:
            UsageError: a column cannot be one, or a path is there twice. Nothing was changed.
            LibraryError: the disk refused; no value was changed.
        """
        ledger = self._writing()
        with self._guard:
            item_of: dict[str, int] = {}
            for path, item in self.known().items():
                shown, raw = table_rows.encode_path(path)
                if raw is None or shown not in item_of:
                    item_of[shown] = item.item_id
            done = annotate(self.path, given, item_of)
            self._force(ledger)
            ledger.commit()
        return done

    def drop_columns(self, names: Sequence[str]) -> None:
        """Take columns of the user's own out, in one atomic step.

        Raises:
            UsageError: a column is not there, or not the user's. Nothing was changed.
            LibraryError: the disk refused; nothing was changed.
        """
        ledger = self._writing()
        with self._guard:
            drop_columns(self.path, names)
            self._force(ledger)
            ledger.commit()

    def compact(self, *, grace_seconds: float = GRACE_SECONDS) -> Compaction:
        """Merge small files, drop what is dead, delete versions older than the grace period.

        Cheap when there is nothing to do. Readers are not disturbed: a snapshot older than the
        grace period can still be searched, but no longer filtered by SQL nor asked for tokens.

        Raises:
            LibraryError: the disk refused; the library is as it was.
        """
        ledger = self._writing()
        with self._guard, lance_tables.storage_errors(self.path):
            self._ids = None
            done = compaction.compact(self.path, ledger, timedelta(seconds=grace_seconds))
            partial.clear(
                self.path, {(item.content_hash, item.settings) for item in self.known().values()}
            )
            return done

    def _known(self, status: str) -> list[KnownItem]:
        columns = ["item_id", "path", "path_bytes", "bytes", "mtime_ns", "kind", "content_hash"]
        rows = self._rows(status, [*columns, *self._settings])
        lists = [rows[name].to_pylist() for name in ("item_id", "kind", "content_hash")]
        lists.append(self._settings_of(rows))
        return [
            KnownItem(item_id, state, kind, content_hash, settings)
            for state, item_id, kind, content_hash, settings in zip(
                _states(rows), *lists, strict=True
            )
            if content_hash is not None  # as in the row of a failure that was settled
        ]

    @property
    def _settings(self) -> list[str]:
        """The column of that name, which libraries before schema 3 have not."""
        return ["settings"] if self.manifest.schema > 2 else []

    def _settings_of(self, rows: pa.Table) -> list[str | None]:
        return rows["settings"].to_pylist() if self._settings else [None] * len(rows)

    def _rows(
        self, status: str, columns: list[str], *, where: str | None = None, items: Any = None
    ) -> pa.Table:
        """Of ``items``, the table at one version; None: at its newest."""
        if items is None:
            items = lance_tables.open_table(self.path, schema.ITEMS)
        condition = f"status = '{status}'" + (f" AND {where}" if where else "")
        with lance_tables.storage_errors(self.path):
            return items.to_table(columns=columns, filter=condition)

    def _append(self, name: str, rows: pa.Table) -> None:
        table = lance_tables.open_table(self.path, name)
        with lance_tables.storage_errors(self.path):
            table.insert(rows)

    def _item_rows(self, changes: Changes, step: Step, ids: Ids) -> tuple[pa.Table, pa.Table]:
        """``(new, changed)`` rows of the items table for this step."""
        ends = np.cumsum([0, *(len(item.vectors) for item in changes.added)])
        starts = ids.next_unit + ends
        added = range(ids.next_item, ids.next_item + len(changes.added))
        new = [
            table_rows.item_rows(
                list(added), schema.LIVE, table_rows.content_columns(changes.added, starts[:-1])
            )
        ]
        failed = range(added.stop, added.stop + len(step.new_failures))
        columns = table_rows.failure_columns(step.new_failures)
        new.append(table_rows.item_rows(list(failed), schema.FAILED, columns))

        replaced_ends = np.cumsum([0, *(len(item.vectors) for _, item in changes.replaced)])
        first_units = starts[-1] + replaced_ends[:-1]
        content = table_rows.content_columns([item for _, item in changes.replaced], first_units)
        states = table_rows.state_columns([state for _, state in changes.restated])
        again = table_rows.failure_columns([failure for _, failure in step.old_failures])
        removed = [*changes.removed, *step.settled_failures]
        status = pa.array([schema.REMOVED] * len(removed), pa.string())
        groups = [
            ([item_id for item_id, _ in changes.replaced], content),
            ([item_id for item_id, _ in changes.restated], states),
            ([item_id for item_id, _ in step.old_failures], again),
            (removed, {"status": status}),
        ]
        wanted = [item_id for changing, _ in groups for item_id in changing]
        if not wanted:
            return pa.concat_tables(new), schema.ITEM_SCHEMA.empty_table()
        current = table_rows.rows_by_id(self.path, wanted)
        changed = []
        for changing, columns in groups:
            rows = current.slice(0, len(changing))
            current = current.slice(len(changing))
            changed.append(table_rows.changed_rows(rows, columns))
        return pa.concat_tables(new), pa.concat_tables(changed)

    def _force(self, ledger: checksums.LedgerWriter) -> None:
        with lance_tables.storage_errors(self.path):
            ledger.take()

    def _writing(self) -> checksums.LedgerWriter:
        if self._checksums is None:
            raise LibraryLocked(
                f"{self.path} is open for reading: open it with write=True to change it"
            )
        return self._checksums


def _states(rows: pa.Table) -> list[FileState]:
    times = rows["mtime_ns"].to_pylist()
    sizes = rows["bytes"].to_pylist()
    return list(map(FileState, table_rows.decode_paths(rows), sizes, times))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

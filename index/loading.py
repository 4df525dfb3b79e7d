"""Reading the newest state of a library into a snapshot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maxsight import settings
from maxsight.errors import BudgetError, LibraryError
from maxsight.index.ann.contract import Built
from maxsight.index.ann.indexed_vectors import IndexedVectors
from maxsight.index.array_types import Rows
from maxsight.index.derived import generations, vector_folder
from maxsight.index.derived.generations import Stamp
from maxsight.index.exact.disk import DiskVectors
from maxsight.index.exact.memory import ExactIndex
from maxsight.index.plan import plan
from maxsight.index.snapshot import COLUMNS, Snapshot, State
from maxsight.index.tables import lance_tables, schema
from maxsight.index.tables.manifest import Manifest
from maxsight.index.tables.unit_reader import UnitReader, owners

# A reader drops the rows of removed files from memory once they are this share of all.
_DEAD_SHARE = 0.25
# More units than disks hold: sums of such numbers stay numbers of 64 bits.
_MOST_UNITS = 2**61


def load(library: Path, manifest: Manifest, previous: Snapshot | None = None) -> Snapshot:
    """The newest state of the library, reusing what ``previous`` already holds of it.

    Raises:
        BudgetError: it needs more memory than it may take.
        LibraryError: it is damaged.
    """
    problem = None
    for attempt in range(8):
        # A compaction can take away what is being read: look again at what it left.
        time.sleep(0.02 * attempt)
        try:
            old = None if previous is None else previous.state
            built = vector_folder.load(library, manifest, None if old is None else old.built)
            tokens = generations.stamp(library, generations.TOKENS)
            # Items first: the units read after them hold every unit that these items claim.
            items = lance_tables.open_table(library, schema.ITEMS)
            if (
                previous is not None
                and previous.items_version == items.version
                and previous.state.built is built
                and previous.state.tokens == tokens
            ):
                return previous
            units = lance_tables.open_table(library, schema.UNITS)
            snapshot = _load(library, manifest, items, units, built, tokens, old)
        except BudgetError:
            raise
        except LibraryError as error:
            problem = error
            continue
        if snapshot is not None:
            return snapshot
        previous = None
    raise problem or LibraryError(
        f"{library / schema.UNITS} lacks units that {schema.ITEMS} names: the library is damaged; "
        f"`maxsight verify {library} --repair` takes out the files whose units are lost"
    )


def _load(
    library: Path,
    manifest: Manifest,
    items: Any,
    units: Any,
    built: Built | None,
    tokens: Stamp | None,
    old: State | None,
) -> Snapshot | None:
    with lance_tables.storage_errors(library / schema.ITEMS):
        columns = pa.schema([schema.ITEM_SCHEMA.field(name) for name in COLUMNS])
        schema.require_columns(items, columns, library / schema.ITEMS)
        schema.require_columns(units, schema.unit_schema(manifest), library / schema.UNITS)
        item_table = items.to_table(columns=COLUMNS, filter=f"status = '{schema.LIVE}'")
        item_table = item_table.sort_by("first_unit").combine_chunks()
    first = lance_tables.numbers(item_table, "first_unit")
    count = lance_tables.numbers(item_table, "unit_count")
    is_sane = not len(first) or (first[0] >= 0 <= count.min() and first[-1] < _MOST_UNITS)
    if not is_sane or count.max(initial=0) > _MOST_UNITS:
        raise LibraryError(
            f"{library / schema.ITEMS} is damaged: it claims units that cannot be; `maxsight "
            f"verify {library}` tells more"
        )
    held = _held(old)
    index = 0 if built is None else built.index.bytes()
    vectors_held = 0 if held is None else 2 * manifest.dim * len(held)
    memory = plan(
        rows=int(count.sum()),
        items=len(first),
        dim=manifest.dim,
        budget=settings.memory(held=index + vectors_held),
        index=None if built is None else index,
        tail=0 if built is None else int(count[first > built.newest].sum()),
    )
    if old is not None and ((memory.in_memory and held is None) or _is_sparse(old, first, count)):
        old, held = None, None
    unit_ids = np.empty(0, np.int64) if old is None else old.unit_ids
    spans = np.empty((0, 2), np.float64) if old is None else old.spans
    settled = frozenset[int]() if old is None else old.settled
    newest = int(unit_ids[-1]) if len(unit_ids) else -1
    stored: ExactIndex | DiskVectors
    with lance_tables.storage_errors(library / schema.UNITS):
        fragments = units.get_fragments()
        reader = UnitReader(units, [f for f in fragments if f.fragment_id not in settled])
        if memory.in_memory:
            exact = held or ExactIndex(manifest.dim)
            stored = exact.extended(reader.vectors(newest, first, count))
        else:
            reader.read(newest, first, count)
        unit_ids = np.concatenate([unit_ids, *reader.unit_ids])
        spans = np.concatenate([spans, *reader.spans])
        if np.any(np.diff(unit_ids) <= 0):
            raise LibraryError(f"{library / schema.UNITS} is damaged: its units are out of order")
        if not memory.in_memory:
            stored = DiskVectors.of(units, unit_ids, manifest.dim, library / schema.UNITS)
        vectors = (
            stored
            if built is None
            else IndexedVectors.of(built, stored, unit_ids, None if old is None else old.vectors)
        )
    # Units newer than any claimed are a writer's next step, and will be wanted.
    if reader.newest <= (int(unit_ids[-1]) if len(unit_ids) else -1):
        settled = frozenset(fragment.fragment_id for fragment in fragments)
    snapshot = Snapshot(
        State(
            library=library,
            manifest=manifest,
            items=items,
            units=units,
            item_table=item_table,
            unit_ids=unit_ids,
            spans=spans,
            vectors=vectors,
            built=built,
            tokens=tokens,
            settled=settled,
            plan=memory,
        )
    )
    return snapshot if snapshot.unit_count == int(count.sum()) else None


def _held(old: State | None) -> ExactIndex | None:
    """The vectors in memory, if all are."""
    if old is None:
        return None
    stored = old.vectors.stored if isinstance(old.vectors, IndexedVectors) else old.vectors
    return stored if isinstance(stored, ExactIndex) else None


def _is_sparse(old: State, first: Rows, count: Rows) -> bool:
    """Whether so many of the rows in memory are gone that reading anew is better."""
    kept = np.count_nonzero(owners(old.unit_ids, first, count) >= 0)
    return bool(kept < (1 - _DEAD_SHARE) * len(old.unit_ids))

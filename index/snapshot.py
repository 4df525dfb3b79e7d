"""One consistent state of a library, in memory, for searching."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from maxsight.errors import LibraryError, UsageError
from maxsight.index import filters, tables
from maxsight.index.manifest import Manifest
from maxsight.index.records import Film, TokenTable, UnitHit
from maxsight.index.unit_reader import UnitReader, owners
from maxsight.index.vectors import ExactIndex, Mask, Rows

_COLUMNS = [
    "item_id",
    "path",
    "path_bytes",
    "kind",
    "content_hash",
    "first_unit",
    "unit_count",
]
# A reader drops the rows of removed files from memory once they are this share of all.
_DEAD_SHARE = 0.25
_SAMPLED_ROWS = 64
_BYTES_BESIDE_A_TOKEN = 8  # its scale and its size


class Snapshot:
    """Units as rows 0, 1, … in the order of their ids. Immutable; safe to search from threads.

    Attributes:
        manifest: of the library.
        row_count: rows, those of removed and replaced files included; masks have this length.
        unit_count: units that can be found.
        item_count: files that can be found.
    """

    def __init__(
        self,
        *,
        library: Path,
        manifest: Manifest,
        items: Any,
        units: Any,
        item_table: pa.Table,
        unit_ids: Rows,
        spans: npt.NDArray[np.float64],
        index: ExactIndex,
        settled: frozenset[int],
    ) -> None:
        self.manifest = manifest
        self._library = library
        self._items = items
        self._units = units
        self._unit_ids = unit_ids
        self._spans = spans
        self._index = index
        self._settled = settled
        self._item_ids: Rows = item_table["item_id"].to_numpy()
        self._item_table = item_table
        # Arrays, not chunked columns: a few values are picked from them for every search.
        self._paths = item_table["path"].combine_chunks()
        self._raw_paths = item_table["path_bytes"].combine_chunks()
        self._kinds = item_table["kind"].combine_chunks()
        self._first: Rows = item_table["first_unit"].to_numpy()
        self._count: Rows = item_table["unit_count"].to_numpy()
        # (row_count,) position of each row's file in the item table, -1 if no file claims it.
        self._owner = owners(unit_ids, self._first, self._count)
        live = self._owner >= 0
        self.row_count = len(unit_ids)
        self.unit_count = int(np.count_nonzero(live))
        self.item_count = len(self._item_ids)
        self._live: Mask | None = None if self.unit_count == self.row_count else live

    @property
    def dim(self) -> int:
        """D, width of the vectors."""
        return self._index.dim

    @property
    def items_version(self) -> int:
        """The version of the items table this is a picture of."""
        return int(self._items.version)

    def allowed(
        self,
        *,
        where: str | None = None,
        kinds: Collection[str] | None = None,
        without_items: Collection[int] = (),
    ) -> Mask | None:
        """Which rows a search may return: (row_count,) bool, or None for all.

        Args:
            where: SQL over the item columns, say ``"width > 1000 AND path LIKE '%/Rome/%'"``.
            kinds: of ``image`` and ``video``.
            without_items: ids of files to leave out.

        Raises:
            FilterError: ``where`` cannot be evaluated.
        """
        if where is None and kinds is None and not len(without_items):
            return self._live
        chosen = np.ones(self.item_count, dtype=np.bool_)
        if where is not None:
            chosen &= np.isin(self._item_ids, self._matching(where))
        if kinds is not None:
            kind = self._item_table["kind"]
            chosen &= pc.is_in(kind, value_set=pa.array(list(kinds), pa.string())).to_numpy()
        if len(without_items):
            chosen &= ~np.isin(self._item_ids, np.fromiter(without_items, dtype=np.int64))
        # Position -1, rows nobody claims, finds the False put at the end.
        return np.append(chosen, False)[self._owner]

    def search(
        self, queries: npt.ArrayLike, k: int, *, allowed: Mask | None = None
    ) -> list[list[UnitHit]]:
        """The ``k`` best units for each query, exactly; equal scores by lower unit id.

        Args:
            queries: (Q, D) float32.
            allowed: from ``allowed``; None means every unit.
        """
        found = self._index.search(queries, k, allowed=self._live if allowed is None else allowed)
        return [self._hits(rows, scores) for rows, scores in found]

    def nearest(self, query: npt.ArrayLike, k: int, *, allowed: Mask | None = None) -> Rows:
        """The rows of the ``k`` best units for one (D,) query, as ``search`` finds them."""
        allowed = self._live if allowed is None else allowed
        queries = np.asarray(query, dtype=np.float32)[None]
        rows, _ = self._index.search(queries, k, allowed=allowed)[0]
        return rows

    def best_of_each(self, rows: Rows, scores: npt.NDArray[np.float32], k: int) -> list[UnitHit]:
        """The best unit of each of the ``k`` best files among ``rows``, all of live files.

        Args:
            rows: (n,), each once.
            scores: (n,), whatever they are scored by; equal scores by lower row.
        """
        order = np.lexsort((rows, -scores))
        _, first = np.unique(self._owner[rows[order]], return_index=True)
        best = order[np.sort(first)[:k]]
        return self._hits(rows[best], scores[best])

    def find_items(self, *, path: str | None = None, content_hash: str | None = None) -> list[int]:
        """Ids of the files with that path, that content, or both."""
        if path is None and content_hash is None:
            raise ValueError("give a path, a content_hash, or both")
        matches: Any = pa.array(np.ones(self.item_count, dtype=np.bool_))
        if path is not None:
            display, raw = tables.encode_path(path)
            bytes_column = self._item_table["path_bytes"]
            same = pc.is_null(bytes_column) if raw is None else pc.equal(bytes_column, raw)
            matches = pc.and_(pc.equal(self._item_table["path"], display), same)
        if content_hash is not None:
            matches = pc.and_(matches, pc.equal(self._item_table["content_hash"], content_hash))
        ids: list[int] = self._item_table["item_id"].filter(matches).to_pylist()
        return sorted(ids)

    def films(self) -> list[Film]:
        """Every video, by item id."""
        videos = np.flatnonzero(pc.equal(self._item_table["kind"], "video").to_numpy())
        paths = tables.decode_paths(self._item_table.take(pa.array(videos)))
        starts = np.searchsorted(self._unit_ids, self._first[videos])
        films = []
        for item, path, start in zip(videos, paths, starts, strict=True):
            rows = slice(int(start), int(start + self._count[item]))
            films.append(Film(int(self._item_ids[item]), path, self._spans[rows], rows))
        return sorted(films, key=lambda film: film.item_id)

    def scores(self, query: npt.ArrayLike, rows: slice | npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Exact inner products of one (D,) query with ``rows``: (n,) float32."""
        query = np.ascontiguousarray(query, dtype=np.float32)
        if query.shape != (self._index.dim,):
            raise ValueError(f"query must be ({self._index.dim},), got {query.shape}")
        return self._index.scores(query, rows)

    def vectors(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The stored vectors of ``rows``: (n, D) float32."""
        return self._index.take(rows).astype(np.float32)

    def item_vectors(self, item_id: int) -> npt.NDArray[np.float32]:
        """The stored vectors of one file's units, in order: (U, D) float32.

        Raises:
            ValueError: the snapshot holds no such file.
        """
        found = np.flatnonzero(self._item_ids == item_id)
        if not len(found):
            raise ValueError(f"the library holds no item {item_id}")
        start = int(np.searchsorted(self._unit_ids, self._first[found[0]]))
        return self.vectors(np.arange(start, start + self._count[found[0]]))

    def tokens(self, unit_ids: Sequence[int] | Rows) -> TokenTable:
        """The stored tokens of some units, in the order given.

        Raises:
            UsageError: the library was created without tokens.
            LibraryError: a compaction has since deleted this snapshot's files.
        """
        width = self.manifest.token_dim
        if width is None:
            raise UsageError(
                f"{self._library} stores no tokens: index into a new library with --tokens"
            )
        ids = np.asarray(unit_ids, dtype=np.int64)
        stored = self._stored_units
        positions = np.searchsorted(stored, ids)
        if len(ids) and not (
            positions.max(initial=0) < len(stored) and bool(np.all(stored[positions] == ids))
        ):
            raise ValueError("unit_ids must be units of this snapshot")
        with tables.storage_errors(self._library / tables.UNITS):
            rows = self._units.take(
                positions, columns=["tokens", "token_scales", "token_sizes"]
            ).combine_chunks()
        scales = rows["token_scales"]
        lengths = pc.list_value_length(scales).to_numpy().astype(np.int64)
        return TokenTable(
            # A copy, because what wraps the bytes cannot be written to, which torch asks of memory.
            tokens=np.frombuffer(bytearray().join(rows["tokens"].to_pylist()), np.int8).reshape(
                -1, width
            ),
            scales=_flat(scales),
            sizes=_flat(rows["token_sizes"]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )

    def row_tokens(self, rows: Rows) -> TokenTable:
        """``tokens`` of some rows."""
        return self.tokens(self._unit_ids[rows])

    @functools.cached_property
    def all_tokens(self) -> TokenTable:
        """The tokens of every row, read once and kept. Look at ``token_bytes`` first."""
        return self.row_tokens(np.arange(self.row_count))

    @functools.cached_property
    def token_bytes(self) -> int:
        """About how much memory ``all_tokens`` takes, judged by a sample of the rows."""
        if self.manifest.token_dim is None or not self.row_count:
            return 0
        sample = np.unique(np.linspace(0, self.row_count - 1, _SAMPLED_ROWS).astype(np.int64))
        count = len(self.row_tokens(sample).tokens) * self.row_count / len(sample)
        return int(count * (self.manifest.token_dim + _BYTES_BESIDE_A_TOKEN))

    @functools.cached_property
    def _stored_units(self) -> Rows:
        """Unit ids of the table's rows in their order, those nobody claims included."""
        with tables.storage_errors(self._library / tables.UNITS):
            ids: Rows = self._units.to_table(columns=["unit_id"])["unit_id"].to_numpy()
        return ids

    def _matching(self, where: str) -> Rows:
        found = filters.matching_items(self._items, where, ["item_id"], self._library)
        ids: Rows = found["item_id"].to_numpy()
        return ids

    def _hits(self, rows: Rows, scores: npt.NDArray[np.float32]) -> list[UnitHit]:
        hits = []
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            owner = int(self._owner[row])
            kind = self._kinds[owner].as_py()
            start, end = self._spans[row].tolist() if kind == "video" else (None, None)
            hits.append(
                UnitHit(
                    unit_id=int(self._unit_ids[row]),
                    item_id=int(self._item_ids[owner]),
                    path=tables.decode_path(self._paths[owner], self._raw_paths[owner]),
                    kind=kind,
                    start=start,
                    end=end,
                    score=score,
                )
            )
        return hits


def load(library: Path, manifest: Manifest, previous: Snapshot | None = None) -> Snapshot:
    """The newest state of the library, reusing what ``previous`` already holds of it."""
    problem = None
    for attempt in range(8):
        # A compaction can take away what is being read: look again at what it left.
        time.sleep(0.02 * attempt)
        try:
            # Items first: the units read after them hold every unit that these items claim.
            items = tables.open_table(library, tables.ITEMS)
            if previous is not None and previous.items_version == items.version:
                return previous
            units = tables.open_table(library, tables.UNITS)
            snapshot = _load(library, manifest, items, units, previous)
        except LibraryError as error:
            problem = error
            continue
        if snapshot is not None:
            return snapshot
        previous = None
    raise problem or LibraryError(
        f"{library / tables.UNITS} lacks units that {tables.ITEMS} names: the library is damaged; "
        "restore the folder from a backup, or delete it and index again"
    )


def _load(
    library: Path, manifest: Manifest, items: Any, units: Any, previous: Snapshot | None
) -> Snapshot | None:
    with tables.storage_errors(library / tables.ITEMS):
        item_table = items.to_table(columns=_COLUMNS, filter=f"status = '{tables.LIVE}'")
        item_table = item_table.sort_by("first_unit").combine_chunks()
    first: Rows = item_table["first_unit"].to_numpy()
    count: Rows = item_table["unit_count"].to_numpy()
    if previous is not None:
        kept = owners(previous._unit_ids, first, count) >= 0
        if np.count_nonzero(kept) < (1 - _DEAD_SHARE) * len(kept):
            previous = None
    with tables.storage_errors(library / tables.UNITS):
        fragments = units.get_fragments()
        if previous is None:
            unit_ids, spans = np.empty(0, np.int64), np.empty((0, 2), np.float64)
            index, settled = ExactIndex(manifest.dim), frozenset[int]()
        else:
            unit_ids, spans = previous._unit_ids, previous._spans
            index, settled = previous._index, previous._settled
        newest = int(unit_ids[-1]) if len(unit_ids) else -1
        reader = UnitReader(units, [f for f in fragments if f.fragment_id not in settled])
        index = index.extended(reader.vectors(newest, first, count))
        unit_ids = np.concatenate([unit_ids, *reader.unit_ids])
        spans = np.concatenate([spans, *reader.spans])
    if np.any(np.diff(unit_ids) <= 0):
        raise LibraryError(f"{library / tables.UNITS} is damaged: its units are out of order")
    # Units newer than any claimed are a writer's next step, and will be wanted.
    if reader.newest <= (int(unit_ids[-1]) if len(unit_ids) else -1):
        settled = frozenset(fragment.fragment_id for fragment in fragments)
    snapshot = Snapshot(
        library=library,
        manifest=manifest,
        items=items,
        units=units,
        item_table=item_table,
        unit_ids=unit_ids,
        spans=spans,
        index=index,
        settled=settled,
    )
    return snapshot if snapshot.unit_count == int(count.sum()) else None


def _flat(lists: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = pc.list_flatten(lists).to_numpy().astype(np.float32)
    return values

"""One consistent state of a library, in memory, for searching."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from maxsight.index.ann.contract import Built, StoredVectors
from maxsight.index.array_types import Floats, Mask, Rows, chosen_rows
from maxsight.index.derived.generations import Stamp
from maxsight.index.loaded_once import loaded_once
from maxsight.index.plan import MemoryPlan
from maxsight.index.records import Film, UnitHit
from maxsight.index.snapshot_tokens import SnapshotTokens
from maxsight.index.tables import filters, lance_tables, schema, table_rows
from maxsight.index.tables.manifest import Manifest
from maxsight.index.tables.unit_reader import owners
from maxsight.kernels import array_ordering

# Of the items, what a snapshot keeps in memory.
COLUMNS = ["item_id", "path", "path_bytes", "kind", "first_unit", "unit_count"]


@dataclass(frozen=True, eq=False)
class State:
    """What a snapshot is made of, and what the next one can take over.

    Attributes:
        library: its folder.
        items, units: the Lance tables, each at one version.
        item_table: ``COLUMNS`` of the live items, by rising ``first_unit``.
        unit_ids: (row_count,) int64, rising.
        spans: (row_count, 2) float64.
        vectors: of the same rows.
        built: the vector index of the library, if there is one that can be used.
        tokens: the state of its index of tokens (:func:`maxsight.index.derived.generations.stamp`),
            which is opened when it is first asked for.
        settled: ids of the fragments of ``units`` that hold nothing new.
        plan: the memory all this was expected to take.
    """

    library: Path
    manifest: Manifest
    items: Any
    units: Any
    item_table: pa.Table
    unit_ids: Rows
    spans: npt.NDArray[np.float64]
    vectors: StoredVectors
    built: Built | None
    tokens: Stamp | None
    settled: frozenset[int]
    plan: MemoryPlan


class Snapshot:
    """Units as rows 0, 1, … in the order of their ids. Immutable; safe to search from threads.

    Attributes:
        state: what it is made of.
        manifest: of the library.
        row_count: rows, those of removed and replaced files included; masks have this length.
        unit_count: units that can be found.
        item_count: files that can be found.
        tokens: of its rows, where the library stores them.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.manifest = state.manifest
        self._library = state.library
        self._items = state.items
        self._unit_ids = state.unit_ids
        self._spans = state.spans
        self._vectors = state.vectors
        item_table = state.item_table
        self._item_ids = lance_tables.numbers(item_table, "item_id")
        self._item_table = item_table
        # Arrays, not chunked columns: a few values are picked from them for every search.
        self._paths = item_table["path"].combine_chunks()
        self._raw_paths = item_table["path_bytes"].combine_chunks()
        self._kinds = item_table["kind"].combine_chunks()
        self._first = lance_tables.numbers(item_table, "first_unit")
        self._count = lance_tables.numbers(item_table, "unit_count")
        # (row_count,) position of each row's file in the item table, -1 if no file claims it.
        self._owner = owners(state.unit_ids, self._first, self._count)
        live = self._owner >= 0
        self.row_count = len(state.unit_ids)
        self.unit_count = int(np.count_nonzero(live))
        self.item_count = len(self._item_ids)
        self._live: Mask | None = None if self.unit_count == self.row_count else live
        self.tokens = SnapshotTokens(
            state.library,
            state.manifest,
            state.units,
            unit_ids=state.unit_ids,
            live=self._live,
            spare=state.plan.spare,
        )

    @property
    def dim(self) -> int:
        """D, width of the vectors."""
        return self._vectors.dim

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
        """The ``k`` best units for each query; equal scores by lower unit id.

        Scores are exact. So are the units, unless an index has been made for the library, which
        may miss some (docs/indexes.md).

        Args:
            queries: (Q, D) float32.
            allowed: from ``allowed``; None means every unit.
        """
        found = self._vectors.search(queries, k, allowed=self._live if allowed is None else allowed)
        return [self._hits(rows, scores) for rows, scores in found]

    def nearest(self, query: npt.ArrayLike, k: int, *, allowed: Mask | None = None) -> Rows:
        """The rows of the ``k`` best units for one (D,) query, as ``search`` finds them."""
        allowed = self._live if allowed is None else allowed
        queries = np.asarray(query, dtype=np.float32)[None]
        rows, _ = self._vectors.search(queries, k, allowed=allowed)[0]
        return rows

    def search_files(
        self, queries: npt.ArrayLike, k: int, *, allowed: Mask | None = None
    ) -> list[list[UnitHit]]:
        """The best unit of each of the ``k`` best files, for each of (Q, D) queries.

        The frames of one film may fill all the first places. What was found is then left out and
        the rest searched again: every round finds at least one more file, and none better than
        the last.

        Args:
            allowed: from ``allowed``; None means every unit.
        """
        queries = np.asarray(queries, dtype=np.float32)
        allowed = self._live if allowed is None else allowed
        fetch = k if self.unit_count == self.item_count else 4 * k
        found = self._vectors.search(queries, fetch, allowed=allowed)
        if fetch > k:
            found = [
                self._files(query[None], rows, scores, k, allowed)
                for query, (rows, scores) in zip(queries, found, strict=True)
            ]
        return [self._hits(rows, scores) for rows, scores in found]

    def _files(
        self, query: Floats, rows: Rows, scores: Floats, k: int, allowed: Mask | None
    ) -> tuple[Rows, Floats]:
        """The best unit of each of the ``k`` best files for one (1, D) query.

        Args:
            rows, scores: of the ``4 * k`` best units.
        """
        found = len(rows)
        while True:
            first = self._first_of_each(rows)
            if len(first) >= k or found < 4 * k:
                return rows[first[:k]], scores[first[:k]]
            others = self.allowed(without_items=self._item_ids[self._owner[rows[first]]])
            allowed = others if allowed is None or others is None else allowed & others
            more, their_scores = self._vectors.search(query, 4 * k, allowed=allowed)[0]
            rows, scores = np.append(rows, more), np.append(scores, their_scores)
            found = len(more)

    def best_of_each(self, rows: Rows, scores: npt.NDArray[np.float32], k: int) -> list[UnitHit]:
        """The best unit of each of the ``k`` best files among ``rows``, all of live files.

        Args:
            rows: (n,), each once.
            scores: (n,), whatever they are scored by; equal scores by lower row.
        """
        scores, rows = array_ordering.best(scores, rows, len(rows))
        first = self._first_of_each(rows)[:k]
        return self._hits(rows[first], scores[first])

    def _first_of_each(self, rows: Rows) -> Rows:
        """Rising positions in ``rows`` at which a file stands for the first time."""
        _, first = np.unique(self._owner[rows], return_index=True)
        return np.sort(first)

    def find_items(self, *, path: str | None = None, content_hash: str | None = None) -> list[int]:
        """Ids of the files with that path, that content, or both."""
        if path is None and content_hash is None:
            raise ValueError("give a path, a content_hash, or both")
        chosen = np.ones(self.item_count, dtype=np.bool_)
        if path is not None:
            display, raw = table_rows.encode_path(path)
            bytes_column = self._item_table["path_bytes"]
            same = pc.is_null(bytes_column) if raw is None else pc.equal(bytes_column, raw)
            same = pc.and_(pc.equal(self._item_table["path"], display), same)
            chosen &= pc.fill_null(same, False).to_numpy()
        if content_hash is not None:
            # Hashes are as long as paths and asked for once in a while: they stay on disk.
            quoted = content_hash.replace("'", "''")
            chosen &= np.isin(self._item_ids, self._matching(f"content_hash = '{quoted}'"))
        return sorted(self._item_ids[chosen].tolist())

    def films(self) -> list[Film]:
        """Every video, by item id."""
        videos = np.flatnonzero(pc.equal(self._item_table["kind"], "video").to_numpy())
        paths = table_rows.decode_paths(self._item_table.take(pa.array(videos)))
        starts = np.searchsorted(self._unit_ids, self._first[videos])
        films = []
        for item, path, start in zip(videos, paths, starts, strict=True):
            rows = slice(int(start), int(start + self._count[item]))
            films.append(Film(int(self._item_ids[item]), path, self._spans[rows], rows))
        return sorted(films, key=lambda film: film.item_id)

    @loaded_once
    def film_settings(self) -> dict[int, str | None]:
        """Item id of each video -> ``settings`` of its ``EncodedItem``, read from disk once.

        Raises:
            LibraryError: a compaction has since deleted this snapshot's files.
        """
        if "settings" not in self._items.schema.names:  # before schema 3
            return dict.fromkeys(film.item_id for film in self.films())
        with lance_tables.storage_errors(self._library / schema.ITEMS):
            rows = self._items.to_table(
                columns=["item_id", "settings"],
                filter=f"status = '{schema.LIVE}' AND kind = 'video'",
            )
        return dict(zip(rows["item_id"].to_pylist(), rows["settings"].to_pylist(), strict=True))

    def scores(self, query: npt.ArrayLike, rows: slice | npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Exact inner products of one (D,) query with ``rows``: (n,) float32."""
        query = np.ascontiguousarray(query, dtype=np.float32)
        if query.shape != (self._vectors.dim,):
            raise ValueError(f"query must be ({self._vectors.dim},), got {query.shape}")
        return self._vectors.scores(query, rows)

    def vectors(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The stored vectors of ``rows``: (n, D) float32."""
        return self._vectors.take(rows).astype(np.float32)

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

    @property
    def live_rows(self) -> Rows:
        """The rows that can be found, rising."""
        return chosen_rows(self._live, self.row_count)

    def _matching(self, where: str) -> Rows:
        found = filters.matching_items(self._items, where, ["item_id"], self._library)
        return lance_tables.numbers(found, "item_id")

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
                    path=table_rows.decode_path(self._paths[owner], self._raw_paths[owner]),
                    kind=kind,
                    start=start,
                    end=end,
                    score=score,
                )
            )
        return hits

"""The stored tokens of one consistent state of a library, and what scores by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maxsight.errors import UsageError
from maxsight.index.array_types import Floats, Mask, Rows, chosen_rows
from maxsight.index.loaded_once import loaded_once
from maxsight.index.records import TokenTable
from maxsight.index.tables import lance_tables, schema, table_rows
from maxsight.index.tables.manifest import Manifest

if TYPE_CHECKING:  # its module loads FAISS
    from maxsight.index.derived.token_folder import BuiltTokens

_SAMPLED_ROWS = 64
_BYTES_BESIDE_A_TOKEN = 8  # its scale and its size
# While all tokens take no more, they are held in memory and every unit is scored by them: an index
# would only miss some.
HELD_TOKEN_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What some units answer to T texts by their tokens.

    Attributes:
        answering: (m,) int64, which of these units have tokens; the others answer nothing.
        maxsim: (T, m) float32, the mean over a text's tokens of each one's best match.
        unity: (m,) float32, as in ``TokenTable``.
    """

    answering: Rows
    maxsim: Floats
    unity: Floats


class SnapshotTokens:
    """The tokens of a snapshot's rows. Immutable; safe to use from threads."""

    def __init__(
        self,
        library: Path,
        manifest: Manifest,
        units: Any,
        *,
        unit_ids: Rows,
        live: Mask | None,
        spare: int,
    ) -> None:
        """
        Args:
            library: its folder.
            units: the Lance table of units at one version.
            unit_ids: (row_count,), rising.
            live: which rows can be found; None means all.
            spare: bytes of memory that tokens may take.
        """
        self._library = library
        self._manifest = manifest
        self._units = units
        self._unit_ids = unit_ids
        self._live = live
        self._spare = spare

    def of_units(self, unit_ids: Sequence[int] | Rows) -> TokenTable:
        """The stored tokens of some units, in the order given.

        Raises:
            UsageError: the library was created without tokens.
            LibraryError: a compaction has since deleted this snapshot's files.
        """
        width = self._manifest.token_dim
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
        with lance_tables.storage_errors(self._library / schema.UNITS):
            rows = self._units.take(
                positions, columns=["tokens", "token_scales", "token_sizes"]
            ).combine_chunks()
        return table_rows.token_table(rows, width)

    def of_rows(self, rows: Rows) -> TokenTable:
        """``of_units`` of some rows that can be found."""
        return self.of_units(self._unit_ids[rows])

    @loaded_once
    def held(self) -> TokenTable:
        """The tokens of every row, read once and kept; of rows that cannot be found none, as a
        compaction may have deleted them. Look at ``are_held`` first.
        """
        live = chosen_rows(self._live, len(self._unit_ids))
        held = self.of_rows(live)
        lengths = np.zeros(len(self._unit_ids), np.int64)
        lengths[live] = np.diff(held.offsets)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return dataclasses.replace(held, offsets=offsets)

    @property
    def are_held(self) -> bool:
        """Whether ``held`` may be asked for: all tokens are few enough to stay in memory."""
        return self.bytes <= min(HELD_TOKEN_BYTES, self._spare)

    @loaded_once
    def bytes(self) -> int:
        """About how much memory ``held`` takes, judged by a sample of the rows."""
        live = chosen_rows(self._live, len(self._unit_ids))
        if self._manifest.token_dim is None or not len(live):
            return 0
        sample = live[np.unique(np.linspace(0, len(live) - 1, _SAMPLED_ROWS).astype(np.int64))]
        count = len(self.of_rows(sample).tokens) * len(live) / len(sample)
        return int(count * (self._manifest.token_dim + _BYTES_BESIDE_A_TOKEN))

    def best_rows(
        self, queries: Sequence[Floats], k: int, *, allowed: Mask | None = None
    ) -> Rows | None:
        """Rows that are probably among the ``k`` best of a query by MaxSim, and all that are newer
        than the index of tokens; None if the library has no such index that can be used.

        Args:
            queries: (L, d) each.
            allowed: from ``Snapshot.allowed``; None means every unit.

        Returns:
            Rising.
        """
        built = self._built
        if built is None:
            return None
        allowed = self._live if allowed is None else allowed
        if allowed is None:
            allowed = np.ones(len(self._unit_ids), dtype=np.bool_)
        own = np.searchsorted(self._unit_ids, built.unit_ids)
        is_there = np.append(self._unit_ids, -1)[own] == built.unit_ids
        known = is_there & np.append(allowed, False)[own]
        found = built.index.search(queries, k, allowed=known)
        newest = np.flatnonzero(allowed & (self._unit_ids > built.newest))
        return np.unique(np.concatenate([newest, *(own[documents] for documents, _ in found)]))

    def scores(self, texts: Sequence[Floats], rows: Rows) -> TokenScores:
        """What some rows that can be found answer to ``texts``, (L, d) with L of 1 or more each.

        Raises:
            UsageError, LibraryError: as ``of_units``.
        """
        if self.are_held:
            return score_units(texts, self.held, rows)
        return score_units(texts, self.of_rows(rows), np.arange(len(rows)))

    @loaded_once
    def _built(self) -> BuiltTokens | None:
        from maxsight.index.derived import token_folder

        return token_folder.load(self._library, self._manifest)

    @loaded_once
    def _stored_units(self) -> Rows:
        """Unit ids of the table's rows in their order, those nobody claims included."""
        with lance_tables.storage_errors(self._library / schema.UNITS):
            return lance_tables.column(self._units, "unit_id")


def score_units(texts: Sequence[Floats], table: TokenTable, units: Rows) -> TokenScores:
    """What some units of a table, (n,), answer to ``texts``."""
    answering = np.flatnonzero(np.diff(table.offsets)[units] > 0)
    chosen = units[answering]
    return TokenScores(answering, mean_maxsim(texts, table, chosen), table.unity[chosen])


def mean_maxsim(texts: Sequence[Floats], table: TokenTable, units: Rows) -> Floats:
    """What units answer to texts: the mean over a text's tokens of each one's best match.

    Args:
        texts: (L, d) each, with L of 1 or more.
        units: (n,), which of the table's.

    Returns:
        (T, n) float32; -inf for a unit without tokens.
    """
    import torch

    from maxsight.kernels import maxsim

    lengths = np.array([len(own) for own in texts])
    pairs = np.stack([np.repeat(np.arange(len(texts)), len(units)), np.tile(units, len(texts))])
    scores = maxsim.score_pairs(
        # As int8, too: the product is then exact in integers, and as fast as the machine can.
        maxsim.Int8Tokens.of(torch.from_numpy(np.concatenate(texts))),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        maxsim.Int8Tokens(torch.from_numpy(table.tokens), torch.from_numpy(table.scales)),
        torch.from_numpy(table.offsets),
        pairs=torch.from_numpy(pairs.T),
    )
    sums: Floats = scores.numpy().reshape(len(texts), len(units))
    return np.asarray(sums / lengths[:, None].astype(np.float32))

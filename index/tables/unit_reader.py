"""Units as they are read off a table: which file each belongs to, and vectors a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.index.array_types import Rows
from maxsight.index.tables import table_rows


class UnitReader:
    """Streams units out of some fragments.

    Attributes:
        unit_ids, spans: of the claimed units read so far, a piece a batch.
        newest: the highest unit id read so far, claimed or not; -1 before the first.
    """

    def __init__(self, units: Any, fragments: list[Any]) -> None:
        self._units = units
        self._fragments = fragments
        self.unit_ids: list[Rows] = []
        self.spans: list[npt.NDArray[np.float64]] = []
        self.newest = -1

    def read(self, after: int, first: Rows, count: Rows) -> None:
        """Read ids and spans of the units with ids above ``after`` that lie in a claimed range."""
        for _ in self._batches(after, first, count, []):
            pass

    def vectors(self, after: int, first: Rows, count: Rows) -> Iterator[npt.NDArray[np.float16]]:
        """:meth:`read`, and the (n, D) vectors of each batch, of which one is in memory."""
        for batch, wanted in self._batches(after, first, count, ["vector"]):
            width = batch["vector"].type.list_size
            yield table_rows.vectors_of(batch["vector"], width)[wanted]

    def _batches(
        self, after: int, first: Rows, count: Rows, more: list[str]
    ) -> Iterator[tuple[Any, npt.NDArray[np.bool_]]]:
        if not self._fragments:
            return
        scanner = self._units.scanner(
            columns=["unit_id", "start_s", "end_s", *more],
            filter=f"unit_id > {after}" if after >= 0 else None,
            fragments=self._fragments,
            scan_in_order=True,
            batch_size=4096,
        )
        for batch in scanner.to_batches():
            ids: Rows = batch["unit_id"].to_numpy()
            if not len(ids):
                continue
            self.newest = max(self.newest, int(ids.max()))
            wanted = owners(ids, first, count) >= 0
            times = [batch[name].to_numpy(zero_copy_only=False) for name in ("start_s", "end_s")]
            self.unit_ids.append(ids[wanted])
            self.spans.append(np.stack(times, axis=1).astype(np.float64)[wanted])
            yield batch, wanted


def owners(unit_ids: Rows, first: Rows, count: Rows) -> Rows:
    """Position of the range ``[first, first + count)`` each unit lies in, -1 for none.

    ``first`` rises; the ranges do not overlap.
    """
    if not len(first):
        return np.full(len(unit_ids), -1, dtype=np.int64)
    owner = np.searchsorted(first, unit_ids, side="right") - 1
    inside = (owner >= 0) & (unit_ids < first[owner] + count[owner])
    return np.where(inside, owner, -1)
